"""The parts of the proofs of claims and of single deadlines: each number is that of its formula, rounded safely."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flint")

from flint import arb, ctx

from shield.arc import advance
from shield.barrier import barrier_slope, barrier_value, class_k_gain, least_distance
from shield.deadline import Certificate, Deadline, Interval, Method
from shield.manoeuvre import Manoeuvre
from shield.vehicle import Barrier, Bounds, Vehicle, load_vehicle
from shield.verify import claims, deadlines
from shield.verify.cells import PRECISION_BITS, Verdict
from shield.verify.deadlines import Pace, Seen, reference_radius_m, sound

CONFIG1, CONFIG2 = load_vehicle("config1"), load_vehicle("config2")
BARRIER = Barrier(r_bar_m=4.0, sigma=0.5)
ERRS = Bounds(position_m=0.25, heading_rad=0.04, speed_mps=0.5, actuation_delay_s=0.125, brake_build_s=0.25)
ERRING = Vehicle(
    2.0, 0.5, 10.0, radius_m=1.0, a_max_mps2=2.0, deceleration_mps2=5.0, barrier=BARRIER, bounds=ERRS, name="erring"
)


@pytest.fixture(autouse=True)
def _working_precision() -> None:
    ctx.prec = PRECISION_BITS


def just_above(value: float, exact: float | Fraction) -> bool:
    return 1e-13 < float(Fraction(value) / Fraction(exact) - 1) < 1e-11


def edge(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The place between `low`, where a property does not hold, and `high`, where it does, at which it begins to."""
    assert holds(high)
    assert not holds(low)
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


# claims: the margin at which a verdict turns is the number that it is about


def rounding_measured(monkeypatch: pytest.MonkeyPatch, vehicle: Vehicle, r: float, s: float) -> tuple[float, float]:
    """Return the error of a place [m] and of h [1/m] that a cell (r, s) is given."""

    def within(name: str, other: str) -> Callable[[float], bool]:
        def holds(margin: float) -> bool:
            monkeypatch.setattr(claims, name, 10.0 * margin)
            monkeypatch.setattr(claims, other, 1.0)
            return claims.rounding(vehicle, ((0.5 * r, r), (0.25 * s, s))) is Verdict.TRUE

        return holds

    place = edge(within("MARGIN_M", "VALUE_MARGIN"), 0.0, 1e-3)
    value = edge(within("VALUE_MARGIN", "MARGIN_M"), 0.0, 1e-3) if vehicle.barrier is not None else 0.0
    return place / 1.01, value / 1.01


@pytest.mark.parametrize(("r", "s", "l_r"), [(50.0, 30.0, 1.6), (4.0, 900.0, 3.0), (900.0, 2.0, 0.5)])
def test_what_rounding_takes(monkeypatch: pytest.MonkeyPatch, r: float, s: float, l_r: float) -> None:
    """First-order bounds, every operation one unit of 2^-52: half the turn, its chord, the heading, the place, h."""
    vehicle, u = replace(ERRING, l_r_m=l_r, bounds=Bounds()), 2.0**-52
    half = 0.5 * s * math.sin(0.5) / l_r
    turn_off = 4.0 * u * half
    heading_off = turn_off + u * (half + math.pi)
    chord_off = 4.0 * u * s + 0.5 * turn_off * s
    place = 2004.0 * u * r + chord_off + s * heading_off + 2.0 * u * s + 2.0 * u * (r + s)
    distance = math.sqrt(2.0) * place + 2.0 * u * (r + s)
    least = 4.0 * (1.0 - 1e-9)
    angle = distance / least + 2.0 * turn_off + 4000.0 * u + 8.0 * u * (half + math.pi)
    value = distance / least**2 + 0.5 / 8.0 * angle + 8.0 * u / least
    found = rounding_measured(monkeypatch, vehicle, r, s)
    # 2 u s is counted with the chord's end in the code, with the place here
    assert found == pytest.approx((distance, value), rel=1e-10)
    assert rounding_measured(monkeypatch, replace(vehicle, barrier=None), r, s)[0] == found[0]


