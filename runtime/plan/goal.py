"""What a solver is to make least, and within which limits.

    score = (violation, latency or energy, the other one)

Violation is the sum of relative excesses: 0 where every limit is kept. A schedule without violation beats any with.
"""

import math
from dataclasses import dataclass
from typing import Literal

from runtime.plan.instance import Instance
from runtime.plan.schedule import (
    Schedule,
    accuracies,
    energy_j,
    latency_s,
    lateness_s,
    memory_bytes,
)

EXCESS = 1e-9  # the problem's limits are kept to within this share of themselves
CAP_EXCESS = 2e-5  # a goal's caps: the exact solver counts in whole ticks


@dataclass(frozen=True, slots=True)
class Goal:
    """Args:
    least: What is to be least.
    energy_cap_j: Limit on the plan's energy [J].
    latency_cap_s: Limit on its latency [s].
    """

    least: Literal["latency", "energy"] = "latency"
    energy_cap_j: float = math.inf
    latency_cap_s: float = math.inf


Score = tuple[float, float, float]
NEVER: Score = (math.inf, math.inf, math.inf)


def score(instance: Instance, schedule: Schedule | None, goal: Goal) -> Score:
    """Return how good a schedule is, the least best; None is the worst."""
    if schedule is None:
        return NEVER
    time_s, joule = latency_s(instance, schedule.ends_s), energy_j(instance, schedule.assignment)
    excess = violation(instance, schedule)
    excess += over(joule, goal.energy_cap_j, CAP_EXCESS) + over(time_s, goal.latency_cap_s, CAP_EXCESS)
    return (excess, time_s, joule) if goal.least == "latency" else (excess, joule, time_s)


def violation(instance: Instance, schedule: Schedule) -> float:
    """Return by how much a schedule misses the problem's own limits: deadlines, repetition, memories, accuracy."""
    excess = 0.0
    late_s = lateness_s(instance, schedule.ends_s)
    length_s = max(schedule.ends_s)
    if late_s > EXCESS * length_s:
        excess += late_s / length_s
    if instance.problem.memories:
        held = memory_bytes(instance, schedule.assignment)
        excess += sum(over(used, item.bytes) for used, item in zip(held, instance.problem.memories, strict=True))
    floors = {m.name: m.accuracy_floor for m in instance.problem.models if m.accuracy_floor is not None}
    if floors:
        reached = accuracies(instance, schedule.assignment)
        excess += sum(max(0.0, floor - reached[name] - EXCESS) for name, floor in floors.items())
    return excess


def over(value: float, limit: float, allowed: float = EXCESS) -> float:
    """Return by which share a value is over its limit."""
    return 0.0 if value <= limit * (1.0 + allowed) else (value - limit) / max(limit, 1e-12)
