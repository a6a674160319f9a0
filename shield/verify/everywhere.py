"""The rounding of the `backup` deadline, bounded in every cell of the domain: no state is left out, grazing or not.

A `backup` deadline is built from sets of places on the held arc, {manoeuvre j is clear} and {the held arc is clear};
the rest is comparing, uniting and intersecting intervals. So it is sound at every state if every set is contained in
the true one for a disc smaller by `MARGIN_M`, which is the margin the code adds. A set is bounded by roots of events

    F(s) = |e(s) - f|^2 - c^2  or  n.e(s) - c,
    F(s) (1 + kappa^2 t^2/4) = a t^2 + 2 b t + c0,      t = (2/kappa) tan(kappa s/2),

and one midpoint decides each stretch between two roots. In four steps:

1. Form. (a, b, c0), taken as polynomials from the code itself, agree with F, F' and F'' at s = 0 as e' = -w demands.
   Both sides of the equation lie in the span of 1, cos(kappa s), sin(kappa s), so they agree for every s. (`forms`)
2. Noise. The same code, run on `Tracked` numbers, tells by how much its coefficients are off anywhere in the cell. The
   roots it then finds are the exact ones of a quadratic with b, c0 off by 3 u more, each off by 24 u of the arc, since
   b^2 (1+d1)(1+d3) - a c0 (1+d2)(1+d3) is the discriminant of one and no later step cancels. With what a midpoint's
   test is off: noise, in m^2 for a circle and in m for a line. (`noise_of`)
3. Grazes. F = A + B cos(kappa s - phi), so that b^2 - a c0 = kappa^2 (B^2 - A^2)/4 and a + kappa^2 c0/4 = kappa^2 A/2:
   without a root in the code's sense |F| >= `GRAZE` all along. A near miss counts as a root, at which |F| <= 2 GRAZE.
   Hence, if noise <= GRAZE/2, on a stretch without a root F has the sign that the midpoint says, up to `SPREAD` GRAZE:
   the midpoint of a stretch that a root bounds cannot be nearer to a graze than its ends, and the root of how far F is
   below its crest adds up as |sin| does: 9 GRAZE for one event, 58 GRAZE where an arc's or a segment's side and the
   circle about its end touch, both grazed at once (docs/deadlines.md has it in full).
4. Margin. A distance is then off by SPREAD GRAZE/c for a circle of radius c (at least `LEAST_INNER_M`; a smaller ring
   counts for nothing; the hole of an arc with little room is `HOLE_M` wider than the ring, and SPREAD GRAZE/HOLE_M is
   less than that, so no place that the ring lets through is taken for one beside the arc's ends), to which comes how
   far the body frame, the arc and the ends of a stretch are off. `decide` shows in every cell, for every event of every
   manoeuvre, that the sum is below the margin.

The sensing range is kept without a margin, so only to `RANGE_SLACK_M`; a field of view is not looked at here.

"Behind" (e_x <= 0, or behind a turn's first direction) has no margin of its own: what is off there by d is off in
distance by at most 2 d, as the held arc is clear there.

What is not in this claim: that the tests at the midpoints are those of the manoeuvres, and that the pads hold what they
should; both are put to the proof at the single states of the claim `deadlines`, by code that shares nothing with them.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from flint import arb, fmpq, fmpq_mpoly_ctx

from shield.arc import Reach
from shield.backup.clear import _TESTS
from shield.backup.family import FamilyOf, Kind, Sweep
from shield.backup.many import conic_of_circle, conic_of_line
from shield.backup.question import MARGIN_M, MARGIN_RELATIVE
from shield.events import ARC_IS_LINE_RAD, GRAZE, HOLE_M, LEAST_INNER_M, LEAST_INNER_OF_ARC_M, Arc
from shield.manoeuvre import Manoeuvre
from shield.vehicle import Vehicle
from shield.verify.cells import Cell, Verdict, ball
from shield.verify.deadlines import reference_radius_m
from shield.verify.tracked import LIBRARY, UNIT, Tracked

RANGE_SLACK_M = 1e-3
"""By how much a path may reach beyond the sensing range [m]: that bound is kept without a margin for rounding."""

SPREAD, SPREAD_OF_ENDS = 10.0, 64.0
"""By how many times `GRAZE` an event may be off on a stretch, and that of a curve with ends; 9 and 58 are needed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An event that some state of a cell asks for: a circle about the body point (x, y), or a line with that normal."""

    circle: bool
    x: Any
    y: Any
    c: Any


class _Recorder(Arc):
    """An arc on which the code's formulas are run with other numbers: keeps what they ask for and the quadratics."""

    __slots__ = ("asked", "quadratics")

    def __init__(self, cos_beta: Any, sin_beta: Any, kappa: Any) -> None:
        self.cos_beta, self.sin_beta, self.kappa = cos_beta, sin_beta, kappa
        self.asked: list[Asked] = []
        self.quadratics: list[tuple[Any, Any, Any]] = []

    def add_circle(self, roots: list[float], fx: Any, fy: Any, c: Any, ox: Any, oy: Any) -> None:
        self.asked.append(Asked(True, fx, fy, c))
        super().add_circle(roots, fx, fy, c, ox, oy)

    def add_line(self, roots: list[float], nx: Any, ny: Any, c: Any, ox: Any, oy: Any) -> None:
        self.asked.append(Asked(False, nx, ny, c))
        super().add_line(roots, nx, ny, c, ox, oy)

    def _add(self, roots: list[float], a: Any, half_b: Any, c: Any) -> None:
        self.quadratics.append((a, half_b, c))


