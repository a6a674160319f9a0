"""Routes: built from waypoints and sections; points, headings and places agree."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.route import Route, Section

sections = st.lists(
    st.builds(Section, st.floats(5.0, 40.0), st.floats(-0.03, 0.03)),
    min_size=1,
    max_size=5,
)


@given(sections, st.floats(0.0, 1.0), st.floats(-9.0, 9.0), st.floats(-3.0, 3.0))
def test_locating_a_point_beside_the_road_gives_back_its_place(
    pieces: list[Section], share: float, offset_m: float, heading_rad: float
) -> None:
    route = Route.from_sections(pieces, 100.0, -50.0, heading_rad)
    s_m = share * route.length_m
    place = route.locate(*route.at(s_m, offset_m), near_s_m=s_m)
    # Curvature changes along the way, by at most .06 within a section: an arc fits to a few centimetres.
    assert place.s_m == pytest.approx(s_m, abs=0.12)
    assert place.offset_m == pytest.approx(offset_m, abs=0.02)


@given(sections)
def test_the_road_is_as_long_as_its_points_say_and_turns_by_the_integral_of_its_curvature(
    pieces: list[Section],
) -> None:
    route = Route.from_sections(pieces)
    steps = np.hypot(*np.diff(route.points_m, axis=0).T)
    assert steps.sum() == pytest.approx(route.length_m, rel=1e-4)
    start, turned = 0.0, 0.0
    for piece in pieces:
        turned += 0.5 * (start + piece.curvature_1pm) * piece.length_m
        start = piece.curvature_1pm
    assert route.heading_rad[-1] == pytest.approx(turned, abs=1e-9)


def test_a_half_circle_ends_where_geometry_says() -> None:
    radius = 50.0
    route = Route.from_sections([Section(1e-3, 1.0 / radius), Section(math.pi * radius, 1.0 / radius)])
    assert route.at(route.length_m) == pytest.approx((0.0, 2.0 * radius), abs=0.02)
    assert route.locate(0.0, radius).offset_m == pytest.approx(radius, abs=0.02)
    assert route.curvature_at(80.0) == pytest.approx(0.02, abs=1e-6)
    assert route.mean_curvature(10.0, 20.0) == pytest.approx(0.02, abs=1e-6)


def test_left_of_the_road_is_positive() -> None:
    route = Route.from_waypoints(np.array([[0.0, 0.0], [10.0, 0.0]]))
    assert route.locate(4.0, 1.5).offset_m == pytest.approx(1.5)
    assert route.at(4.0, 1.5) == pytest.approx((4.0, 1.5))


def test_a_road_goes_on_straight_past_its_ends() -> None:
    route = Route.from_waypoints(np.array([[0.0, 0.0], [0.0, 10.0]]))
    points, tangents = route.frames_at(np.array([-5.0, 15.0]))
    assert points == pytest.approx(np.array([[0.0, -5.0], [0.0, 15.0]]))
    assert tangents == pytest.approx(np.array([[0.0, 1.0], [0.0, 1.0]]))


def test_a_place_is_looked_for_near_where_the_vehicle_was() -> None:
    loop = Route.from_sections([Section(1e-3, 0.05), Section(2.1 * math.pi / 0.05, 0.05)])
    x_m, y_m = loop.at(3.0)
    assert loop.locate(x_m, y_m, near_s_m=4.0).s_m == pytest.approx(3.0, abs=0.1)
    assert loop.locate(x_m, y_m, near_s_m=124.0).s_m == pytest.approx(3.0 + 2.0 * math.pi / 0.05, abs=0.3)


@pytest.mark.parametrize("waypoints", [[[0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
def test_waypoints_that_make_no_road_are_refused(waypoints: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="two waypoints"):
        Route.from_waypoints(np.array(waypoints))


def test_a_road_of_no_sections_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one section"):
        Route.from_sections([])


def test_samples_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="must increase"):
        Route(np.zeros((2, 2)), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="n >= 2"):
        Route(np.zeros((3, 2)), np.zeros(2), np.arange(2.0))
