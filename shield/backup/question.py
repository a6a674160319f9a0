"""One state's question with every fixed bound in its numbers, and how far one family of manoeuvres covers the arc.

Rounding: every obstacle is taken larger by `MARGIN_M` and `MARGIN_RELATIVE` of its distance, far more than the
arithmetic can be wrong, so that a deadline is always rounded towards safety.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from shield.backup.clear import blocked, first_hit
from shield.backup.cover import Blocked, Clear, best_from, clear_stretches
from shield.backup.family import Family, FamilyOf, Kind, Sweep
from shield.backup.many import Array, blocked_by_each, blocked_many, first_hits, plain, seen_from
from shield.backup.moving import Braking
from shield.backup.sensing import beyond_range, beyond_view
from shield.backup.turn import Turns
from shield.events import Arc
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle

MARGIN_M = 1e-6
"""Declared rounding margin on every obstacle's radius [m]."""

MARGIN_RELATIVE = 1e-9
"""Declared rounding margin on every obstacle's radius, per metre of its distance."""

TURNS_AT_MOST = 64
"""Full turns of the held arc that one certificate lists; a longer hold is cut off there."""

FEW = 4
"""Up to so many obstacles go through plain arithmetic; more go through numpy, an obstacle per column."""

PLACES = np.array([0.001, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.999])
"""Where in a gap between braking manoeuvres it is seen whether finer pieces can close it, as shares of its length."""

GAPS_AT_ONCE = 8
"""So many gaps between other manoeuvres are looked at together."""

OVERLAP_M = 1e-3
"""A turn followed by a straight is followed this far into what takes over [m], so that rounding leaves no gap."""

BEYOND_RANGE, BEYOND_VIEW = -2, -3
"""What ends a stretch when it is not an obstacle."""

Body = tuple[float, float, float]
"""Body coordinates of an obstacle's centre at the start and its radius with every fixed bound in it [m]."""


@dataclass(slots=True)
class Question:
    """One state's question.

    Args:
        vehicle: Vehicle with its declared bounds.
        beta_rad: Slip angle held [rad].
        bodies: Obstacles in the body frame.
        family_of: The manoeuvres as a function of the distance driven.
        along_m: Error of the place along the arc at its start, e [m]; odometry drift adds to it on the way.
        cap_m: Distance beyond which nothing is asked [m].
        speeds: Top speeds of the obstacles [m/s]; empty when none moves.
        levels: How many times a piece of a braking path may be cut where obstacles move.
    """

    vehicle: Vehicle
    beta_rad: float
    bodies: list[Body]
    family_of: FamilyOf
    along_m: float
    cap_m: float
    speeds: list[float] = field(default_factory=list)
    levels: int = 3
    _table: Array | None = None

    def columns(self) -> Array:
        """Return the obstacles as rows x, y, radius [m]."""
        if self._table is None:
            self._table = np.array(self.bodies).reshape(-1, 3).T
        return self._table


@dataclass(slots=True)
class Cover:
    """How far the arc is covered, by what, and what ends it ("" when it reaches what was asked).

    Args:
        end_m: End of the cover [m].
        pieces: Manoeuvre, start and end of each piece, in order [m].
        until_m: Per manoeuvre clear at the start of the cover, up to where it stays clear [m].
        limit: "obstacle:<index>" or "bound:<name>".
    """

    end_m: float
    pieces: list[tuple[Manoeuvre, float, float]]
    until_m: dict[Manoeuvre, float]
    limit: str


def bodies_of(vehicle: Vehicle, state: State, obstacles: Sequence[Disc]) -> list[Body]:
    """Return the obstacles in the body frame, grown by every bound that does not depend on the way driven."""
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


