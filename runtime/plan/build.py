"""Serial schedule generation: tasks in the order of a priority, each into the earliest gap of its device.

Where a unit has no device yet, it gets the one on which the task ends first (as HEFT does); where all have one, this
times a given placement. Transfers take the earliest gap of their channel. Contention is not known here: `timed` follows
with the exact times.
"""

import heapq
import math
from bisect import insort
from collections.abc import Sequence

from runtime.plan.instance import Instance
from runtime.plan.schedule import Assignment, Move, Schedule
from runtime.plan.timing import orders_of, retime


class Builder:
    """Grows one schedule.

    Args:
        devices: Device of each unit, -1 where it is to be chosen.
        levels: Level of each device.
        insert: Whether a task may go before one that was placed earlier.
    """

    def __init__(self, instance: Instance, devices: Sequence[int], levels: Sequence[int], insert: bool = True) -> None:
        self._instance, self._insert = instance, insert
        self.devices, self._levels = list(devices), tuple(levels)
        self._busy: list[list[tuple[float, float]]] = [[] for _ in instance.devices]
        self._channels: dict[str, list[tuple[float, float]]] = {}
        self._arrivals: dict[tuple[int, int], float] = {}
        self._moves: list[Move] = []
        self._starts_s = [0.0] * len(instance.tasks)
        self._ends_s = [0.0] * len(instance.tasks)

    def build(self, priority: Sequence[float]) -> Schedule | None:
        """Return the schedule; None where a tensor has no way to its reader.

        Args:
            priority: Of the tasks whose tensors are made, the one with the greatest goes first.
        """
        instance = self._instance
        waiting = [len(flows) for flows in instance.inflows]
        heap = [(-priority[task], task) for task, count in enumerate(waiting) if count == 0]
        heapq.heapify(heap)
        while heap:
            task = heapq.heappop(heap)[1]
            if not self._place(task):
                return None
            for index in instance.outflows[task]:
                for reader in instance.flows[index].readers:
                    waiting[reader] -= 1
                    if waiting[reader] == 0:
                        heapq.heappush(heap, (-priority[reader], reader))
        assignment = Assignment(tuple(self.devices), self._levels)
        return Schedule(assignment, tuple(self._starts_s), tuple(self._ends_s), tuple(self._moves))

    def _place(self, task: int) -> bool:
        instance = self._instance
        index = instance.tasks[task].unit
        unit, device = instance.units[index], self.devices[index]
        if device < 0:
            device = self.devices[index] = min(unit.choices, key=lambda choice: self.cost_s(task, choice))
        start_s, end_s = self._offer(task, device, unit.times_s[device], commit=True)
        if math.isinf(end_s):
            return False
        self._starts_s[task], self._ends_s[task] = start_s, end_s
        insort(self._busy[device], (start_s, end_s))
        return True

    def cost_s(self, task: int, device: int) -> float:
        """Return what a task without a device would cost on this one [s]: the device with the least gets it."""
        unit = self._instance.units[self._instance.tasks[task].unit]
        return self._offer(task, device, unit.times_s[device])[1]

    def _offer(
        self, task: int, device: int, times_s: tuple[float, ...], *, commit: bool = False
    ) -> tuple[float, float]:
        ready_s = self._instance.tasks[task].release_s
        for index in self._instance.inflows[task]:
            there_s = self._arrive(index, device, commit)
            if there_s > ready_s:
                ready_s = there_s
        time_s = times_s[self._levels[device]]
        busy = self._busy[device]
        if not self._insert and busy:
            ready_s = max(ready_s, busy[-1][1])
        start_s = _gap(busy, ready_s, time_s)
        return start_s, start_s + time_s

    def _arrive(self, index: int, device: int, commit: bool) -> float:
        flow = self._instance.flows[index]
        source = self.devices[self._instance.tasks[flow.source].unit]
        made_s = self._ends_s[flow.source]
        if source == device:
            return made_s
        known = self._arrivals.get((index, device))
        if known is not None:
            return known
        time_s, channel = flow.times_s[source][device], flow.channels[source][device]
        start_s = made_s
        if channel is not None and not math.isinf(time_s):
            taken = self._channels.setdefault(channel, [])
            start_s = _gap(taken, made_s, time_s)
            if commit:
                insort(taken, (start_s, start_s + time_s))
        if commit:
            self._arrivals[index, device] = start_s + time_s
            self._moves.append(Move(index, source, device, start_s, start_s + time_s))
        return start_s + time_s


def _gap(taken: list[tuple[float, float]], ready_s: float, time_s: float) -> float:
    """Return the earliest start from `ready_s` on at which `time_s` fits between the spans of `taken`."""
    if not taken or ready_s >= taken[-1][1]:
        return ready_s
    start_s = ready_s
    for begin, end in taken:
        if start_s + time_s <= begin:
            break
        if end > start_s:
            start_s = end
    return start_s


def timed(instance: Instance, schedule: Schedule | None) -> Schedule | None:
    """Return a built schedule with its exact times: the same where nothing contends."""
    if schedule is None or not instance.contended:
        return schedule
    return retime(instance, schedule.assignment, orders_of(instance, schedule))


def place(
    instance: Instance, devices: Sequence[int], levels: Sequence[int], priority: Sequence[float]
) -> Schedule | None:
    """Return the schedule of a placement under a priority, None where a tensor has no way."""
    return timed(instance, Builder(instance, devices, levels).build(priority))


def tails_s(instance: Instance, devices: Sequence[int], levels: Sequence[int]) -> list[float]:
    """Return each task's upward rank [s]: the longest way from its start to the end, in a placement's own times.

    Units without a device (-1) count with the mean over the devices where they can run, as HEFT does.
    """
    ranks = [0.0] * len(instance.tasks)
    for task in reversed(instance.order):
        unit = instance.units[instance.tasks[task].unit]
        here = devices[instance.tasks[task].unit]
        own_s = (
            unit.times_s[here][levels[here]]
            if here >= 0
            else sum(unit.times_s[choice][levels[choice]] for choice in unit.choices) / len(unit.choices)
        )
        after_s = 0.0
        for index in instance.outflows[task]:
            flow = instance.flows[index]
            for reader in flow.readers:
                there = devices[instance.tasks[reader].unit]
                way_s = flow.times_s[here][there] if here >= 0 and there >= 0 else _mean_way_s(flow.times_s)
                after_s = max(after_s, (0.0 if math.isinf(way_s) else way_s) + ranks[reader])
        ranks[task] = own_s + after_s
    return ranks


def _mean_way_s(times_s: tuple[tuple[float, ...], ...]) -> float:
    known = [time for row in times_s for time in row if not math.isinf(time)]
    return sum(known) / len(known)
