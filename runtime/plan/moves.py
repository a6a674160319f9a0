"""Moves of the heuristic on a schedule: what its end waits for, put elsewhere or built anew.

    q_i         tail: time from a task's start to the end, along tensors and along its device's order
    critical    s_i + q_i = end: nothing else shortens the schedule
    insertion   a critical task between two others of some device: end >= max(h, e_before) + t + max(q, q_after)
    rebuilding  units that hang together (by tensors, or in time) lose their devices; each gets, in the order of the
                priorities, the one of least  end + way + q of its readers,  with a little noise

Reference: Mastrolilli and Gambardella, J. Scheduling 3(1), 2000 (insertion); Ruiz and Stuetzle, EJOR 177(3), 2007
(iterated greedy).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime.plan.build import Builder, timed
from runtime.plan.instance import Instance
from runtime.plan.schedule import Schedule

NOISE = 0.1  # share by which a rebuilt unit's costs on the devices are blurred
INSERTION_NOISE = 0.05
MOST_REBUILT = 6
WORSE = 0.3  # how often the next worse place is taken


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule and what its moves need.

    Args:
        tails_s: Of each task [s].
        critical: Tasks that the end waits for.
    """

    schedule: Schedule
    tails_s: tuple[float, ...]
    critical: tuple[int, ...]

    @property
    def devices(self) -> tuple[int, ...]:
        """Device of each unit."""
        return self.schedule.assignment.devices

    @property
    def levels(self) -> tuple[int, ...]:
        """Level of each device."""
        return self.schedule.assignment.levels

    def as_started(self) -> list[float]:
        """Return priorities that build the schedule again."""
        return [-start_s for start_s in self.schedule.starts_s]

    def by_tails(self, instance: Instance) -> list[float]:
        """Return priorities by tails, a later release counting as that much less."""
        return [tail - task.release_s for tail, task in zip(self.tails_s, instance.tasks, strict=True)]


def stand(instance: Instance, schedule: Schedule) -> Standing:
    """Return a schedule with its tails and critical tasks."""
    devices, starts_s, ends_s = schedule.assignment.devices, schedule.starts_s, schedule.ends_s
    tails_s = [0.0] * len(instance.tasks)
    next_on: dict[int, int] = {}
    for task in sorted(range(len(tails_s)), key=lambda i: (starts_s[i], ends_s[i]), reverse=True):
        device = devices[instance.tasks[task].unit]
        after_s = max(_onward_s(instance, devices, tails_s, task, device), 0.0)
        if device in next_on:
            after_s = max(after_s, tails_s[next_on[device]])
        tails_s[task] = after_s + ends_s[task] - starts_s[task]
        next_on[device] = task
    end_s = max(ends_s)
    critical = (task for task, tail in enumerate(tails_s) if starts_s[task] + tail >= end_s * (1.0 - 1e-9))
    return Standing(schedule, tuple(tails_s), tuple(critical))


def _onward_s(instance: Instance, devices: Sequence[int], tails_s: Sequence[float], task: int, device: int) -> float:
    """Return the longest way to the end from a task's end on `device`; readers without a device count as beside it."""
    longest_s = 0.0
    for index in instance.outflows[task]:
        flow = instance.flows[index]
        for reader in flow.readers:
            there = devices[instance.tasks[reader].unit]
            way_s = tails_s[reader] + (flow.times_s[device][there] if there >= 0 else 0.0)
            if way_s > longest_s:
                longest_s = way_s
    return longest_s


def neighbours(instance: Instance) -> list[list[int]]:
    """Return for each unit those that share a tensor with it as maker and reader."""
    found: list[set[int]] = [set() for _ in instance.units]
    for flow in instance.flows:
        source = instance.tasks[flow.source].unit
        for reader in flow.readers:
            found[source].add(instance.tasks[reader].unit)
            found[instance.tasks[reader].unit].add(source)
    return [sorted(units - {unit}) for unit, units in enumerate(found)]


def insert(instance: Instance, now: Standing, task: int, rng: random.Random) -> tuple[list[int], list[float]]:
    """Return devices and priorities with a task at one of the places where the end could be soonest."""
    places = sorted(_places(instance, now, task, rng))
    chosen = 0
    while chosen + 1 < len(places) and rng.random() < WORSE:
        chosen += 1
    _, device, after_s, before_s = places[chosen]
    devices, priority = list(now.devices), now.as_started()
    devices[instance.tasks[task].unit] = device
    priority[task] = -(after_s + (before_s - after_s) * rng.uniform(0.5, 0.9))
    return devices, priority


