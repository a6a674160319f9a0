"""The proof for every cell, number by number: each against its formula, worked out here in plain arithmetic."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("flint")

from flint import arb, ctx

from shield.arc import Reach
from shield.backup.family import FamilyOf, Kind, Sweep
from shield.backup.many import conic_of_circle, conic_of_line
from shield.backup.question import MARGIN_M, MARGIN_RELATIVE
from shield.events import ARC_IS_LINE_RAD, GRAZE, HOLE_M, LEAST_INNER_M, LEAST_INNER_OF_ARC_M, Arc
from shield.manoeuvre import Manoeuvre
from shield.vehicle import Bounds, Vehicle
from shield.verify import everywhere
from shield.verify.cells import PRECISION_BITS, Cell, Verdict
from shield.verify.everywhere import SPREAD, SPREAD_OF_ENDS, Asked, Asking, _Polynomial, _Recorder
from shield.verify.tracked import LIBRARY, UNIT, Tracked

L_M, SLIP, TOP_MPS = 2.0, 0.5, 10.0
BOUNDS = Bounds(
    position_m=0.13,
    heading_rad=0.02,
    steering_rad=0.01,
    obstacle_speed_mps=0.6,
    odometry_drift=0.03,
    sensing_age_s=0.05,
    sensing_range_m=45.0,
    actuation_delay_s=0.07,
    tick_s=0.02,
    brake_build_s=0.11,
)
CAR = Vehicle(L_M, SLIP, TOP_MPS, radius_m=0.5, deceleration_mps2=5.0, bounds=BOUNDS)
CAP_M = 20.0


@pytest.fixture(autouse=True)
def _working_precision() -> Iterator[None]:
    before, ctx.prec = ctx.prec, PRECISION_BITS
    yield
    ctx.prec = before


@dataclass(frozen=True)
class Plain:
    """What `Tracked` is, in plain floating point: a middle, a half width, and the error gathered so far."""

    mid: float
    rad: float = 0.0
    error: float = 0.0

    @property
    def size(self) -> float:
        return abs(self.mid) + self.rad

    @property
    def most(self) -> float:
        return self.size + self.error

    @staticmethod
    def of(value: "Plain | float") -> "Plain":
        return value if isinstance(value, Plain) else Plain(value)

    def rounded(self) -> "Plain":
        return Plain(self.mid, self.rad, self.error + UNIT * (self.size + self.error))

    def __add__(self, other: "Plain | float") -> "Plain":
        o = Plain.of(other)
        return Plain(self.mid + o.mid, self.rad + o.rad, self.error + o.error).rounded()

    def __sub__(self, other: "Plain | float") -> "Plain":
        o = Plain.of(other)
        return Plain(self.mid - o.mid, self.rad + o.rad, self.error + o.error).rounded()

    def __rsub__(self, other: float) -> "Plain":
        return Plain(other) - self

    def __mul__(self, other: "Plain | float") -> "Plain":
        o = Plain.of(other)
        rad = abs(self.mid) * o.rad + abs(o.mid) * self.rad + self.rad * o.rad
        if o is self:
            low, high = max(0.0, self.mid**2 - rad), self.mid**2 + rad
            return Plain(0.5 * (low + high), 0.5 * (high - low), self.error * (2.0 * self.size + self.error)).rounded()
        error = self.size * o.error + o.size * self.error + self.error * o.error
        return Plain(self.mid * o.mid, rad, error).rounded()

    __radd__ = __add__
    __rmul__ = __mul__

    def tracked(self) -> Tracked:
        return Tracked(arb(self.mid, self.rad), self.error)


def approx(value: float) -> Any:
    """As near as the 30 bits of a ball's width are."""
    return pytest.approx(value, rel=3e-8, abs=0.0)


NOTHING: Any = pytest.approx(0.0, abs=1e-6)
"""Zero, give or take what a ball that is not about it may hold beyond."""


