"""Commands in flight: the grown obstacles stand for every path that the vehicle can be on."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.arc import Reach, advance
from shield.guard.flight import CommandLog, Issued, grow_for_flight
from shield.state import Disc, State
from shield.vehicle import load_vehicle

DEMO = load_vehicle("demo")
LIMIT = DEMO.beta_max_rad
ANGLE = st.floats(-LIMIT, LIMIT)


def issued(id: int, slip: float, backup: float, hold_until_s: float, apply_by_s: float) -> Issued:
    return Issued(id, (slip,), (backup,), hold_until_s, apply_by_s)


PLACE = st.floats(-30.0, 30.0)


@given(
    old=ANGLE,
    new=ANGLE,
    speed=st.none() | st.floats(0.0, 12.0),
    flight_s=st.floats(0.0, 0.3),
    part=st.just(1.0) | st.floats(0.0, 1.0),
    further=st.floats(0.0, 30.0),
    place=st.tuples(PLACE, PLACE),
    start=st.tuples(PLACE, PLACE, st.floats(-3.0, 3.0)),
    error=st.floats(-0.1, 0.1),
)
def test_no_true_path_is_closer_than_the_grown_disc_says(
    old: float,
    new: float,
    speed: float | None,
    flight_s: float,
    part: float,
    further: float,
    place: tuple[float, float],
    start: tuple[float, float, float],
    error: float,
) -> None:
    loose = replace(DEMO, bounds=replace(DEMO.bounds, steering_rad=0.04, steering_bias_rad=0.06))
    state = State(*start, new, speed)
    x, y = place
    grown = grow_for_flight(loose, state, (Disc(x, y, 1.0),), new, (old,), flight_s)[0].radius_m - 1.0
    way = part * Reach.of(DEMO, speed).distance_m(flight_s)
    middle = advance(*start, old + error, DEMO.l_r_m, way)
    true_x, true_y, true_heading = advance(*middle, new + error, DEMO.l_r_m, further)
    meant_x, meant_y, meant_heading = advance(*start, new + error, DEMO.l_r_m, way + further)
    true_gap = float(np.hypot(true_x - x, true_y - y))
    meant_gap = float(np.hypot(meant_x - x, meant_y - y))
    assert meant_gap - true_gap <= grown + 1e-9
    # The same for a curve started from there: a full-lock circle's centre.
    for side in (-1.0, 1.0):
        gaps = []
        for px, py, heading in ((true_x, true_y, true_heading), (meant_x, meant_y, meant_heading)):
            away = side * DEMO.rho_rear_m
            centre_x = px - DEMO.l_r_m * np.cos(heading) - away * np.sin(heading)
            centre_y = py - DEMO.l_r_m * np.sin(heading) + away * np.cos(heading)
            gaps.append(float(np.hypot(centre_x - x, centre_y - y)))
        assert abs(gaps[1] - gaps[0]) <= grown + 1e-9


@given(
    old=ANGLE,
    new=ANGLE,
    flight_s=st.floats(0.0, 0.1),
    rate=st.floats(0.5, 6.0),
    further_s=st.floats(0.0, 2.0),
    place=st.tuples(PLACE, PLACE),
)
def test_a_limited_slip_rate_is_covered_while_it_ramps(
    old: float, new: float, flight_s: float, rate: float, further_s: float, place: tuple[float, float]
) -> None:
    slow = replace(DEMO, bounds=replace(DEMO.bounds, slip_rate_radps=rate))
    state = State(0.0, 0.0, 0.0, new, 12.0)
    grown = grow_for_flight(slow, state, (Disc(*place, 1.0),), new, (old,), flight_s)[0].radius_m - 1.0
    ramp_s, steps = abs(old - new) / rate, 200
    pose = advance(0.0, 0.0, 0.0, old, DEMO.l_r_m, 12.0 * flight_s)
    for index in range(steps):
        beta = old + (new - old) * (index + 0.5) / steps
        pose = advance(*pose, beta, DEMO.l_r_m, 12.0 * ramp_s / steps)
    x, y, _ = advance(*pose, new, DEMO.l_r_m, 12.0 * further_s)
    meant_x, meant_y, _ = advance(0.0, 0.0, 0.0, new, DEMO.l_r_m, 12.0 * (flight_s + ramp_s + further_s))
    meant_gap = math.hypot(float(meant_x) - place[0], float(meant_y) - place[1])
    assert meant_gap - math.hypot(float(x) - place[0], float(y) - place[1]) <= grown + 1e-3


def test_the_growth_is_no_wider_than_it_is_worth() -> None:
    wall = (Disc(20.0, 0.0, 1.0),)
    state = State(0.0, 0.0, 0.0, 0.1, 12.0)
    assert grow_for_flight(DEMO, state, wall, 0.1, (0.0,), 0.02)[0].radius_m == pytest.approx(1.32888, abs=1e-4)
    slow = replace(DEMO, bounds=replace(DEMO.bounds, slip_rate_radps=2.0))
    assert grow_for_flight(slow, state, wall, 0.1, (0.0,), 0.02)[0].radius_m == pytest.approx(1.7788, abs=1e-3)


@given(old=ANGLE, new=ANGLE, other=ANGLE, flight_s=st.floats(0.0, 0.1), more_s=st.floats(0.0, 0.1))
def test_more_in_flight_or_longer_never_shrinks_an_obstacle(
    old: float, new: float, other: float, flight_s: float, more_s: float
) -> None:
    state = State(0.0, 0.0, 0.0, new, 5.0)
    discs = (Disc(9.0, -4.0, 2.0, 0.5),)
    base = grow_for_flight(DEMO, state, discs, new, (old,), flight_s)[0]
    assert base.radius_m >= 2.0
    assert (base.x_m, base.y_m, base.speed_max_mps) == (9.0, -4.0, 0.5)
    assert grow_for_flight(DEMO, state, discs, new, (old, other), flight_s)[0].radius_m >= base.radius_m
    assert grow_for_flight(DEMO, state, discs, new, (old,), flight_s + more_s)[0].radius_m >= base.radius_m


def test_holding_on_to_the_same_angle_grows_nothing() -> None:
    discs = (Disc(9.0, -4.0, 2.0),)
    assert grow_for_flight(DEMO, State(0.0, 0.0, 0.0, 0.2), discs, 0.2, (0.2,), 0.1) == discs
    assert grow_for_flight(DEMO, State(0.0, 0.0, 0.0, 0.2), discs, 0.2, (), 0.1) == discs


def test_the_log_knows_what_may_be_in_effect() -> None:
    log = CommandLog(DEMO)
    log.add(issued(1, 0.1, 0.8, 1.0, 0.02))
    log.add(issued(2, 0.2, -0.8, 0.55, 0.06))
    assert log.possible_slips(1, 0.04, 0.06) == (0.1, 0.2)
    assert log.possible_slips(1, 0.07, 0.09) == (0.1,), "the second came too late to be taken"
    assert log.possible_slips(2, 0.07, 0.09) == (0.2,)
    assert log.possible_slips(2, 0.5, 0.6) == (0.2, -0.8), "its hold ends on the way"
    assert log.possible_slips(2, 0.6, 0.7) == (-0.8,)
    assert log.possible_backups(1, 0.04) == (0.8, -0.8)
    assert log.possible_backups(2, 0.04) == (-0.8,)


def test_an_unknown_decision_may_be_anything_and_none_is_at_rest() -> None:
    log = CommandLog(DEMO)
    assert log.possible_slips(9, 0.0, 0.1) == (-LIMIT, LIMIT)
    assert log.possible_slips(0, 0.0, 0.1) == ()
    log.add(issued(1, 0.1, 0.8, 1.0, 0.02))
    assert log.possible_slips(0, 0.0, 0.1) == (0.1,)


def test_the_log_forgets_what_can_no_longer_matter() -> None:
    log = CommandLog(DEMO)
    for id in range(1, 200):
        log.add(issued(id, 0.001 * id, 0.8, 99.0, 0.02 * id))
    log.forget(150, 150 * 0.02)
    assert log.possible_slips(150, 3.0, 3.0)[0] == 0.15
    log.forget(199, 5.0)
    assert log.possible_slips(199, 5.0, 5.1) == (0.199,)
    assert log.possible_slips(150, 3.0, 3.1) == (-LIMIT, LIMIT)


def test_a_steering_bias_counts_as_much_as_an_error_that_varies() -> None:
    wall, state = (Disc(20.0, 0.0, 1.0),), State(0.0, 0.0, 0.0, 0.6, 12.0)
    varying = replace(DEMO, bounds=replace(DEMO.bounds, steering_rad=0.05))
    constant = replace(DEMO, bounds=replace(DEMO.bounds, steering_bias_rad=0.05))
    grown = grow_for_flight(varying, state, wall, 0.6, (0.4,), 0.02)
    assert grown == grow_for_flight(constant, state, wall, 0.6, (0.4,), 0.02)
    assert grown[0].radius_m > grow_for_flight(DEMO, state, wall, 0.6, (0.4,), 0.02)[0].radius_m


@pytest.mark.parametrize("change", [0.2, 1.0])
def test_the_growth_depends_on_the_way_to_the_obstacle_alone(change: float) -> None:
    here = grow_for_flight(DEMO, State(0.0, 0.0, 0.0, 0.5, 9.0), (Disc(9.0, -4.0, 2.0),), 0.5, (0.5 - change,), 0.02)
    away = State(30.0, 70.0, 1.0, 0.5, 9.0)
    there = grow_for_flight(DEMO, away, (Disc(39.0, 66.0, 2.0),), 0.5, (0.5 - change,), 0.02)
    assert there[0].radius_m == pytest.approx(here[0].radius_m)
    assert here[0].radius_m > 2.0
