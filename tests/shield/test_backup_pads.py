"""How much every manoeuvre is grown, and how long it is, from the derivation written down a second time."""

import math
from dataclasses import replace
from itertools import product

import pytest

from shield.arc import Reach
from shield.backup.along import _held_limit
from shield.backup.family import Family, FamilyOf, Kind
from shield.backup.passive import cover_moving
from shield.backup.question import Question, bodies_of
from shield.backup.still import at_once
from shield.deadline import Deadline, Method, tolerable_deadline
from shield.events import Arc
from shield.manoeuvre import Manoeuvre, braking_slip_rad, grip_slip_rad
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle

L_M, V_MPS, BRAKE_MPS2 = 1.6, 12.0, 6.0
CAR = Vehicle(L_M, 0.8, V_MPS, radius_m=0.5, a_max_mps2=4.0, deceleration_mps2=BRAKE_MPS2)


def chord(angle_rad: float) -> float:
    """How far apart two unit steps are whose directions differ by the angle."""
    return math.hypot(1.0 - math.cos(angle_rad), math.sin(angle_rad)) if angle_rad < math.pi else 2.0


def families() -> list[tuple[Bounds, float, float, float | None]]:
    """Bounds, slip angle held, way driven and slip angle in flight, over every branch of the family."""
    found = []
    for rate, bias, steering in product((None, 0.7, 30.0), (0.0, 0.02), (0.0, 0.03)):
        for beta, driven, in_flight in ((0.3, 0.5, None), (-0.6, 7.0, None), (0.2, 2.0, 0.35), (0.001, 3.0, -0.02)):
            bounds = Bounds(
                steering_rad=steering,
                steering_bias_rad=bias,
                slip_rate_radps=rate,
                actuation_delay_s=0.1,
                brake_build_s=0.15,
            )
            found.append((bounds, beta, driven, in_flight))
    return found


@pytest.mark.parametrize(("bounds", "beta", "way", "in_flight"), families())
@pytest.mark.parametrize("measured", [None, 3.0])
def test_pads_and_lengths_follow_from_the_bounds(
    bounds: Bounds, beta: float, way: float, in_flight: float | None, measured: float | None
) -> None:
    car = replace(CAR, bounds=bounds)
    got = FamilyOf(car, beta, Reach.of(car, measured), in_flight).after(way)
    sweeps = {sweep.manoeuvre: sweep for sweep in got.sweeps}
    error, bias, rate = bounds.steering_rad + bounds.steering_bias_rad, bounds.steering_bias_rad, bounds.slip_rate_radps
    flight = 0.0 if in_flight is None else V_MPS * bounds.actuation_delay_s
    other = beta if in_flight is None else in_flight
    shift = flight * chord(abs(other - beta))
    turn = flight * abs(math.sin(other) - math.sin(beta)) / L_M
    driven = way + V_MPS * bounds.switch_time_s

    def path(length: float) -> float:
        return error * length + error * length**2 / (2.0 * L_M) + shift + turn * length

    assert got.held_pad_m == pytest.approx(path(driven))
    speed = V_MPS if measured is None else min(V_MPS, math.sqrt(measured**2 + 2.0 * 4.0 * (driven + flight)))
    assert got.speed_mps == pytest.approx(speed)

    def late(side: int, slip: float, at_mps: float) -> float:
        if rate is None:
            return 0.0
        change = min(math.pi, abs(slip - side * beta) + bias)
        return at_mps / rate * (1.0 - math.cos(change)) / math.sin(slip)

    length = speed**2 / (2.0 * BRAKE_MPS2) + speed * 0.15
    assert sweeps[Manoeuvre.BRAKE].pad_m == pytest.approx(path(driven + length))
    assert sweeps[Manoeuvre.BRAKE].length_m == pytest.approx(length)
    ramp = 0.0 if rate is None else speed * (1.0 - math.cos(beta)) / (rate * L_M)
    pad = path(driven + length)
    if rate is not None:
        pad += chord(ramp + abs(beta)) * min(length, speed * abs(beta) / rate) + chord(ramp) * length
    straight = sweeps[Manoeuvre.BRAKE_STRAIGHT]
    assert straight.kind is Kind.SEGMENT
    assert (straight.pad_m, straight.length_m) == pytest.approx((pad, length))
    slip = braking_slip_rad(car)
    for manoeuvre, side in ((Manoeuvre.BRAKE_LEFT, 1), (Manoeuvre.BRAKE_RIGHT, -1)):
        arc = sweeps[manoeuvre]
        rho = L_M / math.sin(slip)
        wrong, ahead, lag = (
            (0.0, 0.0, 0.0) if rate is None else FamilyOf._ramp_turns(side * beta, slip, speed / rate / L_M)
        )
        assert arc.pad_m == pytest.approx(path(driven + length) + late(side, slip, speed))
        assert (arc.rho_m, arc.centre_y_m) == pytest.approx((rho, side * rho * math.cos(slip)))
        assert (arc.start_rad, arc.end_rad, arc.lag_rad) == pytest.approx((-wrong, length / rho + ahead, lag))
        assert (arc.length_m, arc.wedge_rad, arc.slip_rad) == pytest.approx((length, 0.0, slip))
        whole = wrong + length / rho + ahead >= 2.0 * math.pi
        assert arc.kind is (Kind.CIRCLE if whole else Kind.ARC)
    if bounds.steering_rad > 0.0:
        assert not {Manoeuvre.LEFT, Manoeuvre.STRAIGHT} & set(sweeps)
        assert not got.turns
        return
    endless(got, bounds, beta, driven, shift, turn, late(1, grip_slip_rad(car), V_MPS), late(-1, 0.8, V_MPS))


