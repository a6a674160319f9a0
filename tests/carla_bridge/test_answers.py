"""The true answers of a frame."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.answers import AHEAD_M, SIGHT_M, true_answers
from carla_bridge.camera import CameraMount
from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Route, Section

MOUNT = CameraMount()
STRAIGHT = Route.from_sections([Section(200.0, 0.0)], x_m=-50.0)


@given(st.floats(-9.0, 9.0), st.floats(-0.5, 0.5), st.floats(5.0, 35.0), st.floats(-0.6, 0.6))
def test_on_a_straight_road_they_are_plain_geometry(
    offset_m: float, error_rad: float, range_m: float, bearing_rad: float
) -> None:
    angle = error_rad + bearing_rad
    drum = Obstacle(range_m * math.cos(angle), offset_m + range_m * math.sin(angle))
    answers = true_answers(STRAIGHT, (0.0, offset_m, error_rad), [drum], MOUNT)
    assert answers == pytest.approx([offset_m, error_rad, 0.0, 1.0, bearing_rad, range_m], abs=1e-6)


def test_the_nearest_in_view_counts_and_none_behind_or_out_of_sight() -> None:
    beside, behind, beyond = Obstacle(1.0, 5.0), Obstacle(-8.0, 0.0), Obstacle(SIGHT_M + 1.0, 0.0)
    near, far = Obstacle(12.0, 2.0), Obstacle(25.0, 0.0)
    pose = (0.0, 0.0, 0.0)
    assert true_answers(STRAIGHT, pose, [far, near, beside, behind], MOUNT)[5] == pytest.approx(math.hypot(12.0, 2.0))
    assert true_answers(STRAIGHT, pose, [beside, behind, beyond], MOUNT)[3:] == pytest.approx([0.0, 0.0, SIGHT_M])


def test_curvature_is_the_mean_over_the_way_ahead() -> None:
    route = Route.from_sections([Section(50.0, 0.0), Section(1e-3, 0.02), Section(100.0, 0.02)])
    halfway = true_answers(route, (*route.at(50.0 - 0.5 * AHEAD_M), route.heading_at(40.0)), [], MOUNT)
    assert halfway[2] == pytest.approx(0.01, abs=5e-4)
