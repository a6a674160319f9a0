"""Every declared bound: enlarging it never lengthens a deadline, and a vehicle that errs that much is still safe."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shield.arc import Reach
from shield.backup.family import FamilyOf, Kind
from shield.deadline import Deadline, Method, tolerable_deadline
from shield.manoeuvre import Manoeuvre, backup_slip_rad, braking_slip_rad, grip_slip_rad
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle

CAR = Vehicle(1.6, 0.8, 12.0, radius_m=0.5, a_max_mps2=4.0, deceleration_mps2=6.0)
EPSILON_M = 2e-2
"""What a search that ends within a millimetre can differ by after several of its steps."""

GROWING: dict[str, list[float]] = {
    "position_m": [0.1, 0.5],
    "heading_rad": [0.02, 0.1],
    "steering_rad": [0.005, 0.02],
    "steering_bias_rad": [0.005, 0.02],
    "speed_mps": [0.5, 3.0],
    "obstacle_speed_mps": [0.5, 2.0],
    "odometry_drift": [0.05, 0.5],
    "sensing_age_s": [0.05, 0.2],
    "actuation_delay_s": [0.05, 0.2],
    "tick_s": [0.02, 0.1],
    "jitter_s": [0.02, 0.1],
    "fail_safe_s": [0.02, 0.1],
    "brake_build_s": [0.1, 0.4],
    "sensing_range_m": [60.0, 30.0],
    "field_of_view_rad": [4.0, 2.0],
    "slip_rate_radps": [4.0, 0.8],
}

shares = st.floats(-1.0, 1.0)
speeds = st.one_of(st.none(), st.floats(0.0, 12.0))


@st.composite
def scenes(draw: st.DrawFn) -> list[Disc]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        radius = draw(st.floats(0.3, 4.0))
        distance, bearing = radius + draw(st.floats(1.0, 40.0)), draw(st.floats(-1.0, 1.0))
        found.append(Disc(distance * math.cos(bearing), distance * math.sin(bearing), radius))
    return found


def backup(vehicle: Vehicle, state: State, obstacles: list[Disc], cap_s: float = 4.0, **more: Any) -> Deadline:
    return tolerable_deadline(Method.BACKUP, vehicle, state, obstacles, cap_s, **more)


def bounded(vehicle: Vehicle, **bounds: float) -> Vehicle:
    return replace(vehicle, bounds=Bounds(**bounds))


@pytest.mark.parametrize("name", GROWING)
@settings(max_examples=8)  # moving obstacles and drift take tens of milliseconds an answer
@given(share=shares, speed=speeds, obstacles=scenes(), brakes=st.booleans())
def test_enlarging_a_bound_never_lengthens(
    name: str, share: float, speed: float | None, obstacles: list[Disc], brakes: bool
) -> None:
    vehicle = CAR if brakes else replace(CAR, deceleration_mps2=None)
    state = State(0.0, 0.0, 0.0, share * 0.8, speed)
    last = backup(vehicle, state, obstacles).deadline_s
    for value in GROWING[name]:
        answer = backup(bounded(vehicle, **{name: value}), state, obstacles).deadline_s
        assert answer <= last + EPSILON_M / 4.0
        last = answer


@given(share=shares, obstacles=scenes())
def test_less_grip_never_lengthens_against_one_disc_ahead(share: float, obstacles: list[Disc]) -> None:
    """With the disc outside the wider circle, which holds for whatever lies ahead, less grip reaches less."""
    state = State(0.0, 0.0, 0.0, share * 0.01)
    ahead = [Disc(abs(obstacles[0].x_m) + 8.0, 0.0, obstacles[0].radius_m)]
    car = replace(CAR, deceleration_mps2=None)
    last = backup(car, state, ahead).deadline_s
    for grip in (60.0, 20.0, 5.0):
        answer = backup(bounded(car, lateral_accel_mps2=grip), state, ahead).deadline_s
        assert answer <= last + EPSILON_M / 12.0
        last = answer


@pytest.mark.parametrize(("name", "values"), [("a_max_mps2", [2.0, 4.0, 9.0]), ("deceleration_mps2", [9.0, 6.0, 3.0])])
@given(share=shares, speed=st.floats(0.0, 12.0), obstacles=scenes())
def test_faster_acceleration_or_weaker_brakes_never_lengthen(
    name: str, values: list[float], share: float, speed: float, obstacles: list[Disc]
) -> None:
    change: dict[str, Any]
    last = math.inf
    for value in values:
        change = {name: value}
        answer = backup(replace(CAR, **change), State(0.0, 0.0, 0.0, share * 0.8, speed), obstacles).deadline_s
        assert answer <= last + EPSILON_M / 4.0
        last = answer


def test_less_grip_may_lengthen_where_only_the_wider_circle_misses_a_post() -> None:
    """The one exception, and why the order is claimed without a declared grip, or for what lies ahead, alone.

    A post stands on either full-lock circle, and a wall all round closes every way out: with full grip nothing is
    clear. The circle that a lower grip allows goes round outside its post, and so the same scene has a deadline.
    """
    car = replace(CAR, deceleration_mps2=None, a_max_mps2=None)
    assert car.bounds.lateral_accel_mps2 is None
    far = car.rho_rear_m + car.rho_m
    posts = [Disc(-car.l_r_m, side * far, 0.3) for side in (1.0, -1.0)]
    wall = [Disc(40.0 * math.cos(0.1 * k), 40.0 * math.sin(0.1 * k), 3.0) for k in range(63)]
    state = State(0.0, 0.0, 0.0, 0.0)
    assert backup(car, state, [*posts, *wall]).deadline_s == 0.0
    assert backup(bounded(car, lateral_accel_mps2=20.0), state, [*posts, *wall]).deadline_s > 0.4
    # Less again, and the circle no longer fits within the wall.
    assert backup(bounded(car, lateral_accel_mps2=5.0), state, [*posts, *wall]).deadline_s == 0.0


def test_a_held_slip_angle_beyond_the_grip_is_refused() -> None:
    car = bounded(CAR, lateral_accel_mps2=7.0)
    assert grip_slip_rad(car) == pytest.approx(math.asin(1.6 * 7.0 / 144.0))
    answer = backup(car, State(0.0, 0.0, 0.0, 0.2), [Disc(60.0, 0.0, 1.0)])
    assert (answer.deadline_s, answer.limited_by) == (0.0, "bound:lateral_accel_mps2")


def test_braking_on_an_arc_stays_within_the_grip() -> None:
    car = bounded(CAR, lateral_accel_mps2=7.0)
    slip = braking_slip_rad(car)
    assert math.hypot(6.0, 144.0 * math.sin(slip) / 1.6) == pytest.approx(7.0)
    assert backup_slip_rad(car, Manoeuvre.BRAKE_LEFT, 0.0) == slip
    assert backup_slip_rad(car, Manoeuvre.RIGHT, 0.0) == -grip_slip_rad(car)
    assert backup_slip_rad(car, Manoeuvre.BRAKE, 0.05) == 0.05
    assert braking_slip_rad(bounded(CAR, lateral_accel_mps2=5.0)) == 0.0


def test_an_error_of_the_steering_without_brakes_leaves_nothing() -> None:
    car = bounded(replace(CAR, deceleration_mps2=None), steering_rad=0.001)
    answer = backup(car, State(0.0, 0.0, 0.0), [Disc(60.0, 0.0, 1.0)])
    assert (answer.deadline_s, answer.limited_by) == (0.0, "bound:deceleration_mps2")


def test_a_constant_bias_leaves_the_circle_but_not_the_straight() -> None:
    car = bounded(replace(CAR, deceleration_mps2=None), steering_bias_rad=0.001)
    answer = backup(car, State(0.0, 0.0, 0.0), [Disc(60.0, 0.0, 1.0)])
    assert answer.deadline_s > 1.0
    assert {interval.manoeuvre for interval in answer.certificate.intervals} <= {Manoeuvre.LEFT, Manoeuvre.RIGHT}


def test_the_sensing_range_ends_the_deadline_of_an_empty_road() -> None:
    car = bounded(CAR, sensing_range_m=50.0)
    answer = backup(car, State(0.0, 0.0, 0.0), [], 10.0)
    assert answer.limited_by == "bound:sensing_range_m"
    # To stop within the range less the vehicle's radius, or to have turned away inside it.
    assert 50.0 - 0.5 - 12.0 - 1.0 < answer.distance_m < 50.0 - 0.5


def test_a_narrow_field_of_view_asks_for_brakes() -> None:
    ahead = bounded(CAR, field_of_view_rad=1.0)
    assert backup(ahead, State(0.0, 0.0, 0.0), []).limited_by == "cap"
    coasting = replace(ahead, deceleration_mps2=None)
    answer = backup(coasting, State(0.0, 0.0, 0.0), [])
    assert (answer.deadline_s, answer.limited_by) == (0.0, "bound:field_of_view_rad")


def test_passenger_car_has_every_bound_and_still_drives() -> None:
    car = load_vehicle("passenger_car")
    answer = backup(car, State(0.0, 0.0, 0.0, 0.0, 8.0), [Disc(60.0, 0.0, 1.0)])
    assert answer.deadline_s > 0.5
    assert answer.manoeuvre is not None
    assert answer.manoeuvre.braking


@given(share=shares, in_flight=shares, obstacles=scenes())
def test_a_new_control_under_delay_lasts_no_longer(share: float, in_flight: float, obstacles: list[Disc]) -> None:
    car = bounded(CAR, actuation_delay_s=0.05)
    state = State(0.0, 0.0, 0.0, share * 0.8)
    base = backup(car, state, obstacles)
    new = backup(car, state, obstacles, beta_in_flight_rad=in_flight * 0.8)
    assert new.deadline_s <= base.deadline_s + EPSILON_M / 12.0
    same = backup(car, state, obstacles, beta_in_flight_rad=state.beta_rad)
    assert same.distance_m == pytest.approx(base.distance_m, abs=EPSILON_M)


Slip = Callable[[float], float]

STEP_M = 0.01
"""Of the plain stepping; a switch between two steps is that much early or late."""


def errant_path(car: Vehicle, slip: Slip, length: float, step: float = STEP_M) -> np.ndarray:
    """Return x, y along a path driven from the origin, by plain stepping; slip is a function of the way driven."""
    count = max(2, math.ceil(length / step))
    h = length / count
    betas = np.array([slip((i + 0.5) * h) for i in range(count)])
    turns = np.sin(betas) / car.l_r_m * h
    heading = np.concatenate(([0.0], np.cumsum(turns)))[:-1] + 0.5 * turns + betas
    return np.stack((np.cumsum(h * np.cos(heading)), np.cumsum(h * np.sin(heading))), axis=1)


def at_least_clear(car: Vehicle, path: np.ndarray, obstacles: list[Disc]) -> float:
    spots = np.array([(disc.x_m, disc.y_m, disc.radius_m + car.radius_m) for disc in obstacles])
    return float((np.hypot(path[:, :1] - spots[:, 0], path[:, 1:] - spots[:, 1]) - spots[:, 2]).min())


def manoeuvre_at(answer: Deadline, s: float) -> Manoeuvre:
    return next(item.manoeuvre for item in answer.certificate.intervals if item.start_m <= s <= item.end_m)


Real = Callable[[Vehicle, float, float, float, float], tuple[Slip, float]]
"""How a vehicle really drives, from (vehicle, held, steered, place of the switch, sign): its slip angle by way, and its
pace as a share of top speed."""


def hits(certified: Vehicle, real: Vehicle, drives: Real, in_flight: float | None = None) -> int:
    """Return in how many random scenes a vehicle that errs, held to another vehicle's certificates, hits a disc."""
    rng = np.random.default_rng(17)
    found = 0
    for _ in range(250):
        beta = float(rng.uniform(-0.2, 0.2))
        radius = float(rng.uniform(0.5, 5.0))
        distance, bearing = radius + 0.6 + float(rng.uniform(0.5, 14.0)), float(rng.uniform(-0.6, 0.6))
        obstacles = [Disc(distance * math.cos(bearing), distance * math.sin(bearing), radius)]
        more = {} if in_flight is None else {"beta_in_flight_rad": in_flight}
        answer = backup(certified, State(0.0, 0.0, 0.0, beta), obstacles, **more)
        if not answer.certificate.intervals:
            continue
        share = float(rng.choice([0.5, 0.999, 1.0]))
        s = share * answer.distance_m
        manoeuvre = manoeuvre_at(answer, s)
        if not manoeuvre.constant:
            continue
        steered = backup_slip_rad(certified, manoeuvre, beta)
        worst = math.inf
        for sign in (1.0, -1.0):
            slip, pace = drives(real, beta, steered, s, sign)
            speed = pace * real.v_max_mps
            length = s + (speed * speed / 12.0 if manoeuvre.braking else 2.5 * math.pi * real.rho_m + 20.0)
            worst = min(worst, at_least_clear(real, errant_path(real, slip, length), obstacles))
        found += worst < -STEP_M
    return found


