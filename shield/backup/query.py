"""The `backup` deadline of one state.

The largest T such that for every s in [0, s_max(T)] the held arc has hit nothing and some manoeuvre of the declared
family, started there, clears every obstacle. With static obstacles the events along the arc are closed form
(`shield.backup.clear`). What grows with the distance driven (pads, braking lengths) is handled by searching the
distance S whose own family covers the arc up to S, and going on from there with the family of a longer one. Obstacles
that move grow with the time, not the place, since a slow vehicle can be anywhere short of s_max(T) at T; the search
is over T.
"""

import math
from collections.abc import Sequence

from shield.answer import Certificate, Deadline, Interval
from shield.arc import Reach
from shield.backup.along import cover_from
from shield.backup.family import FamilyOf
from shield.backup.moving import CUTS, FINEST
from shield.backup.question import Cover, Question, bodies_of
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle

SEARCH_M = 1e-3
"""The search over the distance driven stops when it knows it to this [m]; what it returns is certified in full."""

SEARCH_S, SEARCH_SHARE = 3e-4, 5e-3
"""The search over the time, with moving obstacles, stops when it knows it to this [s], or to this share of it."""

NEAR = 0.75
"""What fails this close to what it was asked for is often the answer, so just above is tried next."""

PIECE_S, PIECE_SHARE = 6e-4, 1e-2
"""A braking path is cut, where it has to be, into pieces of no more than this time [s], or this share of the answer."""


def backup_deadline(
    vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float, beta_in_flight_rad: float | None = None
) -> Deadline:
    """Return the `backup` deadline; arguments as for `shield.deadline.tolerable_deadline`, which checks them."""
    bounds = vehicle.bounds
    reach = Reach.of(vehicle, state.speed_mps)
    least_mps = bounds.obstacle_speed_mps
    speeds = [disc.speed_max_mps if disc.speed_max_mps > least_mps else least_mps for disc in obstacles]
    moving = any(speeds)
    family_of = FamilyOf(vehicle, state.beta_rad, reach, beta_in_flight_rad, moving)
    if family_of.refused:
        return _deadline(vehicle, reach, Cover(0.0, [], {}, f"bound:{family_of.refused}"), 0.0)
    age = bounds.sensing_age_s
    question = Question(
        vehicle,
        state.beta_rad,
        bodies_of(vehicle, state, obstacles),
        family_of,
        bounds.position_m + vehicle.v_max_mps * age,
        reach.distance_m(cap_s + age),
        speeds if moving else [],
    )
    cover = _cover_moving(question, reach, cap_s) if moving else _cover_static(question)
    return _deadline(vehicle, reach, cover, min(cap_s, max(0.0, reach.time_s(cover.end_m) - age)))


def _cover_moving(question: Question, reach: Reach, cap_s: float) -> Cover:
    """Return the cover of the longest time since sensing that its own growth and family cover in full."""
    bounds = question.vehicle.bounds
    switch_s = bounds.switch_time_s

    def cover_until(time_s: float) -> Cover:
        return cover_from(question, 0.0, reach.distance_m(time_s), time_s + switch_s)

    rest_s = reach.v_max_mps / (question.vehicle.deceleration_mps2 or math.inf)
    low, high, limit = 0.0, cap_s + bounds.sensing_age_s, ""
    time_s, known = high, -1.0
    # Whatever a later time covers, an earlier one covers too: less growth, shorter braking. What is shorter than the
    # state is old is a deadline of zero.
    while not limit or (high - low > max(SEARCH_S, SEARCH_SHARE * low) and high > bounds.sensing_age_s):
        piece_s = max(PIECE_S, PIECE_SHARE * time_s)
        question.levels = min(FINEST, max(1, math.ceil(math.log(max(rest_s / piece_s, 1.0), CUTS))))
        cover = cover_until(time_s)
        nearer = False
        if not cover.limit:
            if not limit:
                return cover
            low = known = time_s
            best = cover
        else:
            high, limit = time_s, cover.limit
            done_s = min(time_s, reach.time_s(cover.end_m))
            nearer, low = done_s > max(low, NEAR * time_s), max(low, done_s)
        time_s = _next_between(low, high, max(SEARCH_S, SEARCH_SHARE * low), nearer)
    if known != low:
        best = cover_until(low)
    return Cover(best.end_m, best.pieces, best.until_m, best.limit or limit)


def _cover_static(question: Question) -> Cover:
    """Return how far the held arc is covered when no obstacle moves."""
    cover = cover_from(question, 0.0, question.cap_m)
    if not cover.limit or not question.family_of.grows:
        return cover
    done = _largest_own(question, 0.0, cover)
    while done.limit:
        # What is certified up to here holds; go on from here with the family of a longer way, asked only beyond here.
        further = _largest_own(question, done.end_m, None)
        if further.end_m <= done.end_m + SEARCH_M:
            return done
        until = dict(done.until_m)
        for manoeuvre, end in further.until_m.items():
            if until.get(manoeuvre, -1.0) >= done.end_m:
                until[manoeuvre] = end
        done = Cover(further.end_m, done.pieces + further.pieces, until, further.limit)
    return done


def _largest_own(question: Question, start: float, first: Cover | None) -> Cover:
    """Return the cover from `start` to the largest S that the family of S itself covers."""
    high = question.cap_m
    cover = first or cover_from(question, start, high)
    if not cover.limit:
        return cover
    limit = cover.limit
    low = max(start, cover.end_m)
    # A shorter way has smaller pads: whatever the family of a longer way covers, its own covers too.
    nearer = True
    while high - low > SEARCH_M:
        way = _next_between(low, high, SEARCH_M, nearer)
        cover = cover_from(question, start, way)
        nearer = False
        if cover.limit:
            nearer = cover.end_m > low
            high, low, limit = way, max(low, cover.end_m), cover.limit
        else:
            low = way
    cover = cover_from(question, start, low)
    return Cover(cover.end_m, cover.pieces, cover.until_m, limit)


def _next_between(low: float, high: float, grain: float, nearer: bool) -> float:
    """Return what to try next: the middle, or just above `low` when that is likely to be the answer."""
    return low + grain if nearer and high - low > 2.0 * grain else 0.5 * (low + high)


_latest: list[tuple[Vehicle, str]] = []
"""The vehicle asked about last with its fingerprint: hashing its parameters anew costs a tenth of a query."""


def _fingerprint_of(vehicle: Vehicle) -> str:
    known = _latest[0] if _latest else None
    if known is None or known[0] is not vehicle:
        known = (vehicle, vehicle.fingerprint())
        _latest[:] = [known]
    return known[1]


def _deadline(vehicle: Vehicle, reach: Reach, cover: Cover, time_s: float) -> Deadline:
    single: Manoeuvre | None = None
    until = 0.0
    for manoeuvre, end in cover.until_m.items():
        if manoeuvre.constant and (single is None or end > until):
            single, until = manoeuvre, end
    until_s = min(time_s, max(0.0, reach.time_s(until) - vehicle.bounds.sensing_age_s))
    intervals = tuple([Interval(start, end, manoeuvre) for manoeuvre, start, end in cover.pieces])
    certificate = Certificate(intervals, single, until, until_s, _fingerprint_of(vehicle))
    due = cover.pieces[-1][0] if cover.pieces else None
    return Deadline(time_s, cover.end_m, cover.limit or "cap", due, certificate, bool(cover.pieces))