def endless(
    got: Family, bounds: Bounds, beta: float, driven: float, shift: float, turn: float, left: float, right: float
) -> None:
    """The manoeuvres that never end: the circles, the straight line and the turns into one."""
    sweeps = {sweep.manoeuvre: sweep for sweep in got.sweeps}
    bias, rate, slip = bounds.steering_bias_rad, bounds.slip_rate_radps, 0.8
    rho = L_M / math.sin(slip)
    fixed = shift + turn * (driven + rho)
    if bias > 0.0:
        fixed += 2.0 * (L_M / math.tan(slip - bias) - L_M / math.tan(slip))
        fixed += bias * (driven + driven**2 / (2.0 * L_M)) + rho * bias * driven / L_M
    assert sweeps[Manoeuvre.LEFT].pad_m == pytest.approx(fixed + left)
    assert sweeps[Manoeuvre.RIGHT].pad_m == pytest.approx(fixed + right)
    for sweep in (sweeps[Manoeuvre.LEFT], sweeps[Manoeuvre.RIGHT]):
        assert sweep.kind is Kind.CIRCLE
        assert (sweep.slip_rad, sweep.rho_m) == pytest.approx((slip, rho))
    ramp = 0.0 if rate is None else V_MPS * (1.0 - math.cos(beta)) / (rate * L_M)
    goes_straight = bias == 0.0 and turn + ramp < 0.5 * math.pi
    assert (Manoeuvre.STRAIGHT in sweeps) == goes_straight
    if goes_straight:
        pad = shift + turn * driven
        if rate is not None:
            pad += V_MPS * abs(beta) / rate * chord(ramp + abs(beta))
        line = sweeps[Manoeuvre.STRAIGHT]
        assert line.kind is Kind.LINE
        assert (line.pad_m, line.wedge_rad) == pytest.approx((pad, turn + ramp))
    assert bool(got.turns) == (bias == 0.0 and rate is None and shift == 0.0)


@pytest.mark.parametrize(("beta", "error"), [(0.0, 0.02), (0.1, 0.03), (-0.2, 0.0), (0.75, 0.0), (0.75, 1.0)])
def test_braking_on_the_held_arc_needs_the_grip_for_both(beta: float, error: float) -> None:
    needed = math.hypot(BRAKE_MPS2, V_MPS**2 * math.sin(min(abs(beta) + error, 0.5 * math.pi)) / L_M)
    for share, brakes in ((0.999999, False), (1.000001, True)):
        car = replace(CAR, bounds=Bounds(lateral_accel_mps2=share * needed, steering_rad=error))
        sweeps = FamilyOf(car, beta, Reach.of(car, None)).after(1.0).sweeps
        assert (Manoeuvre.BRAKE in {sweep.manoeuvre for sweep in sweeps}) == brakes


def test_every_fixed_bound_grows_an_obstacle() -> None:
    bounds = Bounds(position_m=0.3, heading_rad=0.2, odometry_drift=0.05, sensing_age_s=0.4)
    car = replace(CAR, bounds=bounds)
    ((x, y, radius),) = bodies_of(car, State(1.0, 2.0, 0.5 * math.pi, 0.0), [Disc(1.0, 12.0, 0.7)])
    assert (x, y) == pytest.approx((10.0, 0.0))
    assert radius == pytest.approx(0.7 + 0.5 + 0.3 + 0.05 * V_MPS * 0.4 + 10.0 * chord(0.2), abs=1e-5)
    assert radius > 0.7 + 0.5 + 0.3 + 0.05 * V_MPS * 0.4 + 10.0 * chord(0.2)


BOUNDS = [
    Bounds(position_m=0.1, steering_rad=0.01, odometry_drift=0.02, tick_s=0.05),
    Bounds(slip_rate_radps=1.5, actuation_delay_s=0.1, brake_build_s=0.1),
    Bounds(lateral_accel_mps2=9.0, steering_bias_rad=0.01, sensing_range_m=60.0),
    Bounds(slip_rate_radps=4.0, heading_rad=0.02, field_of_view_rad=5.0),
]


