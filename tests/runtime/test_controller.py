"""The controller on perfect answers: geometry, lane keeping, passing obstacles, memory, odometry between answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.serve.controller import Controller, ControllerSettings, solve_slip
from runtime.serve.road import RoadArc, RoadFilter, arc_beside
from runtime.serve.tracks import ObstacleMemory
from shield.state import State, wrap_angle

L_R_M, BETA_MAX_RAD = 1.6, 0.889
SETTINGS = ControllerSettings(L_R_M, BETA_MAX_RAD)
arcs = st.builds(RoadArc, st.floats(-50.0, 50.0), st.floats(-50.0, 50.0), st.floats(-3.0, 3.0), st.floats(-0.04, 0.04))


class Bicycle:
    """A bicycle on exact arcs and its answers about a road that is one arc, with obstacles at (s, d)."""

    def __init__(self, road: RoadArc, offset_m: float, error_rad: float, obstacles: list[tuple[float, float]]) -> None:
        self.road, self.obstacles = road, [road.at(*place) for place in obstacles]
        x_m, y_m = road.at(0.0, offset_m)
        self.pose = State(x_m, y_m, wrap_angle(road.heading_rad + error_rad))
        self.least_m = math.inf

    def answer(self) -> list[float]:
        s_m, d_m = self.road.locate(self.pose.x_m, self.pose.y_m)
        error = wrap_angle(self.pose.heading_rad - self.road.heading_at(s_m))
        seen = []
        for x_m, y_m in self.obstacles:
            dx, dy = x_m - self.pose.x_m, y_m - self.pose.y_m
            bearing = wrap_angle(math.atan2(dy, dx) - self.pose.heading_rad)
            if abs(bearing) < 0.75 and math.hypot(dx, dy) < 40.0:
                seen.append((math.hypot(dx, dy), bearing))
        range_m, bearing = min(seen, default=(40.0, 0.0))
        return [d_m, error, self.road.curvature_1pm, 1.0 if seen else 0.0, bearing, range_m]

    def move(self, beta_rad: float, way_m: float) -> None:
        curvature = math.sin(beta_rad) / L_R_M
        x_m, y_m = RoadArc(self.pose.x_m, self.pose.y_m, self.pose.heading_rad + beta_rad, curvature).at(way_m)
        self.pose = State(x_m, y_m, wrap_angle(self.pose.heading_rad + curvature * way_m))
        for at in self.obstacles:
            self.least_m = min(self.least_m, math.dist(at, (x_m, y_m)))


def drive(car: Bicycle, way_m: float, every: int = 1, settings: ControllerSettings = SETTINGS) -> list[float]:
    """Drive at 11 m/s, an answer every `every` windows and as old, and return the offsets at each window."""
    controller, offsets = Controller(settings), []
    waiting: tuple[list[float], State, float] | None = None
    for window in range(int(way_m / 0.22)):
        now_s = 0.02 * window
        if window % every == 0:
            if waiting is not None:
                controller.update_answer(*waiting)
            waiting = (car.answer(), car.pose, now_s)
        beta_rad, _ = controller.propose(car.pose, 11.0, now_s)
        car.move(beta_rad, 0.22)
        offsets.append(car.road.locate(car.pose.x_m, car.pose.y_m)[1])
    return offsets


@given(arcs, st.floats(0.0, 60.0), st.floats(-9.0, 9.0))
def test_places_beside_an_arc_are_found_again(arc: RoadArc, s_m: float, d_m: float) -> None:
    found_s, found_d = arc.locate(*arc.at(s_m, d_m))
    assert found_s == pytest.approx(s_m, abs=1e-6)
    assert found_d == pytest.approx(d_m, abs=1e-6)


@given(arcs, st.floats(-9.0, 9.0), st.floats(-0.5, 0.5))
def test_the_arc_of_an_answer_lies_where_the_answer_says(arc: RoadArc, d_m: float, error_rad: float) -> None:
    x_m, y_m = arc.at(0.0, d_m)
    pose = State(x_m, y_m, arc.heading_rad + error_rad)
    again = arc_beside(pose, d_m, error_rad, arc.curvature_1pm)
    assert (again.x_m, again.y_m) == pytest.approx((arc.x_m, arc.y_m), abs=1e-9)
    assert again.heading_rad == pytest.approx(arc.heading_rad)


@given(st.floats(-0.5, 0.5), st.floats(1.0, 30.0))
def test_the_slip_angle_found_leads_through_the_point(angle_rad: float, distance_m: float) -> None:
    beta = solve_slip(angle_rad, distance_m, L_R_M, BETA_MAX_RAD)
    reach = beta + math.asin(max(-1.0, min(1.0, distance_m * math.sin(beta) / (2.0 * L_R_M))))
    assert reach == pytest.approx(angle_rad, abs=1e-6)


@given(st.floats(-math.pi, math.pi), st.floats(0.0, 60.0))
def test_the_slip_angle_never_exceeds_full_lock(angle_rad: float, distance_m: float) -> None:
    assert abs(solve_slip(angle_rad, distance_m, L_R_M, BETA_MAX_RAD)) <= BETA_MAX_RAD


@given(st.floats(-0.025, 0.025), st.floats(-5.0, 5.0), st.floats(-0.3, 0.3), st.sampled_from([1, 5, 10]))
def test_it_returns_to_the_centre_line_whatever_the_age_of_answers(
    curvature: float, offset_m: float, error_rad: float, every: int
) -> None:
    offsets = drive(Bicycle(RoadArc(3.0, -8.0, 1.1, curvature), offset_m, error_rad, []), 90.0, every)
    assert max(map(abs, offsets)) < 9.0
    assert max(map(abs, offsets[-50:])) < 0.35


@given(st.floats(-0.02, 0.02), st.floats(-2.0, 2.0), st.sampled_from([1, 5, 10]))
def test_obstacles_are_passed_at_the_distance_asked_for(curvature: float, aside_m: float, every: int) -> None:
    car = Bicycle(RoadArc(0.0, 0.0, 0.0, curvature), 0.0, 0.0, [(45.0, aside_m), (68.0, 0.0)])
    offsets = drive(car, 100.0, every)
    assert car.least_m > 4.1
    assert max(map(abs, offsets)) < 8.6


def test_obstacles_are_passed_on_the_shorter_side() -> None:
    for aside_m in (1.5, -1.5):
        offsets = drive(Bicycle(RoadArc(0.0, 0.0, 0.0, 0.0), 0.0, 0.0, [(45.0, aside_m)]), 60.0)
        assert max(offsets, key=abs) * aside_m < 0.0


def test_an_obstacle_far_from_the_lane_moves_nobody() -> None:
    offsets = drive(Bicycle(RoadArc(0.0, 0.0, 0.0, 0.0), 0.0, 0.0, [(40.0, 6.0)]), 60.0)
    assert max(map(abs, offsets)) < 0.05


def test_before_the_first_answer_it_stands_still() -> None:
    assert Controller(SETTINGS).propose(State(0.0, 0.0, 0.0), 5.0, 1.0) == (0.0, 0.0)


def test_speed_is_less_in_curves_and_falls_when_answers_stay_away() -> None:
    controller, pose = Controller(SETTINGS), State(0.0, 0.0, 0.0)
    controller.update_answer([0.0, 0.0, 0.0, 0.0, 0.0, 40.0], pose, 1.0)
    assert controller.propose(pose, 11.0, 1.1)[1] == pytest.approx(40.0 / 3.6)
    assert controller.propose(pose, 11.0, 1.0 + 1.5 * SETTINGS.blind_s)[1] == pytest.approx(20.0 / 3.6)
    assert controller.propose(pose, 11.0, 9.0)[1] == 0.0
    bend = Controller(SETTINGS)
    bend.update_answer([0.0, 0.0, 0.04, 0.0, 0.0, 40.0], pose, 1.0)
    assert bend.propose(pose, 11.0, 1.0)[1] == pytest.approx(math.sqrt(SETTINGS.lateral_accel_mps2 / 0.04))


@pytest.mark.parametrize("column", range(6))
def test_answers_that_are_no_numbers_or_come_too_late_are_no_use(column: int) -> None:
    controller, pose = Controller(SETTINGS), State(0.0, 0.0, 0.0)
    good = [0.5, 0.0, 0.0, 0.9, 0.0, 20.0]
    assert controller.update_answer(good, pose, 1.0)
    before = controller.road
    bad = list(good)
    bad[column] = math.nan
    assert not controller.update_answer(bad, pose, 1.2)
    assert not controller.update_answer([3.0, *good[1:]], pose, 0.9)
    assert controller.road == before
    assert controller.update_answer(good, pose, 1.1)
    with pytest.raises(ValueError, match="6 values, not 5"):
        controller.update_answer(good[:5], pose, 2.0)


def test_errors_of_answers_average_out() -> None:
    road = RoadFilter(settle_s=0.12, jump_m=2.5)
    pose = State(0.0, 0.0, 0.0)
    for step in range(200):
        road.correct(pose, 1.0 + (0.3 if step % 2 else -0.3), 0.0, 0.0, 0.02 * step)
    assert road.arc is not None
    assert road.arc.locate(0.0, 0.0)[1] == pytest.approx(1.0, abs=0.06)
    road.correct(pose, 8.0, 0.0, 0.0, 4.0)
    assert road.arc.locate(0.0, 0.0)[1] == pytest.approx(8.0)


def test_one_sighting_is_no_obstacle_and_what_answers_miss_is_forgotten() -> None:
    memory, pose = ObstacleMemory(), State(0.0, 0.0, 0.0)
    memory.take_in(pose, 0.9, 0.0, 20.0)
    assert [track.confirmed for track in memory.tracks] == [False]
    memory.take_in(pose, 0.9, 0.0, 20.4)
    assert [track.confirmed for track in memory.tracks] == [True]
    assert 20.0 < memory.tracks[0].x_m < 20.4
    for _ in range(10):
        memory.take_in(pose, 0.1, 0.0, 40.0)
    assert memory.tracks == []


def test_an_obstacle_out_of_view_is_remembered() -> None:
    memory = ObstacleMemory()
    for x_m in (0.0, 1.0):
        memory.take_in(State(x_m, 0.0, 0.0), 0.9, 0.0, 20.0 - x_m)
    for _ in range(30):
        memory.take_in(State(18.0, -4.0, 0.0), 0.1, 0.0, 40.0)
    assert (memory.tracks[0].x_m, memory.tracks[0].y_m) == pytest.approx((20.0, 0.0))
    memory.take_in(State(18.0, -4.0, 0.0), 0.9, 0.0, 25.0)
    assert len(memory.tracks) == 2
