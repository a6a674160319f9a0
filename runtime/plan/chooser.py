"""The choice among plans at run time: the cheapest whose p99 fits the deadline as things are now, and why.

A pure object: it is told what changed and at what time, and holds no clock, thread or device. What it knows of now:
the links, how much slower each device runs (heat, load), how long requests wait for it, which devices are lost or
better left alone, the deadline, the exits that requests want. Every plan's p99 is timed again under those:

    p99       its schedule with the costs of now  +  the waits for its devices  +  the reply's way out
    able      no device of it is lost; where there is a choice: none is to be avoided, and it goes to the exits wanted
    fits      p99 <= deadline
    choice    least energy among the able that fit; the fastest where none does, which is then told as late

It switches at once when the present plan no longer fits or its device is lost; to a cheaper one only when that has
fitted with a margin for a while, so that a rate that swings doesn't swing the plan.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.plan.conditions import Conditions, as_now, changes
from runtime.plan.errors import PlanError
from runtime.plan.instance import Instance, make_instance
from runtime.plan.plan import Plan
from runtime.plan.problem import Device, Problem
from runtime.plan.schedule import Assignment, Move, Schedule, latency_s, targets
from runtime.plan.timing import orders_of, retime


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


@dataclass(frozen=True, slots=True)
class Look:
    """A plan as it was at the last choice.

    Args:
        p99_s: Its p99 latency then [s]; infinite where it can't run.
        fits: Whether it kept the deadline, and nothing spoke against it.
        against: What speaks against it whatever its time, "" where nothing does.
    """

    p99_s: float
    fits: bool
    against: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What a chooser knows from its choices before.

    Args:
        present: The plan that it chose last.
        better: A plan that has been better than that since then [s].
        since: How things were when the present plan was switched to.
    """

    present: int | None = None
    better: tuple[int, float] | None = None
    since: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a choice is made from, beside the plans.

    Args:
        now_s: The caller's clock [s].
        conditions: How things are.
        before: What the chooser knew until then.
    """

    now_s: float
    conditions: Conditions
    before: Memory


class PlanChooser:
    """Chooses among the plans of one problem.

    Args:
        problem: What the plans were made for.
        plans: From `plan_problem`, in any order.
        margin: Share of the deadline that a cheaper plan must leave free to be switched to; where all are late, share
            of its time that a faster one must save.
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
        self.memory = Memory()
        """Given to another chooser made alike, that one goes on from here."""
        self.looks: tuple[Look, ...] = ()
        """The plans at the last choice."""
        self._orders = [_read(problem, plan) for plan in self._plans]

    @property
    def made_from(self) -> dict[str, Any]:
        """The arguments that make another one alike."""
        return {
            "problem": self._problem,
            "plans": self._plans,
            "margin": self._margin,
            "settle_s": self._settle_s,
            "names": self._names,
        }

    @property
    def present(self) -> int | None:
        """Index of the plan that was chosen last."""
        return self.memory.present

    def choose(self, now_s: float, conditions: Conditions) -> Choice:
        """Return what to run under the conditions of now.

        Args:
            now_s: The caller's clock [s]; must not go back.
        """
        looks = self.looks = tuple(self._look(index, conditions) for index in range(len(self._plans)))
        wanted = self._wanted(looks, conditions.deadline_s)
        memory = self.memory
        before = memory.present
        if wanted is None:
            self.memory = Memory(None, None, memory.since)
            told = " and ".join(sorted(conditions.lost))
            return Choice(None, math.inf, False, before is not None, f"every plan needs a lost device: {told} lost")
        if before is not None and before != wanted and self._stays(now_s, before, wanted, conditions.deadline_s):
            reason = f"kept: {self._energy(wanted)} has not been better by its margin for long enough"
            return Choice(before, looks[before].p99_s, looks[before].fits, False, reason)
        late = looks[wanted].p99_s > conditions.deadline_s
        reason = self._why(wanted, before, conditions)
        self.memory = Memory(wanted, None, memory.since if before == wanted else conditions)
        return Choice(wanted, looks[wanted].p99_s, not late, wanted != before, reason)

    def _wanted(self, looks: Sequence[Look], deadline_s: float) -> int | None:
        able = [index for index, look in enumerate(looks) if not math.isinf(look.p99_s)]
        able = [index for index in able if not looks[index].against] or able
        if not able:
            return None
        fitting = [index for index in able if looks[index].p99_s <= deadline_s]
        if fitting:
            return min(fitting, key=lambda index: (self._plans[index].energy_mj, looks[index].p99_s))
        return min(able, key=lambda index: looks[index].p99_s)

    def _stays(self, now_s: float, before: int, wanted: int, deadline_s: float) -> bool:
        """Whether the plan before is still good, and another one not yet surely better."""
        then, now = self.looks[before], self.looks[wanted]
        if math.isinf(then.p99_s) or then.against or (now.p99_s <= deadline_s < then.p99_s):
            return False
        least = deadline_s if then.fits else then.p99_s  # where all are late, the faster one must be so by the margin
        if now.p99_s > least * (1.0 - self._margin):
            self.memory = replace(self.memory, better=None)
            return True
        better = self.memory.better
        if better is None or better[0] != wanted:
            better = (wanted, now_s)
            self.memory = replace(self.memory, better=better)
        return now_s - better[1] < self._settle_s

    def _look(self, index: int, conditions: Conditions) -> Look:
        schedule, exits = self._orders[index]
        instance = make_instance(as_now(self._problem, conditions), exits, "p99")
        used = {instance.devices[device] for device in schedule.assignment.devices}
        against = [f"{name} is lost" for name in sorted(used & conditions.lost)]
        if against:
            return Look(math.inf, False, " and ".join(against))
        against = [f"{name} is to be avoided: {conditions.avoid[name]}" for name in sorted(used & {*conditions.avoid})]
        against += self._too_shallow(index, conditions.least_exits)
        orders = orders_of(instance, schedule)
        time_s = latency_s(instance, retime(instance, schedule.assignment, orders).ends_s)
        time_s += conditions.reply_s + sum(conditions.waits_s.get(name, 0.0) for name in used)
        return Look(time_s, time_s <= conditions.deadline_s and not against, " and ".join(against))

    def _too_shallow(self, index: int, least: Mapping[str, str]) -> list[str]:
        found = []
        for model in self._problem.models:
            order = [item.id for item in model.exits]
            wanted, last = least.get(model.name), self._plans[index].last_exit.get(model.name)
            if wanted in order and last is not None and order.index(last) < order.index(wanted):
                found.append(f"{model.name} ends at {last!r}, and {wanted!r} is asked for")
        return found

    def _energy(self, index: int) -> str:
        return f"{self._names[index]}, {self._plans[index].energy_mj:.4g} mJ"

    def _why(self, wanted: int, before: int | None, conditions: Conditions) -> str:
        now = f"{self._energy(wanted)}, p99 {1e3 * self.looks[wanted].p99_s:.4g} ms"
        best = f"the cheapest that fits is {now}"
        if self.looks[wanted].p99_s > conditions.deadline_s:
            best = f"no plan keeps the deadline of {1e3 * conditions.deadline_s:.4g} ms, the fastest is {now}"
        if self.looks[wanted].against:
            best += f", although {self.looks[wanted].against}"
        if before is None or before == wanted:
            return best
        then = self.looks[before]
        told = f"has p99 {1e3 * then.p99_s:.4g} ms"
        if math.isinf(then.p99_s):
            told = "can't run"
        elif then.against:
            told = f"is left, as {then.against}"
        elif then.fits:
            told += f", {self._plans[before].energy_mj:.4g} mJ"
        changed = changes(self.memory.since, conditions, self._used(before) | self._used(wanted))
        return f"{changed}: {self._names[before]} {told}; {best}"

    def _used(self, index: int) -> set[str]:
        return {device for placed in self._plans[index].placement.values() for device in placed.values()}


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