def holds(ball: arb, mid: float, rad: float) -> None:
    assert float(ball.mid()) == pytest.approx(mid, rel=1e-15, abs=1e-20)
    assert float(ball.rad()) == pytest.approx(rad, rel=1e-6, abs=1e-30)


# What a cell asks.


def some_sweep(vehicle: Vehicle, kind: Kind, beta: tuple[float, float]) -> Sweep:
    return next(sweep for sweep in everywhere._sweeps(vehicle, CAP_M, beta) if sweep.kind is kind)


@pytest.mark.parametrize("beta", [0.0, 0.003, -0.1, 0.4, 0.49])
@pytest.mark.parametrize("car", [CAR, replace(CAR, deceleration_mps2=None, bounds=Bounds(heading_rad=0.02))])
def test_what_a_cell_asks_is_what_its_bounds_say(car: Vehicle, beta: float) -> None:
    bounds = car.bounds
    r, xi = 31.0, 0.7
    cell: Cell = ((r, r), (xi, xi), (beta, beta))
    for sweep in everywhere._sweeps(car, CAP_M, (beta, beta)):
        asking = everywhere._asking(car, CAP_M, cell, sweep)
        age_s, switch_s = bounds.sensing_age_s, bounds.switch_time_s
        braking_s = 0.0 if car.deceleration_mps2 is None else TOP_MPS / car.deceleration_mps2
        moved_s = CAP_M / TOP_MPS + age_s + switch_s + bounds.brake_build_s + braking_s
        driven = CAP_M + bounds.position_m + TOP_MPS * (age_s + switch_s)
        driven += bounds.odometry_drift * CAP_M + sweep.length_m + 1.0
        assert asking.driven == pytest.approx(driven, rel=1e-14)
        # the disc, with all that may be added to it
        most = 2.5 + bounds.position_m + MARGIN_M + bounds.odometry_drift * TOP_MPS * age_s
        most += (MARGIN_RELATIVE + 2.0 * math.sin(0.5 * bounds.heading_rad)) * r
        most += 1.000001 * sweep.pad_m + bounds.obstacle_speed_mps * moved_s
        assert float(asking.radius.ball.lower()) == approx(2.5)
        assert float(asking.radius.ball.upper()) == approx(most)
        assert asking.radius.error == 0.0
        # the arc as floating point has it
        holds(asking.arc.sin_beta.ball, math.sin(beta), 8.0 * UNIT)  # type: ignore[attr-defined]
        holds(asking.arc.cos_beta.ball, math.cos(beta), 8.0 * UNIT)  # type: ignore[attr-defined]
        kappa = math.sin(beta) / L_M
        width = (abs(kappa) + 8.0 * UNIT / L_M) * 8.0 * UNIT + 8.0 * UNIT / L_M + ARC_IS_LINE_RAD / driven
        holds(asking.arc.kappa.ball, kappa, width)  # type: ignore[attr-defined]
        least = max(0.0, abs(kappa) - width)
        assert asking.bend == pytest.approx(abs(kappa) + width, rel=1e-14)
        assert asking.least_bend == pytest.approx(least, rel=1e-14)
        round_m = 2.0 * math.pi / least * (1.0 + 1e-9) if least else math.inf
        assert asking.length == pytest.approx(min(driven, round_m), rel=1e-13)
        chord = min(asking.length, 2.0 / least) if least else asking.length
        assert asking.far == pytest.approx((r + chord) * (1.0 + 1e-9), rel=1e-13)
        assert asking.pace == pytest.approx(1.0 + asking.bend * asking.far, rel=1e-14)
        # the disc's place
        holds(asking.x.ball, -r * math.cos(xi), 8.0 * UNIT * r)
        holds(asking.y.ball, -r * math.sin(xi), 8.0 * UNIT * r)
        assert (asking.x.error, asking.y.error) == (0.0, 0.0)