def test_rounding_needs_both_margins(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = ((4.0, 50.0), (0.0, 30.0))
    assert claims.rounding(ERRING, cell) is Verdict.TRUE
    for name in ("MARGIN_M", "VALUE_MARGIN"):
        with monkeypatch.context() as patch:
            patch.setattr(claims, name, 1e-16)
            assert claims.rounding(ERRING, cell) is Verdict.FALSE
    assert claims.rounding_box(ERRING) == ((4.0, 1000.0), (0.0, 1000.0))
    assert claims.admissible_box(ERRING) == ((0.0, math.pi), (0.0, 0.25))


def slope_measured(monkeypatch: pytest.MonkeyPatch, vehicle: Vehicle, xi: float, u: float) -> float:
    """Return the least dh/ds + K h that a state's best slip angle is given."""

    def above(margin: float) -> bool:
        monkeypatch.setattr(claims, "SLOPE_MARGIN", -margin)
        return claims.admissible(vehicle, ((xi, xi), (u, u))) is Verdict.TRUE

    return -edge(above, -10.0, 10.0)


@pytest.mark.parametrize(("xi", "r"), [(0.5, 9.0), (2.0, 6.0), (2.9, 12.0), (3.0, 30.0)])
@pytest.mark.parametrize("vehicle", [CONFIG1, CONFIG2], ids=lambda item: item.name)
def test_the_best_slip_angle_of_a_state(monkeypatch: pytest.MonkeyPatch, vehicle: Vehicle, xi: float, r: float) -> None:
    assert vehicle.barrier is not None
    h = float(barrier_value(vehicle.barrier, r, xi))
    assert h > 0.0
    beta = np.linspace(-vehicle.beta_max_rad, vehicle.beta_max_rad, 40_001)
    slopes = barrier_slope(vehicle, r, xi, beta)
    best = float(slopes.max()) + class_k_gain(vehicle.barrier) * h
    assert slope_measured(monkeypatch, vehicle, xi, 1.0 / r) == pytest.approx(best, abs=2e-9)
    peak = claims._steepest(vehicle, ((xi - 0.1, xi + 0.1), (1.0 / r - 0.01, 1.0 / r + 0.01)), vehicle.beta_max_rad)
    assert peak == pytest.approx(float(beta[slopes.argmax()]), abs=1e-4)
    assert abs(peak) < vehicle.beta_max_rad
    assert abs(claims._steepest(vehicle, ((xi, xi), (1.0 / r, 1.0 / r)), 1e-3)) == 1e-3 - 1e-9


@pytest.mark.parametrize(("xi", "near"), [(0.7, 8.0), (2.4, 9.0), (3.1, 14.0)])
def test_what_errors_take_from_the_best_slip_angle(monkeypatch: pytest.MonkeyPatch, xi: float, near: float) -> None:
    """u = 1/(r - e_p): every term of the slack at its largest in the cell, the steering off by both errors."""
    pad, tilt_of, steer = 0.25, 0.04, 0.03
    bounds = Bounds(position_m=pad, heading_rad=tilt_of, steering_rad=0.02, steering_bias_rad=0.01)
    vehicle = replace(ERRING, bounds=bounds)
    u, r, turn = 1.0 / near, near + pad, 0.5 / 8.0
    tilt = tilt_of + math.asin(pad / (near + pad))
    h = float(barrier_value(BARRIER, near, xi + tilt))
    assert h > 0.0
    slack = pad * (2.0 * u**3 + turn * u**2)
    slack += tilt * (u**2 + turn * (1.5 * u + math.sin(0.5) / 4.0))
    beta = np.linspace(-0.5, 0.5, 200_001)
    peak = float(beta[barrier_slope(vehicle, r, xi, beta).argmax()])
    off = np.linspace(peak - steer, peak + steer, 2001)
    worst = float(barrier_slope(vehicle, r, xi, off).min())
    want = worst + class_k_gain(BARRIER) * h - slack
    found = slope_measured(monkeypatch, vehicle, xi, u)
    assert found < want + 1e-9
    # a ball of slip angles in one piece of arithmetic loses a little more
    assert found == pytest.approx(want, abs=2.5e-3)
    loose = replace(vehicle, bounds=replace(bounds, steering_rad=0.0, steering_bias_rad=0.0))
    at_peak = float(barrier_slope(vehicle, r, xi, peak)) + class_k_gain(BARRIER) * h - slack
    assert slope_measured(monkeypatch, loose, xi, u) == pytest.approx(at_peak, abs=2e-9)


def test_where_no_slip_angle_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuted for as small a gain K as leaves every slip angle's dh/ds + K h below zero, and undecided above it."""
    steep = replace(CONFIG1, barrier=Barrier(r_bar_m=4.0, sigma=0.1), bounds=Bounds(position_m=0.01))
    assert steep.barrier is not None
    xi, near = 3.0, 4.6
    u = 1.0 / near
    tilt = math.asin(0.01 / (near + 0.01))
    h = float(barrier_value(steep.barrier, near, xi + tilt))
    beta = np.linspace(-steep.beta_max_rad, steep.beta_max_rad, 20_001)
    most = float(barrier_slope(steep, near + 0.01, xi, beta).max())
    turn = 0.1 / 8.0
    slack = 0.01 * (2.0 * u**3 + turn * u**2) + tilt * (
        u**2 + turn * (1.5 * u + math.sin(steep.beta_max_rad) / (2.0 * steep.l_r_m))
    )
    assert most < 0.0 < h

    def not_refuted(gain: float) -> bool:
        monkeypatch.setattr(claims, "class_k_gain", lambda _: gain)
        return claims.admissible(steep, ((xi, xi), (u, u))) is not Verdict.FALSE

    gain = edge(not_refuted, 0.0, 100.0)
    # thirty-two balls of slip angles: each a little wide
    want = (slack - most) / h
    assert 0.0 <= (want - gain) * h < 0.03 * abs(most)
    # and nothing is claimed, nor refuted, where h may be negative
    assert claims.admissible(steep, ((xi, xi), (0.25, 0.25))) is Verdict.TRUE
    assert claims.admissible(steep, ((xi, xi), (0.2, 0.25))) is not Verdict.FALSE


def test_the_inclusion_is_refuted_exactly_where_it_fails() -> None:
    for sigma, verdicts in ((0.126, {Verdict.TRUE}), (0.11, {Verdict.TRUE, Verdict.FALSE})):
        vehicle = replace(CONFIG1, barrier=Barrier(r_bar_m=4.0, sigma=sigma))
        assert vehicle.barrier is not None
        ((first, last),) = claims.inclusion_box(vehicle)
        apex = -vehicle.l_r_m + math.sqrt(vehicle.l_r_m**2 + 8.0 * (vehicle.rho_m - vehicle.rho_rear_m))
        assert 0.5e-12 < math.pi - math.atan2(4.0, apex) - first < 2e-12
        assert 0.5e-12 < last - math.pi < 2e-12
        found = set()
        for xi in np.linspace(first, last, 101).tolist():
            side = vehicle.rho_m * math.sin(xi - vehicle.beta_max_rad)
            slack = float(least_distance(vehicle.barrier, xi)) - (
                -side + math.sqrt(side**2 + 16.0 + 8.0 * vehicle.rho_m)
            )
            verdict = claims.inclusion(vehicle, ((xi, xi),))
            assert verdict is (Verdict.TRUE if slack > 0.0 else Verdict.FALSE)
            found.add(verdict)
        assert found == verdicts
    tight = replace(CONFIG1, barrier=Barrier(r_bar_m=4.0, sigma=0.126))
    assert claims.inclusion(tight, claims.inclusion_box(tight)) is Verdict.UNDECIDED


# single deadlines


def test_reference_discs_and_grains() -> None:
    assert reference_radius_m(ERRING) == 4.0
    assert reference_radius_m(replace(ERRING, barrier=None)) == 3.0
    pace = Pace(ERRING, 2.0)
    assert pace.start == 2.5
    assert just_above(pace.way_m(1.5), Fraction(5, 2) * Fraction(3, 2) + Fraction(9, 4))
    assert just_above(pace.way_m(5.0), Fraction(15, 4) * Fraction(25, 4) + Fraction(10) * Fraction(5, 4))
    assert just_above(pace.speed_mps(3.0), math.sqrt(2.5**2 + 12.0))
    assert just_above(deadlines._braking_m(ERRING, 8.0), Fraction(64, 10) + Fraction(2))
    with pytest.raises(ValueError, match="'erring' declares no deceleration_mps2, which a braking manoeuvre needs"):
        deadlines._braking_m(replace(ERRING, deceleration_mps2=None), 8.0)
    assert float(deadlines._turned_aside(ERRING)) == pytest.approx(2.0 * math.sin(0.02), rel=1e-15)
    backward = replace(ERRING, bounds=Bounds(heading_rad=4.0))
    assert float(deadlines._turned_aside(backward)) == pytest.approx(2.0)
    blind = replace(ERRING, bounds=Bounds(sensing_age_s=0.1, sensing_range_m=30.0))
    with pytest.raises(ValueError, match="'erring' declares sensing_age_s, sensing_range_m, which the proof"):
        sound(blind, Method.BACKUP, (-9.0, 0.0), 0.0, claimed())


def claimed(*pieces: tuple[float, float, Manoeuvre], hold_s: float = 1.0) -> Deadline:
    certificate = Certificate(tuple(Interval(*piece) for piece in pieces), None, 0.0, 0.0, "")
    return Deadline(hold_s, 10.0 * hold_s, "cap", None, certificate, True)


def test_a_piece_is_halved_until_it_is_decided() -> None:
    looked: list[tuple[float, float]] = []

    def small(middle: float, half: float) -> bool:
        looked.append((middle, half))
        return half < 0.6

    assert deadlines._everywhere(0.0, 4.0, small)
    leaves = [piece for piece in looked if piece[1] < 0.6]
    assert sorted(middle for middle, _ in leaves) == [0.5, 1.5, 2.5, 3.5]
    assert all(just_above(half, 0.5) for _, half in leaves)
    widths: list[float] = []

    def never(_middle: float, half: float) -> bool:
        widths.append(2.0 * half)
        return False

    assert not deadlines._everywhere(0.0, 1.0, never)
    assert 0.5e-9 < widths[-1] <= 1.0001e-9
    assert not deadlines._everywhere(0.0, 4.0, lambda middle, half: abs(middle - 0.3) > half)


@pytest.mark.parametrize("beta", [0.4, -0.4, 1e-4])
def test_the_disc_is_seen_within_its_blur_and_the_blur_is_no_wider_than_it_moves(beta: float) -> None:
    """Fastest on the far side of the turn's centre, where all of it is motion: |k| |e| + 1 per metre."""
    l_r, width = 2.0, 0.75
    vehicle = replace(ERRING, l_r_m=l_r)
    kappa = math.sin(beta) / l_r
    fastest = 0.0
    for bearing in np.linspace(-math.pi, math.pi, 73).tolist():
        away = (-12.0 * math.cos(bearing), -12.0 * math.sin(bearing))
        ahead, aside = Seen(vehicle, away, beta).at(0.0, width)
        spread = float(ahead.rad())
        assert spread == pytest.approx(width * (1.0 + abs(kappa) * (12.0 + width)), rel=1e-6)
        moved = []
        for part in (-1.0, 1.0):
            x, y, heading = (float(value) for value in advance(*away, 0.0, beta, l_r, part * width))
            there = (-x * math.cos(heading) - y * math.sin(heading), x * math.sin(heading) - y * math.cos(heading))
            assert ahead.contains(arb(there[0]))
            assert aside.contains(arb(there[1]))
            moved.append(math.dist(there, (-away[0], -away[1])))
        fastest = max(fastest, *moved)
    # less than a width's share of the bound, more than it would be with the disc taken nearer
    assert fastest > width * (1.0 + abs(kappa) * (12.0 - 0.5 * width)) * (1.0 - (kappa * width) ** 2)
    exact = Seen(vehicle, (-12.0, 0.0), beta).at(1.0, 0.0)
    assert float(exact[0].rad()) < 1e-15


def test_what_is_asked_along_the_arc(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    answers: dict[int, bool] = {}

    def looked(start: float, end: float, holds: Any) -> bool:
        asked.append((start, end, holds))
        return answers.get(len(asked), True)

    monkeypatch.setattr(deadlines, "_everywhere", looked)
    monkeypatch.setattr(deadlines, "_apart", lambda _seen, radius: float(radius))
    monkeypatch.setattr(deadlines, "_clear", lambda *given: (given[2], float(given[3]), given[4]))
    monkeypatch.setattr(deadlines, "_barrier_holds", lambda vehicle, _seen: vehicle)
    pace, switch = Pace(ERRING, 2.0), ERRS.switch_time_s
    held, late, delay = pace.way_m(1.0), pace.way_m(1.0 + switch), 10.0 * switch
    radius = 4.0 + 0.25 + 2.0 * math.sin(0.02) * 15.0
    brake, straight, left = Manoeuvre.BRAKE, Manoeuvre.BRAKE_STRAIGHT, Manoeuvre.LEFT
    found = claimed((0.0, 1.0, left), (0.5, 2.0, brake), (2.0, 99.0, straight))
    assert sound(ERRING, Method.BACKUP, (-12.0, 9.0), 0.1, found, 2.0)

    def stops(way: float) -> float:
        return deadlines._braking_m(ERRING, pace.speed_mps(way))

    assert asked == [
        (0.0, late, pytest.approx(radius)),
        (0.0, pytest.approx(1.0 + delay), (left, pytest.approx(radius), 0.0)),
        (1.0, pytest.approx(2.0 + delay + stops(2.0 + delay)), pytest.approx(radius)),
        (2.0, pytest.approx(held + delay), (straight, pytest.approx(radius), pytest.approx(stops(held + delay)))),
    ]
    for wrong in range(1, 5):
        asked.clear()
        answers = {wrong: False}
        assert not sound(ERRING, Method.BACKUP, (-12.0, 9.0), 0.1, found, 2.0)
        assert len(asked) == wrong
    answers = {}
    asked.clear()
    assert sound(ERRING, Method.BARRIER, (-12.0, 9.0), 0.1, found, 2.0)
    assert asked == [(0.0, late, ERRING)]
    for pieces in (
        ((0.0, held * (1.0 - 1e-9), left),),
        ((0.0, 1.0, left), (1.0 + 1e-9, 99.0, brake)),
        ((1e-9, 99.0, left),),
    ):
        assert not sound(ERRING, Method.BACKUP, (-12.0, 9.0), 0.1, claimed(*pieces), 2.0)
    almost = claimed((0.0, held * (1.0 - 1e-12), left))
    assert sound(ERRING, Method.BACKUP, (-12.0, 9.0), 0.1, almost, 2.0)
    # a piece that lies in what is shown already is not looked at again
    asked.clear()
    assert sound(ERRING, Method.BACKUP, (-12.0, 9.0), 0.1, claimed((0.0, 99.0, left), (0.0, held, brake)), 2.0)
    assert len(asked) == 2


class Sight:
    """A disc seen at one place, wherever along the arc, with the curvature of an arc."""

    def __init__(self, x: float, y: float, curvature: float = 0.0) -> None:
        self.place, self.curvature = (x, y), arb(curvature)

    def at(self, _middle: float, _half: float) -> tuple[arb, arb]:
        return arb(self.place[0]), arb(self.place[1])


def test_the_barrier_holds_with_every_error_at_its_worst() -> None:
    """At a place itself; and on a piece, where h changes by no more than its slope, every error included."""
    growth, kappa, gain = 2.0 * math.sin(0.02), 0.2, 0.5 / 8.0

    def holds(r: float, xi: float, s: float, half: float) -> bool:
        seen: Any = Sight(-r * math.cos(xi), -r * math.sin(xi), kappa)
        return deadlines._barrier_holds(ERRING, seen)(s, half)

    for xi, s in ((1.0, 2.0), (-2.5, 6.0), (3.13, 1.0)):

        def value(r: float, xi: float = xi, s: float = s) -> float:
            pad = 0.25 + growth * s
            angle = min(math.pi, abs(xi) + 0.04 + math.asin(pad / r))
            return float(barrier_value(BARRIER, r - pad, angle))

        least = edge(lambda r: value(r) >= 0.0, 4.0, 40.0)
        assert edge(partial(holds, xi=xi, s=s, half=0.0), 4.0, 40.0) == pytest.approx(least, abs=1e-9)
        for half in (0.125, 0.5):

            def with_slope(r: float, s: float = s, half: float = half, value: Any = value) -> bool:
                nearest, widest = r - half, 0.25 + growth * (s + half)
                ratio = widest / nearest
                tilt = (growth + ratio) / nearest / math.sqrt(1.0 - ratio**2)
                slope = (1.0 + growth) / (nearest - widest) ** 2 + gain * (1.0 / nearest + kappa + tilt)
                return bool(value(r) >= slope * half)

            edge_of_piece = edge(partial(holds, xi=xi, s=s, half=half), 4.0, 400.0)
            assert edge_of_piece == pytest.approx(edge(with_slope, 4.0, 400.0), rel=1e-9)
    # a disc that the error may reach: nothing is shown, whatever h says
    wide = replace(ERRING, bounds=Bounds(position_m=3.0), barrier=Barrier(r_bar_m=0.5, sigma=0.01))
    near: Any = Sight(-5.9, 0.0)
    far: Any = Sight(-6.1, 0.0)
    assert not deadlines._barrier_holds(wide, near)(0.0, 0.0)
    assert deadlines._barrier_holds(wide, far)(0.0, 0.0)


@pytest.mark.parametrize("side", [1, -1])
def test_when_a_manoeuvre_is_clear(side: int) -> None:
    """Beside the straight line, behind the vehicle, outside or inside the circle, behind a turn's first direction."""
    vehicle = replace(ERRING, bounds=Bounds())
    slip, l_r = 0.5, 2.0
    rho, rear, radius = l_r / math.sin(slip), l_r / math.tan(slip), 1.5
    turn, then = (Manoeuvre.LEFT, Manoeuvre.LEFT_THEN_STRAIGHT)
    if side < 0:
        turn, then = Manoeuvre.RIGHT, Manoeuvre.RIGHT_THEN_STRAIGHT

    def clear(manoeuvre: Manoeuvre, x: float, y: float) -> bool:
        seen: Any = Sight(x, side * y)
        return deadlines._clear(vehicle, seen, manoeuvre, arb(radius), 0.0)(0.0, 0.0)

    rng = np.random.default_rng(5)
    places = rng.uniform(-9.0, 9.0, (4000, 2)).tolist()
    places += [[0.5, 1.0], [-0.5, 1.0], [-1.0, -0.75], [-2.0, 0.0], [0.5, -2.0], [-0.5, -2.0], [0.7, 1.4], [-1.2, 1.0]]
    seen = {turn: set(), then: set(), Manoeuvre.STRAIGHT: set()}  # type: dict[Manoeuvre, set[bool]]
    for x, y in places:
        size = math.hypot(x, y)
        around = abs(math.hypot(x + l_r, y - rear) - rho) >= radius
        beside = abs(y) >= radius
        straight = beside or (size >= radius and x <= 0.0)
        behind = x * math.cos(slip) + y * math.sin(slip) <= 0.0 and size >= radius
        for manoeuvre, want in (
            (turn, around),
            (Manoeuvre.STRAIGHT, straight),
            (then, behind or around or straight),
        ):
            assert clear(manoeuvre, x, y) is want, (manoeuvre, x, y)
            seen[manoeuvre].add(want)
    assert all(both == {True, False} for both in seen.values())


@pytest.mark.parametrize("length", [2.0, 9.0, 15.0, 26.0, 40.0])
@pytest.mark.parametrize("manoeuvre", [Manoeuvre.BRAKE_LEFT, Manoeuvre.BRAKE_RIGHT, Manoeuvre.BRAKE_STRAIGHT])
def test_when_a_braking_path_is_clear(manoeuvre: Manoeuvre, length: float) -> None:
    """Against the path itself, point by point: less and more than half a turn, and more than a whole one."""
    vehicle, radius = replace(ERRING, bounds=Bounds()), 1.5
    x, y, _ = advance(0.0, 0.0, 0.0, manoeuvre.side * 0.5, 2.0, np.linspace(0.0, length, 4001))
    if manoeuvre is Manoeuvre.BRAKE_STRAIGHT:
        x, y = np.linspace(0.0, length, 4001), np.zeros(4001)
    rng = np.random.default_rng(int(length))
    places = rng.uniform(-12.0, 12.0, (120, 2))
    # most of them about as far from the path as counts
    along = rng.integers(0, x.size, 280)
    bearing, far = rng.uniform(-math.pi, math.pi, 280), rng.uniform(1.2, 1.8, 280)
    near = np.stack([x[along] + far * np.cos(bearing), y[along] + far * np.sin(bearing)], axis=1)
    both = set()
    for px, py in np.concatenate([places, near]).tolist():
        gap = float(np.hypot(x - px, y - py).min()) - radius
        if abs(gap) > 1e-4:
            seen: Any = Sight(px, py)
            clear = deadlines._clear(vehicle, seen, manoeuvre, arb(radius), length)(0.0, 0.0)
            assert clear is (gap > 0.0), (px, py, gap)
            both.add(clear)
    assert both == {True, False}