# Step 1: the form of the quadratics, exactly.


class _Polynomial:
    """A polynomial with rational coefficients; floats join as the rationals they are."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __add__(self, other: Any) -> "_Polynomial":
        return _Polynomial(self.value + _rational(other))

    def __sub__(self, other: Any) -> "_Polynomial":
        return _Polynomial(self.value - _rational(other))

    def __mul__(self, other: Any) -> "_Polynomial":
        return _Polynomial(self.value * _rational(other))

    def __rsub__(self, other: Any) -> "_Polynomial":
        return _Polynomial(_rational(other) - self.value)

    def __neg__(self) -> "_Polynomial":
        return _Polynomial(-self.value)

    __radd__ = __add__
    __rmul__ = __mul__


def _rational(value: Any) -> Any:
    if isinstance(value, _Polynomial):
        return value.value
    exact = Fraction(float(value))
    return fmpq(exact.numerator, exact.denominator)


def forms(add_circle: Callable[..., Any], add_line: Callable[..., Any], add_ground_line: Callable[..., Any]) -> str:
    """Return which of three formulas for (a, b, c0) is not that of its event ("" when all are).

    Args:
        add_circle, add_line, add_ground_line: Called with an arc of polynomials and the event's arguments; the circle
            and the line give (a, b, c0), or None when the arc has kept it.
    """
    names = ("k", "cb", "sb", "fx", "fy", "c", "ox", "oy")
    k, cb, sb, fx, fy, c, ox, oy = (_Polynomial(g) for g in fmpq_mpoly_ctx.get(names).gens())
    wx, wy = cb - k * oy, sb + k * ox  # e' = -w
    dx, dy = fx - ox, fy - oy
    vx, vy = cb - k * fy, sb + k * fx  # how the body point f moves over the ground
    two = _Polynomial(k.value * 0 + 2)
    events = {
        "circle": (
            add_circle,
            (fx, fy, c, ox, oy),
            (dx * dx + dy * dy - c * c, 2.0 * (dx * wx + dy * wy), two * (wx * wx + wy * wy + k * (dx * wy - dy * wx))),
        ),
        "line": (
            add_line,
            (fx, fy, c, ox, oy),  # (fx, fy) is the normal
            (fx * ox + fy * oy - c, -(fx * wx + fy * wy), k * (fy * wx - fx * wy)),
        ),
        "ground line": (
            add_ground_line,
            (ox, oy, c, fx, fy),  # (ox, oy) is the normal
            (ox * fx + oy * fy - c, ox * vx + oy * vy, k * (oy * vx - ox * vy)),
        ),
    }
    for name, (formula, arguments, (value, slope, bend)) in events.items():
        arc = _Recorder(cb, sb, k)
        a, half_b, c0 = formula(arc, *arguments) or arc.quadratics[0]
        right = (c0 - value, 2.0 * half_b - slope, 2.0 * a - 0.5 * (k * k * c0) - bend)
        if any(difference.value != 0 for difference in right):
            return name
    return ""


def own_forms() -> str:
    """Return which of the code's formulas, one obstacle at a time or many, is not that of its event; "" for none."""
    plain = forms(
        lambda arc, *rest: Arc.add_circle(arc, [], *rest),
        lambda arc, *rest: Arc.add_line(arc, [], *rest),
        lambda arc, *rest: Arc.add_ground_line(arc, [], *rest),
    )
    return plain or forms(conic_of_circle, conic_of_line, lambda arc, *rest: Arc.add_ground_line(arc, [], *rest))