def cover_from(question: Question, start: float, end: float, elapsed_s: float = 0.0) -> Cover:
    """Return the cover of [start, end] by the family of a way of `end` metres.

    Args:
        question: The state's question.
        start: Where on the held arc the cover begins [m].
        end: Where it need not go on [m].
        elapsed_s: Moving obstacles only: how long they have moved when a manoeuvre starts [s].
    """
    family = question.family_of.after(end)
    if not family.sweeps:
        return Cover(start, [], {}, f"bound:{family.missing}")
    end = min(end, TURNS_AT_MOST * 2.0 * math.pi * family.l_r_m / max(abs(math.sin(question.beta_rad)), 1e-300))
    # A grain longer, so that taking the same terms off again cannot end a hair before `end`.
    along = question.along_m + question.vehicle.bounds.odometry_drift * end
    length = end + family.delay_m + along + MARGIN_M
    arc = Arc(question.beta_rad, family.l_r_m, length)
    limit, limit_cause = _held_limit(question, family, arc, end, elapsed_s)
    stop = "" if limit >= end else f"obstacle:{limit_cause}"
    if limit <= start:
        return Cover(start, [], {}, stop)
    # Nothing beyond what is driven at most matters, nor, where every turn of the arc is like the first, beyond that.
    closes = arc.period if start == 0.0 and along == 0.0 and not question.speeds else math.inf
    asked = min(limit, closes + MARGIN_M)
    if asked < end:
        length = asked + family.delay_m + along + MARGIN_M
        arc = Arc(question.beta_rad, family.l_r_m, length)
    if question.speeds:
        return _cover_moving(question, family, arc, (start, limit, stop), along, length, elapsed_s)
    clear: list[list[Clear]] = []
    until: dict[Manoeuvre, float] = {}
    names: list[Manoeuvre] = []
    for sweep, blocked_here in _blocked_of_each(question, family, arc, length):
        stretches = _clear_of(question, family, arc, sweep, blocked_here, along, length)
        clear.append(stretches)
        names.append(sweep.manoeuvre)
        for first, last, _ in stretches:
            if first <= start <= last:
                until[sweep.manoeuvre] = limit if last >= asked else last
                if last >= asked:
                    return Cover(limit, [(sweep.manoeuvre, start, limit)], until, stop)
    turns = _TurnsOf(question, family, arc, along, length) if family.turns else None
    at, cause = start, -1
    pieces: list[tuple[Manoeuvre, float, float]] = []
    while at < limit:
        best, reached, why = best_from(clear, at)
        if best < 0 and turns is not None:
            # Dearer to evaluate, so asked only where nothing else goes on, and only up to where something else does.
            for manoeuvre, stretches in turns.beyond(clear, at, asked):
                names.append(manoeuvre)
                clear.append(stretches)
            best, reached, why = best_from(clear, at)
        if best < 0:
            break
        pieces.append((names[best], at, min(reached, limit)))
        at, cause = reached, why
        if at >= closes:
            # One whole turn of the arc is covered, and what covers it comes round again.
            pieces = _repeated(pieces, arc.period, at, limit)
            at = limit
    if at >= limit:
        return Cover(limit, pieces, until, stop)
    return Cover(at, pieces, until, _name_of(question, clear, arc, at, cause))


def _cover_moving(
    question: Question,
    family: Family,
    arc: Arc,
    within: tuple[float, float, str],
    along: float,
    length: float,
    elapsed_s: float,
) -> Cover:
    """Return the cover by braking manoeuvres among moving obstacles; `within` is start, limit and what stops there.

    The first gap is looked at again with the braking paths cut finer, until it closes or cannot.
    """
    start, limit, stop = within
    x, y, radius = question.columns()
    deceleration = question.vehicle.deceleration_mps2 or math.inf
    brakings: list[Braking] = []
    clear: list[list[Clear]] = []
    for sweep in family.sweeps:
        bodies = (x, y, _grown(question, radius + sweep.pad_m, elapsed_s))
        braking = Braking(
            question.beta_rad, family.l_r_m, length, sweep, bodies, np.array(question.speeds), (deceleration, family.speed_mps)
        )
        brakings.append(braking)
        clear.append(_clear_of(question, family, arc, sweep, braking.blocked(), along, length))
        if any(first <= start and last >= limit for first, last, _ in clear[-1]):
            return Cover(limit, [(sweep.manoeuvre, start, limit)], _until(brakings, clear, start, limit), stop)
    while True:
        pieces, at, cause = _walk(brakings, clear, start, limit)
        if at >= limit:
            break
        gap_end = min([first for stretches in clear for first, _, _ in stretches if first > at], default=limit)
        gap_end = min(gap_end, limit)
        places = seen_from(arc, (at + (gap_end - at) * PLACES)[:, None], x, y)
        hopes = [braking.hopeful(places) for braking in brakings]
        if not np.any(hopes, axis=0).all():
            break
        # The most promising first: often it is enough.
        order = sorted(range(len(brakings)), key=lambda index: -int(hopes[index].sum()))
        for index in order:
            if hopes[index].any() and brakings[index].cut(at - along, gap_end + family.delay_m + along, question.levels):
                taken = brakings[index].blocked()
                clear[index] = _clear_of(question, family, arc, family.sweeps[index], taken, along, length)
                break
        else:
            break
    until = _until(brakings, clear, start, limit)
    return Cover(at, pieces, until, stop if at >= limit else _name_of(question, clear, arc, at, cause))