def test_a_cell_holds_all_its_places() -> None:
    cell: Cell = ((10.0, 12.0), (0.2, 0.5), (0.1, 0.3))
    asking = everywhere._asking(CAR, CAP_M, cell, some_sweep(CAR, Kind.HELD, (0.1, 0.3)))
    for r in (10.0, 11.0, 12.0):
        for xi in (0.2, 0.35, 0.5):
            assert asking.x.ball.contains(arb(-r * math.cos(xi)))
            assert asking.y.ball.contains(arb(-r * math.sin(xi)))
    for beta in (0.1, 0.2, 0.3):
        assert asking.arc.kappa.ball.contains(arb(math.sin(beta) / L_M))  # type: ignore[attr-defined]
    far = 12.0 + min(asking.length, 2.0 / asking.least_bend)
    assert asking.far == pytest.approx(far * (1.0 + 1e-9), rel=1e-13)


@pytest.mark.parametrize("speed_mps", [0.0, 0.6, 3.0])
def test_every_manoeuvre_is_asked_with_its_largest_pad_and_length(speed_mps: float) -> None:
    bounds = replace(BOUNDS, obstacle_speed_mps=speed_mps)
    swift, slow = bounds, replace(bounds, slip_rate_radps=1.5)
    for brakes, limits, ends in (
        (None, swift, (-0.2, 0.4)),
        (None, slow, (-0.2, 0.4)),
        (None, replace(bounds, steering_rad=0.0), (-0.2, 0.4)),
        (5.0, swift, (-0.2, 0.4)),
        (5.0, slow, (-0.2, 0.4)),
        (5.0, slow, (0.4, -0.2)),
    ):
        car = replace(CAR, deceleration_mps2=brakes, bounds=limits)
        families = [FamilyOf(car, beta, Reach.of(car, None), None, speed_mps > 0.0).after(CAP_M) for beta in ends]
        found = {(sweep.manoeuvre, sweep.kind): sweep for sweep in everywhere._sweeps(car, CAP_M, ends)}
        if not brakes:
            held = found.pop((Manoeuvre.BRAKE, Kind.HELD))
            assert held.pad_m == max(family.held_pad_m for family in families)
            assert held.length_m == 0.0
        names = {(sweep.manoeuvre, sweep.kind) for family in families for sweep in (*family.sweeps, *family.turns)}
        assert found.keys() == names
        for key, sweep in found.items():
            alike = [each for f in families for each in (*f.sweeps, *f.turns) if (each.manoeuvre, each.kind) == key]
            point = [f.held_pad_m for f in families] if sweep.kind is Kind.HELD else []
            assert sweep.pad_m == max([each.pad_m for each in alike] + point)
            assert sweep.length_m == max(each.length_m for each in alike)


# Which circles and lines.


def recorded(kind: Kind) -> tuple[Asking, Sweep, list[Asked]]:
    car = replace(CAR, bounds=Bounds(slip_rate_radps=2.0)) if kind is Kind.ARC else CAR
    if kind in (Kind.CIRCLE, Kind.LINE, Kind.TURN):
        car = replace(CAR, deceleration_mps2=None, bounds=Bounds(heading_rad=0.01, steering_rad=0.0))
    cell: Cell = ((30.0, 30.5), (0.2, 0.3), (0.1, 0.2))
    sweep = some_sweep(car, kind, cell[2])
    asking = everywhere._asking(car, CAP_M, cell, sweep)
    return asking, sweep, list(everywhere._asked_for(car, asking, sweep))


def ends_of(value: Any) -> tuple[float, float]:
    ball = value.ball if isinstance(value, Tracked) else arb(value)
    return float(ball.lower()), float(ball.upper())


def test_the_held_arc_asks_for_one_circle_about_the_body() -> None:
    asking, _, asked = recorded(Kind.HELD)
    assert [(each.circle, ends_of(each.x), ends_of(each.y)) for each in asked] == [(True, (0.0, 0.0), (0.0, 0.0))]
    assert ends_of(asked[0].c) == ends_of(asking.radius)


