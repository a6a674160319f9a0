"""The `backup` deadline of one state.

The largest T such that for every s in [0, s_max(T)] the held arc has hit nothing and some manoeuvre of the declared
family, started there, clears every obstacle. With static obstacles the events along the arc are closed form
(`shield.backup.clear`); what grows with the distance driven (pads, braking lengths) is handled by searching the distance
S whose own family covers the arc up to S, and going on from there with the family of a longer one.

Rounding: every obstacle is taken larger by `MARGIN_M` and `MARGIN_RELATIVE` of its distance, far more than the arithmetic
here can be wrong, so that a deadline is always rounded towards safety.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shield.arc import Reach
from shield.backup.clear import blocked, first_hit
from shield.backup.cover import Blocked, Clear, best_from, clear_stretches
from shield.backup.family import Family, FamilyOf, Kind, Sweep
from shield.backup.turn import turn_clear_until
from shield.deadline import Certificate, Deadline, Interval
from shield.events import Arc
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle

MARGIN_M = 1e-6
"""Declared rounding margin on every obstacle's radius [m]."""

MARGIN_RELATIVE = 1e-9
"""Declared rounding margin on every obstacle's radius, per metre of its distance."""

SEARCH_M = 1e-3
"""The search over the distance driven stops when it knows it to this [m]; what it returns is certified in full."""

TURNS_AT_MOST = 64
"""Full turns of the held arc that one certificate lists; a longer hold is cut off there."""

Body = tuple[float, float, float]
"""An obstacle: body coordinates of its centre at the start and its radius with every fixed bound in it [m]."""


@dataclass(slots=True)
class Question:
    """One state's question, with every fixed bound already in the numbers.

    Args:
        arc_beta_rad: Slip angle held [rad].
        l_r_m: Distance from the centre of gravity to the rear axle [m].
        bodies: Obstacles in the body frame.
        family_of: The manoeuvres as a function of the distance driven.
        delay_m: Way driven within the switch time at most, delta [m].
        along_m: Error of the place along the arc, e [m].
        cap_m: Distance beyond which nothing is asked [m].
    """

    arc_beta_rad: float
    l_r_m: float
    bodies: list[Body]
    family_of: FamilyOf
    delay_m: float
    along_m: float
    cap_m: float


@dataclass(slots=True)
class Cover:
    """How far the arc is covered, by what, and what ends it ("" when it reaches what was asked)."""

    end_m: float
    pieces: list[tuple[Manoeuvre, float, float]]
    until_m: dict[Manoeuvre, float]
    limit: str


def backup_deadline(
    vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float, beta_in_flight_rad: float | None = None
) -> Deadline:
    """Return the `backup` deadline; arguments as for `shield.deadline.tolerable_deadline`, which checks them."""
    bounds = vehicle.bounds
    reach = Reach.of(vehicle, state.speed_mps)
    least_speed = bounds.obstacle_speed_mps
    moving = any(max(disc.speed_max_mps, least_speed) > 0.0 for disc in obstacles)
    family_of = FamilyOf(vehicle, state.beta_rad, reach, beta_in_flight_rad, moving)
    if family_of.refused:
        return _none(vehicle, f"bound:{family_of.refused}")
    question = Question(
        state.beta_rad,
        vehicle.l_r_m,
        bodies_of(vehicle, state, obstacles),
        family_of,
        family_of.delay_m,
        bounds.position_m + vehicle.v_max_mps * bounds.sensing_age_s,
        reach.distance_m(cap_s + bounds.sensing_age_s),
    )
    if moving:
        return _none(vehicle, "bound:obstacle_speed_mps")
    cover = cover_static(question)
    time_s = min(cap_s, max(0.0, reach.time_s(cover.end_m) - bounds.sensing_age_s))
    return _deadline(vehicle, reach, cover, time_s)


