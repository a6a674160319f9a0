"""A plan: one schedule with its figures and what is proven of it; the set of plans that a planner hands out.

    gap_pct = (latency - lower bound) / latency x 100

The lower bound holds for every plan with the same last exits that needs at most this plan's energy.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from runtime.plan.check import check_schedule
from runtime.plan.errors import PlanError
from runtime.plan.goal import violation
from runtime.plan.instance import Instance, Quantile, make_instance
from runtime.plan.schedule import (
    Schedule,
    accuracies,
    energy_j,
    latency_s,
    run_latencies_s,
)
from runtime.plan.timing import orders_of, retime

PLAN_FORMAT = 1
SAME = 1e-6  # relative difference up to which two figures count as equal


@dataclass(frozen=True, slots=True)
class PlacedTask:
    """One run of a segment in a plan."""

    model: str
    segment: str
    run: int
    device: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True)
class PlacedTransfer:
    """A tensor's way between two devices in a plan."""

    model: str
    segment: str
    run: int
    source: str
    target: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A placement with its schedule and figures.

    Args:
        method: What found it.
        quantile: Whose times its schedule, latency and bound count with: "p99" where there is a deadline.
        placement: Device by model and segment.
        levels: DVFS level by device, of the devices that it uses.
        last_exit: Deepest exit that is run, by model.
        latency_ms: As the problem counts latency.
        latency_worst_ms, latency_expected_ms: The last answer; the mean over the exits by their shares.
        energy_mj: Of one repetition, counting a segment behind an exit by the share of inputs that reach it.
        energy_every_exit_mj: The same as if no input left early.
        accuracy: Mean over the models that have exits; None without.
        optimal: Whether it is proven that no plan of at most this energy is faster.
        misses: By how much it breaks a limit, 0 for none.
    """

    method: str
    quantile: Quantile
    placement: dict[str, dict[str, str]]
    levels: dict[str, str]
    last_exit: dict[str, str]
    latency_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    latency_worst_ms: float
    latency_expected_ms: float
    energy_mj: float
    energy_every_exit_mj: float
    accuracy: float | None
    accuracies: dict[str, float]
    optimal: bool
    gap_pct: float
    lower_bound_ms: float
    misses: float
    tasks: tuple[PlacedTask, ...]
    transfers: tuple[PlacedTransfer, ...]

    def table(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {"format": PLAN_FORMAT, **asdict(self)}

    def write(self, path: Path) -> None:
        """Write the plan as a JSON file."""
        path.write_text(json.dumps(self.table(), indent=1) + "\n", encoding="utf-8")


def read_plan(path: Path) -> Plan:
    """Return the plan in a JSON file.

    Raises:
        PlanError: The file can't be read, or isn't a plan of this format.
    """
    try:
        table = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if table.pop("format", None) != PLAN_FORMAT:
            raise PlanError(f"plan {path}: this version reads format {PLAN_FORMAT}")
        return msgspec.convert(table, Plan)
    except OSError as error:
        raise PlanError(f"plan {path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise PlanError(f"plan {path}: {error}") from error


def make_plan(instance: Instance, schedule: Schedule, method: str, bound_s: float, proven: bool) -> Plan:
    """Return a schedule as a plan, after the independent check.

    Args:
        bound_s: Latency below which no plan of at most this energy can be [s].
        proven: Whether the schedule is proven to reach the least.
    Raises:
        ScheduleError: The schedule breaks a rule; whoever made it is wrong.
    """
    check_schedule(instance, schedule)
    latency = latency_s(instance, schedule.ends_s)
    runs = run_latencies_s(instance, schedule.ends_s)
    reached = accuracies(instance, schedule.assignment)
    bound = min(bound_s, latency)
    used = set(schedule.assignment.devices)
    return Plan(
        method=method,
        quantile=instance.quantile,
        placement=_placement(instance, schedule),
        levels={
            device.name: device.levels[schedule.assignment.levels[index]]
            for index, device in enumerate(instance.problem.devices)
            if index in used
        },
        last_exit=instance.exits_kept(),
        latency_ms=1e3 * latency,
        latency_p50_ms=1e3 * latency_with(instance, schedule, "p50"),
        latency_p99_ms=1e3 * latency_with(instance, schedule, "p99"),
        latency_worst_ms=1e3 * max(worst for worst, _ in runs),
        latency_expected_ms=1e3 * max(expected for _, expected in runs),
        energy_mj=1e3 * energy_j(instance, schedule.assignment),
        energy_every_exit_mj=1e3 * energy_j(instance, schedule.assignment, every_exit=True),
        accuracy=sum(reached.values()) / len(reached) if reached else None,
        accuracies=reached,
        optimal=proven,
        gap_pct=100.0 * (latency - bound) / latency if latency > 0.0 else 0.0,
        lower_bound_ms=1e3 * bound,
        misses=violation(instance, schedule),
        tasks=_tasks(instance, schedule),
        transfers=_transfers(instance, schedule),
    )


def latency_with(instance: Instance, schedule: Schedule, quantile: Quantile) -> float:
    """Return the latency [s] of the same placement and orders with other times."""
    if quantile == instance.quantile:
        return latency_s(instance, schedule.ends_s)
    other = make_instance(instance.problem, instance.exits, quantile)
    return latency_s(other, retime(other, schedule.assignment, orders_of(instance, schedule)).ends_s)


def better_or_same(one: Plan, other: Plan) -> bool:
    """Whether `one` is in nothing worse than `other`, to within rounding."""
    accuracy = 0.0 if one.accuracy is None or other.accuracy is None else other.accuracy - one.accuracy
    return (
        one.latency_ms <= other.latency_ms * (1.0 + SAME)
        and one.energy_mj <= other.energy_mj * (1.0 + SAME)
        and accuracy <= SAME
    )


def pareto(plans: list[Plan]) -> list[Plan]:
    """Return the plans that no other is better than in latency, energy and accuracy, fastest first; of equals one."""
    kept: list[Plan] = []
    for plan in sorted(plans, key=lambda plan: (plan.latency_ms, plan.energy_mj, not plan.optimal)):
        if not any(better_or_same(other, plan) for other in kept):
            kept = [other for other in kept if not better_or_same(plan, other)]
            kept.append(plan)
    return sorted(kept, key=lambda plan: (plan.latency_ms, plan.energy_mj))


def thin(plans: list[Plan], most: int) -> list[Plan]:
    """Return at most `most` of a Pareto set: the proven ones, then those farthest from any kept, along the energy."""
    if len(plans) <= most:
        return plans
    kept = [plan for plan in plans if plan.optimal][:most] or [plans[0]]
    span = [max(p.latency_ms for p in plans), max(p.energy_mj for p in plans) or 1.0]

    def distance(plan: Plan) -> float:
        return min(
            abs(plan.latency_ms - other.latency_ms) / span[0]
            + abs(plan.energy_mj - other.energy_mj) / span[1]
            + abs((plan.accuracy or 0.0) - (other.accuracy or 0.0))
            for other in kept
        )

    while len(kept) < most:
        kept.append(max(plans, key=distance))
    return sorted(kept, key=lambda plan: (plan.latency_ms, plan.energy_mj))


def _placement(instance: Instance, schedule: Schedule) -> dict[str, dict[str, str]]:
    placement: dict[str, dict[str, str]] = {}
    for unit, device in zip(instance.units, schedule.assignment.devices, strict=True):
        placement.setdefault(unit.model, {})[unit.segment] = instance.devices[device]
    return placement


def _tasks(instance: Instance, schedule: Schedule) -> tuple[PlacedTask, ...]:
    rows = []
    for task, start_s, end_s in zip(instance.tasks, schedule.starts_s, schedule.ends_s, strict=True):
        unit = instance.units[task.unit]
        device = instance.devices[schedule.assignment.devices[task.unit]]
        rows.append(PlacedTask(unit.model, unit.segment, task.run, device, 1e3 * start_s, 1e3 * end_s))
    return tuple(sorted(rows, key=lambda row: (row.start_ms, row.device, row.end_ms)))


def _transfers(instance: Instance, schedule: Schedule) -> tuple[PlacedTransfer, ...]:
    rows = []
    for move in schedule.moves:
        task = instance.tasks[instance.flows[move.flow].source]
        unit = instance.units[task.unit]
        ways = instance.devices[move.source], instance.devices[move.target]
        rows.append(PlacedTransfer(unit.model, unit.segment, task.run, *ways, 1e3 * move.start_s, 1e3 * move.end_s))
    return tuple(rows)
