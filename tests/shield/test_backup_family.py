"""What the manoeuvres of a family steer and sweep, against integration of the motion they stand for."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.arc import Reach
from shield.backup.family import Family, FamilyOf, Kind
from shield.deadline import Method, tolerable_deadline
from shield.manoeuvre import Manoeuvre, braking_slip_rad, grip_slip_rad
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle
from tests.shield.dense import drive

CAR = Vehicle(1.6, 0.8, 12.0, radius_m=0.5, a_max_mps2=4.0, deceleration_mps2=6.0)


def bounded(vehicle: Vehicle, **bounds: float) -> Vehicle:
    return replace(vehicle, bounds=Bounds(**bounds))


@pytest.mark.parametrize(("steering", "bias"), [(0.0, 0.0), (0.02, 0.0), (0.0, 0.03), (0.02, 0.03)])
def test_the_slip_angle_really_driven_stays_within_the_grip(steering: float, bias: float) -> None:
    car = bounded(CAR, lateral_accel_mps2=40.0, steering_rad=steering, steering_bias_rad=bias)
    worst = grip_slip_rad(car) + steering + bias
    assert 12.0**2 * math.sin(worst) / 1.6 == pytest.approx(40.0)
    worst = braking_slip_rad(car) + steering + bias
    assert math.hypot(6.0, 12.0**2 * math.sin(worst) / 1.6) == pytest.approx(40.0)


@pytest.mark.parametrize("grip", [70.0, 89.0, 91.0, 200.0])
def test_grip_to_spare_is_full_lock(grip: float) -> None:
    """At 12 m/s no slip angle takes more than 90 m/s^2; full lock takes 64.6."""
    assert grip_slip_rad(bounded(CAR, lateral_accel_mps2=grip)) == CAR.beta_max_rad


def test_an_error_beyond_what_the_grip_allows_leaves_no_arc() -> None:
    assert grip_slip_rad(bounded(CAR, lateral_accel_mps2=4.0, steering_rad=0.2)) == 0.0


@given(st.floats(-1.3, 1.3), st.floats(0.05, 1.3), st.floats(0.1, 5.0))
def test_a_ramp_is_no_further_from_an_instant_change_than_said(held: float, slip: float, scale: float) -> None:
    """In units of the ramp's time, turn' = scale sin(b); the ramp goes from the slip angle held to the one steered."""
    wrong_way, ahead, behind = FamilyOf._ramp_turns(held, slip, scale)
    b = np.linspace(held, slip, 2001)
    step = scale * abs(slip - held) / 2000.0
    turned = np.concatenate(([0.0], np.cumsum(step * np.sin(0.5 * (b[1:] + b[:-1])))))
    instant = step * math.sin(slip) * np.arange(2001)
    assert wrong_way == pytest.approx(-turned.min(), abs=1e-6)
    assert ahead == pytest.approx((turned - instant).max(), abs=1e-6)
    assert behind >= (instant - turned).max() - 1e-6
    if held <= slip:
        assert behind == pytest.approx((instant - turned).max(), abs=1e-6)


COASTING = replace(CAR, deceleration_mps2=None)


def family_of(car: Vehicle, driven: float, beta: float = 0.0) -> Family:
    return FamilyOf(car, beta, Reach.of(car, None)).after(driven)


@pytest.mark.parametrize(
    "bounds", [{"steering_bias_rad": 0.001}, {"sensing_range_m": 90.0}, {"field_of_view_rad": 6.0}]
)
def test_where_a_straight_can_go_anywhere_only_circles_are_left(bounds: dict[str, float]) -> None:
    family = family_of(bounded(COASTING, **bounds), 5.0)
    assert [sweep.kind for sweep in family.sweeps] == [Kind.CIRCLE, Kind.CIRCLE]
    assert family.turns == ()
    assert {sweep.kind for sweep in family_of(COASTING, 5.0).sweeps} == {Kind.CIRCLE, Kind.LINE}


def steered(driven: float, slip: float, bias: float, way: float) -> float:
    return (0.0 if way < driven else slip) + bias


@pytest.mark.parametrize(("driven", "share"), [(5.0, 0.25), (40.0, 0.7)])
@pytest.mark.parametrize("bias", [0.001, -0.001])
def test_a_bias_on_the_way_to_a_circle_is_in_its_pad(driven: float, share: float, bias: float) -> None:
    """After a straight of `driven` metres, steered wrong all the way, the circle strays from the nominal one."""
    sweeps = {sweep.manoeuvre: sweep for sweep in family_of(bounded(COASTING, steering_bias_rad=0.001), driven).sweeps}
    for manoeuvre, side in ((Manoeuvre.LEFT, 1.0), (Manoeuvre.RIGHT, -1.0)):
        sweep = sweeps[manoeuvre]
        length = driven + 2.2 * math.pi * sweep.rho_m
        x, y, _ = drive(1.6, partial(steered, driven, 0.8 * side, bias), length, 0.02)
        after = int(len(x) * driven / length) + 2
        away = np.hypot(x[after:] - (driven - 1.6), y[after:] - sweep.centre_y_m)
        strays = float(np.abs(away - sweep.rho_m).max())
        assert share * sweep.pad_m < strays <= sweep.pad_m + 1e-3


def test_a_bias_that_no_lock_can_hold_against_is_named() -> None:
    car = bounded(COASTING, steering_bias_rad=0.9)
    answer = tolerable_deadline(Method.BACKUP, car, State(0.0, 0.0, 0.0), [Disc(60.0, 0.0, 1.0)])
    assert (answer.deadline_s, answer.limited_by) == (0.0, "bound:steering_bias_rad")


@pytest.mark.parametrize("driven", [0.5, 10.0])
@pytest.mark.parametrize(("new", "in_flight"), [(0.0, 0.5), (0.3, -0.2), (-0.4, 0.1)])
def test_commands_in_flight_are_in_the_pad_of_the_held_arc(driven: float, new: float, in_flight: float) -> None:
    car = bounded(COASTING, actuation_delay_s=0.02)
    family = FamilyOf(car, new, Reach.of(car, None), in_flight).after(driven)
    length = driven + family.delay_m
    x, y, _ = drive(1.6, lambda way: in_flight if way < 0.24 else new, length, 0.01)
    nominal_x, nominal_y, _ = drive(1.6, lambda _: new, length, 0.01)
    strays = float(np.hypot(x - nominal_x, y - nominal_y).max())
    assert 0.4 * family.held_pad_m < strays <= family.held_pad_m + 0.01