def test_a_circle_asks_for_rings_about_its_centre() -> None:
    asking, sweep, asked = recorded(Kind.CIRCLE)
    low, high = ends_of(asking.radius)
    assert all(each.circle for each in asked)
    assert all((ends_of(each.x)[0], ends_of(each.y)[0]) == (-L_M, sweep.centre_y_m) for each in asked)
    assert ends_of(asked[0].c) == (approx(sweep.rho_m + low), approx(sweep.rho_m + high))
    if len(asked) > 1:
        assert ends_of(asked[1].c) == (approx(sweep.rho_m - high), approx(sweep.rho_m - low))


def test_a_line_asks_for_its_sides_and_its_foot() -> None:
    asking, _, asked = recorded(Kind.LINE)
    low, high = ends_of(asking.radius)
    lines = [each for each in asked if not each.circle]
    assert len(lines) >= 3
    assert sorted(abs(ends_of(each.c)[0]) for each in lines)[-1] in (approx(low), approx(high))
    for each in lines:
        assert math.hypot(ends_of(each.x)[0], ends_of(each.y)[0]) == approx(1.0)


def test_the_ends_of_an_arc_may_lie_anywhere_on_its_circle() -> None:
    asking, sweep, asked = recorded(Kind.ARC)
    end = asked[-1]
    assert all(each.circle for each in asked)
    reach = sweep.rho_m * (1.0 + 1e-12)
    for found, centre in ((end.x, -L_M), (end.y, sweep.centre_y_m)):
        assert ends_of(found) == (approx(centre - reach), approx(centre + reach))
        assert float(found.ball.rad()) > sweep.rho_m * (1.0 + 5e-13)
        assert found.error == 0.0
    assert ends_of(end.c) == ends_of(asking.radius)
    assert ends_of(asked[0].c)[1] == approx(sweep.rho_m + ends_of(asking.radius)[1])


def test_a_segment_may_end_anywhere_up_to_its_length() -> None:
    asking, sweep, asked = recorded(Kind.SEGMENT)
    circles = [each for each in asked if each.circle]
    assert sweep.length_m > 1.0
    first, second = (ends_of(each.x) for each in circles)
    assert first == (0.0, 0.0)
    assert second == (NOTHING, approx(sweep.length_m))
    assert all(ends_of(each.c) == ends_of(asking.radius) for each in circles)
    lines = [(ends_of(each.x)[0], ends_of(each.y)[0]) for each in asked if not each.circle]
    assert lines == [(0.0, 1.0), (0.0, 1.0)]


def test_what_is_asked_is_kept_and_so_is_its_quadratic() -> None:
    arc = _Recorder(1.0, 0.0, 0.0)
    arc.add_circle([], 1.0, 2.0, 3.0, 4.0, 5.0)
    arc.add_line([], 6.0, 7.0, 8.0, 9.0, 10.0)
    assert arc.asked == [Asked(True, 1.0, 2.0, 3.0), Asked(False, 6.0, 7.0, 8.0)]
    assert arc.asked[1].circle is False
    assert arc.asked[0].circle is True
    assert arc.quadratics == [(1.0, -3.0, 9.0 + 9.0 - 9.0), (0.0, -3.0, 54.0 + 70.0 - 8.0)]


# The noise.