def _until(
    brakings: list[Braking], clear: list[list[Clear]], start: float, limit: float
) -> dict[Manoeuvre, float]:
    """Return, of the manoeuvres that are clear at the start, up to where they stay so."""
    return {
        braking.sweep.manoeuvre: min(last, limit)
        for braking, stretches in zip(brakings, clear, strict=True)
        for first, last, _ in stretches
        if first <= start <= last
    }


def _walk(
    brakings: list[Braking], clear: list[list[Clear]], start: float, limit: float
) -> tuple[list[tuple[Manoeuvre, float, float]], float, int]:
    """Return the pieces that cover the arc from `start` on, where they end and what ends the last."""
    pieces: list[tuple[Manoeuvre, float, float]] = []
    at, cause = start, -1
    while at < limit:
        best, reached, why = best_from(clear, at)
        if best < 0:
            return pieces, at, cause
        pieces.append((brakings[best].sweep.manoeuvre, at, min(reached, limit)))
        at, cause = reached, why
    return pieces, limit, cause


def _repeated(
    pieces: list[tuple[Manoeuvre, float, float]], period: float, at: float, limit: float
) -> list[tuple[Manoeuvre, float, float]]:
    """Return pieces of [0, limit]: those given, which cover [0, at] with at >= period, again and again."""
    every = list(pieces)
    turn = 1
    while at < limit:
        for manoeuvre, _, end in pieces:
            last = min(end + turn * period, limit)
            if last > at:
                every.append((manoeuvre, at, last))
                at = last
        turn += 1
    return every


def _held_limit(question: Question, family: Family, arc: Arc, end: float, elapsed_s: float) -> tuple[float, int]:
    pad, delay = family.held_pad_m, family.delay_m
    if len(question.bodies) > FEW or question.speeds:
        if not question.bodies:
            return end, -1
        x, y, radius = question.columns()
        hits = first_hits(arc, x, y, _grown(question, radius + pad, elapsed_s)) - delay
        index = int(hits.argmin())
        return (float(hits[index]), index) if hits[index] < end else (end, -1)
    limit, cause = end, -1
    for index, (ox, oy, dilated) in enumerate(question.bodies):
        hit = first_hit(arc, ox, oy, dilated + pad) - delay
        if hit < limit:
            limit, cause = hit, index
    return limit, cause


def _grown(question: Question, radius: Array, elapsed_s: float) -> Array:
    return radius + np.array(question.speeds) * elapsed_s if question.speeds else radius


def _blocked_of_each(
    question: Question, family: Family, arc: Arc, length: float
) -> Iterator[tuple[Sweep, list[Blocked]]]:
    """Yield every sweep of the family, in order, with where the obstacles block it; the plain ones of many in one go."""
    plain_ones = [sweep for sweep in family.sweeps if plain(sweep)] if len(question.bodies) > FEW else []
    answers: Iterator[list[Blocked]] | None = None
    for sweep in family.sweeps:
        if sweep not in plain_ones:
            yield sweep, _blocked_by_obstacles(question, family, arc, sweep, length)
            continue
        if answers is None:
            answers = blocked_by_each(arc, family.l_r_m, plain_ones, *question.columns())
        yield sweep, next(answers)