def bodies_of(vehicle: Vehicle, state: State, obstacles: Sequence[Disc]) -> list[Body]:
    """Return the obstacles in the body frame, their radii grown by every bound that does not depend on the way driven."""
    bounds = vehicle.bounds
    cosine, sine = math.cos(state.heading_rad), math.sin(state.heading_rad)
    x0, y0 = state.x_m, state.y_m
    fixed = vehicle.radius_m + bounds.position_m + MARGIN_M
    fixed += bounds.odometry_drift * vehicle.v_max_mps * bounds.sensing_age_s
    per_metre = MARGIN_RELATIVE + 2.0 * math.sin(0.5 * min(math.pi, bounds.heading_rad))
    bodies = []
    for disc in obstacles:
        x, y = disc.x_m - x0, disc.y_m - y0
        radius = disc.radius_m + fixed + per_metre * math.hypot(x, y)
        bodies.append((cosine * x + sine * y, cosine * y - sine * x, radius))
    return bodies


def cover_static(question: Question) -> Cover:
    """Return how far the held arc is covered when no obstacle moves."""
    cover = _cover_from(question, 0.0, question.cap_m)
    if cover.end_m >= question.cap_m or not question.family_of.grows:
        return cover
    done = _largest_own(question, 0.0, cover)
    while True:
        # What is certified up to here holds; go on from here with the family of a longer way, asked only beyond here.
        further = _largest_own(question, done.end_m, None)
        if further.end_m <= done.end_m + SEARCH_M:
            done.limit = further.limit or done.limit
            return done
        for manoeuvre, until in further.until_m.items():
            if done.until_m.get(manoeuvre, -1.0) >= done.end_m:
                done.until_m[manoeuvre] = until
        done = Cover(further.end_m, done.pieces + further.pieces, done.until_m, further.limit)
        if done.end_m >= question.cap_m:
            return done


def _largest_own(question: Question, start: float, first: Cover | None) -> Cover:
    """Return the cover from `start` to the largest S that the family of S itself covers."""
    high = question.cap_m
    cover = first or _cover_from(question, start, high)
    if cover.end_m >= high:
        return cover
    limit = cover.limit
    low = max(start, cover.end_m)
    # A shorter way has smaller pads: whatever the family of a longer way covers, its own covers too.
    while high - low > SEARCH_M:
        middle = 0.5 * (low + high)
        cover = _cover_from(question, start, middle)
        if cover.end_m >= middle:
            low = middle
        else:
            high, low, limit = middle, max(low, cover.end_m), cover.limit
    cover = _cover_from(question, start, low)
    cover.limit = limit
    return cover


def _cover_from(question: Question, start: float, end: float) -> Cover:
    """Return the cover of [start, end] by the family of a way of `end` metres."""
    family = question.family_of.after(end)
    if not family.sweeps:
        return Cover(start, [], {}, f"bound:{family.missing}")
    turn_m = 2.0 * math.pi * question.l_r_m / max(abs(math.sin(question.arc_beta_rad)), 1e-300)
    end = min(end, TURNS_AT_MOST * turn_m)
    length = end + question.delay_m + question.along_m
    arc = Arc(question.arc_beta_rad, question.l_r_m, length)
    limit, limit_cause = _held_limit(question, family, arc, end)
    if limit < start:
        return Cover(start, [], {}, f"obstacle:{limit_cause}")
    clear: list[list[Clear]] = []
    until: dict[Manoeuvre, float] = {}
    names: list[Manoeuvre] = []
    turns = []
    for sweep in family.sweeps:
        if sweep.kind is Kind.TURN:
            turns.append(sweep)
            continue
        stretches = _clear_of(question, arc, sweep, length)
        clear.append(stretches)
        names.append(sweep.manoeuvre)
        for first, last, _ in stretches:
            if first <= start <= last:
                until[sweep.manoeuvre] = min(last, limit)
                if last >= limit:
                    return _cover_of(start, limit, end, limit_cause, [(sweep.manoeuvre, start, limit)], until)
    at, cause = start, -1
    pieces: list[tuple[Manoeuvre, float, float]] = []
    while at < limit:
        best, reached, why = best_from(clear, at)
        if best < 0 and turns:
            # Dearer to evaluate, so asked only where nothing else goes on.
            for sweep in turns:
                names.append(sweep.manoeuvre)
                clear.append(_turn_from(question, arc, sweep, at, length))
            if len(question.bodies) == 1:
                turns = []
            best, reached, why = best_from(clear, at)
        if best < 0:
            break
        pieces.append((names[best], at, min(reached, limit)))
        at, cause = reached, why
    if at >= limit:
        return _cover_of(start, limit, end, limit_cause, pieces, until)
    if cause < 0:
        cause = _nearest(question, arc, at)
    return Cover(at, pieces, until, f"obstacle:{cause}")


