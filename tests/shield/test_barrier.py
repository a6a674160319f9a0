"""The barrier and its deadline against differences, dense walks and the counter-examples of the mathematics."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.barrier import (
    Polar,
    barrier_deadline,
    barrier_slope,
    barrier_value,
    class_k_gain,
    hold_time,
    least_distance,
    polar_of,
)
from shield.deadline import Method, tolerable_deadline
from shield.hold import Errors, _Walk, hold_distance
from shield.state import Disc, State, wrap_angle
from shield.vehicle import Barrier, Bounds, Vehicle, load_vehicle

CONFIGURATIONS = {name: load_vehicle(name) for name in ("config1", "config2")}
WALK_M = 40.0
GRID_M = 2e-4

names = st.sampled_from(sorted(CONFIGURATIONS))
angles = st.floats(-math.pi, math.pi)
beyond = st.floats(1e-3, 2.0) | st.floats(1e-3, 40.0)
shares = st.floats(-1.0, 1.0)
errors = st.builds(
    Bounds,
    position_m=st.floats(0.0, 0.3),
    heading_rad=st.floats(0.0, 0.05),
    steering_rad=st.floats(0.0, 0.01),
    odometry_drift=st.floats(0.0, 0.02),
)


def barrier(vehicle: Vehicle) -> Barrier:
    assert vehicle.barrier is not None
    return vehicle.barrier


def facing(vehicle: Vehicle, xi_rad: float, beyond_m: float, beta_share: float) -> tuple[State, Disc, Polar, float]:
    """A state at xi and `beyond_m` outside r_min of a disc somewhere, holding a share of full lock."""
    r = float(least_distance(barrier(vehicle), xi_rad)) + beyond_m
    beta = beta_share * vehicle.beta_max_rad
    heading = 0.7
    state = State(3.0 + r * math.cos(xi_rad + heading), -2.0 + r * math.sin(xi_rad + heading), heading, beta)
    return state, Disc(3.0, -2.0, barrier(vehicle).r_bar_m - vehicle.radius_m), Polar(r, xi_rad), beta


def walked(vehicle: Vehicle, polar: Polar, beta: float, length_m: float) -> npt.NDArray[np.float64]:
    """The least h that the errors allow at every grid point of the arc, by stepping the pose."""
    s = np.arange(0.0, length_m, GRID_M)
    k = math.sin(beta) / vehicle.l_r_m
    if abs(k) < 1e-12:
        x, y = s * math.cos(beta), s * math.sin(beta)
    else:
        x = (np.sin(beta + k * s) - math.sin(beta)) / k
        y = (math.cos(beta) - np.cos(beta + k * s)) / k
    x, y = x + polar.r_m * math.cos(polar.xi_rad), y + polar.r_m * math.sin(polar.xi_rad)
    r = np.hypot(x, y)
    xi = (np.arctan2(y, x) - k * s + math.pi) % (2.0 * math.pi) - math.pi
    e = Errors.of(vehicle)
    pad = e.p0_m + e.p1 * s + e.p2_pm * s**2
    worst = np.minimum(math.pi, np.abs(xi) + e.q0_rad + e.q1_pm * s + np.arcsin(np.minimum(1.0, pad / r)))
    h: npt.NDArray[np.float64] = barrier_value(barrier(vehicle), np.maximum(r - pad, 1e-9), worst)
    return h


@given(names, angles)
def test_the_barrier_is_zero_at_the_least_distance(name: str, xi: float) -> None:
    b = barrier(CONFIGURATIONS[name])
    r = least_distance(b, xi)
    assert float(barrier_value(b, r, xi)) == pytest.approx(0.0, abs=1e-15)
    assert float(barrier_value(b, r + 0.01, xi)) > 0.0
    assert b.r_bar_m <= float(r) <= b.r_bar_m / (1.0 - b.sigma)


@given(names, st.floats(-3.1, 3.1), beyond, shares)
def test_the_slope_is_the_derivative_along_the_arc(name: str, xi: float, beyond_m: float, share: float) -> None:
    vehicle = CONFIGURATIONS[name]
    _, _, polar, beta = facing(vehicle, xi, beyond_m, share)
    ds = 1e-5

    def h(s: float) -> float:
        x = polar.r_m * math.cos(xi) + s * math.cos(beta)
        y = polar.r_m * math.sin(xi) + s * math.sin(beta)
        turned = math.atan2(y, x) - s * math.sin(beta) / vehicle.l_r_m
        return float(barrier_value(barrier(vehicle), math.hypot(x, y), turned))

    slope = float(barrier_slope(vehicle, polar.r_m, xi, beta))
    assert slope == pytest.approx((h(ds) - h(-ds)) / (2.0 * ds), abs=1e-8)


def test_published_gain_and_a_worked_value() -> None:
    assert class_k_gain(Barrier(r_bar_m=4.0, sigma=0.48)) == pytest.approx(3.06)
    assert class_k_gain(Barrier(r_bar_m=0.5, sigma=0.48)) == pytest.approx(2.0 * 3.48)
    assert float(barrier_value(Barrier(4.0, 0.28), 5.0, math.pi / 3)) == pytest.approx(
        (0.28 * math.cos(math.pi / 6) + 0.72) / 4.0 - 0.2
    )


@pytest.mark.parametrize(("name", "published"), [("config1", 0.0015), ("config2", 0.0018)])
def test_the_steepest_slope_is_positive_but_thin(name: str, published: float) -> None:
    """{h >= 0} is invariant: the best slip angle raises h everywhere on its edge, least at xi = pi."""
    vehicle = CONFIGURATIONS[name]
    xi = np.linspace(0.0, math.pi, 801)[:, None, None]
    r = least_distance(barrier(vehicle), xi) + np.array([0.0, 0.01, 0.1, 1.0, 10.0])[:, None]
    beta = np.linspace(-1.0, 1.0, 401) * vehicle.beta_max_rad
    best = barrier_slope(vehicle, r, xi, beta).max(axis=2)
    i, j = np.unravel_index(best.argmin(), best.shape)
    assert (i, j) == (800, 0)
    assert best.min() == pytest.approx(published, abs=5e-5)


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(-10, 10))
def test_polar_coordinates_put_the_obstacle_where_it_is(x: float, y: float, heading: float) -> None:
    polar = polar_of(State(x, y, heading), Disc(1.0, 2.0, 1.0))
    # o = p - r (cos(xi + heading), sin(xi + heading))
    assert x - polar.r_m * math.cos(polar.xi_rad + heading) == pytest.approx(1.0, abs=1e-9)
    assert y - polar.r_m * math.sin(polar.xi_rad + heading) == pytest.approx(2.0, abs=1e-9)
    assert -math.pi <= polar.xi_rad <= math.pi


@given(names, angles, beyond, shares, errors | st.just(Bounds()))
def test_the_hold_ends_where_a_dense_walk_first_finds_h_negative(
    name: str, xi: float, beyond_m: float, share: float, bounds: Bounds
) -> None:
    vehicle = replace(CONFIGURATIONS[name], bounds=bounds)
    _, _, polar, beta = facing(vehicle, xi, beyond_m, share)
    found = hold_distance(vehicle, barrier(vehicle), polar.r_m, xi, beta, WALK_M)
    h = walked(vehicle, polar, beta, WALK_M)
    below = np.flatnonzero(h < 0.0)
    first = GRID_M * below[0] if below.size else WALK_M
    assert found <= first + 1e-6
    # never longer; shorter by the grid at most, unless h only grazes zero in between
    graze = np.flatnonzero(h < 1e-7)
    assert found >= (GRID_M * (graze[0] - 1) if graze.size else WALK_M) - 1e-5


@given(
    names,
    angles,
    beyond,
    shares,
    st.floats(0.0, 0.3),
    st.floats(0.0, 0.1),
    st.floats(0.0, 0.03),
    st.tuples(shares, shares, shares, shares),
)
def test_the_hold_keeps_h_in_every_world_the_errors_allow(
    name: str,
    xi: float,
    beyond_m: float,
    share: float,
    position: float,
    heading: float,
    steering: float,
    drawn: tuple[float, float, float, float],
) -> None:
    """The vehicle really starts elsewhere, turned, and steers a little otherwise: at the corners of the bounds too."""
    bare = CONFIGURATIONS[name]
    vehicle = replace(
        bare, bounds=Bounds(position_m=position, heading_rad=heading, steering_rad=0.5 * steering, odometry_drift=0.0)
    )
    _, _, polar, beta = facing(vehicle, xi, beyond_m, share)
    found = hold_distance(vehicle, barrier(vehicle), polar.r_m, xi, beta, 30.0)
    for radial, across, turned, steered in (drawn, tuple(math.copysign(1.0, d) for d in drawn)):
        size = position / max(1.0, math.hypot(radial, across))
        x0, y0 = polar.r_m + radial * size, across * size
        off = turned * heading
        true = Polar(math.hypot(x0, y0), xi + math.atan2(y0, x0) - off)
        h = walked(bare, true, beta + 0.5 * steered * steering, max(found, GRID_M))
        assert h[: max(1, int(found / GRID_M))].min() >= 0.0 or found == 0.0


@given(names, angles, beyond, shares, errors, st.floats(0.0, 20.0), st.sampled_from([1.0, -1.0]))
def test_the_second_order_bound_of_the_walk(
    name: str, xi: float, beyond_m: float, share: float, bounds: Bounds, s: float, side: float
) -> None:
    """g'' >= -M where the walk stands, against differences; a bound too small would step over a zero."""
    vehicle = replace(CONFIGURATIONS[name], bounds=bounds)
    _, _, polar, beta = facing(vehicle, xi, beyond_m, share)
    walk = _Walk(vehicle, barrier(vehicle), polar.r_m, xi, beta)
    e, ds = walk.errors, 2e-3

    def branch(at: float, xi_there: float) -> tuple[float, float]:
        r, pad = walk.polar(at)[0], e.p0_m + at * (e.p1 + at * e.p2_pm)
        tilt = e.q0_rad + e.q1_pm * at + math.asin(min(1.0, pad / r))
        return -1.0 / (r - pad), walk.gain * math.cos(0.5 * (side * xi_there + tilt))

    r, here = walk.polar(s)
    pad = e.p0_m + s * (e.p1 + s * e.p2_pm)
    if r - pad < 4.0 or 2.0 * pad > r:
        return
    values = [branch(at, here + wrap_angle(walk.polar(at)[1] - here)) for at in (s - ds, s, s + ds)]
    base, angle = ((values[0][i] - 2.0 * values[1][i] + values[2][i]) / ds**2 for i in (0, 1))
    base_bend, bend = walk._bends(1.0 / (r - pad - ds), e.p1 + 2.0 * s * e.p2_pm, pad / (r - ds))
    assert base >= -base_bend - 1e-6
    assert base + angle >= -bend - 1e-6


def test_a_heading_error_shortens_a_hold_far_ahead_most() -> None:
    """Turned by e at the start, a straight path is 2 sin(e/2) s aside after s metres."""
    vehicle = replace(CONFIGURATIONS["config1"], bounds=Bounds(heading_rad=0.05))
    aside = 5.2  # the disc is passed at 5.2 m; off by 0.05 x 30 m, at 3.7 m, well inside h < 0
    polar = Polar(math.hypot(30.0, aside), math.atan2(aside, -30.0))
    bare = CONFIGURATIONS["config1"]
    assert hold_distance(bare, barrier(bare), polar.r_m, polar.xi_rad, 0.0, 60.0) == 60.0
    assert 20.0 < hold_distance(vehicle, barrier(vehicle), polar.r_m, polar.xi_rad, 0.0, 60.0) < 30.0


def test_a_hold_that_grazes_zero_is_walked_past() -> None:
    """A straight line that passes with h just above zero, where plain slope steps would creep."""
    vehicle = CONFIGURATIONS["config1"]
    low, high = 4.0, 5.0  # bisect for the lateral distance at which the least h is zero
    for _ in range(14):
        aside = 0.5 * (low + high)
        polar = Polar(math.hypot(20.0, aside), math.atan2(aside, -20.0))
        low, high = (low, aside) if walked(vehicle, polar, 0.0, WALK_M).min() > 0.0 else (aside, high)
    polar = Polar(math.hypot(20.0, high), math.atan2(high, -20.0))
    assert 0.0 < walked(vehicle, polar, 0.0, WALK_M).min() < 1e-4
    assert hold_distance(vehicle, barrier(vehicle), polar.r_m, polar.xi_rad, 0.0, WALK_M) == WALK_M


def test_nothing_is_held_inside_or_at_nonsense() -> None:
    vehicle = CONFIGURATIONS["config1"]
    b = barrier(vehicle)
    for r, xi in ((3.9, 0.0), (5.0, math.pi), (0.0, 0.0), (math.nan, 0.0), (6.0, math.nan)):
        assert hold_distance(vehicle, b, r, xi, 0.1, 10.0) == 0.0
    padded = replace(vehicle, bounds=Bounds(position_m=3.0))
    assert hold_distance(padded, b, 5.9, 0.0, 0.0, 10.0) == 0.0


@given(names, angles, beyond, shares)
def test_the_deadline_is_the_time_to_the_exit_less_the_delays(
    name: str, xi: float, beyond_m: float, share: float
) -> None:
    bare = CONFIGURATIONS[name]
    state, disc, polar, beta = facing(bare, xi, beyond_m, share)
    exit_m = hold_distance(bare, barrier(bare), polar.r_m, xi, beta, 1e3)
    exact = barrier_deadline(bare, state, [disc], cap_s=2.0)
    assert exact.deadline_s == pytest.approx(min(2.0, exit_m / bare.v_max_mps), abs=1e-7)
    assert exact.distance_m == pytest.approx(exact.deadline_s * bare.v_max_mps)
    slow = replace(bare, bounds=Bounds(actuation_delay_s=0.03, tick_s=0.02, sensing_age_s=0.05))
    late = barrier_deadline(slow, state, [disc], cap_s=2.0)
    assert late.deadline_s == pytest.approx(max(0.0, min(2.0, exit_m / bare.v_max_mps - 0.1)), abs=1e-7)
    assert hold_time(slow, state, [disc], 2.0) == pytest.approx(exact.deadline_s, abs=1e-7)


@given(names, angles, beyond, shares, st.floats(0.0, 12.0))
def test_a_measured_speed_and_an_acceleration_bound_lengthen_it(
    name: str, xi: float, beyond_m: float, share: float, speed: float
) -> None:
    vehicle = replace(CONFIGURATIONS[name], a_max_mps2=4.0, bounds=Bounds(speed_mps=0.1))
    state, disc, _, _ = facing(vehicle, xi, beyond_m, share)
    unknown = barrier_deadline(vehicle, state, [disc])
    known = barrier_deadline(vehicle, replace(state, speed_mps=speed), [disc])
    assert known.deadline_s >= unknown.deadline_s - 1e-9
    # the distance driven at full throttle from speed + 0.1 in the deadline is the distance of the exit
    v, driven = min(vehicle.v_max_mps, speed + 0.1), 0.0
    ramp = min(known.deadline_s, (vehicle.v_max_mps - v) / 4.0)
    driven = v * ramp + 2.0 * ramp**2 + vehicle.v_max_mps * (known.deadline_s - ramp)
    assert known.distance_m == pytest.approx(driven, abs=1e-6)
    if known.limited_by != "cap":
        assert driven == pytest.approx(unknown.distance_m, abs=1e-5)


WORSE = [
    *[(name, value) for name in ("position_m", "heading_rad", "steering_rad") for value in (0.001, 0.02, 0.1)],
    *[(name, value) for name in ("steering_bias_rad", "odometry_drift", "speed_mps") for value in (0.001, 0.02, 0.1)],
    *[(name, value) for name in ("sensing_age_s", "actuation_delay_s", "tick_s") for value in (0.001, 0.02, 0.1)],
    *[(name, value) for name in ("jitter_s", "fail_safe_s", "obstacle_speed_mps") for value in (0.001, 0.02, 0.1)],
    *[("sensing_range_m", value) for value in (60.0, 30.0, 10.0)],
    *[("field_of_view_rad", value) for value in (7.0, 3.0)],
    *[("lateral_accel_mps2", value) for value in (80.0, 30.0, 5.0)],
]


@given(names, angles, beyond, shares, st.none() | st.floats(0.0, 12.0))
def test_a_worse_bound_never_lengthens_a_deadline(
    name: str, xi: float, beyond_m: float, share: float, speed: float | None
) -> None:
    vehicle = replace(CONFIGURATIONS[name], a_max_mps2=4.0)
    state, disc, _, _ = facing(vehicle, xi, beyond_m, share)
    state = replace(state, speed_mps=speed)
    last_name, last_s = "", math.inf
    for bound, value in WORSE:
        if bound != last_name:
            last_name, last_s = bound, barrier_deadline(vehicle, state, [disc]).deadline_s
        worse = barrier_deadline(replace(vehicle, bounds=Bounds(**{bound: value})), state, [disc]).deadline_s
        assert worse <= last_s + 1e-6, (bound, value)
        last_s = worse


@given(names, angles, beyond, shares, st.floats(-30.0, 30.0), st.floats(-30.0, 30.0), angles)
def test_moving_and_mirroring_the_world_changes_nothing(
    name: str, xi: float, beyond_m: float, share: float, x: float, y: float, turn: float
) -> None:
    vehicle = CONFIGURATIONS[name]
    state, disc, _, _ = facing(vehicle, xi, beyond_m, share)
    c, s = math.cos(turn), math.sin(turn)

    def moved(px: float, py: float) -> tuple[float, float]:
        return x + c * px - s * py, y + s * px + c * py

    there = State(*moved(state.x_m, state.y_m), state.heading_rad + turn, state.beta_rad)
    mirrored = State(state.x_m, -state.y_m, -state.heading_rad, -state.beta_rad)
    expected = barrier_deadline(vehicle, state, [disc]).deadline_s
    moved_disc = Disc(*moved(disc.x_m, disc.y_m), disc.radius_m)
    # a hold that grazes h = 0 may end on either side of it by rounding
    near = {
        round(barrier_deadline(vehicle, replace(state, x_m=state.x_m + e), [disc]).deadline_s, 4)
        for e in (-1e-9, 0.0, 1e-9)
    }
    if len(near) == 1:
        assert barrier_deadline(vehicle, there, [moved_disc]).deadline_s == pytest.approx(expected, abs=1e-5)
        flipped = barrier_deadline(vehicle, mirrored, [replace(disc, y_m=-disc.y_m)])
        assert flipped.deadline_s == pytest.approx(expected, abs=1e-5)


def test_several_discs_give_the_least_and_no_guarantee() -> None:
    vehicle = CONFIGURATIONS["config2"]
    state = State(0.0, 0.0, 0.0)
    near, far = Disc(30.0, 1.0, 4.0), Disc(60.0, 1.0, 4.0)
    one = tolerable_deadline(Method.BARRIER, vehicle, state, [near])
    both = tolerable_deadline(Method.BARRIER, vehicle, state, [far, near])
    assert one.guarantee
    assert one.limited_by == "obstacle:0"
    assert both.deadline_s == one.deadline_s
    assert both.limited_by == "obstacle:1"
    assert not both.guarantee
    free = tolerable_deadline(Method.BARRIER, vehicle, state, [], cap_s=3.0)
    assert (free.deadline_s, free.limited_by, free.guarantee) == (3.0, "cap", True)
    assert free.certificate.bounds == vehicle.fingerprint()


def test_two_discs_that_leave_no_rescue() -> None:
    """Both h >= 0, and yet every constant steering meets a disc: the minimum over discs is no guarantee."""
    vehicle = CONFIGURATIONS["config2"]
    state = State(0.0, 0.0, 0.0)
    discs = [Disc(6.16, -3.75, 4.0), Disc(6.38, 3.40, 4.0)]
    for disc in discs:
        polar = polar_of(state, disc)
        assert float(barrier_value(barrier(vehicle), polar.r_m, polar.xi_rad)) > 0.0
        assert barrier_deadline(vehicle, state, [disc]).guarantee
    answer = barrier_deadline(vehicle, state, discs)
    assert answer.deadline_s > 0.0
    assert not answer.guarantee
    # reachable set: full lock either way, switched anywhere twice, or any slip angle held
    s = np.linspace(0.0, 12.0, 241)
    for first in np.linspace(-1.0, 1.0, 81) * vehicle.beta_max_rad:
        for second in (-1.0, 0.0, 1.0):
            for switch in range(0, 241, 8):
                beta = np.where(np.arange(241) < switch, first, second * vehicle.beta_max_rad)
                step = s[1]
                heading = np.concatenate(([0.0], np.cumsum(np.sin(beta) / vehicle.l_r_m * step)[:-1]))
                x = np.concatenate(([0.0], np.cumsum(np.cos(heading + beta) * step)[:-1]))
                y = np.concatenate(([0.0], np.cumsum(np.sin(heading + beta) * step)[:-1]))
                gap = np.minimum(*(np.hypot(x - disc.x_m, y - disc.y_m) for disc in discs))
                assert gap.min() < 4.0


def test_what_the_barrier_does_not_cover_is_refused_by_name() -> None:
    vehicle = CONFIGURATIONS["config1"]
    state = State(0.0, 0.0, 0.0, beta_rad=0.5)
    disc = Disc(30.0, 0.0, 4.0)

    def limited(bounds: Bounds, *discs: Disc) -> str:
        answer = barrier_deadline(replace(vehicle, bounds=bounds), state, discs)
        assert (answer.deadline_s, answer.distance_m, answer.guarantee) == (0.0, 0.0, False)
        return answer.limited_by

    assert limited(Bounds(), disc, replace(disc, radius_m=4.1)) == "obstacle:1"
    assert limited(Bounds(), replace(disc, speed_max_mps=0.1)) == "obstacle:0"
    assert limited(Bounds(obstacle_speed_mps=0.1)) == "bound:obstacle_speed_mps"
    assert limited(Bounds(lateral_accel_mps2=9.0)) == "bound:lateral_accel_mps2"
    assert limited(Bounds(field_of_view_rad=6.0)) == "bound:field_of_view_rad"
    all_round = replace(vehicle, bounds=Bounds(field_of_view_rad=2.0 * math.pi))
    assert barrier_deadline(all_round, state, [disc]).deadline_s > 0.0
    assert limited(Bounds(sensing_range_m=5.0)) == "bound:sensing_range_m"
    assert limited(Bounds(fail_safe_s=30.0, tick_s=0.1), Disc(5.3, 2.9, 4.0)) == "bound:fail_safe_s"
    assert limited(Bounds(), Disc(1.0, 1.0, 4.0)) == "obstacle:0"


def test_sensing_range_ends_a_deadline_where_something_unseen_may_stand() -> None:
    vehicle = replace(CONFIGURATIONS["config1"], bounds=Bounds(sensing_range_m=50.0, position_m=0.5))
    answer = barrier_deadline(vehicle, State(0.0, 0.0, 0.0), [])
    assert answer.distance_m == pytest.approx(50.0 - 0.5 - 4.0 / 0.72)
    assert answer.limited_by == "bound:sensing_range_m"


@pytest.mark.parametrize("bound", ["steering_rad", "steering_bias_rad", "slip_rate_radps"])
def test_no_guarantee_beyond_the_proof(bound: str) -> None:
    vehicle = replace(CONFIGURATIONS["config1"], bounds=Bounds(**{bound: 0.01}))
    answer = barrier_deadline(vehicle, State(0.0, 0.0, 0.0), [Disc(40.0, 0.0, 4.0)])
    assert answer.deadline_s > 0.0
    assert not answer.guarantee


def test_a_vehicle_without_a_barrier_is_told_so() -> None:
    bare = Vehicle(l_r_m=1.6, beta_max_rad=0.5, v_max_mps=10.0, name="bare")
    with pytest.raises(ValueError, match=r"vehicle 'bare' declares no \[barrier\]"):
        barrier_deadline(bare, State(0.0, 0.0, 0.0), [Disc(30.0, 0.0, 1.0)])
    with pytest.raises(ValueError, match="bare"):
        barrier_slope(bare, 5.0, 0.0, 0.0)
