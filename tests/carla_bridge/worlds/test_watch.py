"""A vehicle inside its declared bounds breaks none, and each bound that is broken is named."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.bicycle import Bicycle
from carla_bridge.worlds.watch import Motion, Watch
from shield.guard import Control
from shield.state import State
from shield.vehicle import Bounds, Vehicle

BOUNDS = Bounds(
    position_m=0.1,
    actuation_delay_s=0.02,
    brake_build_s=0.2,
    slip_rate_radps=0.5,
    lateral_accel_mps2=60.0,
    speed_mps=0.1,
)
CAR = Vehicle(1.5, 0.4, 12.0, 2.5, a_max_mps2=3.0, deceleration_mps2=5.0, bounds=BOUNDS)
DT_S = 0.02


def motion_of(body: Bicycle) -> Motion:
    turn = body.speed_mps * math.sin(body.beta_rad) / body.vehicle.l_r_m
    return Motion(body.x_m, body.y_m, body.heading_rad, body.speed_mps, body.beta_rad, turn)


def drive(true: Vehicle, declared: Vehicle, controls: list[Control], ticks: int = 60) -> dict[str, float]:
    body, watch = Bicycle(true, 0.0, 0.0, 0.0), Watch(declared)
    for index in range(len(controls) * ticks):
        control = controls[index // ticks]
        body.step(control.beta_rad, control.speed_mps, control.brake, DT_S)
        watch.moved((index + 1) * DT_S, DT_S, motion_of(body), control)
    return watch.broken


CONTROLS = st.lists(st.builds(Control, st.floats(-0.4, 0.4), st.floats(0, 12), st.booleans()), min_size=1, max_size=6)


@given(CONTROLS)
def test_a_vehicle_that_is_what_it_declares_breaks_nothing(controls: list[Control]) -> None:
    assert drive(CAR, CAR, controls) == {}


@pytest.mark.parametrize(
    ("name", "true"),
    [
        ("speed", replace(CAR, v_max_mps=14.0)),
        ("acceleration", replace(CAR, a_max_mps2=3.3)),
        ("deceleration", replace(CAR, deceleration_mps2=4.0)),
        ("braking", replace(CAR, deceleration_mps2=4.0)),
        ("steering", replace(CAR, bounds=replace(BOUNDS, slip_rate_radps=0.3))),
        ("steering", replace(CAR, l_r_m=1.6)),
    ],
)
def test_a_vehicle_that_is_worse_than_it_declares_is_told(name: str, true: Vehicle) -> None:
    controls = [Control(0.0, 14.0), Control(0.0, 14.0), Control(0.0, 14.0), Control(0.0, 14.0), Control(0.3, 14.0)]
    broken = drive(true, CAR, [*controls, Control(0.0, 0.0, True), Control(0.0, 0.0, True), Control(0.0, 0.0, True)])
    assert name in broken


def test_grip_obstacles_and_sensors_are_compared_too() -> None:
    watch = Watch(replace(CAR, bounds=replace(BOUNDS, lateral_accel_mps2=2.0)))
    here = Motion(0.0, 0.0, 0.0, 5.0, 0.0, 0.5)
    watch.moved(DT_S, DT_S, here, Control(0.0, 5.0))
    watch.obstacle(0.1, DT_S, 4.9)
    watch.obstacle(0.1, DT_S, 5.1)
    watch.told(State(0.0, 0.0, 0.01, 0.0, 4.8), here, [0.05, 0.25])
    watch.appeared(20.0)
    assert watch.broken["lateral"] == pytest.approx(0.5)
    assert watch.broken["obstacle_speed"] == pytest.approx(0.1)
    assert watch.broken["heading"] == pytest.approx(0.01)
    assert watch.broken["speed_sensor"] == pytest.approx(0.1)
    assert watch.broken["position"] == pytest.approx(0.15)
    assert watch.broken["listed"] == 20.0


def test_what_appears_beyond_the_declared_range_was_never_promised_to_be_listed() -> None:
    watch = Watch(replace(CAR, bounds=replace(BOUNDS, sensing_range_m=15.0)))
    watch.appeared(20.0)
    assert watch.broken == {}