def _cover_of(
    start: float,
    limit: float,
    end: float,
    cause: int,
    pieces: list[tuple[Manoeuvre, float, float]],
    until: dict[Manoeuvre, float],
) -> Cover:
    return Cover(limit, pieces, until, "" if limit >= end else f"obstacle:{cause}")


def _held_limit(question: Question, family: Family, arc: Arc, end: float) -> tuple[float, int]:
    limit, cause = end, -1
    for index, (x, y, radius) in enumerate(question.bodies):
        hit = first_hit(arc, x, y, radius + family.held_pad_m) - question.delay_m
        if hit < limit:
            limit, cause = hit, index
    return limit, cause


def _clear_of(question: Question, arc: Arc, sweep: Sweep, length: float) -> list[Clear]:
    taken: list[Blocked] = []
    if sweep.kind is Kind.HELD:
        longer = Arc(question.arc_beta_rad, question.l_r_m, length + sweep.length_m)
        for index, (x, y, radius) in enumerate(question.bodies):
            hit = first_hit(longer, x, y, radius + sweep.pad_m)
            if hit < length + sweep.length_m:
                taken.append((max(0.0, hit - sweep.length_m), length, index))
    else:
        for index, (x, y, radius) in enumerate(question.bodies):
            for start, end in blocked(arc, question.l_r_m, sweep, x, y, radius + sweep.pad_m):
                taken.append((start, end, index))
        if arc.length < length:
            # The arc closes on itself: the same stretches come round with every turn.
            turns = math.ceil(length / arc.length)
            taken = [(a + k * arc.length, b + k * arc.length, i) for k in range(turns) for a, b, i in taken]
    return clear_stretches(taken, length, question.along_m, question.delay_m + question.along_m)


def _turn_from(question: Question, arc: Arc, sweep: Sweep, at: float, length: float) -> list[Clear]:
    """Return the clear stretches of a turn followed by a straight; with several obstacles only the one around `at`."""
    if len(question.bodies) == 1:
        return _clear_of(question, arc, sweep, length)
    before, after = question.along_m, question.delay_m + question.along_m
    begin = max(0.0, at - before)
    table = np.array(question.bodies).T
    columns = (table[0], table[1], table[2] + sweep.pad_m)
    end, cause = turn_clear_until(question.arc_beta_rad, question.l_r_m, sweep, columns, begin, length)
    return clear_stretches([(0.0, begin, cause), (end, length, cause)], length, before, after)


def _nearest(question: Question, arc: Arc, at: float) -> int:
    """Return the obstacle that is nearest `at` metres along the arc; what blocks a place where nothing was clear."""
    gaps = []
    for x, y, radius in question.bodies:
        seen_x, seen_y = arc.seen_from(at, x, y)
        gaps.append(math.hypot(seen_x, seen_y) - radius)
    return gaps.index(min(gaps))


def _deadline(vehicle: Vehicle, reach: Reach, cover: Cover, time_s: float) -> Deadline:
    single, until = None, 0.0
    for manoeuvre, end in cover.until_m.items():
        if manoeuvre.constant and (single is None or end > until):
            single, until = manoeuvre, end
    intervals = tuple(Interval(start, end, manoeuvre) for manoeuvre, start, end in cover.pieces)
    until_s = max(0.0, reach.time_s(until) - vehicle.bounds.sensing_age_s)
    certificate = Certificate(intervals, single, until, min(until_s, time_s), vehicle.fingerprint())
    due = cover.pieces[-1][0] if cover.pieces else None
    return Deadline(time_s, cover.end_m, cover.limit or "cap", due, certificate, bool(cover.pieces))


def _none(vehicle: Vehicle, limited_by: str) -> Deadline:
    certificate = Certificate((), None, 0.0, 0.0, vehicle.fingerprint())
    return Deadline(0.0, 0.0, limited_by, None, certificate, False)
