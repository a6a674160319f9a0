"""The independent check of a schedule: every rule of the problem, from the start times alone.

It shares no code with the solvers' timing: it reads the problem's own tables, replays the work of every task second by
second of what was at work beside it, and compares. Whatever any method returns passes through here before a user
sees it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from runtime.plan.errors import ScheduleError
from runtime.plan.instance import Instance
from runtime.plan.schedule import Schedule

TOLERANCE = 1e-6  # of the schedule's length: sums of floating-point times taken in another order


def check_schedule(instance: Instance, schedule: Schedule) -> None:
    """Refuse a schedule that breaks a rule: placement, releases, precedence, transfers, exclusive use, work, memory.

    Raises:
        ScheduleError: Names the segment or device, the times, and the rule.
    """
    slack_s = TOLERANCE * max((end for end in schedule.ends_s if math.isfinite(end)), default=0.0)
    _check_placement(instance, schedule)
    spans = _spans(instance, schedule, slack_s)
    for device, rows in enumerate(spans):
        _check_exclusive(f"device {instance.devices[device]!r}", rows, slack_s)
    _check_work(instance, schedule, spans, slack_s)
    _check_tensors(instance, schedule, slack_s)
    _check_memories(instance, schedule)


def _name(instance: Instance, task: int) -> str:
    unit = instance.units[instance.tasks[task].unit]
    return f"{unit.model}/{unit.segment} run {instance.tasks[task].run}"


def _check_placement(instance: Instance, schedule: Schedule) -> None:
    for index, levels in enumerate(instance.levels):
        if not 0 <= schedule.assignment.levels[index] < levels:
            raise ScheduleError(f"device {instance.devices[index]!r} has no level {schedule.assignment.levels[index]}")
    for unit, device in zip(instance.units, schedule.assignment.devices, strict=True):
        segment = next(s for s in instance.problem.model(unit.model).segments if s.id == unit.segment)
        if segment.costs[instance.devices[device]] is None:
            raise ScheduleError(f"{unit.model}/{unit.segment} cannot run on {instance.devices[device]!r}")


def _spans(instance: Instance, schedule: Schedule, slack_s: float) -> list[list[tuple[float, float, int]]]:
    spans: list[list[tuple[float, float, int]]] = [[] for _ in instance.devices]
    for index, (task, start_s, end_s) in enumerate(
        zip(instance.tasks, schedule.starts_s, schedule.ends_s, strict=True)
    ):
        if not (math.isfinite(start_s) and math.isfinite(end_s) and start_s <= end_s):
            raise ScheduleError(f"{_name(instance, index)} runs from {start_s} to {end_s} s: not a span of time")
        if start_s < task.release_s - slack_s:
            raise ScheduleError(f"{_name(instance, index)} starts at {start_s} s, before its release {task.release_s}")
        spans[schedule.assignment.devices[task.unit]].append((start_s, end_s, index))
    return [sorted(rows) for rows in spans]


def _check_exclusive(what: str, rows: Sequence[tuple[float, float, int]], slack_s: float) -> None:
    for (_, end_s, first), (start_s, _, second) in pairwise(rows):
        if start_s < end_s - slack_s:
            raise ScheduleError(f"{what}: {second} starts at {start_s} s, before {first} has ended at {end_s} s")


def _check_work(
    instance: Instance, schedule: Schedule, spans: list[list[tuple[float, float, int]]], slack_s: float
) -> None:
    """In every task's span: integral of (1 - losses by busy others) dt >= its time."""
    for device, rows in enumerate(spans):
        for start_s, end_s, index in rows:
            unit = instance.units[instance.tasks[index].unit]
            costs = unit.cells[device]
            if costs is None:
                raise ScheduleError(f"{_name(instance, index)} has no cost on {instance.devices[device]!r}")
            cost = costs[schedule.assignment.levels[device]]
            work_s = cost.p99_s if instance.quantile == "p99" and cost.p99_s is not None else cost.p50_s
            done_s = end_s - start_s
            for pair in instance.problem.contention:
                if instance.devices[device] in pair.devices:
                    (other,) = set(pair.devices) - {instance.devices[device]}
                    beside = spans[instance.devices.index(other)]
                    both_s = sum(max(0.0, min(end_s, end) - max(start_s, start)) for start, end, _ in beside)
                    done_s -= both_s * (1.0 - 1.0 / pair.factor)
            if done_s < work_s - slack_s:
                raise ScheduleError(f"{_name(instance, index)} does {done_s} s of work: it has {work_s} s")


def _check_tensors(instance: Instance, schedule: Schedule, slack_s: float) -> None:
    """Every reader starts after the tensor is there; a move takes its time; a channel carries one at a time."""
    arrived: dict[tuple[int, int], float] = {}
    channels: dict[str, list[tuple[float, float, int]]] = {}
    for move in schedule.moves:
        flow = instance.flows[move.flow]
        what = f"the tensor of {_name(instance, flow.source)} to {instance.devices[move.target]!r}"
        if schedule.assignment.devices[instance.tasks[flow.source].unit] != move.source:
            raise ScheduleError(f"{what} leaves from {instance.devices[move.source]!r}, where it was not made")
        if move.start_s < schedule.ends_s[flow.source] - slack_s:
            raise ScheduleError(f"{what} leaves at {move.start_s} s, before it is made")
        if not move.end_s - move.start_s >= flow.times_s[move.source][move.target] - slack_s:
            raise ScheduleError(f"{what} takes {move.end_s - move.start_s} s: its way takes longer, or there is none")
        arrived[move.flow, move.target] = move.end_s
        channel = flow.channels[move.source][move.target]
        if channel is not None:
            channels.setdefault(channel, []).append((move.start_s, move.end_s, move.flow))
    for name, rows in channels.items():
        _check_exclusive(f"channel {name!r}", sorted(rows), slack_s)
    for index, flow in enumerate(instance.flows):
        source = schedule.assignment.devices[instance.tasks[flow.source].unit]
        for reader in flow.readers:
            target = schedule.assignment.devices[instance.tasks[reader].unit]
            there_s = schedule.ends_s[flow.source] if target == source else arrived.get((index, target), math.inf)
            if schedule.starts_s[reader] < there_s - slack_s:
                raise ScheduleError(
                    f"{_name(instance, reader)} starts at {schedule.starts_s[reader]} s: "
                    f"the tensor of {_name(instance, flow.source)} is there at {there_s} s"
                )


def _check_memories(instance: Instance, schedule: Schedule) -> None:
    for memory in instance.problem.memories:
        used = 0.0
        for model in instance.problem.models:
            placed = {
                unit.segment: instance.devices[device]
                for unit, device in zip(instance.units, schedule.assignment.devices, strict=True)
                if unit.model == model.name
            }
            if memory.holds == "transfers":
                used += sum(
                    edge.bytes * len({placed[name] for name in edge.to if name in placed} & others)
                    for edge in model.edges
                    if placed.get(edge.source) in memory.devices
                    for others in [set(memory.devices) - {placed[edge.source]}]
                )
                continue
            for unit, device in zip(instance.units, schedule.assignment.devices, strict=True):
                costs = unit.cells[device]
                if unit.model == model.name and instance.devices[device] in memory.devices and costs is not None:
                    used += costs[schedule.assignment.levels[device]].memory_bytes
        if used > memory.bytes * (1.0 + TOLERANCE):
            raise ScheduleError(f"memory {memory.name!r} holds {used:.0f} bytes: it has {memory.bytes:.0f}")
