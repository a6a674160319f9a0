"""Discs from the ranges of a turn of rays, against circles that the rays were shot at."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.route import Floats
from carla_bridge.worlds.rays import discs_from

ANGLES: Floats = np.asarray(np.arange(720) * (2.0 * math.pi / 720), dtype=np.float64)
Circle = tuple[float, float, float]


def ranges_to(circles: list[Circle]) -> Floats:
    """Shoot every ray at every circle."""
    best = np.full(ANGLES.size, np.inf)
    for x_m, y_m, radius_m in circles:
        along = x_m * np.cos(ANGLES) + y_m * np.sin(ANGLES)
        left = radius_m**2 - (x_m**2 + y_m**2 - along**2)
        hit = (left >= 0.0) & (along > 0.0)
        best[hit] = np.minimum(best[hit], along[hit] - np.sqrt(left[hit]))
    return best


@given(st.floats(4.0, 60.0), st.floats(-math.pi, math.pi), st.floats(0.8, 1.5))
def test_a_round_obstacle_is_found_where_it_is(range_m: float, bearing: float, radius_m: float) -> None:
    x_m, y_m = range_m * math.cos(bearing), range_m * math.sin(bearing)
    (seen,) = discs_from(ANGLES, ranges_to([(x_m, y_m, radius_m)]), 0.8, 1.5)
    off_m = math.hypot(seen.x_m - x_m, seen.y_m - y_m) + radius_m - seen.radius_m
    assert off_m < 1e-3
    assert seen.radius_m < radius_m + (1e-3 if seen.sure else 4.0)


def test_obstacles_apart_are_two_and_one_across_the_first_ray_is_one() -> None:
    circles = [(20.0, 0.0, 1.2), (0.0, 12.0, 1.2)]
    seen = sorted(discs_from(ANGLES, ranges_to(circles), 1.2, 1.2), key=lambda disc: disc.y_m)
    assert [(round(disc.x_m, 6), round(disc.y_m, 6)) for disc in seen] == [(20.0, 0.0), (0.0, 12.0)]


def test_two_close_together_are_held_by_one_disc() -> None:
    circles = [(15.0, -0.9, 1.2), (15.0, 0.9, 1.2)]
    (seen,) = discs_from(ANGLES, ranges_to(circles), 1.2, 1.2)
    for x_m, y_m, radius_m in circles:
        assert math.hypot(seen.x_m - x_m, seen.y_m - y_m) + radius_m <= seen.radius_m


def test_where_one_hides_behind_another_only_the_near_one_is_seen() -> None:
    (seen,) = discs_from(ANGLES, ranges_to([(10.0, 0.0, 1.2), (30.0, 0.0, 1.2)]), 1.2, 1.2)
    assert seen.x_m == pytest.approx(10.0)


def test_an_empty_turn_shows_nothing() -> None:
    assert discs_from(ANGLES, np.full(ANGLES.size, np.inf), 1.0, 1.0) == []


def test_a_single_hit_is_told_as_wide_as_any_obstacle_with_it_on_its_face() -> None:
    ranges = np.full(ANGLES.size, np.inf)
    ranges[180] = 20.0
    (seen,) = discs_from(ANGLES, ranges, 0.9, 1.5)
    assert (seen.sure, seen.radius_m) == (False, 3.0)
    assert seen.x_m == pytest.approx(0.0, abs=1e-9)
    assert seen.y_m == pytest.approx(20.0)