COASTING = replace(CAR, deceleration_mps2=None)


def steers_wrong(car: Vehicle, held: float, steered: float, s: float, sign: float) -> tuple[Slip, float]:
    error = sign * (car.bounds.steering_rad + car.bounds.steering_bias_rad)
    return (lambda way: (held if way < s else steered) + error), 1.0


def steers_back_and_forth(car: Vehicle, held: float, steered: float, s: float, sign: float) -> tuple[Slip, float]:
    error = sign * car.bounds.steering_rad
    return (lambda way: (held if way < s else steered) + error * (-1.0) ** int(way / 5.0)), 1.0


def ramps_slowly(car: Vehicle, held: float, steered: float, s: float, sign: float) -> tuple[Slip, float]:
    """The slip angle ramps at the declared rate; a positive sign is full speed, a negative one half of it."""
    rate, pace = car.bounds.slip_rate_radps, 1.0 if sign > 0.0 else 0.5
    assert rate is not None
    per_metre = rate / (pace * car.v_max_mps)

    def slip(way: float) -> float:
        turned = min(abs(steered - held), per_metre * max(0.0, way - s))
        return held + math.copysign(turned, steered - held)

    return slip, pace


def switches_late(car: Vehicle, held: float, steered: float, s: float, sign: float) -> tuple[Slip, float]:
    late = car.v_max_mps * car.bounds.actuation_delay_s * (1.0 if sign > 0.0 else 0.5)
    return (lambda way: held if way < s + late else steered), 1.0


