"""All split points of a chain between a device and an edge server (the ParetoPipe setting).

Segments up to the split run here, the rest there. One input's latency is the sum of its times and ways; in a pipeline
every stage (here, the link, there) works on another input at once, so that the slowest sets the rate:

    latency_k = sum here + way_k + sum there + way back,   throughput_k = 1 / max(sum here, way_k, sum there)

Reference: ParetoPipe (sweep of split points, non-dominated latency and throughput).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from devices.profile import load_profile
from runtime.plan.build import place, tails_s
from runtime.plan.errors import PlanError
from runtime.plan.graphs import ANSWER, INPUT, chain_graph
from runtime.plan.instance import Instance, make_instance
from runtime.plan.problem import Link, Problem
from runtime.plan.profiles import Surroundings, problem_of
from runtime.plan.schedule import energy_j, latency_s

INPUT_BYTES = 224 * 224 * 3


@dataclass(frozen=True, slots=True)
class Split:
    """One split point.

    Args:
        first_there: Index of the first segment that runs on the edge; the count of segments for none.
    """

    first_there: int
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


def sweep(problem: Problem, here: str, there: str) -> list[Split]:
    """Return every split of a problem of one chain between two devices, in its order."""
    instance = make_instance(problem)
    a, b = instance.devices.index(here), instance.devices.index(there)
    order = [instance.tasks[task].unit for task in instance.order]
    inner = [unit for unit in order if instance.units[unit].segment not in (INPUT, ANSWER)]
    splits = []
    for cut in range(len(inner) + 1):
        far = set(inner[cut:])
        devices = [b if unit in far else a for unit in range(len(instance.units))]
        splits.append(_split(instance, devices, cut, a, b))
    return splits


def _split(instance: Instance, devices: list[int], cut: int, a: int, b: int) -> Split:
    levels = [0] * len(instance.devices)
    schedule = place(instance, devices, levels, tails_s(instance, devices, levels))
    if schedule is None:
        raise PlanError(f"no link leads from {instance.devices[a]!r} to {instance.devices[b]!r} and back")
    work_s = [0.0, 0.0]
    for unit, device in zip(instance.units, devices, strict=True):
        work_s[device == b] += unit.times_s[device][0]
    ways_s = sum(move.end_s - move.start_s for move in schedule.moves)
    slowest_s = max(*work_s, ways_s)
    return Split(cut, latency_s(instance, schedule.ends_s), 1.0 / slowest_s, energy_j(instance, schedule.assignment))


def pareto_splits(splits: Sequence[Split]) -> list[Split]:
    """Return the splits that no other betters in both latency and throughput, fastest first."""
    kept: list[Split] = []
    for split in sorted(splits, key=lambda item: (item.latency_s, -item.throughput_hz)):
        if not kept or split.throughput_hz > kept[-1].throughput_hz:
            kept.append(split)
    return kept