def _places(instance: Instance, now: Standing, task: int, rng: random.Random) -> list[tuple[float, int, float, float]]:
    """Return (least end, device, start of the one before, start of the one after) of every place for a task."""
    starts_s, ends_s = now.schedule.starts_s, now.schedule.ends_s
    unit = instance.units[instance.tasks[task].unit]
    queues: dict[int, list[int]] = {device: [] for device in unit.choices}
    for other in sorted(range(len(starts_s)), key=starts_s.__getitem__):
        device = now.devices[instance.tasks[other].unit]
        if other != task and device in queues:
            queues[device].append(other)
    places = []
    for device, queue in queues.items():
        time_s = unit.times_s[device][now.levels[device]]
        head_s = instance.tasks[task].release_s
        for index in instance.inflows[task]:
            flow = instance.flows[index]
            source = now.devices[instance.tasks[flow.source].unit]
            head_s = max(head_s, ends_s[flow.source] + flow.times_s[source][device])
        tail_s = _onward_s(instance, now.devices, now.tails_s, task, device)
        free_s, begun_s = 0.0, -time_s
        for other in queue:
            if ends_s[other] > head_s:
                end_s = max(head_s, free_s) + time_s + max(tail_s, now.tails_s[other])
                places.append((end_s * (1.0 + INSERTION_NOISE * rng.random()), device, begun_s, starts_s[other]))
            free_s, begun_s = ends_s[other], starts_s[other]
        end_s = max(head_s, free_s) + time_s + tail_s
        places.append((end_s * (1.0 + INSERTION_NOISE * rng.random()), device, begun_s, max(free_s, head_s)))
    return places


def go_before(instance: Instance, now: Standing, task: int) -> list[float]:
    """Return priorities in which a task changes places with the one that its device runs before it."""
    device, starts_s, priority = now.devices[instance.tasks[task].unit], now.schedule.starts_s, now.as_started()
    earlier = (
        other
        for other, item in enumerate(instance.tasks)
        if now.devices[item.unit] == device and starts_s[other] < starts_s[task]
    )
    before = max(earlier, key=starts_s.__getitem__, default=task)
    priority[task], priority[before] = priority[before], priority[task]
    return priority


def together(
    instance: Instance, now: Standing, near: Sequence[Sequence[int]], task: int, rng: random.Random
) -> set[int]:
    """Return the units of a few tasks around one: joined by tensors, or running at the same time."""
    first, count = instance.tasks[task].unit, rng.randint(2, MOST_REBUILT)
    if rng.random() < 0.5:
        starts_s = now.schedule.starts_s
        close = sorted(range(len(starts_s)), key=lambda other: abs(starts_s[other] - starts_s[task]))[: 2 * count]
        return {first, *(instance.tasks[other].unit for other in rng.sample(close, min(len(close), count)))}
    found, front = {first}, [first]
    while len(found) < count and front:
        unit = rng.choice(front)
        more = [other for other in near[unit] if other not in found]
        if not more:
            front.remove(unit)
            continue
        front.append(rng.choice(more))
        found.add(front[-1])
    return found


def rebuild(
    instance: Instance, now: Standing, units: set[int], priority: Sequence[float], j_price: float, rng: random.Random
) -> Schedule | None:
    """Return the schedule with some units placed anew; None where a tensor has no way.

    Args:
        j_price: What a joule costs, in seconds.
    """
    devices = [-1 if unit in units else device for unit, device in enumerate(now.devices)]
    return timed(instance, _Rebuilder(instance, devices, now, j_price, rng.random).build(priority))


class _Rebuilder(Builder):
    """Gives each unit the device from which the end is soonest, as far as the tails of before tell."""

    def __init__(
        self, instance: Instance, devices: Sequence[int], now: Standing, j_price: float, draw: Callable[[], float]
    ) -> None:
        super().__init__(instance, devices, now.levels)
        self._now, self._j_price, self._draw = now, j_price, draw

    def cost_s(self, task: int, device: int) -> float:
        """Return the time of the end, as far as known, and the price of the energy [s]."""
        cost_s = super().cost_s(task, device)
        cost_s += _onward_s(self._instance, self.devices, self._now.tails_s, task, device)
        if self._j_price:
            unit = self._instance.units[self._instance.tasks[task].unit]
            costs = unit.cells[device] or ()
            cost_s += self._j_price * unit.weight * costs[self._now.levels[device]].energy_j
        return cost_s * (1.0 + NOISE * self._draw())