@dataclass(frozen=True)
class Given:
    """An asking in plain numbers."""

    cos_beta: Plain
    sin_beta: Plain
    kappa: Plain
    x: Plain
    y: Plain
    length: float
    driven: float
    bend: float
    least_bend: float
    far: float

    def asking(self) -> Asking:
        arc = _Recorder(self.cos_beta.tracked(), self.sin_beta.tracked(), self.kappa.tracked())
        x, y, radius = self.x.tracked(), self.y.tracked(), Tracked(arb(3.0))
        return Asking(arc, x, y, self.length, self.driven, self.bend, self.least_bend, self.far, radius)

    @property
    def pace(self) -> float:
        return 1.0 + self.bend * self.far

    def seen(self) -> tuple[Plain, Plain]:
        angle = LIBRARY + UNIT * self.bend * self.length
        sine = cosine = Plain(0.0, 1.0, angle)
        chord = Plain(0.0, self.length, 8.0 * UNIT * self.length)
        one = self.x - chord * (self.cos_beta * cosine - self.sin_beta * sine)
        other = self.y - chord * (self.sin_beta * cosine + self.cos_beta * sine)
        away_x, away_y = Plain(0.0, self.far, one.error), Plain(0.0, self.far, other.error)
        turn = Plain(0.0, 1.0, 4.0 * angle + 8.0 * UNIT)
        x, y = turn * away_x + turn * away_y, turn * away_y - turn * away_x
        return Plain(0.0, self.far, x.error), Plain(0.0, self.far, y.error)

    def noise(self, circle: bool, fx: Plain, fy: Plain, c: Plain) -> float:
        arc = cast(Any, SimpleNamespace(kappa=self.kappa, cos_beta=self.cos_beta, sin_beta=self.sin_beta))
        conic: Any = conic_of_circle if circle else conic_of_line
        a, half_b, c0 = conic(arc, fx, fy, c, self.x, self.y)
        first = min(self.length, 1.0 / self.least_bend) if self.least_bend else self.length
        second = min(self.length, 2.0 * first) ** 2
        off = a.error * second + 2.0 * (half_b.error + 3.0 * UNIT * half_b.most) * first
        off += c0.error + 3.0 * UNIT * c0.most
        reach = math.hypot(fx.most, fy.most) if circle else 0.0
        slope = self.pace * (2.0 * (self.far + reach) if circle else 1.0)
        return float(off + 24.0 * UNIT * self.length * slope + self.test_off(circle, fx, fy, c))

    def test_off(self, circle: bool, fx: Plain, fy: Plain, c: Plain) -> float:
        x, y = self.seen()
        if not circle:
            return (fx * x + fy * y - c).error
        dx, dy = x - fx, y - fy
        reach = math.hypot(fx.most, fy.most)
        return (dx * dx + dy * dy).error + (c * c).error + 32.0 * UNIT * (self.far + reach) ** 2

    def distance_off(self, circle: bool, fx: Plain, fy: Plain, c: Plain, ends: bool) -> float:
        event = (SPREAD_OF_ENDS if ends else SPREAD) * GRAZE
        if circle:
            event /= max(LEAST_INNER_OF_ARC_M if ends else LEAST_INNER_M, c.mid - c.rad)
        elif not ends:
            event *= 2.0
        reach = math.hypot(fx.most, fy.most) if circle else 0.0
        arc_off = self.length * (8.0 * UNIT + 4.0 * UNIT * self.bend * self.far)
        arc_off += ARC_IS_LINE_RAD * (1.0 + self.far / self.length)
        size = self.far + reach + c.most
        return event + arc_off + 64.0 * UNIT * size + 128.0 * UNIT * self.driven * self.pace


GIVEN = [
    Given(Plain(0.9, 1e-3), Plain(0.4, 1e-3), Plain(0.2, 1e-3), Plain(-7.0, 0.2), Plain(3.0, 0.1), *rest)
    for rest in (
        (28.0, 31.0, 0.201, 0.199, 19.0),
        (28.0, 31.0, 0.201, 0.0, 40.0),
        (28.0, 31.0, 0.9, 0.7, 12.0),
        (2.6, 31.0, 0.5, 0.3, 12.0),
        (5.0, 6.0, 0.4, 0.3, 9.0),
    )
]
GIVEN += [replace(GIVEN[0], x=Plain(-7.0, 0.2, 1e-13), kappa=Plain(0.2, 1e-3, 1e-14), cos_beta=Plain(0.9, 0.0, 1e-14))]
EVENTS = [
    (True, Plain(-2.0), Plain(3.5), Plain(5.0, 0.5)),
    (True, Plain(0.3, 0.2), Plain(-6.0, 0.1), Plain(0.6, 0.1)),
    (True, Plain(0.0), Plain(0.0), Plain(40.0)),
    (False, Plain(0.0), Plain(1.0), Plain(3.0, 0.2)),
    (False, Plain(0.6), Plain(-0.8), Plain(0.5)),
    (False, Plain(1.0), Plain(0.0), Plain(0.0)),
]


