"""The plans that every other is measured against: one device for all, the first that is free, HEFT.

HEFT: tasks by falling upward rank (mean costs), each into the earliest gap of the device where it ends first.

Reference: Topcuoglu, Hariri, Wu, IEEE TPDS 13(3), 2002.
"""

from collections.abc import Sequence

from runtime.plan.build import Builder, place, tails_s, timed
from runtime.plan.goal import Goal, score
from runtime.plan.instance import Instance, Unit
from runtime.plan.schedule import Schedule


def fastest_levels(instance: Instance) -> tuple[int, ...]:
    """Return for each device the level at which what can run there takes least time."""
    levels = []
    for device, count in enumerate(instance.levels):
        rows = [unit.times_s[device] for unit in instance.units if device in unit.choices]
        totals = [sum(row[level] for row in rows) for level in range(count)]
        levels.append(totals.index(min(totals)))
    return tuple(levels)


def single_device(instance: Instance, device: int, levels: Sequence[int] | None = None) -> Schedule | None:
    """Return the schedule with everything on one device, units that can't run there where they run fastest.

    None where nothing at all can run on it, or a tensor has no way to a unit elsewhere.
    """
    chosen = fastest_levels(instance) if levels is None else tuple(levels)
    if not any(device in unit.choices for unit in instance.units):
        return None
    devices = [device if device in unit.choices else _fastest(unit, chosen) for unit in instance.units]
    return place(instance, devices, chosen, _by_release(instance, tails_s(instance, devices, chosen)))


def _fastest(unit: Unit, levels: Sequence[int]) -> int:
    return min(unit.choices, key=lambda choice: unit.times_s[choice][levels[choice]])


def best_single(instance: Instance, goal: Goal | None = None) -> Schedule | None:
    """Return the best of the schedules with everything on one device, at its fastest level."""
    found = [single_device(instance, device) for device in range(len(instance.devices))]
    return min(found, key=lambda schedule: score(instance, schedule, goal or Goal()))


def heft(instance: Instance, levels: Sequence[int] | None = None) -> Schedule | None:
    """Return HEFT's schedule at the fastest levels; None where it walks into a place without a way."""
    chosen = fastest_levels(instance) if levels is None else tuple(levels)
    nowhere = [-1] * len(instance.units)
    ranks = _by_release(instance, tails_s(instance, nowhere, chosen))
    return timed(instance, Builder(instance, nowhere, chosen).build(ranks))


def greedy(instance: Instance) -> Schedule | None:
    """Return the schedule that takes tasks in the graph's order, each on the device where it ends first."""
    chosen = fastest_levels(instance)
    order = [0.0] * len(instance.tasks)
    for place_, task in enumerate(instance.order):
        order[task] = -float(place_)
    order = _by_release(instance, order)
    return timed(instance, Builder(instance, [-1] * len(instance.units), chosen, insert=False).build(order))


def _by_release(instance: Instance, ranks: Sequence[float]) -> list[float]:
    """Return priorities in which a later release counts as that much less."""
    return [rank - task.release_s for rank, task in zip(ranks, instance.tasks, strict=True)]
