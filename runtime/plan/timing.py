"""Times of a schedule whose placement and orders are given: everything starts as early as these allow.

Without contention a task ends its time after it starts. With contention a device works at the rate
1 - sum of the losses by the other devices at work, so that the times follow event by event.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.plan.errors import ScheduleError
from runtime.plan.instance import Instance
from runtime.plan.schedule import Assignment, Move, Schedule, targets

EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class Orders:
    """What runs after what.

    Args:
        tasks: Tasks of each device, in their order.
        moves: (flow, target) of each channel, in their order.
    """

    tasks: tuple[tuple[int, ...], ...]
    moves: Mapping[str, tuple[tuple[int, int], ...]]


def orders_of(instance: Instance, schedule: Schedule) -> Orders:
    """Return the orders that a schedule's times imply; of equal times the graph's order."""
    rank = {task: index for index, task in enumerate(instance.order)}
    by_device: list[list[int]] = [[] for _ in instance.devices]
    for index, task in enumerate(instance.tasks):
        by_device[schedule.assignment.devices[task.unit]].append(index)
    for tasks in by_device:
        tasks.sort(key=lambda task: (schedule.starts_s[task], schedule.ends_s[task], rank[task]))
    channels: dict[str, list[Move]] = {}
    for move in schedule.moves:
        name = instance.flows[move.flow].channels[move.source][move.target]
        if name is not None:
            channels.setdefault(name, []).append(move)
    ordered = {
        name: tuple(
            (move.flow, move.target)
            for move in sorted(moves, key=lambda m: (m.start_s, m.end_s, rank[instance.flows[m.flow].source], m.flow))
        )
        for name, moves in channels.items()
    }
    return Orders(tuple(tuple(tasks) for tasks in by_device), ordered)


def retime(
    instance: Instance, assignment: Assignment, orders: Orders, not_before_s: Sequence[float] | None = None
) -> Schedule:
    """Return the earliest schedule with this placement and these orders.

    Args:
        not_before_s: Earliest start of each task [s]; under contention waiting can pay.
    Raises:
        ScheduleError: The orders wait for each other.
    """
    clock = _Clock(instance, assignment, orders, not_before_s)
    while clock.left:
        clock.step()
    moves = sorted(clock.moves, key=lambda move: (move.start_s, move.flow, move.target))
    return Schedule(assignment, tuple(clock.starts_s), tuple(clock.ends_s), tuple(moves))


class _Clock:
    """Steps from event to event: something starts, ends or becomes ready."""

    def __init__(
        self, instance: Instance, assignment: Assignment, orders: Orders, not_before_s: Sequence[float] | None
    ) -> None:
        count = len(instance.tasks)
        self._instance, self._assignment = instance, assignment
        self._queues = [list(reversed(tasks)) for tasks in orders.tasks]
        self._channels = {name: list(reversed(moves)) for name, moves in orders.moves.items()}
        self._channel_free_s = dict.fromkeys(self._channels, 0.0)
        self._waiting = [len(flows) for flows in instance.inflows]
        self._ready_s = [task.release_s for task in instance.tasks]
        if not_before_s is not None:
            self._ready_s = [max(pair) for pair in zip(self._ready_s, not_before_s, strict=True)]
        self._running: dict[int, tuple[int, float]] = {}
        self._now_s = 0.0
        self.starts_s, self.ends_s = [0.0] * count, [math.inf] * count
        self.moves: list[Move] = []
        self.left = count

    def step(self) -> None:
        """Start what can start now, then go to the next event."""
        next_s = math.inf
        for device, queue in enumerate(self._queues):
            if device in self._running or not queue or self._waiting[queue[-1]]:
                continue
            task = queue[-1]
            if self._ready_s[task] > self._now_s:
                next_s = min(next_s, self._ready_s[task])
                continue
            queue.pop()
            self.starts_s[task] = self._now_s
            level = self._assignment.levels[device]
            self._running[device] = (task, self._instance.units[self._instance.tasks[task].unit].times_s[device][level])
        rates = {device: self._rate(device) for device in self._running}
        for device, (_, left_s) in self._running.items():
            next_s = min(next_s, self._now_s + left_s / rates[device])
        if math.isinf(next_s):
            raise ScheduleError("the schedule's orders wait for each other, or a tensor has no way between two devices")
        self._advance(next_s, rates)

    def _rate(self, device: int) -> float:
        return 1.0 - sum(self._instance.losses[device][other] for other in self._running)

    def _advance(self, next_s: float, rates: dict[int, float]) -> None:
        past_s, self._now_s = next_s - self._now_s, next_s
        for device, (task, left_s) in list(self._running.items()):
            left_s -= past_s * rates[device]
            if left_s <= EPSILON * max(1.0, next_s):
                del self._running[device]
                self._end(task)
            else:
                self._running[device] = (task, left_s)

    def _end(self, task: int) -> None:
        self.ends_s[task] = self._now_s
        self.left -= 1
        instance, devices = self._instance, self._assignment.devices
        source = devices[instance.tasks[task].unit]
        for index in instance.outflows[task]:
            flow = instance.flows[index]
            self._arrive(index, source, self._now_s)
            for target in targets(instance, flow, devices):
                if flow.channels[source][target] is None:
                    self._move(index, source, target, self._now_s)
        self._serve_channels()

    def _serve_channels(self) -> None:
        for name, queue in self._channels.items():
            while queue:
                index, target = queue[-1]
                made = self._instance.flows[index].source
                if math.isinf(self.ends_s[made]):
                    break
                queue.pop()
                source = self._assignment.devices[self._instance.tasks[made].unit]
                start_s = max(self._channel_free_s[name], self.ends_s[made])
                self._channel_free_s[name] = self._move(index, source, target, start_s)

    def _move(self, index: int, source: int, target: int, start_s: float) -> float:
        end_s = start_s + self._instance.flows[index].times_s[source][target]
        self.moves.append(Move(index, source, target, start_s, end_s))
        self._arrive(index, target, end_s)
        return end_s

    def _arrive(self, index: int, device: int, time_s: float) -> None:
        for reader in self._instance.flows[index].readers:
            if self._assignment.devices[self._instance.tasks[reader].unit] == device:
                self._waiting[reader] -= 1
                self._ready_s[reader] = max(self._ready_s[reader], time_s)
