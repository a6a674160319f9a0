"""A lower bound on the latency of any plan, from the costs alone.

    worst      max( longest path of cheapest times, sum of cheapest times / devices )
    expected   max over runs of the sum over exits of share x max( longest path, work / devices ) up to that exit

Cheapest over all devices and levels where a segment can run; transfers and contention count as nothing. The sum goes
over the runs released together at time 0.

Reference: DiviML (module-based partitioning on heterogeneous platforms), lower bound; Graham 1966.
"""

import math
from collections.abc import Iterable

from runtime.plan.instance import Instance


def cheapest_s(instance: Instance) -> list[float]:
    """Return the least time of each task, over devices and levels [s]."""
    least = [min(min(row) for row in unit.times_s) for unit in instance.units]
    return [least[task.unit] for task in instance.tasks]


def heads_s(instance: Instance) -> list[float]:
    """Return the earliest end of each task with cheapest times and free transfers [s], from its release."""
    times = cheapest_s(instance)
    ends = [0.0] * len(instance.tasks)
    for task in instance.order:
        begin = max((ends[instance.flows[index].source] for index in instance.inflows[task]), default=0.0)
        ends[task] = max(begin, instance.tasks[task].release_s) + times[task]
    return ends


def lower_bound_s(instance: Instance) -> float:
    """Return a latency below which no plan of the instance can be [s], as the problem counts latency."""
    times, ends = cheapest_s(instance), heads_s(instance)

    def reach_s(tasks: Iterable[int], release_s: float) -> float:
        chosen = tuple(tasks)
        path = max(ends[task] for task in chosen) - release_s
        return max(path, math.fsum(times[task] for task in chosen) / len(instance.devices))

    if instance.problem.latency == "expected":
        return max(
            math.fsum(share * reach_s(tasks, run.release_s) for share, tasks in run.answers) for run in instance.runs
        )
    alone = max(reach_s(run.answers[-1][1], run.release_s) for run in instance.runs)
    first = [task for run in instance.runs if run.release_s == 0.0 for task in run.answers[-1][1]]
    return max(alone, math.fsum(times[task] for task in first) / len(instance.devices))


def least_energy_j(instance: Instance) -> float:
    """Return an energy below which no plan can be [J]: every unit where it costs least, transfers free."""
    total = []
    for unit, tasks in zip(instance.units, instance.tasks_of, strict=True):
        least = min(cost.energy_j for costs in unit.cells if costs is not None for cost in costs)
        total.append(len(tasks) * unit.weight * least)
    return math.fsum(total)