def asked_of(circle: bool, fx: Plain, fy: Plain, c: Plain) -> Asked:
    return Asked(circle, fx.tracked(), fy.tracked(), c.tracked())


@pytest.mark.parametrize("given", GIVEN)
def test_how_far_off_a_disc_is_seen(given: Given) -> None:
    for found, expected in zip(everywhere._seen(given.asking()), given.seen(), strict=True):
        assert found.error == approx(expected.error)
        holds(found.ball, 0.0, given.far)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("given", GIVEN)
def test_the_noise_of_an_event(given: Given, event: tuple[bool, Plain, Plain, Plain]) -> None:
    asking, asked = given.asking(), asked_of(*event)
    assert everywhere._test_off(asking, asked) == approx(given.test_off(*event))
    assert everywhere.noise_of(asking, asked) == approx(given.noise(*event))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("given", [*GIVEN, replace(GIVEN[0], far=1e6, bend=1e3), replace(GIVEN[0], length=1e-5)])
def test_how_far_off_a_distance_is(given: Given, event: tuple[bool, Plain, Plain, Plain]) -> None:
    """Also with sizes at which what is small elsewhere counts."""
    asked = asked_of(*event)
    for kind in Kind:
        ends = kind in (Kind.ARC, Kind.SEGMENT)
        found = everywhere._distance_off_m(given.asking(), asked, kind)
        assert found == approx(given.distance_off(*event, ends))