IN_FLIGHT_RAD = 0.5


def obeys_late(car: Vehicle, held: float, steered: float, s: float, sign: float) -> tuple[Slip, float]:
    late = car.v_max_mps * car.bounds.actuation_delay_s * (1.0 if sign > 0.0 else 0.5)
    return (lambda way: IN_FLIGHT_RAD if way < late else held if way < s + late else steered), 1.0


@pytest.mark.parametrize(
    ("car", "drives", "in_flight"),
    [
        (bounded(CAR, steering_rad=0.03), steers_wrong, None),
        (bounded(CAR, steering_rad=0.03), steers_back_and_forth, None),
        (bounded(CAR, steering_bias_rad=0.03), steers_wrong, None),
        (bounded(COASTING, steering_bias_rad=0.02), steers_wrong, None),
        (bounded(CAR, slip_rate_radps=1.5), ramps_slowly, None),
        (bounded(COASTING, slip_rate_radps=1.5), ramps_slowly, None),
        (bounded(CAR, actuation_delay_s=0.1), switches_late, None),
        (bounded(COASTING, actuation_delay_s=0.1), switches_late, None),
        (bounded(CAR, actuation_delay_s=0.1), obeys_late, IN_FLIGHT_RAD),
        (bounded(COASTING, actuation_delay_s=0.1), obeys_late, IN_FLIGHT_RAD),
    ],
)
def test_a_vehicle_that_errs_within_its_bounds_hits_nothing(
    car: Vehicle, drives: Real, in_flight: float | None
) -> None:
    assert hits(car, car, drives, in_flight) == 0
    # The same vehicle, certified as if it did not err, does hit: the scenes can tell.
    unaware = bounded(car, actuation_delay_s=0.1) if in_flight is not None else replace(car, bounds=Bounds())
    assert hits(unaware, car, drives) > 0


@pytest.mark.parametrize("bias", [0.01, 0.05, -0.01, -0.05])
def test_a_biased_circle_stays_within_its_pad_of_the_nominal_one(bias: float) -> None:
    car = bounded(COASTING, steering_bias_rad=abs(bias))
    left = next(
        sweep for sweep in FamilyOf(car, 0.0, Reach.of(car, None)).after(0.0).sweeps if sweep.kind is Kind.CIRCLE
    )
    path = errant_path(car, lambda _: car.beta_max_rad + bias, 2.5 * math.pi * left.rho_m)
    strays = np.abs(np.hypot(path[:, 0] + car.l_r_m, path[:, 1] - left.centre_y_m) - left.rho_m).max()
    assert 0.5 * left.pad_m < strays <= left.pad_m + STEP_M
