"""The kinematic bicycle follows exact arcs, its speed limits and its declared delays."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.bicycle import Bicycle
from shield.vehicle import Bounds, Vehicle

CAR = Vehicle(l_r_m=1.6, beta_max_rad=0.8, v_max_mps=12.0, a_max_mps2=4.0, deceleration_mps2=6.0)


@given(st.floats(-0.8, 0.8), st.floats(0.5, 12.0))
def test_one_step_is_as_good_as_many(beta_rad: float, speed_mps: float) -> None:
    once = Bicycle(CAR, 1.0, 2.0, 0.3, speed_mps=speed_mps)
    often = Bicycle(CAR, 1.0, 2.0, 0.3, speed_mps=speed_mps)
    once.step(beta_rad, speed_mps, False, 0.5)
    for _ in range(50):
        often.step(beta_rad, speed_mps, False, 0.01)
    assert (once.x_m, once.y_m) == pytest.approx((often.x_m, often.y_m), abs=1e-9)
    assert once.heading_rad == pytest.approx(often.heading_rad, abs=1e-9)


def test_it_sets_out_along_heading_and_slip_angle() -> None:
    car = Bicycle(CAR, 0.0, 0.0, 0.5, speed_mps=5.0)
    car.step(0.3, 5.0, False, 1e-4)
    assert math.atan2(car.y_m, car.x_m) == pytest.approx(0.8, abs=1e-4)
    assert car.heading_rad > 0.5


def test_a_held_slip_angle_closes_the_circle_of_radius_l_r_over_sine() -> None:
    car = Bicycle(CAR, 0.0, 0.0, 0.0, speed_mps=5.0)
    radius = CAR.l_r_m / math.sin(0.4)
    steps = 1000
    for _ in range(steps):
        car.step(0.4, 5.0, False, 2.0 * math.pi * radius / 5.0 / steps)
    assert (car.x_m, car.y_m, car.heading_rad) == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)


def test_speed_rises_and_falls_at_the_declared_rates_and_the_way_is_its_integral() -> None:
    car = Bicycle(CAR, 0.0, 0.0, 0.0)
    way_m = sum(car.step(0.0, 11.0, False, 0.01) for _ in range(200))
    assert car.speed_mps == pytest.approx(8.0)
    assert way_m == pytest.approx(0.5 * 4.0 * 2.0**2)
    way_m = sum(car.step(0.0, 11.0, True, 0.01) for _ in range(200))
    assert car.speed_mps == 0.0
    assert way_m == pytest.approx(8.0**2 / (2.0 * 6.0))


def test_limits_hold_whatever_is_asked_for() -> None:
    car = Bicycle(CAR, 0.0, 0.0, 0.0)
    for _ in range(1000):
        car.step(3.0, 99.0, False, 0.01)
    assert (car.beta_rad, car.speed_mps) == (0.8, 12.0)
    for _ in range(300):
        car.step(-3.0, -5.0, False, 0.01)
    assert (car.beta_rad, car.speed_mps) == (-0.8, 0.0)


def test_a_declared_slip_rate_and_brake_build_up_are_kept() -> None:
    slow = replace(CAR, bounds=Bounds(slip_rate_radps=0.5, brake_build_s=0.2))
    car = Bicycle(slow, 0.0, 0.0, 0.0, speed_mps=10.0)
    car.step(0.8, 10.0, False, 0.1)
    assert car.beta_rad == pytest.approx(0.05)
    for _ in range(20):
        car.step(0.0, 0.0, True, 0.01)
    assert car.speed_mps == pytest.approx(10.0 - 6.0 * 0.2 / 2.0)
    car.step(0.0, 0.0, True, 0.1)
    assert car.speed_mps == pytest.approx(10.0 - 6.0 * 0.2 / 2.0 - 0.6)
