"""The filter's search for a slip angle that lasts, what a heading error does to it, and what it must not depend on."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shield.barrier import Polar, barrier_deadline, barrier_of
from shield.filter import Status, _branch, _first_lasting, _inside, _solve, admissible_slip, filter_slip
from shield.hold import VALUE_MARGIN
from shield.state import Disc, State
from shield.vehicle import Bounds, load_vehicle

CAR = load_vehicle("config1")

LASTING: list[Callable[[float], bool]] = [
    lambda beta: beta >= 0.31,
    lambda beta: beta >= 0.5,
    lambda beta: not 0.29 < beta < 0.33,
    lambda beta: beta >= 0.7 or beta <= 0.1,
    lambda beta: abs(beta - 0.45) < 0.02 or beta > 0.71 or beta < 0.29,
    lambda beta: not 0.29 < beta <= 0.7,
]


@pytest.mark.parametrize("lasts", LASTING)
@pytest.mark.parametrize("ends", [(0.3, 0.7), (0.32, 0.31), (0.3, 0.3), (0.3, -1.3), (0.3, 1.3)])
def test_what_the_search_returns_was_asked_and_lies_between_the_ends(
    lasts: Callable[[float], bool], ends: tuple[float, float]
) -> None:
    asked: list[tuple[float, bool]] = []

    def answer(beta: float) -> bool:
        asked.append((beta, lasts(beta)))
        return asked[-1][1]

    found = _first_lasting(answer, *ends)
    assert all(min(ends) - 1e-12 <= beta <= max(ends) + 1e-12 for beta, _ in asked)
    if found is not None:
        assert min(ends) - 1e-12 <= found <= max(ends) + 1e-12
        assert (found, True) in asked


def test_the_search_comes_close_to_where_lasting_begins() -> None:
    found = _first_lasting(lambda beta: beta >= 0.437, 0.3, 0.7)
    assert found is not None
    assert 0.437 <= found < 0.437 + 0.4 / 256.0


def test_no_slip_angle_is_admitted_where_the_condition_never_holds() -> None:
    assert _solve(0.3, 0.2, -0.5, 0.8, 0.0) == ()
    assert _solve(0.3, 0.2, 0.5, 0.8, 0.0) == ((-0.8, 0.8),)


@pytest.mark.parametrize("heading", [0.0, 0.4, 2.5, 3.3, 5.0, 7.0])
@pytest.mark.parametrize("position", [0.0, 0.6])
def test_the_least_value_over_the_errors_decides_who_is_inside(heading: float, position: float) -> None:
    car = replace(CAR, bounds=Bounds(heading_rad=heading, position_m=position))
    barrier, seen = barrier_of(car), set()
    for xi in (0.0, 0.8, -1.9, 3.0, -3.1):
        for r in np.linspace(position + 4.05, 13.0, 60):
            tilt = heading + math.asin(position / r)
            away = np.abs(xi + np.linspace(-tilt, tilt, 2001))
            shape = np.cos(0.5 * np.minimum(away, 2.0 * math.pi))
            least = (barrier.sigma * shape.min() + 1.0 - barrier.sigma) / barrier.r_bar_m - 1.0 / (r - position)
            if abs(least) > 1e-5:
                inside = _inside(car, Polar(float(r), xi))
                assert inside == (least > VALUE_MARGIN)
                seen.add(inside)
                assert inside or _branch(car, float(r), xi, tilt) == ()
    assert seen == {True, False}


def test_an_error_of_more_than_half_the_distance_leaves_nothing() -> None:
    car = replace(CAR, bounds=Bounds(position_m=60.0))
    assert admissible_slip(car, Polar(119.0, 0.0)) == ()
    assert not _inside(car, Polar(119.0, 0.0))
    assert _inside(car, Polar(121.0, 0.0))


def test_a_position_error_tilts_more_the_nearer_the_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    tilts: list[float] = []

    def branch(_car: object, _r: float, _xi: float, tilt: float) -> tuple[()]:
        tilts.append(tilt)
        return ()

    monkeypatch.setattr("shield.filter._branch", branch)
    admissible_slip(replace(CAR, bounds=Bounds(position_m=0.1)), Polar(0.25, 0.3))
    assert tilts == pytest.approx([math.asin(0.4)])


def test_the_slip_angle_in_the_state_does_not_matter() -> None:
    gripped = replace(CAR, bounds=Bounds(lateral_accel_mps2=9.0))
    for beta in (0.0, 0.5, CAR.beta_max_rad, -CAR.beta_max_rad):
        answer = filter_slip(gripped, State(0.0, 0.0, 0.0, beta), [Disc(60.0, 0.0, 4.0)], 0.02)
        assert (answer.status, answer.beta_rad) == (Status.NOMINAL, 0.02)


@pytest.mark.parametrize("speed", [0.0, 0.4])
def test_a_vehicle_that_stands_or_creeps_is_answered(speed: float) -> None:
    answer = filter_slip(CAR, State(0.0, 0.0, 0.0, speed_mps=speed), [Disc(60.0, 0.0, 4.0)], 0.02)
    assert answer.status is Status.NOMINAL


def test_full_lock_itself_may_be_held() -> None:
    assert barrier_deadline(CAR, State(0.0, 0.0, 0.0, CAR.beta_max_rad), [Disc(60.0, 0.0, 4.0)]).deadline_s > 0.5


def test_steering_errors_and_the_rounding_margin_come_off_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    erosions: list[float] = []

    def solve(*numbers: float) -> tuple[()]:
        erosions.append(numbers[-1])
        return ()

    monkeypatch.setattr("shield.filter.SLIP_MARGIN_RAD", 0.1)
    monkeypatch.setattr("shield.filter._solve", solve)
    car = replace(CAR, bounds=Bounds(steering_rad=0.02, steering_bias_rad=0.03))
    assert _branch(car, 60.0, 0.1, 0.0) == ()
    assert erosions == pytest.approx([0.15])
