"""The backup deadline with static discs: sound and tight against a dense simulation, and what its certificate says."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shield.backup.cover import best_from, clear_stretches
from shield.deadline import Deadline, Method, tolerable_deadline
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle
from tests.shield.dense import Car, Oracle, drive, gaps

SLACK_M = 0.05
"""Distances in the oracle are to samples 1 cm apart, turn angles a grid."""

CONFIG1, CONFIG2 = load_vehicle("config1"), load_vehicle("config2")
vehicles = st.sampled_from([CONFIG1, CONFIG2, replace(CONFIG1, deceleration_mps2=6.0)])
shares = st.one_of(st.sampled_from([0.0, 1e-9, 1.0, -1.0]), st.floats(-1.0, 1.0))


@st.composite
def discs(draw: st.DrawFn, count: int) -> list[Disc]:
    found = []
    for _ in range(count):
        radius = draw(st.floats(0.3, 6.0))
        distance = radius + draw(st.floats(0.01, 25.0))
        bearing = draw(st.floats(-0.7, 0.7) if draw(st.booleans()) else st.floats(-math.pi, math.pi))
        found.append(Disc(distance * math.cos(bearing), distance * math.sin(bearing), radius))
    return found


scenes = st.integers(1, 6).flatmap(lambda count: discs(count))


def backup(vehicle: Vehicle, beta: float, obstacles: list[Disc], cap_s: float = 2.0, **state: float) -> Deadline:
    return tolerable_deadline(Method.BACKUP, vehicle, State(0.0, 0.0, 0.0, beta, **state), obstacles, cap_s)


def table(obstacles: list[Disc]) -> np.ndarray:
    return np.array([(disc.x_m, disc.y_m, disc.radius_m) for disc in obstacles])


def oracle_of(vehicle: Vehicle, beta: float) -> Oracle:
    braking = None
    if vehicle.deceleration_mps2 is not None:
        braking = vehicle.v_max_mps**2 / (2.0 * vehicle.deceleration_mps2)
    return Oracle(Car(vehicle.l_r_m, vehicle.beta_max_rad, braking), beta)


@given(vehicles, shares, scenes)
def test_sound_and_tight_against_dense_simulation(vehicle: Vehicle, share: float, obstacles: list[Disc]) -> None:
    beta = share * vehicle.beta_max_rad
    answer = backup(vehicle, beta, obstacles)
    oracle, rows = oracle_of(vehicle, beta), table(obstacles)
    distance = answer.distance_m
    assert distance == 0.0 or oracle.exit(rows, distance, 0.3, SLACK_M) == math.inf
    if answer.limited_by == "cap":
        assert answer.deadline_s == 2.0
        return
    # No more than 2 % or 1 ms later, some place is hit or has nothing clear.
    allowed = max(0.02 * distance, 0.001 * vehicle.v_max_mps)
    x, y, heading = drive(vehicle.l_r_m, lambda _: beta, distance + allowed, 0.01)
    last = range(int(len(x) * distance / (distance + allowed)), len(x))
    assert any(
        (gaps(x[i : i + 1], y[i : i + 1], rows) < 0.0).any() or not oracle.clear(x[i], y[i], heading[i], rows)
        for i in last[:: max(1, len(last) // 8)] or last
    ) or not oracle.clear(x[-1], y[-1], heading[-1], rows)


@given(vehicles, shares, scenes)
def test_every_interval_of_the_certificate_holds_on_its_own(
    vehicle: Vehicle, share: float, obstacles: list[Disc]
) -> None:
    beta = share * vehicle.beta_max_rad
    answer = backup(vehicle, beta, obstacles)
    certificate, rows, oracle = answer.certificate, table(obstacles), oracle_of(vehicle, beta)
    assert certificate.bounds == vehicle.fingerprint()
    at = 0.0
    for interval in certificate.intervals:
        assert interval.start_m == at
        at = interval.end_m
        for share_of in (0.0, 0.5, 1.0):
            s = interval.start_m + share_of * (interval.end_m - interval.start_m)
            x, y, heading = drive(vehicle.l_r_m, lambda _: beta, s, 0.05)
            assert interval.manoeuvre.value in oracle.clear(x[-1], y[-1], heading[-1], rows, SLACK_M)
    assert at == answer.distance_m
    if certificate.single is not None:
        assert certificate.single.constant
        assert certificate.single_until_m <= answer.distance_m
        assert certificate.single_until_s <= answer.deadline_s
        x, y, heading = drive(vehicle.l_r_m, lambda _: beta, certificate.single_until_m, 0.05)
        for i in range(0, len(x), 12):
            assert certificate.single.value in oracle.clear(x[i], y[i], heading[i], rows, SLACK_M)


@given(vehicles, shares, scenes, st.floats(-math.pi, math.pi), st.floats(-50.0, 50.0))
def test_turning_and_moving_the_whole_scene_changes_nothing(
    vehicle: Vehicle, share: float, obstacles: list[Disc], turn: float, shift: float
) -> None:
    beta = share * vehicle.beta_max_rad
    cosine, sine = math.cos(turn), math.sin(turn)
    moved = [
        Disc(shift + cosine * d.x_m - sine * d.y_m, -shift + sine * d.x_m + cosine * d.y_m, d.radius_m)
        for d in obstacles
    ]
    there = tolerable_deadline(Method.BACKUP, vehicle, State(shift, -shift, turn, beta), moved, 2.0)
    here = backup(vehicle, beta, obstacles)
    # The several-disc search ends within a millimetre, and a grazing obstacle is a matter of rounding.
    grown = [replace(d, radius_m=d.radius_m + 1e-5) for d in moved]
    worse = tolerable_deadline(Method.BACKUP, vehicle, State(shift, -shift, turn, beta), grown, 2.0)
    assert worse.distance_m - 5e-3 <= here.distance_m or here.distance_m == pytest.approx(there.distance_m, abs=5e-3)
    assume(there.distance_m - worse.distance_m < 1e-2)
    assert here.distance_m == pytest.approx(there.distance_m, abs=2e-2)


@given(vehicles, shares, scenes)
def test_mirroring_swaps_left_and_right(vehicle: Vehicle, share: float, obstacles: list[Disc]) -> None:
    beta = share * vehicle.beta_max_rad
    mirrored = [replace(disc, y_m=-disc.y_m) for disc in obstacles]
    assert backup(vehicle, -beta, mirrored).distance_m == pytest.approx(
        backup(vehicle, beta, obstacles).distance_m, abs=5e-3
    )


@given(vehicles, shares, scenes, st.integers(0, 5), st.floats(0.0, 1.0))
def test_a_larger_or_a_further_obstacle_never_lengthens(
    vehicle: Vehicle, share: float, obstacles: list[Disc], which: int, growth: float
) -> None:
    beta = share * vehicle.beta_max_rad
    which %= len(obstacles)
    larger = list(obstacles)
    larger[which] = replace(larger[which], radius_m=larger[which].radius_m + growth)
    base = backup(vehicle, beta, obstacles).distance_m
    assert backup(vehicle, beta, larger).distance_m <= base + 5e-3
    if len(obstacles) > 1:
        assert base <= backup(vehicle, beta, obstacles[:which] + obstacles[which + 1 :]).distance_m + 5e-3


@given(vehicles, shares, scenes)
def test_plain_arithmetic_and_numpy_agree(vehicle: Vehicle, share: float, obstacles: list[Disc]) -> None:
    """Discs far behind send the question through the columns without adding to it."""
    beta = share * vehicle.beta_max_rad
    inside = [Disc(d.x_m, d.y_m, 0.5 * d.radius_m) for d in obstacles for _ in range(5)]
    assert backup(vehicle, beta, obstacles + inside).distance_m == pytest.approx(
        backup(vehicle, beta, obstacles).distance_m, abs=5e-3
    )


def test_a_vanishing_slip_angle_is_the_straight_line() -> None:
    """Written as A + B cos(kappa s + phi) the events lose every digit here."""
    wall = [Disc(30.0, 1.0, 4.0), Disc(32.0, -9.0, 3.0)]
    straight = backup(CONFIG2, 0.0, wall, 5.0)
    assert 0.0 < straight.deadline_s < 5.0
    for beta in (1e-16, 1e-12, 1e-9, -1e-9, 1e-7, -1e-7):
        assert backup(CONFIG2, beta, wall, 5.0).distance_m == pytest.approx(straight.distance_m, abs=1e-3)


def test_the_far_side_of_the_circle_is_an_event_when_the_square_term_vanishes() -> None:
    """A line through the point opposite on the circle: t is infinite there, s = pi/|kappa|."""
    from shield.events import Arc

    arc = Arc(0.3, 2.0, 100.0)
    half = 0.5 * arc.period
    # The body line across the obstacle exactly when half the circle is driven.
    x, y = arc.seen_from(half, 7.0, 3.0)
    roots: list[float] = []
    arc.add_line(roots, 1.0, 0.0, x, 7.0, 3.0)
    assert min(abs(root - half) for root in roots) < 1e-6
    assert y == pytest.approx(arc.seen_from(half, 7.0, 3.0)[1])


def test_shrinking_comes_before_the_union() -> None:
    """One manoeuvre clear before 10 m, another after: a switch that takes 1 m cannot straddle the change."""
    first = clear_stretches([(10.0, 40.0, 0)], 40.0, 0.0, 1.0)
    second = clear_stretches([(0.0, 10.0, 1)], 40.0, 0.0, 1.0)
    manoeuvre, end, cause = best_from([first, second], 0.0)
    assert (manoeuvre, end, cause) == (0, 9.0, 0)
    assert best_from([first, second], end)[0] == -1
    # Taken off the union's end instead, the answer would have been 39 m.


def test_a_delay_is_subtracted_before_the_union_in_a_real_scene() -> None:
    late = replace(CONFIG1, bounds=Bounds(actuation_delay_s=0.1))
    spots = [(6.55, -2.8, 0.98), (6.24, 1.44, 2.19), (11.39, -3.53, 1.75), (23.13, -13.28, 1.87)]
    obstacles, beta = [Disc(*spot) for spot in spots], -0.0468357
    afterwards = backup(CONFIG1, beta, obstacles, 4.0).distance_m - 1.2
    properly = backup(late, beta, obstacles, 4.0).distance_m
    assert afterwards > 9.0
    assert properly < 5.0
    # Just beyond, no manoeuvre clears both ends of the 1.2 m in which it may take effect.
    x, y, heading = drive(CONFIG1.l_r_m, lambda _: beta, properly + 1.25, 0.01)
    oracle, rows = oracle_of(CONFIG1, beta), table(obstacles)
    first = int(len(x) * (properly + 0.04) / (properly + 1.25))
    clear = [oracle.clear(x[i], y[i], heading[i], rows) for i in range(first, len(x), 4)]
    assert all(clear)
    assert not set.intersection(*clear)


def test_touching_now_leaves_nothing() -> None:
    answer = backup(CONFIG1, 0.0, [Disc(3.0, 0.0, 4.0)])
    assert (answer.deadline_s, answer.limited_by, answer.manoeuvre) == (0.0, "obstacle:0", None)
    assert answer.certificate.intervals == ()
    assert not answer.guarantee


def test_nothing_around_lasts_to_the_cap() -> None:
    answer = backup(CONFIG1, 0.2, [], 7.0)
    assert (answer.deadline_s, answer.limited_by) == (7.0, "cap")
    assert answer.distance_m == pytest.approx(84.0)


def test_the_obstacle_that_limits_is_named() -> None:
    far, near = Disc(-40.0, 0.0, 1.0), Disc(18.0, 0.0, 4.0)
    assert backup(CONFIG1, 0.0, [far, near], 8.0).limited_by == "obstacle:1"
    assert backup(CONFIG1, 0.0, [near, far], 8.0).limited_by == "obstacle:0"


def test_a_ring_all_round_leaves_the_full_lock_circle() -> None:
    ring = [Disc(14.0 * math.cos(a), 14.0 * math.sin(a), 2.0) for a in np.arange(0.0, 2.0 * math.pi, 0.25)]
    answer = backup(CONFIG1, 0.0, ring, 8.0)
    assert answer.manoeuvre in (Manoeuvre.LEFT, Manoeuvre.RIGHT)
    assert 8.0 < answer.distance_m < 12.0


def test_a_measured_speed_lengthens_what_the_same_way_lasts() -> None:
    car = replace(CONFIG1, a_max_mps2=4.0)
    wall = [Disc(30.0, 0.0, 4.0)]
    slow, unknown = backup(car, 0.0, wall, 9.0, speed_mps=2.0), backup(car, 0.0, wall, 9.0)
    assert slow.distance_m == unknown.distance_m
    assert slow.deadline_s > unknown.deadline_s


@pytest.mark.parametrize(
    ("state", "disc", "cap_s"),
    [
        (State(math.nan, 0.0, 0.0), Disc(9.0, 0.0, 1.0), 1.0),
        (State(0.0, 0.0, math.inf), Disc(9.0, 0.0, 1.0), 1.0),
        (State(0.0, 0.0, 0.0, math.nan), Disc(9.0, 0.0, 1.0), 1.0),
        (State(0.0, 0.0, 0.0, 1.2), Disc(9.0, 0.0, 1.0), 1.0),
        (State(0.0, 0.0, 0.0, 0.0, -1.0), Disc(9.0, 0.0, 1.0), 1.0),
        (State(0.0, 0.0, 0.0, 0.0, math.nan), Disc(9.0, 0.0, 1.0), 1.0),
        (State(0.0, 0.0, 0.0), Disc(math.nan, 0.0, 1.0), 1.0),
        (State(0.0, 0.0, 0.0), Disc(9.0, math.inf, 1.0), 1.0),
        (State(0.0, 0.0, 0.0), Disc(9.0, 0.0, -1.0), 1.0),
        (State(0.0, 0.0, 0.0), Disc(9.0, 0.0, 1.0, -1.0), 1.0),
        (State(0.0, 0.0, 0.0), Disc(9.0, 0.0, math.nan), 1.0),
        (State(0.0, 0.0, 0.0), Disc(9.0, 0.0, 1.0), 0.0),
        (State(0.0, 0.0, 0.0), Disc(9.0, 0.0, 1.0), math.nan),
    ],
)
def test_impossible_input_is_refused(state: State, disc: Disc, cap_s: float) -> None:
    with pytest.raises(ValueError):
        tolerable_deadline(Method.BACKUP, CONFIG1, state, [disc], cap_s)


def test_a_turn_that_starts_in_touch_is_not_followed_through_the_disc() -> None:
    """The far root of the start's own disc once let the fixed curve through a disc beside the start."""
    obstacles = [Disc(6.164898242, -3.22157187, 4.631754129), Disc(6.773952401, -3.358305598, 3.942239884)]
    assert backup(CONFIG2, 0.0, obstacles, 3.0).distance_m == pytest.approx(2.6215, abs=2e-3)


