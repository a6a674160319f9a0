"""Closed-form arcs against plain stepping."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.arc import Reach, advance, advance_polar, to_polar
from shield.vehicle import Bounds, Vehicle
from tests.shield.dense import drive

slips = st.one_of(st.just(0.0), st.floats(-0.9, 0.9), st.floats(-1e-9, 1e-9))


@given(slips, st.floats(0.5, 3.0), st.floats(0.0, 30.0), st.floats(-math.pi, math.pi))
def test_advance_is_where_stepping_ends(beta: float, l_r: float, length: float, heading: float) -> None:
    x, y, turned = drive(l_r, lambda _: beta, length, 0.02)
    cosine, sine = math.cos(heading), math.sin(heading)
    got = advance(3.0, -2.0, heading, beta, l_r, length)
    want = (3.0 + cosine * x[-1] - sine * y[-1], -2.0 + sine * x[-1] + cosine * y[-1], heading + turned[-1])
    assert got == pytest.approx(want, abs=2e-3)


def test_advance_broadcasts_states_over_lengths() -> None:
    x, y, heading = advance(np.zeros((3, 1)), 0.0, 0.0, np.array([[0.0], [0.1], [-0.2]]), 2.0, np.arange(5.0))
    assert x.shape == y.shape == heading.shape == (3, 5)
    assert x[0] == pytest.approx(np.arange(5.0))
    assert (y[1, 1:] > 0.0).all()
    assert (y[2, 1:] < 0.0).all()


@given(st.floats(3.0, 40.0), st.floats(-3.1, 3.1), slips)
def test_polar_motion_obeys_the_published_differential_equation(r: float, xi: float, beta: float) -> None:
    l_r, h = 1.6, 1e-5
    ahead, turned = advance_polar(r, xi, beta, l_r, h)
    assert (float(ahead) - r) / h == pytest.approx(math.cos(xi - beta), abs=1e-4)
    rate = -math.sin(xi - beta) / r - math.sin(beta) / l_r
    assert math.remainder(float(turned) - xi, 2.0 * math.pi) / h == pytest.approx(rate, abs=1e-4)


def test_head_on_is_xi_of_pi() -> None:
    r, xi = to_polar(0.0, 0.0, 0.0, 10.0, 0.0)
    assert float(r) == 10.0
    assert abs(float(xi)) == pytest.approx(math.pi)


def _vehicle(a_max: float | None, error: float = 0.0) -> Vehicle:
    return Vehicle(1.6, 0.8, 12.0, a_max_mps2=a_max, bounds=Bounds(speed_mps=error))


@given(st.floats(0.0, 12.0), st.floats(0.1, 12.0), st.floats(0.0, 20.0))
def test_reach_is_what_full_throttle_drives(speed: float, a_max: float, time: float) -> None:
    reach = Reach.of(_vehicle(a_max), speed)
    h = time / 4000
    ends = np.minimum(12.0, speed + a_max * h * np.arange(4001))
    assert reach.distance_m(time) == pytest.approx(float(h * (ends[1:] + ends[:-1]).sum() / 2.0), abs=1e-3)
    assert reach.speed_after_s(time) == pytest.approx(ends[-1])
    assert reach.speed_after_m(reach.distance_m(time)) == pytest.approx(ends[-1], abs=1e-6)


@given(st.floats(0.0, 15.0), st.one_of(st.none(), st.floats(0.1, 12.0)), st.floats(0.0, 200.0))
def test_time_and_distance_are_inverse(speed: float, a_max: float | None, distance: float) -> None:
    reach = Reach.of(_vehicle(a_max), speed)
    assert reach.distance_m(reach.time_s(distance)) == pytest.approx(distance, abs=1e-9)


def test_a_measured_speed_sharpens_the_time_and_its_error_blunts_it() -> None:
    unknown = Reach.of(_vehicle(4.0), None).time_s(20.0)
    measured = Reach.of(_vehicle(4.0), 3.0).time_s(20.0)
    uncertain = Reach.of(_vehicle(4.0, error=0.5), 3.0).time_s(20.0)
    assert unknown < uncertain < measured
    assert unknown == 20.0 / 12.0


def test_without_an_acceleration_bound_a_measured_speed_says_nothing() -> None:
    assert Reach.of(_vehicle(None), 1.0) == Reach.of(_vehicle(None), None)