def near(i: int) -> tuple[State, list[Disc]]:
    beta = 0.12 * ((i * 5) % 7 - 3)
    ahead = [(9.0 + (3 * i) % 23, 2.5 * ((i * 3) % 5 - 2), 0.6 + 0.3 * (i % 4))]
    ahead += [(4.0 + i % 11, 12.0 - i % 9, 1.5), (16.0 - i % 7, -9.0 + i % 6, 1.1)][: i % 3]
    return State(0.0, 0.0, 0.0, beta), [Disc(*spot) for spot in ahead]


def asked(car: Vehicle, state: State, discs: list[Disc]) -> Deadline:
    return tolerable_deadline(Method.BACKUP, car, state, discs, 3.0)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("brakes", [BRAKE_MPS2, None])
def test_obstacles_far_away_change_nothing(bounds: Bounds, brakes: float | None) -> None:
    """Few obstacles are asked one by one, many as a table: both see the same."""
    car = replace(CAR, bounds=bounds, deceleration_mps2=brakes)
    far = [Disc(4000.0 + 50.0 * k, -4000.0, 1.0) for k in range(40)]
    for i in range(25):
        state, discs = near(i)
        one, many = asked(car, state, discs), asked(car, state, discs + far)
        assert many.distance_m == pytest.approx(one.distance_m, abs=1e-5)
        assert many.limited_by == one.limited_by


def test_a_ramp_from_beyond_the_slip_angle_steered_lengthens_the_braking_turn() -> None:
    car = replace(CAR, bounds=Bounds(lateral_accel_mps2=30.0, slip_rate_radps=2.0))
    slip, beta = braking_slip_rad(car), 0.6
    assert slip < beta
    sweeps = {s.manoeuvre: s for s in FamilyOf(car, beta, Reach.of(car, None)).after(1.0).sweeps}
    wrong, ahead, lag = FamilyOf._ramp_turns(beta, slip, V_MPS / (2.0 * L_M))
    assert ahead > 0.0
    arc, length = sweeps[Manoeuvre.BRAKE_LEFT], V_MPS**2 / (2.0 * BRAKE_MPS2)
    assert (arc.start_rad, arc.lag_rad) == pytest.approx((-wrong, lag))
    assert arc.end_rad == pytest.approx(length * math.sin(slip) / L_M + ahead)


@pytest.mark.parametrize("count", [1, 40])
def test_the_held_arc_ends_a_switch_before_it_touches(count: int) -> None:
    car = replace(CAR, bounds=Bounds(tick_s=0.25))
    bodies = [(20.0 + 30.0 * k, 0.0, 2.0) for k in range(count)]
    family_of = FamilyOf(car, 0.0, Reach.of(car, None))
    asked_of = Question(car, 0.0, bodies, family_of, 0.0, 100.0)
    family, arc = family_of.after(50.0), Arc(0.0, L_M, 90.0)
    limit, cause = _held_limit(asked_of, family, arc, 50.0, 0.0, at_once(asked_of, family, arc))
    assert (limit, cause) == pytest.approx((18.0 - 0.25 * V_MPS, 0))
    assert _held_limit(asked_of, family, arc, 9.0, 0.0, at_once(asked_of, family, arc)) == (9.0, -1)


def test_a_pad_counts_like_radius_beside_moving_obstacles() -> None:
    family_of = FamilyOf(CAR, 0.1, Reach.of(CAR, None), moving=True)
    family, arc, found = family_of.after(1.0), Arc(0.1, L_M, 12.0), []
    straight = {s.manoeuvre: s for s in family.sweeps}[Manoeuvre.BRAKE_STRAIGHT]
    for pad, radius in ((0.0, 2.0), (0.7, 1.3)):
        asked_of = Question(CAR, 0.1, [(18.0, 11.0, radius)], family_of, 0.0, 100.0, [1.5])
        alone = replace(family, sweeps=(replace(straight, pad_m=pad),))
        found.append(cover_moving(asked_of, alone, arc, (0.0, 12.0, ""), 0.0, 12.0, 0.5))
    assert 0.5 < found[0].end_m < 12.0
    assert found[1].end_m == pytest.approx(found[0].end_m)


@pytest.mark.parametrize("brakes", [None, BRAKE_MPS2])
def test_another_command_still_in_flight_shortens_an_answer(brakes: float | None) -> None:
    car = replace(CAR, bounds=Bounds(actuation_delay_s=0.2), deceleration_mps2=brakes)
    state, wall = State(0.0, 0.0, 0.0, 0.0), [Disc(60.0, 0.0, 8.0)]
    settled = tolerable_deadline(Method.BACKUP, car, state, wall, 9.0)
    for other in (0.4, -0.4):
        unsettled = tolerable_deadline(Method.BACKUP, car, state, wall, 9.0, beta_in_flight_rad=other)
        assert unsettled.distance_m < settled.distance_m - 0.1
