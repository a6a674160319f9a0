"""The exact front of one choice of exits: the fastest plan, then the fastest under caps on the energy.

Each cap is solved twice: least latency under the cap, then least energy at that latency, so that neither figure of the
pair can be bettered alone. What the first solve proves holds for every plan that keeps its cap, whoever finds it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.plan.bounds import lower_bound_s
from runtime.plan.exact import is_proven, solve
from runtime.plan.goal import Goal, violation
from runtime.plan.instance import Instance
from runtime.plan.plan import SAME, Plan, make_plan
from runtime.plan.schedule import Schedule, energy_j, latency_s

LEAST_LIMIT_S = 0.2


@dataclass
class Found:
    """Candidates that keep the problem's limits, and what is proven."""

    rows: list[tuple[Instance, Schedule, str]] = field(default_factory=list)
    _bounds: list[tuple[Instance, float, float]] = field(default_factory=list)

    def add(self, instance: Instance, schedule: Schedule | None, method: str) -> None:
        """Keep a schedule if it keeps the problem's limits."""
        if schedule is not None and violation(instance, schedule) == 0.0:
            self.rows.append((instance, schedule, method))

    def prove(self, instance: Instance, cap_j: float, bound_s: float) -> None:
        """Keep that no plan with these exits and at most this energy has less latency."""
        self._bounds.append((instance, cap_j, bound_s))

    def bound_s(self, instance: Instance, energy: float) -> float:
        """Return the greatest latency [s] that is proven for plans of an instance with at most this energy [J]."""
        proven = (
            bound_s
            for like, cap_j, bound_s in self._bounds
            if like.exits == instance.exits and energy <= cap_j * (1.0 + SAME)
        )
        return max(proven, default=lower_bound_s(instance))

    def plans(self) -> list[Plan]:
        """Return the schedules as plans, each with the best bound that holds for its energy."""
        made = []
        for instance, schedule, method in self.rows:
            bound_s = self.bound_s(instance, energy_j(instance, schedule.assignment))
            proven = is_proven(instance, latency_s(instance, schedule.ends_s), bound_s)
            made.append(make_plan(instance, schedule, method, bound_s, proven))
        return made


@dataclass
class Explorer:
    """Walks the front of one instance with the exact solver.

    Args:
        fast, thrifty: The heuristic's schedules of least latency and least energy.
        points: Plans to look for.
        end_s: When the clock says this, each solve gets its least time.
    """

    found: Found
    instance: Instance
    fast: Schedule
    thrifty: Schedule
    points: int
    workers: int
    end_s: float
    clock: Callable[[], float]

    def run(self) -> None:
        """Add the front's plans and bounds to what is found."""
        fastest = self._point(math.inf, self.fast, 2 * self.points + 1)
        top_j = energy_j(self.instance, fastest.assignment)
        if self.points < 2 or top_j <= 0.0:
            return
        limit_s = self._limit_s(2 * self.points - 1)
        least = solve(self.instance, self.thrifty, Goal("energy"), time_limit_s=limit_s, workers=self.workers)
        low_j = energy_j(self.instance, (least.schedule or self.thrifty).assignment)
        for number in range(self.points - 1):
            if low_j < top_j * (1.0 - SAME):
                cap_j = low_j + (top_j - low_j) * number / (self.points - 1)
                start = self.thrifty if energy_j(self.instance, self.thrifty.assignment) <= cap_j else fastest
                self._point(cap_j, start, 2 * (self.points - 1 - number))

    def _point(self, cap_j: float, start: Schedule, parts: int) -> Schedule:
        """Return the best schedule under a cap, after both solves; `start` where there is none."""
        goal = Goal("latency", energy_cap_j=cap_j)
        first = solve(self.instance, start, goal, time_limit_s=self._limit_s(parts), workers=self.workers)
        if first.schedule is None:
            return start
        self.found.prove(self.instance, cap_j, first.bound)
        self.found.add(self.instance, first.schedule, "exact")
        within = Goal("energy", latency_cap_s=latency_s(self.instance, first.schedule.ends_s))
        limit_s = self._limit_s(max(1, parts - 1))
        second = solve(self.instance, first.schedule, within, time_limit_s=limit_s, workers=self.workers)
        self.found.add(self.instance, second.schedule, "exact")
        return second.schedule or first.schedule

    def _limit_s(self, parts: int) -> float:
        return max(LEAST_LIMIT_S, (self.end_s - self.clock()) / parts)
