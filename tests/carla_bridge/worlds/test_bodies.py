"""Gaps between bodies against an independent geometry library, and discs that cover what they stand for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.worlds.bodies import FINE_M, Box, Drum, discs_of, gap_m, greatest_way_m, least_gap_m

SIDES = st.floats(0.3, 12.0)
BOXES = st.builds(Box, st.floats(-15, 15), st.floats(-15, 15), st.floats(-7, 7), SIDES, SIDES)


@given(BOXES, BOXES)
def test_the_gap_of_two_boxes_is_that_of_shapely(first: Box, second: Box) -> None:
    shapely = pytest.importorskip("shapely")
    expected = shapely.Polygon(first.corners()).distance(shapely.Polygon(second.corners()))
    assert gap_m(first, second) == pytest.approx(expected, abs=1e-9)
    assert gap_m(second, first) == pytest.approx(expected, abs=1e-9)
    assert least_gap_m(first, second) <= expected + 1e-9


@given(BOXES, st.builds(Drum, st.floats(-15, 15), st.floats(-15, 15), st.floats(0.1, 4)))
def test_the_gap_to_a_drum_is_that_of_its_centre_less_its_radius(box: Box, drum: Drum) -> None:
    shapely = pytest.importorskip("shapely")
    to_centre = shapely.Polygon(box.corners()).distance(shapely.Point(drum.x_m, drum.y_m))
    assert gap_m(box, drum) == pytest.approx(max(0.0, to_centre - drum.radius_m), abs=1e-9)


@given(BOXES, st.floats(-60, 60), st.floats(-60, 60))
def test_every_point_of_a_box_lies_in_one_of_its_discs(box: Box, x_m: float, y_m: float) -> None:
    discs = discs_of(box, 3.0, (x_m, y_m))
    shares = np.linspace(-0.5, 0.5, 9)
    cos, sin = math.cos(box.heading_rad), math.sin(box.heading_rad)
    for along in shares * box.length_m:
        for aside in shares * box.width_m:
            px, py = box.x_m + along * cos - aside * sin, box.y_m + along * sin + aside * cos
            assert any(math.hypot(disc.x_m - px, disc.y_m - py) <= disc.radius_m + 1e-9 for disc in discs)
    assert all(disc.speed_max_mps == 3.0 for disc in discs)


def test_a_near_car_is_told_finer_than_a_far_one() -> None:
    car = Box(0.0, 0.0, 0.0, 4.5, 1.8)
    near, far = discs_of(car, 0.0, (10.0, 0.0)), discs_of(car, 0.0, (FINE_M + 1.0, 0.0))
    assert len(far) == 1
    assert max(disc.radius_m for disc in near) < 1.1 < far[0].radius_m


def test_a_turning_body_moves_its_ends_farther_than_its_middle() -> None:
    before, after = Box(0.0, 0.0, 3.1, 4.0, 2.0), Box(1.0, 0.0, -3.1, 4.0, 2.0)
    assert greatest_way_m(before, after) == pytest.approx(1.0 + 2.0 * (2.0 * math.pi - 6.2))
    assert greatest_way_m(Drum(0.0, 0.0, 1.0), Drum(0.0, 2.0, 1.0)) == 2.0
