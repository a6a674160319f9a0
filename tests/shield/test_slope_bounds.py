"""The bounds on slopes that the barrier's hold, the filter and the event rest on, against their derivation."""

import math
from dataclasses import replace

import numpy as np
import pytest

from shield.barrier import barrier_of, barrier_slope, class_k_gain
from shield.filter import _branch
from shield.hold import Errors, _positive_for, _Walk
from shield.vehicle import Bounds, Vehicle, load_vehicle

CARS = [load_vehicle("config1"), load_vehicle("config2")]
BOUNDS = [
    Bounds(position_m=0.4, heading_rad=0.05, steering_rad=0.02, steering_bias_rad=0.01, odometry_drift=0.03),
    Bounds(heading_rad=0.3, steering_bias_rad=0.04),
    Bounds(position_m=1.2, odometry_drift=0.1),
    Bounds(position_m=20.0, steering_rad=0.01),
    Bounds(position_m=1.5, odometry_drift=1.6),
]


# Margins against rounding that are large enough to see which way they count.
VALUE_MARGIN, SLIP_MARGIN_RAD = 3e-3, 4e-3


@pytest.fixture(autouse=True)
def _large_margins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shield.hold.VALUE_MARGIN", VALUE_MARGIN)
    monkeypatch.setattr("shield.filter.VALUE_MARGIN", VALUE_MARGIN)
    monkeypatch.setattr("shield.filter.SLIP_MARGIN_RAD", SLIP_MARGIN_RAD)


def spots(count: int) -> list[tuple[float, float, float]]:
    """Metres beyond the barrier's disc, angle to it, share of full lock."""
    low, high = (0.05, -3.1, -1.0), (9.0, 3.1, 1.0)
    return [(float(a), float(b), float(c)) for a, b, c in np.random.default_rng(5).uniform(low, high, (count, 3))]


@pytest.mark.parametrize("bounds", BOUNDS)
def test_the_errors_of_a_hold_are_those_of_the_bounds(bounds: Bounds) -> None:
    car = replace(CARS[0], bounds=bounds)
    steering = bounds.steering_rad + bounds.steering_bias_rad
    turn = math.hypot(math.cos(bounds.heading_rad) - 1.0, math.sin(bounds.heading_rad))
    wanted = (
        bounds.position_m,
        bounds.odometry_drift + turn + steering,
        steering / (2.0 * car.l_r_m),
        bounds.heading_rad,
        steering / car.l_r_m,
    )
    found = Errors.of(car)
    assert (found.p0_m, found.p1, found.p2_pm, found.q0_rad, found.q1_pm) == pytest.approx(wanted)


def padded_values(walk: _Walk, s: float, side: float, near: float) -> tuple[float, float]:
    """The base and the angular part of g at s, on the branch of xi nearest to `near`."""
    e = walk.errors
    r, xi = walk.polar(s)
    xi = near + math.remainder(xi - near, 2.0 * math.pi)
    pad = e.p0_m + e.p1 * s + e.p2_pm * s * s
    tilt = e.q0_rad + e.q1_pm * s + math.asin(pad / r)
    return walk.level - 1.0 / (r - pad) - VALUE_MARGIN, walk.gain * math.cos(0.5 * (side * xi + tilt))


def bends(walk: _Walk, i: float, p: float, q: float) -> tuple[float, float]:
    """Bound -(1/(r-P))'' and -g''; i is the largest 1/(r-P), p of P', q of P/r; the derivation in `hold.py`, again."""
    e, k = walk.errors, abs(walk.curvature)
    # (1/u)'' = 2 u'^2/u^3 - u''/u^2 with |u'| <= 1 + p and -u'' <= k + P''
    base = 2.0 * (1.0 + p) ** 2 * i**3 + (k + 2.0 * e.p2_pm) * i**2
    # (P/r)' = P'/r - P r'/r^2 and its derivative with |r''| <= i + k, |r'| <= 1
    first = p * i + q * i
    second = 2.0 * e.p2_pm * i + 2.0 * p * i**2 + q * (i + k) * i + 2.0 * q * i**2
    # asin(q)' = q'/c and asin(q)'' = q''/c + q q'^2/c^3
    c = math.sqrt(1.0 - q * q)
    turn = i + k + e.q1_pm + first / c
    turn2 = i**2 + k * i + second / c + q * first**2 / c**3
    return base, base + walk.gain * (turn**2 / 4.0 + turn2 / 2.0)


def root(value: float, slope: float, bend: float) -> float:
    """The positive zero of value + slope s - bend s^2/2."""
    return float(max(np.roots([-0.5 * bend, slope, value]).real)) if value > 0.0 else 0.0