# Steps 2 to 4: rounding, cell by cell.


@dataclass(frozen=True, slots=True)
class Asking:
    """What a vehicle may ask in a cell: its arc, where the disc is, and the sizes that enter.

    Args:
        arc: The held arc, recording.
        x, y: Body coordinates of the disc's centre [m].
        length: Longest arc, at most once round [m].
        driven: Longest way [m].
        bend: Largest curvature [1/m].
        least_bend: Smallest curvature [1/m].
        far: Largest distance of the disc from the body [m].
        radius: Radius of the disc, pads included [m].
    """

    arc: _Recorder
    x: Tracked
    y: Tracked
    length: float
    driven: float
    bend: float
    least_bend: float
    far: float
    radius: Tracked

    @property
    def pace(self) -> float:
        """Fastest that the disc moves as seen from the body, per metre of the arc."""
        return 1.0 + self.bend * self.far


def decide(vehicle: Vehicle, cap_m: float, cell: Cell) -> Verdict:
    """Decide whether in a whole cell (r, xi, beta) rounding stays below the margin in every event asked for.

    Args:
        vehicle: Vehicle with its declared bounds.
        cap_m: Distance up to which deadlines are asked for [m].
        cell: Ranges of r [m], xi and beta [rad].
    """
    sweeps = _sweeps(vehicle, cap_m, cell[2])
    for sweep in sweeps:
        asking = _asking(vehicle, cap_m, cell, sweep)
        for asked in _asked_for(vehicle, asking, sweep):
            noise = noise_of(asking, asked)
            if not (noise <= 0.5 * GRAZE and _distance_off_m(asking, asked, sweep.kind) <= 0.9 * MARGIN_M):
                return Verdict.UNDECIDED
        if not _range_kept(vehicle, asking, sweep):
            return Verdict.UNDECIDED
    return Verdict.TRUE


def _range_kept(vehicle: Vehicle, asking: Asking, sweep: Sweep) -> bool:
    """Whether rounding moves the edge of the sensing range by less than `RANGE_SLACK_M`.

    A body point must stay within some distance of the arc's start, so that |p| is off by at most the root of F's error.
    """
    range_m = vehicle.bounds.sensing_range_m
    if range_m is None:
        return True
    endless = sweep.kind is Kind.CIRCLE or sweep.end_rad - sweep.start_rad >= math.pi
    reach = 1.0 + sweep.length_m + vehicle.l_r_m + (sweep.rho_m if endless else 0.0)
    point = Tracked(arb(0, reach))
    start = replace(asking, x=Tracked(0.0), y=Tracked(0.0))
    noise = noise_of(start, Asked(True, point, point, Tracked(ball(0.0, range_m))))
    return noise <= 0.5 * GRAZE and math.sqrt(SPREAD * GRAZE) <= 0.9 * RANGE_SLACK_M


def _sweeps(vehicle: Vehicle, cap_m: float, beta: tuple[float, float]) -> list[Sweep]:
    """Return one sweep a manoeuvre, with the largest pad and length that it has for a slip angle in the range.

    Pads and lengths grow with the way driven and with |slip - side beta|, so that the ends of the range have the most.
    """
    most: dict[tuple[str, int], Sweep] = {}
    moving = vehicle.bounds.obstacle_speed_mps > 0.0
    for held in beta:
        family = FamilyOf(vehicle, held, Reach.of(vehicle, None), None, moving).after(cap_m)
        point = Sweep(Manoeuvre.BRAKE, Kind.HELD, family.held_pad_m)
        for sweep in (point, *family.sweeps, *family.turns):
            key = (sweep.manoeuvre.value, int(sweep.kind))
            known = most.get(key, sweep)
            pad, length = max(known.pad_m, sweep.pad_m), max(known.length_m, sweep.length_m)
            most[key] = replace(sweep, pad_m=pad, length_m=length)
    return list(most.values())


