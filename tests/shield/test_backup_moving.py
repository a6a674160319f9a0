"""Passive safety: deadlines with moving obstacles against a dense simulation."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shield.deadline import Deadline, Method, tolerable_deadline
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle
from tests.shield.dense import drive

CAR = Vehicle(2.0, math.pi / 4, 20.0, a_max_mps2=4.0, deceleration_mps2=8.0)
UNBOUNDED = replace(CAR, a_max_mps2=None)
CAP_S = 3.0


def backup(vehicle: Vehicle, state: State, obstacles: list[Disc], cap_s: float = CAP_S) -> Deadline:
    return tolerable_deadline(Method.BACKUP, vehicle, state, obstacles, cap_s)


def constant(slip: float, _: float) -> float:
    return slip


def feasible(vehicle: Vehicle, state: State, obstacles: list[Disc], time: float, coarse: bool = False) -> bool:
    """Return whether `time` satisfies the definition at every sampled place and braking point."""
    deceleration, v_max, a_max = vehicle.deceleration_mps2, vehicle.v_max_mps, vehicle.a_max_mps2
    assert deceleration is not None
    ticks = np.linspace(0.0, time, 400)
    if a_max is None or state.speed_mps is None:
        speeds = np.full(400, v_max)
    else:
        speeds = np.minimum(v_max, state.speed_mps + a_max * ticks)
    way, speed = float(np.trapezoid(speeds, ticks)), float(speeds[-1])
    x, y, heading = drive(vehicle.l_r_m, lambda _: state.beta_rad, way, 0.1 if coarse else 0.02)
    braking_s = np.linspace(0.0, speed / deceleration, 200 if coarse else 800)
    way_braked = 0.5 * deceleration * braking_s**2
    spot = np.array([(disc.x_m, disc.y_m, disc.radius_m, disc.speed_max_mps) for disc in obstacles])
    held = np.hypot(x[:, None] - spot[:, 0], y[:, None] - spot[:, 1])
    if (held < spot[:, 2] + spot[:, 3] * time).any():
        return False
    cosine, sine = np.cos(heading)[:, None], np.sin(heading)[:, None]
    covered = np.zeros(len(x), dtype=bool)
    for slip in (state.beta_rad, 0.0, vehicle.beta_max_rad, -vehicle.beta_max_rad):
        px, py, _ = drive(vehicle.l_r_m, partial(constant, slip), float(way_braked[-1]), 0.01)
        at = np.minimum(len(px) - 1, np.round(way_braked / max(way_braked[-1], 1e-9) * (len(px) - 1)).astype(int))
        gx, gy = x[:, None] + cosine * px[at] - sine * py[at], y[:, None] + sine * px[at] + cosine * py[at]
        safe = np.ones(len(x), dtype=bool)
        for ox, oy, radius, top in spot:
            safe &= (np.hypot(gx - ox, gy - oy) >= radius + top * (time + braking_s)).all(axis=1)
        covered |= safe
    return bool(covered.all())


@st.composite
def scenes(draw: st.DrawFn) -> list[Disc]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        distance, radius = draw(st.floats(6.0, 60.0)), draw(st.floats(0.3, 4.0))
        bearing = draw(st.floats(-0.6, 0.6) if draw(st.booleans()) else st.floats(-math.pi, math.pi))
        speed = draw(st.sampled_from([0.0, 1.0, 3.0, 6.0]))
        found.append(Disc(distance * math.cos(bearing), distance * math.sin(bearing), radius, speed))
    return [replace(found[0], speed_max_mps=max(1.0, found[0].speed_max_mps)), *found[1:]]


@settings(max_examples=8)  # the definition is checked by brute force
@given(st.sampled_from([CAR, UNBOUNDED]), st.floats(-0.7, 0.7), st.one_of(st.none(), st.floats(0.0, 20.0)), scenes())
def test_sound_and_tight_against_the_definition(
    vehicle: Vehicle, beta: float, speed: float | None, obstacles: list[Disc]
) -> None:
    state = State(0.0, 0.0, 0.0, beta, speed)
    answer = backup(vehicle, state, obstacles)
    if answer.deadline_s > 0.0:
        shrunk = [replace(disc, radius_m=disc.radius_m - 0.05) for disc in obstacles]
        assert feasible(vehicle, state, shrunk, answer.deadline_s, coarse=True)
    if answer.limited_by != "cap":
        later = answer.deadline_s + max(0.002, 0.02 * answer.deadline_s)
        grown = [replace(disc, radius_m=disc.radius_m + 0.02) for disc in obstacles]
        assert not feasible(vehicle, state, grown, later)


def test_a_crawling_car_is_the_worst_one() -> None:
    """At v_max the car outruns the disc; crawling it stays while the disc grows."""
    answer = backup(replace(UNBOUNDED, beta_max_rad=0.46), State(0.0, 0.0, 0.0), [Disc(-10.0, 0.0, 4.0, 5.0)])
    assert answer.deadline_s == pytest.approx(0.8875, abs=0.003)
    assert answer.deadline_s <= 0.8875
    assert answer.limited_by == "obstacle:0"
    assert answer.manoeuvre is not None
    assert answer.manoeuvre.braking


def test_without_brakes_a_moving_obstacle_leaves_nothing() -> None:
    coasting = replace(CAR, deceleration_mps2=None)
    answer = backup(coasting, State(0.0, 0.0, 0.0), [Disc(90.0, 0.0, 1.0, 0.5)])
    assert (answer.deadline_s, answer.limited_by) == (0.0, "bound:deceleration_mps2")
    declared = replace(coasting, bounds=Bounds(obstacle_speed_mps=0.5))
    assert backup(declared, State(0.0, 0.0, 0.0), [Disc(90.0, 0.0, 1.0)]).deadline_s == 0.0


def test_only_braking_counts_against_moving_obstacles() -> None:
    state, ahead = State(0.0, 0.0, 0.0, 0.1, 10.0), Disc(35.0, 3.0, 1.0, 1.0)
    answer = backup(CAR, state, [ahead])
    assert answer.certificate.intervals
    assert all(interval.manoeuvre.braking for interval in answer.certificate.intervals)
    assert answer.certificate.single is not None


def test_the_faster_the_obstacle_the_shorter() -> None:
    state = State(0.0, 0.0, 0.0, 0.05, 10.0)
    answers = [backup(CAR, state, [Disc(45.0, 2.0, 1.0, speed)]).deadline_s for speed in (0.5, 1.0, 2.0, 4.0, 8.0)]
    assert answers == sorted(answers, reverse=True)
    assert answers[0] > answers[-1] >= 0.0


def test_a_standing_car_may_wait_until_the_obstacle_is_near() -> None:
    """At rest nothing is promised against being struck, and the shortest way to start costs most of the room."""
    state = State(0.0, 0.0, 0.0, 0.0, 0.0)
    answer = backup(CAR, state, [Disc(30.0, 0.0, 1.0, 2.0)], 10.0)
    assert 1.0 < answer.deadline_s < 10.0


def test_age_and_switch_time_let_the_obstacle_come_closer() -> None:
    state, scene = State(0.0, 0.0, 0.0, 0.0, 5.0), [Disc(40.0, 0.0, 1.0, 3.0)]
    base = backup(CAR, state, scene).deadline_s
    old = backup(replace(CAR, bounds=Bounds(sensing_age_s=0.2)), state, scene).deadline_s
    slow = backup(replace(CAR, bounds=Bounds(tick_s=0.2)), state, scene).deadline_s
    assert old <= base - 0.19
    assert slow <= base - 0.19