def _clear_of(
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


def _blocked_by_obstacles(
    question: Question, family: Family, arc: Arc, sweep: Sweep, length: float
) -> list[Blocked]:
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


class _TurnsOf:
    """The turns that end in a straight line, asked where no other manoeuvre goes on."""

    def __init__(self, question: Question, family: Family, arc: Arc, along: float, length: float) -> None:
        self.question, self.family, self.arc, self.length = question, family, arc, length
        self.before, self.after = along, family.delay_m + along
        self.searches: list[tuple[Turns, tuple[Sweep, ...]]] | None = None
        self.failed_at = -1.0

    def beyond(self, clear: list[list[Clear]], at: float, limit: float) -> list[tuple[Manoeuvre, list[Clear]]]:
        """Return further stretches of turns, among them, where there is one, one from `at` on.

        Args:
            clear: Stretches of everything asked so far.
            at: Where nothing known goes on [m].
            limit: Where the question ends [m].
        """
        if len(self.question.bodies) == 1:
            return self._of_one() if self.searches is None else []
        if self.searches is None:
            found = self._ahead(clear, at, limit)
            if any(first <= at < last for _, stretches in found for first, last, _ in stretches):
                return found
        else:
            found = []
        if at == self.failed_at:
            return found
        enough = min([first for stretches in clear for first, _, _ in stretches if first > at], default=limit)
        enough = min(enough, limit)
        return found + self._from(at, enough, limit)

    def _of_one(self) -> list[tuple[Manoeuvre, list[Clear]]]:
        """One obstacle alone: closed form over the whole arc."""
        self.searches = []
        answers = []
        for sweep in self.family.turns:
            taken = _blocked_by_obstacles(self.question, self.family, self.arc, sweep, self.length)
            stretches = _clear_of(
                self.question, self.family, self.arc, sweep, taken, self.before, self.length
            )
            answers.append((sweep.manoeuvre, stretches))
        return answers

    def _ahead(self, clear: list[list[Clear]], at: float, limit: float) -> list[tuple[Manoeuvre, list[Clear]]]:
        """Return the turns that a single look finds for whole gaps, this one and some that follow."""
        # Different sides may take turns within a gap only where the switch is at once.
        groups = [self.family.turns] if self.after == 0.0 else [(sweep,) for sweep in self.family.turns]
        x, y, radius = self.question.columns()
        self.searches = [
            (Turns(self.question.beta_rad, self.family.l_r_m, group, (x, y, radius), self.length), group)
            for group in groups
        ]
        spans = [self._padded(*gap) for gap in _gaps(clear, at, limit)]
        found: list[tuple[Manoeuvre, list[Clear]]] = []
        for search, group in self.searches if spans else []:
            for span, index in zip(spans, search.spans_clear(spans), strict=True):
                if index >= 0:
                    found.append((group[index].manoeuvre, self._shrunk(*span, -1)))
        return found

    def _from(self, at: float, enough: float, limit: float) -> list[tuple[Manoeuvre, list[Clear]]]:
        """Return the turns' stretches from `at` on, followed until `enough` or until none goes on."""
        found: list[tuple[Manoeuvre, list[Clear]]] = []
        begin, stop = self._padded(at, enough)
        if enough >= limit:  # nothing takes over
            stop = min(limit + self.after, self.length)
        for search, group in self.searches or []:
            hops, cause = search.until(begin, stop)
            start = begin
            for position, (index, end) in enumerate(hops):
                if position + 1 < len(hops) and hops[position + 1][0] == index:
                    continue
                found.append((group[index].manoeuvre, self._shrunk(start, end, cause)))
                start = end
            if start - self.after >= enough:
                break
            if self.after == 0.0:
                self.failed_at = start
        return found

    def _padded(self, at: float, enough: float) -> tuple[float, float]:
        return max(0.0, at - self.before), min(enough + self.after + OVERLAP_M, self.length)

    def _shrunk(self, start: float, end: float, cause: int) -> list[Clear]:
        taken = [(0.0, start, cause), (end, self.length, cause)]
        return clear_stretches(taken, self.length, self.before, self.after)


def _gaps(clear: list[list[Clear]], at: float, limit: float) -> list[tuple[float, float]]:
    """Return the first few gaps of [at, limit] in which nothing is clear, but for one that reaches the limit."""
    gaps = []
    for first, last, _ in sorted(stretch for stretches in clear for stretch in stretches):
        if first > at:
            if first >= limit or len(gaps) == GAPS_AT_ONCE:
                break
            gaps.append((at, first))
        at = max(at, last)
    return gaps


def _name_of(question: Question, clear: list[list[Clear]], arc: Arc, at: float, cause: int) -> str:
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
