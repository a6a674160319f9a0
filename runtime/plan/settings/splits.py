"""All split points of a chain between a device and an edge server (the ParetoPipe setting).

Segments up to the split run here, the rest there. One input's latency is the sum of its times and ways; in a pipeline
every stage (here, the link, there) works on another input at once, so that the slowest sets the rate:

    latency_k = sum here + way_k + sum there + way back,   throughput_k = 1 / max(sum here, way_k, sum there)

Reference: ParetoPipe (sweep of split points, non-dominated latency and throughput).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from devices.profile import load_profile
from runtime.plan.build import place, tails_s
from runtime.plan.errors import PlanError, named
from runtime.plan.graphs import ANSWER, INPUT, chain_graph
from runtime.plan.instance import Instance, Quantile, make_instance
from runtime.plan.problem import Link, Problem
from runtime.plan.profiles import Surroundings, problem_of
from runtime.plan.schedule import energy_j, latency_s

INPUT_BYTES = 224 * 224 * 3


@dataclass(frozen=True, slots=True)
class Split:
    """One split point.

    Args:
        first_there: Index of the first segment that runs on the edge; the count of segments for none.
        segment: Its name; "" for none.
    """

    first_there: int
    segment: str
    latency_s: float
    throughput_hz: float
    energy_j: float


def tx2_pair(model: str = "AlexNet", rate_bps: float = 20e6, latency_s: float = 1e-3, watts: float = 0.0) -> Problem:
    """Return a published TX2 chain on one board's CPU and, over a link, another board's GPU.

    Args:
        rate_bps, latency_s: The link.
        watts: What the sending radio draws [W].
    """
    profile = load_profile("jetson_tx2")
    link = Link("cpu", "gpu", latency_s=latency_s, rate_bps=rate_bps, j_per_byte=8.0 * watts / rate_bps, channel="air")
    around = Surroundings(links=(link,), origin="cpu")
    return problem_of([chain_graph(profile, model, INPUT_BYTES)], [profile], around, units=("cpu", "gpu"))


def sweep(problem: Problem, here: str, there: str, quantile: Quantile = "p50") -> list[Split]:
    """Return every split of a problem of one model between two devices, in the order in which it can run.

    A device with DVFS levels runs at its first.

    Raises:
        PlanError: A device does not exist, there are several models or periods, a segment can't run on one of the two,
            or no link leads there and back.
    """
    instance = make_instance(problem, quantile=quantile)
    for name in (here, there):
        if name not in instance.devices:
            raise PlanError(f"there is no device {name!r} to split at: one of {named(instance.devices)}")
    if here == there:
        raise PlanError(f"splits need two devices: {here!r} is given twice")
    if len(problem.models) > 1 or problem.models[0].period_s is not None:
        raise PlanError(
            f"splits are of one model that runs once: the problem has {named(m.name for m in problem.models)}"
        )
    a, b = instance.devices.index(here), instance.devices.index(there)
    order = [instance.tasks[task].unit for task in instance.order]
    inner = [unit for unit in order if instance.units[unit].segment not in (INPUT, ANSWER)]
    for unit in set(order) - set(inner):
        if a not in instance.units[unit].choices:
            raise PlanError(f"inputs do not come from {here!r}: give the two devices the other way round")
    for unit in inner:
        if not {a, b} <= set(instance.units[unit].choices):
            raise PlanError(f"segment {instance.units[unit].segment!r} can't run on both {here!r} and {there!r}")
    splits = []
    for cut in range(len(inner) + 1):
        far = set(inner[cut:])
        devices = [b if unit in far else a for unit in range(len(instance.units))]
        name = instance.units[inner[cut]].segment if cut < len(inner) else ""
        splits.append(_split(instance, devices, (cut, name), a, b))
    return splits


def _split(instance: Instance, devices: list[int], cut: tuple[int, str], a: int, b: int) -> Split:
    levels = [0] * len(instance.devices)
    schedule = place(instance, devices, levels, tails_s(instance, devices, levels))
    if schedule is None:
        raise PlanError(f"no link leads from {instance.devices[a]!r} to {instance.devices[b]!r} and back")
    work_s = [0.0, 0.0]
    for unit, device in zip(instance.units, devices, strict=True):
        work_s[device == b] += unit.times_s[device][0]
    ways_s = sum(move.end_s - move.start_s for move in schedule.moves)
    slowest_s = max(*work_s, ways_s)
    rate_hz = 1.0 / slowest_s if slowest_s > 0.0 else math.inf
    return Split(*cut, latency_s(instance, schedule.ends_s), rate_hz, energy_j(instance, schedule.assignment))


def pareto_splits(splits: Sequence[Split]) -> list[Split]:
    """Return the splits that no other betters in both latency and throughput, fastest first."""
    kept: list[Split] = []
    for split in sorted(splits, key=lambda item: (item.latency_s, -item.throughput_hz)):
        if not kept or split.throughput_hz > kept[-1].throughput_hz:
            kept.append(split)
    return kept
