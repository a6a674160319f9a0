"""The choice among plans at run time: the cheapest whose p99 fits the deadline as things are now, and why.

A pure object: it is told what changed and at what time, and holds no clock, thread or device. What it knows of now:
the links' rates, how much slower each device runs (heat, load), which devices are lost, the deadline. Every plan's p99
is timed again under those, in its own order:

    fits      p99 latency now <= deadline
    choice    least energy among those that fit; the fastest where none does, which is then told as late

It switches at once when the present plan no longer fits or its device is lost; to a cheaper one only when that has
fitted with a margin for a while, so that a rate that swings doesn't swing the plan.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from runtime.plan.errors import PlanError
from runtime.plan.instance import Instance, make_instance
from runtime.plan.plan import Plan
from runtime.plan.problem import Cost, Device, Problem, cells
from runtime.plan.schedule import Assignment, Move, Schedule, latency_s, targets
from runtime.plan.timing import orders_of, retime


@dataclass(frozen=True, slots=True)
class Conditions:
    """How things are.

    Args:
        deadline_s: p99 latency to keep [s].
        slowdown: By device, how many times as long its segments take now; 1 where it isn't named.
        rates_bps: By channel, the rate now [bit/s]; as planned where it isn't named.
        lost: Devices that don't answer.
    """

    deadline_s: float = math.inf
    slowdown: Mapping[str, float] = field(default_factory=dict)
    rates_bps: Mapping[str, float] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run, and why.

    Args:
        index: Which of the plans; None where every plan needs a lost device.
        p99_s: Its p99 latency now [s].
        fits: Whether that keeps the deadline.
        switched: Whether it is another than before.
        reason: In words, with the numbers.
    """

    index: int | None
    p99_s: float
    fits: bool
    switched: bool
    reason: str


class PlanChooser:
    """Chooses among the plans of one problem.

    Args:
        problem: What the plans were made for.
        plans: From `plan_problem`, in any order.
        margin: Share of the deadline that a cheaper plan must leave free to be switched to.
        settle_s: How long it must have done so [s].
        names: What the reasons call the plans; "plan 1" and so on where not given.
    Raises:
        PlanError: There is no plan, or one isn't of the problem.
    """

    def __init__(
        self,
        problem: Problem,
        plans: Sequence[Plan],
        *,
        margin: float = 0.1,
        settle_s: float = 1.0,
        names: Sequence[str] | None = None,
    ) -> None:
        if not plans:
            raise PlanError("there is no plan to choose from")
        self._problem, self._plans = problem, tuple(plans)
        self._margin, self._settle_s = margin, settle_s
        self._names = [f"plan {number}" for number in range(1, len(plans) + 1)] if names is None else list(names)
        self._present: int | None = None
        self._better: tuple[int, float] | None = None
        self._last = Conditions()
        self._orders = [_read(problem, plan) for plan in self._plans]

    @property
    def present(self) -> int | None:
        """Index of the plan that was chosen last."""
        return self._present

    def choose(self, now_s: float, conditions: Conditions) -> Choice:
        """Return what to run under the conditions of now.

        Args:
            now_s: The caller's clock [s]; must not go back.
        """
        times_s = [self._p99_s(index, conditions) for index in range(len(self._plans))]
        wanted = self._wanted(times_s, conditions.deadline_s)
        before, changed = self._present, _changes(self._last, conditions)
        self._last = conditions
        if wanted is None:
            self._present = self._better = None
            return Choice(None, math.inf, False, before is not None, f"every plan needs a lost device: {changed}")
        fits = before is not None and times_s[before] <= conditions.deadline_s and not math.isinf(times_s[before])
        if before is not None and before != wanted and fits and not self._settled(now_s, wanted, times_s, conditions):
            reason = f"kept: a cheaper plan ({self._energy(wanted)}) has not fitted with its margin for long enough"
            return Choice(before, times_s[before], True, False, reason)
        self._present, self._better = wanted, None
        late = times_s[wanted] > conditions.deadline_s
        return Choice(
            wanted, times_s[wanted], not late, wanted != before, self._why(wanted, before, times_s, late, changed)
        )

    def _wanted(self, times_s: list[float], deadline_s: float) -> int | None:
        able = [index for index, time_s in enumerate(times_s) if not math.isinf(time_s)]
        if not able:
            return None
        fitting = [index for index in able if times_s[index] <= deadline_s]
        if fitting:
            return min(fitting, key=lambda index: (self._plans[index].energy_mj, times_s[index]))
        return min(able, key=lambda index: times_s[index])

    def _settled(self, now_s: float, wanted: int, times_s: list[float], conditions: Conditions) -> bool:
        if times_s[wanted] > conditions.deadline_s * (1.0 - self._margin):
            self._better = None
            return False
        if self._better is None or self._better[0] != wanted:
            self._better = (wanted, now_s)
        return now_s - self._better[1] >= self._settle_s

    def _p99_s(self, index: int, conditions: Conditions) -> float:
        schedule, exits = self._orders[index]
        instance = make_instance(_now(self._problem, conditions), exits, "p99")
        used = {instance.devices[device] for device in schedule.assignment.devices}
        if used & conditions.lost:
            return math.inf
        orders = orders_of(instance, schedule)
        return latency_s(instance, retime(instance, schedule.assignment, orders).ends_s)

    def _energy(self, index: int) -> str:
        return f"{self._names[index]}, {self._plans[index].energy_mj:.4g} mJ"

    def _why(self, wanted: int, before: int | None, times_s: list[float], late: bool, changed: str) -> str:
        now = f"{self._energy(wanted)}, p99 {1e3 * times_s[wanted]:.4g} ms"
        if late:
            return f"no plan keeps the deadline of {1e3 * self._last.deadline_s:.4g} ms, the fastest is {now}"
        if before is None:
            return f"the cheapest that fits: {now}"
        if before == wanted:
            return f"still the cheapest that fits: {now}"
        then = "can't run" if math.isinf(times_s[before]) else f"has p99 {1e3 * times_s[before]:.4g} ms"
        return f"{changed}: {self._names[before]} {then}; the cheapest that fits is {now}"


