"""Moving obstacles: never faster than their top speed, and each kind does what it is named for."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Route, Section
from carla_bridge.scene.kinds import KINDS, read_placed
from carla_bridge.scene.traffic import Course, Leg, Mover

STRAIGHT = Route.from_sections([Section(200.0, 0.0)])
DT_S = 0.01


def course(kind: str, **numbers: float) -> Course:
    return read_placed({"kind": kind, **numbers}, "here").draw(np.random.default_rng(1))[0]


def way_of(mover: Mover, ego_s_m: float, time_s: float) -> list[Obstacle]:
    return [mover.step(ego_s_m, DT_S) for _ in range(round(time_s / DT_S))]


@settings(max_examples=12)
@given(
    bend=st.floats(-0.08, 0.08),
    offset=st.floats(-8.0, 8.0),
    legs=st.lists(
        st.builds(
            Leg,
            speed_mps=st.floats(-12.0, 12.0),
            accel_mps2=st.floats(0.5, 9.0),
            offset_m=st.floats(-8.0, 8.0),
            lateral_mps=st.floats(0.0, 4.0),
            after_s=st.floats(0.0, 1.0),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_nothing_is_ever_faster_than_its_top_speed(bend: float, offset: float, legs: list[Leg]) -> None:
    road = Route.from_sections([Section(5.0, 0.0), Section(5.0, bend), Section(40.0, bend), Section(10.0, -bend)])
    drawn = Course(Obstacle(0.0, 0.0), 20.0, offset, tuple(legs))
    mover = Mover(drawn, road)
    before = mover.obstacle
    for now in way_of(mover, 0.0, 2.0):
        way = math.hypot(now.x_m - before.x_m, now.y_m - before.y_m)
        assert way <= drawn.top_mps * DT_S + 1e-9
        assert now.speed_mps == pytest.approx(way / DT_S, abs=1e-6)
        assert now.speed_max_mps == drawn.top_mps
        before = now


def test_a_braking_lead_drives_rests_and_goes_on() -> None:
    numbers = {"s_m": 30.0, "speed_mps": 6.0, "after_s": 2.0, "braking_mps2": 6.0, "rest_s": 4.0}
    speeds = [item.speed_mps for item in way_of(Mover(course("braking_lead", **numbers), STRAIGHT), 0.0, 10.0)]
    assert speeds[100] == pytest.approx(6.0)
    assert speeds[350] == pytest.approx(0.0)
    assert speeds[990] == pytest.approx(6.0)


def test_a_car_moves_in_when_the_vehicle_has_come_near_and_not_before() -> None:
    numbers = {"s_m": 40.0, "offset_m": 4.0, "speed_mps": 5.0, "lateral_mps": 2.0, "gap_m": 15.0}
    mover = Mover(course("cut_in", **numbers), STRAIGHT)
    assert way_of(mover, 0.0, 1.0)[-1].y_m == pytest.approx(4.0)
    assert way_of(mover, 35.0, 3.0)[-1].y_m == pytest.approx(0.0)


def test_a_faster_car_moves_in_once_it_is_far_enough_ahead() -> None:
    numbers = {"s_m": 0.0, "offset_m": 5.0, "speed_mps": 10.0, "gap_m": 10.0}
    mover = Mover(course("overtaking", **numbers), STRAIGHT)
    assert way_of(mover, 20.0, 2.9)[-1].y_m == pytest.approx(5.0)
    assert way_of(mover, 20.0, 5.0)[-1].y_m == pytest.approx(0.0)


def test_a_pedestrian_waits_and_walks_across() -> None:
    numbers = {"s_m": 50.0, "offset_m": -6.0, "to_m": 6.0, "speed_mps": 2.0, "gap_m": 20.0}
    mover = Mover(course("crossing", **numbers), STRAIGHT)
    assert way_of(mover, 0.0, 1.0)[-1].y_m == pytest.approx(-6.0)
    there = way_of(mover, 31.0, 7.0)
    assert max(item.speed_mps for item in there) == pytest.approx(2.0)
    assert there[-1].y_m == pytest.approx(6.0)


def test_an_oncoming_car_comes_towards_the_start() -> None:
    numbers = {"s_m": 100.0, "offset_m": 5.0, "speed_mps": 8.0, "gap_m": 0.0}
    assert way_of(Mover(course("oncoming", **numbers), STRAIGHT), 0.0, 2.0)[-1].x_m == pytest.approx(84.0)


def test_a_gap_is_as_wide_as_written_and_a_row_as_long() -> None:
    left, right = read_placed({"kind": "narrow_gap", "s_m": 9.0, "width_m": 6.0}, "here").draw(np.random.default_rng(2))
    assert left.offset_m - right.offset_m - left.shape.radius_m - right.shape.radius_m == pytest.approx(6.0)
    row = read_placed({"kind": "parked_row", "s_m": 9.0, "spacing_m": 7.0, "count": 3}, "here")
    assert [item.s_m for item in row.draw(np.random.default_rng(2))] == [9.0, 16.0, 23.0]


def test_a_seed_draws_inside_the_range_and_the_same_again() -> None:
    placed = read_placed({"kind": "standing", "s_m": [30.0, 50.0], "offset_m": [-1.0, 1.0]}, "here")
    drawn = [placed.draw(np.random.default_rng(seed))[0].s_m for seed in range(50)]
    assert all(30.0 <= s_m <= 50.0 for s_m in drawn)
    assert max(drawn) - min(drawn) > 10.0
    assert drawn == [placed.draw(np.random.default_rng(seed))[0].s_m for seed in range(50)]


def test_a_declared_top_speed_is_what_the_vehicle_is_told() -> None:
    told = {"s_m": 50.0, "to_m": 5.0, "speed_mps": 3.0, "gap_m": 99.0, "declared_top_speed_mps": 1.0}
    moving = way_of(Mover(course("crossing", **told), STRAIGHT), 0.0, 1.0)[-1]
    assert moving.speed_max_mps == 1.0
    assert moving.speed_mps == pytest.approx(3.0)


def test_every_kind_says_what_its_numbers_are() -> None:
    for kind in KINDS.values():
        assert kind.about
        assert all(key.about.endswith("]") for key in kind.keys.values())