def _asking(vehicle: Vehicle, cap_m: float, cell: Cell, sweep: Sweep) -> Asking:
    bounds, l_r = vehicle.bounds, vehicle.l_r_m
    (_, r_most), xi, beta = cell
    r = ball(*cell[0])
    grown_s = (cap_m / vehicle.v_max_mps) + bounds.sensing_age_s + bounds.switch_time_s + bounds.brake_build_s
    grown_s += vehicle.v_max_mps / (vehicle.deceleration_mps2 or math.inf)
    along = bounds.position_m + vehicle.v_max_mps * (bounds.sensing_age_s + bounds.switch_time_s)
    length = cap_m + along + bounds.odometry_drift * cap_m + sweep.length_m + 1.0
    least = reference_radius_m(vehicle)
    most = least + bounds.position_m + MARGIN_M + bounds.odometry_drift * vehicle.v_max_mps * bounds.sensing_age_s
    most += (MARGIN_RELATIVE + 2.0 * math.sin(0.5 * min(math.pi, bounds.heading_rad))) * r_most
    most += 1.000001 * sweep.pad_m + bounds.obstacle_speed_mps * grown_s
    # What the formulas start from are numbers in floating point, so the balls hold those and no error stands yet.
    off = 8.0 * UNIT
    held = ball(*beta)
    sine, cosine = held.sin() + arb(0, off), held.cos() + arb(0, off)
    kappa = (sine / arb(l_r)) * arb(1, off) + arb(0, ARC_IS_LINE_RAD / length)
    size, least_size = float(kappa.abs_upper()), float(kappa.abs_lower())
    driven = length
    length = min(length, 2.0 * math.pi / least_size * (1.0 + 1e-9)) if least_size > 0.0 else length
    place = ball(*xi)
    x, y = -r * place.cos() + arb(0, off * r_most), -r * place.sin() + arb(0, off * r_most)
    arc = _Recorder(Tracked(cosine), Tracked(sine), Tracked(kappa))
    chord = min(length, 2.0 / least_size) if least_size > 0.0 else length
    far = (r_most + chord) * (1.0 + 1e-9)
    return Asking(arc, Tracked(x), Tracked(y), length, driven, size, least_size, far, Tracked(ball(least, most)))


def _asked_for(vehicle: Vehicle, asking: Asking, sweep: Sweep) -> Iterator[Asked]:
    """Return the events of a manoeuvre, by running what the code itself asks for it."""
    arc: Any = asking.arc
    radius, l_r = asking.radius, vehicle.l_r_m
    arc.asked.clear()
    if sweep.kind is Kind.HELD:
        arc.add_circle([], 0.0, 0.0, radius, asking.x, asking.y)
    elif sweep.kind is Kind.ARC:
        # Its ends depend on beta, so they stand for anything on its circle.
        ring: Any = _TESTS[Kind.CIRCLE]
        ring(arc, l_r, sweep, asking.x, asking.y, radius, [])
        end: list[Any] = [Tracked(arb(c, sweep.rho_m * (1.0 + 1e-12))) for c in (-l_r, sweep.centre_y_m)]
        arc.add_circle([], *end, radius, asking.x, asking.y)
    else:
        test: Any = _TESTS[sweep.kind]
        lengths: Any = Tracked(ball(0.0, sweep.length_m))
        test(arc, l_r, replace(sweep, length_m=lengths), asking.x, asking.y, radius, [])
    yield from list(arc.asked)


