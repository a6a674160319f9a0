"""Where one manoeuvre is clear of every obstacle that stands still, and what ends that.

Up to `FEW` obstacles are asked one by one (`shield.backup.clear`), more of them all at once (`shield.backup.many`).
"""

import math
from collections.abc import Iterator

from shield.backup.at_once import AtOnce, plain
from shield.backup.clear import blocked, first_hit
from shield.backup.cover import Blocked, Clear, clear_stretches
from shield.backup.family import Family, Kind, Sweep
from shield.backup.many import blocked_many, first_hits
from shield.backup.question import Question
from shield.backup.sensing import beyond_range, beyond_view
from shield.events import Arc

FEW = 4
"""Up to so many obstacles go through plain arithmetic; more go through numpy, an obstacle per column."""

BEYOND_RANGE, BEYOND_VIEW = -2, -3
"""What ends a stretch when it is not an obstacle."""


def at_once(question: Question, family: Family, arc: Arc) -> AtOnce | None:
    """Return one pass over what can be asked of many obstacles together; None where there are few, or some move."""
    if len(question.bodies) <= FEW or question.speeds:
        return None
    sweeps = [sweep for sweep in family.sweeps if plain(sweep)]
    return AtOnce(arc, family.l_r_m, sweeps, question.columns(), family.held_pad_m)


def blocked_of_each(
    question: Question, family: Family, arc: Arc, length: float, together: AtOnce | None
) -> Iterator[tuple[Sweep, list[Blocked]]]:
    """Yield every sweep of the family, in order, and where the obstacles block it; the plain ones of many in one go."""
    answers = together.blocked(arc) if together is not None else None
    for sweep in family.sweeps:
        if answers is not None and plain(sweep):
            yield sweep, next(answers)
        else:
            yield sweep, blocked_by_obstacles(question, family, arc, sweep, length)


def clear_of(
    question: Question, family: Family, arc: Arc, sweep: Sweep, taken: list[Blocked], along: float, length: float
) -> list[Clear]:
    """Return the shrunk clear stretches of one manoeuvre that obstacles block where `taken` says."""
    bounds = question.vehicle.bounds
    if bounds.sensing_range_m is not None:
        room = bounds.sensing_range_m - question.vehicle.radius_m - bounds.position_m - sweep.pad_m
        taken += [(a, b, BEYOND_RANGE) for a, b in beyond_range(arc, family.l_r_m, sweep, room)]
    if bounds.field_of_view_rad is not None:
        taken += [(a, b, BEYOND_VIEW) for a, b in beyond_view(arc, family.l_r_m, sweep, bounds.field_of_view_rad)]
    if arc.length < length and not (question.speeds or sweep.kind is Kind.HELD):
        # The arc closes on itself: the same stretches come round with every turn.
        turns = math.ceil(length / arc.length)
        taken = [(a + k * arc.length, b + k * arc.length, why) for k in range(turns) for a, b, why in taken]
    return clear_stretches(taken, length, along, family.delay_m + along)


def blocked_by_obstacles(question: Question, family: Family, arc: Arc, sweep: Sweep, length: float) -> list[Blocked]:
    bodies, l_r = question.bodies, family.l_r_m
    if not bodies:
        return []
    if sweep.kind is Kind.HELD:
        longer = Arc(question.beta_rad, l_r, length + sweep.length_m)
        if len(bodies) > FEW:
            x, y, radius = question.columns()
            hits = first_hits(longer, x, y, radius + sweep.pad_m).tolist()
        else:
            hits = [first_hit(longer, ox, oy, dilated + sweep.pad_m) for ox, oy, dilated in bodies]
        least = min(hits)
        return [(max(0.0, least - sweep.length_m), length, hits.index(least))] if least < math.inf else []
    if len(bodies) > FEW:
        x, y, radius = question.columns()
        return blocked_many(arc, l_r, sweep, x, y, radius + sweep.pad_m)
    return [
        (first, last, index)
        for index, (ox, oy, dilated) in enumerate(bodies)
        for first, last in blocked(arc, l_r, sweep, ox, oy, dilated + sweep.pad_m)
    ]


def name_of(question: Question, clear: list[list[Clear]], arc: Arc, at: float, cause: int) -> str:
    """Return what ends the cover at `at`: what ended the last manoeuvre, or what blocks the place from the start."""
    if cause == -1:
        ends = [(last, why) for stretches in clear for _, last, why in stretches if last <= at and why != -1]
        cause = max(ends)[1] if ends else -1
    if cause == BEYOND_RANGE:
        return "bound:sensing_range_m"
    if cause == BEYOND_VIEW:
        return "bound:field_of_view_rad"
    if cause == -1 and not question.bodies:
        return "bound:sensing_range_m" if question.vehicle.bounds.sensing_range_m else "bound:field_of_view_rad"
    if cause == -1:
        gaps = []
        for x, y, radius in question.bodies:
            seen_x, seen_y = arc.seen_from(at, x, y)
            gaps.append(math.hypot(seen_x, seen_y) - radius)
        cause = gaps.index(min(gaps))
    return f"obstacle:{cause}"