def _read(problem: Problem, plan: Plan) -> tuple[Schedule, tuple[int, ...]]:
    """Return a plan's schedule on the problem, in indices."""
    exits = tuple(
        [item.id for item in model.exits].index(plan.last_exit[model.name]) if model.exits else -1
        for model in problem.models
    )
    instance = make_instance(problem, exits, plan.quantile)
    try:
        devices = tuple(instance.devices.index(plan.placement[u.model][u.segment]) for u in instance.units)
        levels = tuple(_level(device, plan.levels) for device in problem.devices)
        rows = {(row.model, row.segment, row.run): row for row in plan.tasks}
        keys = [(instance.units[t.unit].model, instance.units[t.unit].segment, t.run) for t in instance.tasks]
        starts = tuple(1e-3 * rows[key].start_ms for key in keys)
        ends = tuple(1e-3 * rows[key].end_ms for key in keys)
    except (KeyError, ValueError) as error:
        raise PlanError(f"a plan is not of problem {problem.name!r}: {error}") from error
    schedule = Schedule(Assignment(devices, levels), starts, ends, ())
    return replace(schedule, moves=_moves(instance, schedule, plan)), exits


def _level(device: Device, levels: Mapping[str, str]) -> int:
    return device.levels.index(levels[device.name]) if device.name in levels else 0


def _moves(instance: Instance, schedule: Schedule, plan: Plan) -> tuple[Move, ...]:
    """Return the transfers with the starts that the plan has for them, so that channels keep its order."""
    starts = {(m.model, m.segment, m.run, m.target): 1e-3 * m.start_ms for m in plan.transfers}
    moves = []
    for index, flow in enumerate(instance.flows):
        task = instance.tasks[flow.source]
        unit = instance.units[task.unit]
        source = schedule.assignment.devices[task.unit]
        for target in targets(instance, flow, schedule.assignment.devices):
            start_s = starts[unit.model, unit.segment, task.run, instance.devices[target]]
            moves.append(Move(index, source, target, start_s, start_s + flow.times_s[source][target]))
    return tuple(moves)


def _now(problem: Problem, conditions: Conditions) -> Problem:
    """Return the problem with the costs of now."""
    slowed = {name: factor for name, factor in conditions.slowdown.items() if factor != 1.0}
    links = tuple(
        msgspec.structs.replace(link, rate_bps=conditions.rates_bps[link.channel])
        if link.channel is not None and link.channel in conditions.rates_bps
        else link
        for link in problem.links
    )
    if not slowed:
        return msgspec.structs.replace(problem, links=links)
    devices = {device.name: device for device in problem.devices}
    models = []
    for model in problem.models:
        segments = []
        for segment in model.segments:
            costs = dict(segment.costs)
            for name, factor in slowed.items():
                given = cells(segment, devices[name])
                costs[name] = None if given is None else tuple(_slower(cost, factor) for cost in given)
            segments.append(msgspec.structs.replace(segment, costs=costs))
        models.append(msgspec.structs.replace(model, segments=tuple(segments)))
    return msgspec.structs.replace(problem, links=links, models=tuple(models))


def _slower(cost: Cost, factor: float) -> Cost:
    p99_s = None if cost.p99_s is None else cost.p99_s * factor
    return msgspec.structs.replace(cost, p50_s=cost.p50_s * factor, p99_s=p99_s)


def _changes(before: Conditions, now: Conditions) -> str:
    """Return what changed, in words."""
    parts = [f"{name} is lost" for name in sorted(now.lost - before.lost)]
    parts += [f"{name} is back" for name in sorted(before.lost - now.lost)]
    for name in sorted({*before.slowdown, *now.slowdown}):
        old, new = before.slowdown.get(name, 1.0), now.slowdown.get(name, 1.0)
        if old != new:
            parts.append(f"{name} takes {new:.3g} times as long (was {old:.3g})")
    for name in sorted({*before.rates_bps, *now.rates_bps}):
        rates = [
            "as planned" if name not in side.rates_bps else f"{side.rates_bps[name] / 1e6:.3g} Mbit/s"
            for side in (before, now)
        ]
        if rates[0] != rates[1]:
            parts.append(f"channel {name} is at {rates[1]} (was {rates[0]})")
    if now.deadline_s != before.deadline_s:
        parts.append(f"the deadline is {1e3 * now.deadline_s:.4g} ms (was {1e3 * before.deadline_s:.4g})")
    return ", ".join(parts) or "nothing changed"