def test_the_time_of_the_single_manoeuvre_is_that_of_its_place() -> None:
    """When the state is lost, the guard goes by this time: less than the deadline, and by the age of the sensing."""
    old = replace(CONFIG1, bounds=Bounds(sensing_age_s=0.01))
    spots = [(6.55, -2.8, 0.98), (6.24, 1.44, 2.19), (11.39, -3.53, 1.75), (23.13, -13.28, 1.87)]
    answer = backup(old, -0.0468357, [Disc(*spot) for spot in spots], 4.0)
    certificate = answer.certificate
    assert 0.0 < certificate.single_until_s < min(1.0, answer.deadline_s)
    assert certificate.single_until_s == pytest.approx(certificate.single_until_m / 12.0 - 0.01)


def test_a_stretch_that_ends_with_the_question_has_no_obstacle_to_name() -> None:
    assert clear_stretches([(10.0, 40.0, 7)], 50.0, 0.5, 1.0) == [(0.0, 9.0, 7), (40.5, 49.0, -1)]


def test_a_straight_hold_is_not_cut_off_where_a_circling_one_is() -> None:
    assert backup(CONFIG1, 0.0, [], 100.0).deadline_s == 100.0
    circling = backup(CONFIG1, CONFIG1.beta_max_rad, [], 100.0)
    assert circling.distance_m == pytest.approx(64.0 * 2.0 * math.pi * CONFIG1.rho_m)


def test_what_was_asked_wrongly_is_named() -> None:
    standing, far = State(0.0, 0.0, 0.0, 0.0, 0.0), [Disc(60.0, 0.0, 4.0)]
    with pytest.raises(ValueError, match=r"^beta_rad = 1\.2: must lie within full lock"):
        tolerable_deadline(Method.BACKUP, CONFIG1, replace(standing, beta_rad=1.2), far)
    with pytest.raises(ValueError, match=r"^beta_in_flight_rad = 1\.2: must lie within full lock"):
        tolerable_deadline(Method.BACKUP, CONFIG1, standing, far, beta_in_flight_rad=1.2)
    with pytest.raises(ValueError, match=r"must be one of published, barrier, backup$"):
        tolerable_deadline("guess", CONFIG1, standing, far)  # type: ignore[arg-type]
    for method in Method:
        assert tolerable_deadline(method, CONFIG1, standing, far, cap_s=0.02).deadline_s == 0.02