def noise_of(asking: Asking, asked: Asked) -> float:
    """Return how far F is off at most: coefficients, roots, a midpoint's test; [m^2] for a circle, [m] for a line."""
    arc = asking.arc
    arc.quadratics.clear()
    arguments: list[Any] = [asked.x, asked.y, asked.c, asking.x, asking.y]
    plain: Any = Arc.add_circle if asked.circle else Arc.add_line
    columns: Any = conic_of_circle if asked.circle else conic_of_line
    plain(arc, [], *arguments)
    many = columns(arc, *arguments)
    first = asking.length
    if asking.least_bend > 0.0:
        first = min(first, 1.0 / asking.least_bend)
    second = min(asking.length, 2.0 * first) ** 2
    off = 0.0
    for quadratic in (arc.quadratics[0], many):
        a, half_b, c0 = (_tracked(value) for value in quadratic)
        here = a.error * second + 2.0 * (half_b.error + 3.0 * UNIT * half_b.most) * first
        off = max(off, here + c0.error + 3.0 * UNIT * c0.most)
    slope = asking.pace * (2.0 * (asking.far + _reach(asked)) if asked.circle else 1.0)
    return off + 24.0 * UNIT * asking.length * slope + _test_off(asking, asked)


def _test_off(asking: Asking, asked: Asked) -> float:
    """Return how far |e - f|^2 - c^2 or n.e - c may be off at a midpoint, seen by `Arc.seen_from`."""
    x, y = _seen(asking)
    if not asked.circle:
        return (_tracked(asked.x) * x + _tracked(asked.y) * y - _tracked(asked.c)).error
    dx, dy, c = x - _tracked(asked.x), y - _tracked(asked.y), _tracked(asked.c)
    square, other = dx * dx + dy * dy, c * c
    # an angle about a turn's centre, off by a few units, moves the edge of an arc's end by that of the distance
    return square.error + other.error + 32.0 * UNIT * (asking.far + _reach(asked)) ** 2


def _seen(asking: Asking) -> tuple[Tracked, Tracked]:
    """Follow `Arc.seen_from`: the sine, the cosine and the chord 2 sin(kappa s/2)/kappa, then the same operations."""
    arc, length = asking.arc, asking.length
    angle_off = LIBRARY + UNIT * asking.bend * length
    sine = Tracked(arb(0, 1), angle_off)
    cosine = Tracked(arb(0, 1), angle_off)
    chord = Tracked(arb(0, length), 8.0 * UNIT * length)
    cos_beta, sin_beta = _tracked(arc.cos_beta), _tracked(arc.sin_beta)
    away_x = asking.x - chord * (cos_beta * cosine - sin_beta * sine)
    away_y = asking.y - chord * (sin_beta * cosine + cos_beta * sine)
    # the disc is no farther than that, however loose the balls are
    away_x, away_y = (Tracked(arb(0, asking.far), away.error) for away in (away_x, away_y))
    turn = 4.0 * angle_off + 8.0 * UNIT
    cos_turn, sin_turn = Tracked(arb(0, 1), turn), Tracked(arb(0, 1), turn)
    x, y = cos_turn * away_x + sin_turn * away_y, cos_turn * away_y - sin_turn * away_x
    return Tracked(arb(0, asking.far), x.error), Tracked(arb(0, asking.far), y.error)


def _distance_off_m(asking: Asking, asked: Asked, kind: Kind) -> float:
    """Return how far a distance may be off [m]: the event, body frame, arc, radii, and the ends of a stretch."""
    ends = kind in (Kind.ARC, Kind.SEGMENT)
    if ends and SPREAD_OF_ENDS * GRAZE > 0.5 * HOLE_M**2:
        return math.inf
    event = (SPREAD_OF_ENDS if ends else SPREAD) * GRAZE
    if asked.circle:
        least = LEAST_INNER_OF_ARC_M if ends else LEAST_INNER_M
        event /= max(least, float(_tracked(asked.c).ball.lower()))
    elif not ends:
        event *= 2.0  # "behind" has no margin of its own
    size = asking.far + _reach(asked) + _tracked(asked.c).most
    arc_off = asking.length * (8.0 * UNIT + 4.0 * UNIT * asking.bend * asking.far)
    arc_off += ARC_IS_LINE_RAD * (1.0 + asking.far / asking.length)
    return event + arc_off + 64.0 * UNIT * size + 128.0 * UNIT * asking.driven * asking.pace


def _reach(asked: Asked) -> float:
    return math.hypot(_tracked(asked.x).most, _tracked(asked.y).most) if asked.circle else 0.0


def _tracked(value: Any) -> Tracked:
    return value if isinstance(value, Tracked) else Tracked(arb(value))
