"""Passive safety: deadlines with moving obstacles against a dense simulation."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shield.backup.clear import point_on_turn
from shield.backup.family import Kind, Sweep
from shield.backup.moving import CUTS, Braking
from shield.deadline import Deadline, Method, tolerable_deadline
from shield.events import LEAST_INNER_OF_ARC_M, Arc
from shield.manoeuvre import Manoeuvre
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
    assert 0.8875 * 0.985 < answer.deadline_s <= 0.8875 + 1e-4
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


L_R, SLIP, SPEED, DECELERATION, BUILD_S = 1.6, 0.8, 6.0, 6.0, 0.3
RHO, RHO_REAR = L_R / math.sin(SLIP), L_R / math.tan(SLIP)
REST_S = SPEED / DECELERATION
BRAKING_M = 0.5 * SPEED * REST_S + SPEED * BUILD_S
END = BRAKING_M / RHO + 0.25
"""The turn may be a quarter of a radian ahead of the way driven."""

BRAKES = {
    "held": Sweep(Manoeuvre.BRAKE, Kind.HELD, length_m=BRAKING_M),
    "straight": Sweep(Manoeuvre.BRAKE_STRAIGHT, Kind.SEGMENT, length_m=BRAKING_M),
    "left": Sweep(
        Manoeuvre.BRAKE_LEFT, Kind.ARC, 0.0, 1, RHO, RHO_REAR, BRAKING_M, -0.1, END, lag_rad=0.4, slip_rad=SLIP
    ),
    "right": Sweep(
        Manoeuvre.BRAKE_RIGHT, Kind.ARC, 0.0, -1, RHO, -RHO_REAR, BRAKING_M, -0.1, END, lag_rad=0.4, slip_rad=SLIP
    ),
}


def timed_points(sweep: Sweep, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y and the latest time [s] of points that a braking vehicle can be at."""
    way = np.linspace(0.0, BRAKING_M, 241)
    late = BUILD_S + np.minimum(np.sqrt(2.0 * way / DECELERATION), REST_S)
    if sweep.kind is Kind.HELD:
        x, y, _ = drive(L_R, partial(constant, beta), BRAKING_M, BRAKING_M / 239.5)
        return x, y, late
    if sweep.kind is Kind.SEGMENT:
        return way, np.zeros(way.shape), late
    spots = []
    for q, time in zip(way, late, strict=True):
        behind, ahead = max(sweep.start_rad, q / RHO - sweep.lag_rad), min(sweep.end_rad, q / RHO + 0.25)
        spots += [(*point_on_turn(L_R, sweep, angle), time) for angle in np.linspace(behind, ahead, 13)]
    x, y, late = np.array(spots).T
    return x, y, late


@pytest.mark.parametrize("name", BRAKES)
@settings(max_examples=25)
@given(
    st.one_of(st.just(0.0), st.floats(-0.8, 0.8)),
    st.floats(3.0, 20.0),
    st.lists(
        st.tuples(st.floats(-15.0, 20.0), st.floats(-15.0, 15.0), st.floats(0.2, 4.0), st.floats(0.0, 4.0)),
        min_size=1,
        max_size=3,
    ),
)
def test_blocked_where_a_growing_disc_meets_the_braking_vehicle(
    name: str, beta: float, length: float, spots: list[tuple[float, float, float, float]]
) -> None:
    levels = 3
    x, y, radius, speeds = np.array(spots).T
    braking = Braking(beta, L_R, length, BRAKES[name], (x, y, radius), speeds, (DECELERATION, SPEED))
    while braking.cut(0.0, length, levels):
        pass
    stretches = braking.blocked()
    held = Arc(beta, L_R, length)
    px, py, late = timed_points(BRAKES[name], beta)
    for column, (ox, oy, own, top) in enumerate(spots):
        for s in np.linspace(0.003, length - 0.003, 15):
            ex, ey = held.seen_from(float(s), ox, oy)
            gap = float((np.hypot(px - ex, py - ey) - own - top * late).min())
            # A disc inside the ring of the turn with little room counts as touched.
            inside = math.hypot(ex + L_R, ey - BRAKES[name].centre_y_m) < RHO
            if inside and RHO - own - top * float(late.max()) < LEAST_INNER_OF_ARC_M and gap > 0.0:
                continue
            if abs(gap) > 0.05 + 2.0 * top * REST_S / CUTS**levels:
                hit = any(start <= s <= end for start, end, which in stretches if which == column)
                assert hit == (gap < 0.0), (s, gap)


def test_a_vehicle_at_rest_waits_for_nothing_before_it_stands() -> None:
    standing = Sweep(Manoeuvre.BRAKE_STRAIGHT, Kind.SEGMENT)
    bodies = (np.array([3.0]), np.array([0.0]), np.array([2.0]))
    assert Braking(0.0, L_R, 0.5, standing, bodies, np.array([5.0]), (DECELERATION, 0.0)).blocked() == []
    found = Braking(0.0, L_R, 2.0, standing, bodies, np.array([5.0]), (DECELERATION, 0.0)).blocked()
    assert set(found) == {(1.0, 2.0, 0)}


@pytest.mark.parametrize("name", BRAKES)
@settings(max_examples=25)
@given(
    st.floats(-0.8, 0.8),
    st.lists(
        st.tuples(st.floats(-15.0, 20.0), st.floats(-15.0, 15.0), st.floats(0.2, 4.0), st.floats(0.1, 4.0)),
        min_size=1,
        max_size=6,
    ),
)
def test_cutting_a_path_only_ever_frees(name: str, beta: float, spots: list[tuple[float, float, float, float]]) -> None:
    x, y, radius, speeds = np.array(spots).T
    braking = Braking(beta, L_R, 12.0, BRAKES[name], (x, y, radius), speeds, (DECELERATION, SPEED))
    places = np.linspace(0.003, 11.997, 60)

    def blocked() -> np.ndarray:
        stretches = braking.blocked()
        return np.array([any(start <= s <= end for start, end, _ in stretches) for s in places])

    for times in (1, 2):
        before = blocked()
        braking.cut(4.0, 6.0, times)
        after = blocked()
        # Grown by less and of the same path: a grain of rounding at an end is all that may come on top.
        assert not (after & ~before)[1:-1][~(before[:-2] | before[2:])].any()


@settings(max_examples=50)
@given(st.floats(-0.8, 0.8), st.floats(-15.0, 20.0), st.floats(-15.0, 15.0), st.floats(0.2, 4.0), st.floats(0.0, 4.0))
def test_few_obstacles_and_many_are_blocked_alike(beta: float, x: float, y: float, radius: float, top: float) -> None:
    for sweep in BRAKES.values():
        one = np.ones(1)
        few = Braking(beta, L_R, 12.0, sweep, (x * one, y * one, radius * one), top * one, (DECELERATION, SPEED))
        six = np.ones(6)
        many = Braking(beta, L_R, 12.0, sweep, (x * six, y * six, radius * six), top * six, (DECELERATION, SPEED))
        joined = [_joined(braking.blocked()) for braking in (few, many)]
        assert len(joined[0]) == len(joined[1])
        for left, right in zip(*joined, strict=True):
            assert left == pytest.approx(right, abs=1e-6)


def _joined(stretches: list[tuple[float, float, int]]) -> list[tuple[float, float]]:
    """Return the union for obstacle 0, stretches shorter than a micrometre left out."""
    found: list[tuple[float, float]] = []
    for start, end, column in sorted(stretches):
        if column == 0 and end - start > 1e-6:
            if found and start - found[-1][1] <= 1e-6:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((start, end))
    return found
