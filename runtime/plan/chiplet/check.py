"""The independent check of a schedule on chiplets: structure, and every figure again from the layers.

It shares the cost of a single layer and the package's constants with the search, nothing else: it goes layer by layer
where the search works on tables.
"""

import math

from devices.chiplet.package import (
    DRAM_BYTES_PER_S,
    DRAM_J_PER_BYTE,
    DRAM_S,
    HOP_J_PER_BYTE,
    HOP_S,
    NOP_BYTES_PER_S,
    SIDES,
    Package,
)
from devices.chiplet.stationary import layer_cost
from runtime.plan.chiplet.mix import Mix, Part, Schedule, Work
from runtime.plan.errors import ScheduleError

SAME = 1e-9


def check_schedule(package: Package, mix: Mix, schedule: Schedule) -> None:
    """Refuse a schedule that leaves out a layer, uses a chiplet twice at once, or claims another figure than it has.

    Raises:
        ScheduleError: Names the window, the model, what it has and what would be right.
    """
    done = [0] * len(mix.works)
    for number, window in enumerate(schedule.windows):
        used: set[int] = set()
        sides = dict.fromkeys(SIDES, 0.0)
        longest_s = 0.0
        for part in window.parts:
            _check_structure(package, mix, part, number, used, done)
            latency_s, energy_j = part_figures(package, mix.works[part.work], part, sides)
            _same(f"window {number}, {mix.works[part.work].name}: latency", part.latency_s, latency_s)
            _same(f"window {number}, {mix.works[part.work].name}: energy", part.energy_j, energy_j)
            longest_s = max(longest_s, latency_s)
        at_least_s = max(longest_s, max(sides.values()) / DRAM_BYTES_PER_S)
        _same(f"window {number}: latency", window.latency_s, at_least_s)
    for work, end in zip(mix.works, done, strict=True):
        if end != len(work.layers):
            raise ScheduleError(f"{work.name}: {end} of {len(work.layers)} layers are scheduled")


def _same(what: str, claimed: float, found: float) -> None:
    if not math.isclose(claimed, found, rel_tol=SAME):
        raise ScheduleError(f"{what} is claimed to be {claimed}: it is {found}")


def _check_structure(package: Package, mix: Mix, part: Part, number: int, used: set[int], done: list[int]) -> None:
    """Check a part's layers and chiplets; counts both."""
    if not 0 <= part.work < len(mix.works):
        raise ScheduleError(f"window {number}: there is no model {part.work}")
    work = mix.works[part.work]
    what = f"window {number}, {work.name}"
    if part.minibatch < 1 or work.batch % part.minibatch:
        raise ScheduleError(f"{what}: a minibatch of {part.minibatch} doesn't divide the batch {work.batch}")
    for segment in part.segments:
        if segment.first != done[part.work] or not segment.first < segment.end <= len(work.layers):
            raise ScheduleError(f"{what}: layers {segment.first} to {segment.end} don't follow {done[part.work]}")
        if not 0 <= segment.chiplet < len(package.chiplets) or segment.chiplet in used:
            raise ScheduleError(f"{what}: chiplet {segment.chiplet} is not there, or used twice")
        used.add(segment.chiplet)
        done[part.work] = segment.end


def part_figures(package: Package, work: Work, part: Part, sides: dict[str, float]) -> tuple[float, float]:
    """Return a part's latency [s] and energy [J], layer by layer.

    Args:
        sides: Bytes that cross each side of the memory; the part's are added.
    """
    passes = work.batch // part.minibatch
    once_s, slowest_s, pass_sum_s, energy_j = 0.0, 0.0, 0.0, 0.0
    before: int | None = None
    for segment in part.segments:
        chiplet = package.chiplets[segment.chiplet]
        layers = work.layers[segment.first : segment.end]
        way_s = package.memory_hops(segment.chiplet) * HOP_S + DRAM_S
        weights = sum(layer.weight_bytes for layer in layers)
        stays = 2 * weights <= chiplet.l2_bytes
        memory, pass_s = 0.0, 0.0
        if weights:
            load_s = weights / DRAM_BYTES_PER_S + way_s
            memory += weights if stays else weights * passes
            once_s += load_s if stays else 0.0
            pass_s += 0.0 if stays else load_s
        given = layers[0].input_bytes * part.minibatch
        if before is None:
            pass_s += given / DRAM_BYTES_PER_S + way_s
            memory += given * passes
        else:
            hops = package.hops(before, segment.chiplet)
            pass_s += given / NOP_BYTES_PER_S + hops * HOP_S
            energy_j += given * passes * hops * HOP_J_PER_BYTE
        for layer in layers:
            cost = layer_cost(layer.batched(part.minibatch), chiplet)
            pass_s += cost.time_s(chiplet)
            energy_j += passes * cost.energy_j(chiplet)
        for layer in layers[:-1]:
            kept = layer.output_bytes * part.minibatch
            if 2 * kept > chiplet.l2_bytes:
                pass_s += 2 * (kept / DRAM_BYTES_PER_S + way_s)
                memory += 2 * kept * passes
        if segment is part.segments[-1]:
            made = layers[-1].output_bytes * part.minibatch
            pass_s += made / DRAM_BYTES_PER_S + way_s
            memory += made * passes
        energy_j += memory * (DRAM_J_PER_BYTE + package.memory_hops(segment.chiplet) * HOP_J_PER_BYTE)
        sides[package.side(segment.chiplet)] += memory
        slowest_s = max(slowest_s, pass_s)
        pass_sum_s += pass_s
        before = segment.chiplet
    return once_s + pass_sum_s + (passes - 1) * slowest_s, energy_j