def test_a_distance_is_off_by_all_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what a graze may hide, the parts of rounding alone."""
    monkeypatch.setattr(everywhere, "GRAZE", 0.0)
    for given in GIVEN:
        for event in EVENTS:
            found = everywhere._distance_off_m(given.asking(), asked_of(*event), Kind.HELD)
            reach = math.hypot(event[1].most, event[2].most) if event[0] else 0.0
            parts = given.length * (8.0 + 4.0 * given.bend * given.far) + 64.0 * (given.far + reach + event[3].most)
            parts += 128.0 * given.driven * given.pace
            assert found == approx(UNIT * parts + ARC_IS_LINE_RAD * (1.0 + given.far / given.length))


def test_what_two_grazes_at_an_end_hide_must_be_less_than_the_hole_is_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    least_m = math.sqrt(2.0 * SPREAD_OF_ENDS * GRAZE)
    assert least_m < HOLE_M
    asked = asked_of(*EVENTS[0])
    for hole_m, endless in ((1.01 * least_m, False), (0.99 * least_m, True)):
        monkeypatch.setattr(everywhere, "HOLE_M", hole_m)
        for kind in Kind:
            off_m = everywhere._distance_off_m(GIVEN[0].asking(), asked, kind)
            assert math.isinf(off_m) is (endless and kind in (Kind.ARC, Kind.SEGMENT))


# What is decided.


@pytest.mark.parametrize(
    ("noise", "off_m", "verdict"),
    [
        (0.49 * GRAZE, 0.89 * MARGIN_M, Verdict.TRUE),
        (0.51 * GRAZE, 0.89 * MARGIN_M, Verdict.UNDECIDED),
        (0.49 * GRAZE, 0.91 * MARGIN_M, Verdict.UNDECIDED),
    ],
)
def test_a_cell_is_decided_by_the_graze_and_the_margin(
    monkeypatch: pytest.MonkeyPatch, noise: float, off_m: float, verdict: Verdict
) -> None:
    kinds: set[Kind] = set()

    def off(asking: Asking, asked: Asked, kind: Kind) -> float:
        kinds.add(kind)
        return off_m

    monkeypatch.setattr(everywhere, "noise_of", lambda asking, asked: noise)
    monkeypatch.setattr(everywhere, "_distance_off_m", off)
    car = replace(CAR, bounds=Bounds())
    assert everywhere.decide(car, CAP_M, ((10.0, 11.0), (0.1, 0.2), (0.1, 0.2))) is verdict
    assert kinds <= set(Kind)
    if verdict is Verdict.TRUE:
        assert {Kind.HELD, Kind.SEGMENT} <= kinds


def test_the_sensing_range_is_kept_to_its_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_with: list[tuple[Asking, Asked]] = []
    noises = [0.49 * GRAZE]

    def noise(asking: Asking, asked: Asked) -> float:
        asked_with.append((asking, asked))
        return noises[-1]

    monkeypatch.setattr(everywhere, "noise_of", noise)
    asking = GIVEN[0].asking()
    circle = Sweep(Manoeuvre.LEFT, Kind.CIRCLE, 0.0, 1, 4.2, 3.7, length_m=0.3)
    segment = Sweep(Manoeuvre.STRAIGHT, Kind.SEGMENT, length_m=7.0, rho_m=4.2)
    bent = Sweep(Manoeuvre.LEFT, Kind.ARC, 0.0, 1, 4.2, 3.7, length_m=6.0, start_rad=1.0, end_rad=2.5)
    round_ = replace(bent, start_rad=-1.0)
    for sweep, reach in ((circle, 1.3 + L_M + 4.2), (segment, 8.0 + L_M), (bent, 7.0 + L_M), (round_, 7.0 + L_M + 4.2)):
        assert everywhere._range_kept(CAR, asking, sweep)
        start, asked = asked_with.pop()
        assert (ends_of(start.x), ends_of(start.y)) == ((0.0, 0.0), (0.0, 0.0))
        assert start.arc is asking.arc
        assert asked.circle is True
        for point in (asked.x, asked.y):
            assert ends_of(point) == (approx(-reach), approx(reach))
        assert ends_of(asked.c) == (NOTHING, approx(45.0))
    noises.append(0.51 * GRAZE)
    assert not everywhere._range_kept(CAR, asking, segment)
    endless = replace(CAR, bounds=replace(BOUNDS, sensing_range_m=None))
    assert everywhere._range_kept(endless, asking, segment)
    noises.append(0.49 * GRAZE)
    for share, kept in ((1.01, True), (0.99, False)):
        monkeypatch.setattr(everywhere, "RANGE_SLACK_M", share * math.sqrt(SPREAD * GRAZE) / 0.9)
        assert everywhere._range_kept(CAR, asking, segment) is kept


# The form.


def test_polynomials_subtract_either_way() -> None:
    from flint import fmpq_mpoly_ctx

    (k,) = fmpq_mpoly_ctx.get(("k",)).gens()
    assert (2.5 - _Polynomial(k)).value == 5 * (k * 0 + 1) / 2 - k


@pytest.mark.parametrize("name", ["add_circle", "add_line", "add_ground_line"])
def test_the_code_of_one_obstacle_is_looked_at_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    true = getattr(Arc, name)

    def mirrored(arc: Arc, roots: list[float], fx: Any, fy: Any, c: Any, ox: Any, oy: Any) -> None:
        true(arc, roots, fx, fy, c, ox, -oy)

    assert everywhere.own_forms() == ""
    monkeypatch.setattr(Arc, name, mirrored)
    assert everywhere.own_forms() == name.removeprefix("add_").replace("_", " ")


def test_a_number_stands_for_itself() -> None:
    assert everywhere._tracked(2.5).ball == arb(2.5)
    assert everywhere._tracked(2.5).error == 0.0
    kept = Tracked(arb(1.0), 0.5)
    assert everywhere._tracked(kept) is kept