@pytest.mark.parametrize("car", CARS)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_a_padded_step_is_that_of_the_derivation(car: Vehicle, bounds: Bounds) -> None:
    car, checked = replace(car, bounds=bounds), 0
    barrier = barrier_of(car)
    for beyond, xi, share in spots(60):
        walk = _Walk(car, barrier, barrier.r_bar_m + bounds.position_m + beyond, xi, share * car.beta_max_rad)
        for s in (0.0, 0.7, 3.0):
            e, (r, here) = walk.errors, walk.polar(s)
            pad = e.p0_m + e.p1 * s + e.p2_pm * s * s
            if not (2.0 * pad < r and r - pad > walk.r_bar):
                assert walk.step(s) == 0.0
                continue
            checked += 1
            span = 0.5 * (r - pad)
            while (e.p0_m + e.p1 * (s + span) + e.p2_pm * (s + span) ** 2) / (r - span) > 0.75:
                span *= 0.25
            p = e.p1 + 2.0 * (s + span) * e.p2_pm
            q = (e.p0_m + e.p1 * (s + span) + e.p2_pm * (s + span) ** 2) / (r - span)
            i = 1.0 / max(walk.r_bar, r - pad - span - p * span)
            assert walk._span(s, r, r - pad) == pytest.approx((span, i, p, q))
            assert walk._bends(i, p, q) == pytest.approx(bends(walk, i, p, q))
            base_bend, bend = bends(walk, i, p, q)
            both, ds = math.pi / (i + abs(walk.curvature)), 1e-5
            for side in (1.0, -1.0):
                b, g = padded_values(walk, s, side, here)
                (b0, g0), (b1, g1) = (padded_values(walk, s + d, side, here) for d in (-ds, ds))
                slope, all_slope = (b1 - b0) / (2.0 * ds), (b1 + g1 - b0 - g0) / (2.0 * ds)
                both = min(both, root(b + g, all_slope, bend))
            assert walk.step(s) == pytest.approx(min(span, max(both, root(b, slope, base_bend))), rel=1e-4, abs=1e-7)
    assert checked > (60 if bounds.position_m < 20.0 else -1)


@pytest.mark.parametrize("car", CARS)
def test_an_exact_step_is_that_of_the_derivation(car: Vehicle) -> None:
    car = replace(car, bounds=Bounds())
    barrier = barrier_of(car)
    for beyond, xi, share in [*spots(80), (60.0, 0.3, 0.2), (60.0, 3.0, 0.0)]:
        walk = _Walk(car, barrier, barrier.r_bar_m + beyond, xi, share * car.beta_max_rad)
        r, here = walk.polar(0.0)
        k, i, ds = abs(walk.curvature), 1.0 / max(walk.r_bar, 0.5 * r), 1e-5
        base_bend = 2.0 * i**3 + k * i**2
        bend = base_bend + walk.gain * ((i + k) ** 2 / 4.0 + (i**2 + k * i) / 2.0)
        (b, g), (b0, g0), (b1, g1) = (padded_values(walk, d, 1.0, here) for d in (0.0, -ds, ds))
        base, whole = (b1 - b0) / (2.0 * ds), (b1 + g1 - b0 - g0) / (2.0 * ds)
        along = min(math.pi / (i + k), root(b + g, whole, bend))
        assert walk.step(0.0) == pytest.approx(min(0.5 * r, max(along, root(b, base, base_bend))), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(("value", "slope", "bend"), [(1.0, -2.0, 3.0), (0.5, 2.0, 0.1), (2.0, 0.5, 4.0), (1e-9, 0, 2)])
def test_the_zero_of_a_parabola(value: float, slope: float, bend: float) -> None:
    assert _positive_for(value, slope, bend) == pytest.approx(root(value, slope, bend))


@pytest.mark.parametrize("car", CARS)
@pytest.mark.parametrize(("position", "heading", "steering"), [(0.3, 0.04, 0.01), (0.0, 0.1, 0.0), (0.6, 0.0, 0.03)])
def test_the_admitted_slip_ends_where_the_padded_condition_does(
    car: Vehicle, position: float, heading: float, steering: float
) -> None:
    bounds = Bounds(position_m=position, heading_rad=heading, steering_rad=steering, steering_bias_rad=0.005)
    car, ends = replace(car, bounds=bounds), 0
    barrier = barrier_of(car)
    sigma, least, lock = barrier.sigma, barrier.r_bar_m, car.beta_max_rad
    erosion = steering + 0.005 + SLIP_MARGIN_RAD
    for beyond, xi, _ in spots(150):
        r = least + position + 0.3 * beyond
        tilt = heading + math.asin(position / r)
        i = 1.0 / (r - position)
        far = min(2.0 * math.pi, abs(xi) + tilt)
        h = (sigma * math.cos(0.5 * far) + 1.0 - sigma) / least - i
        if h < VALUE_MARGIN:
            continue
        gain = sigma / (2.0 * least)
        # d/dr (cos/r^2) <= 2 i^3, d/dr (gain sin/r) <= gain i^2, and the same for xi
        rest = (2.0 * i**3 + gain * i**2) * position
        rest += (i**2 + 1.5 * gain * i + 0.5 * gain * math.sin(lock) / car.l_r_m) * tilt
        for low, high in _branch(car, r, xi, tilt):
            for end, outward in ((low, -erosion), (high, erosion)):
                if abs(end) < lock - 1e-9:
                    slope = float(barrier_slope(car, r, xi, end + outward))
                    assert slope + class_k_gain(barrier) * h - rest == pytest.approx(0.0, abs=1e-9)
                    ends += 1
    assert ends > 5
