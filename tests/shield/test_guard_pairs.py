"""One look of the guard, piece by piece: which manoeuvres it asks, what grows meanwhile, which times it tries."""

import math
from dataclasses import replace

import pytest

from shield.backup.question import Cover
from shield.guard.certify import DEADLINE_GRAIN, DEADLINE_GRAIN_S, Asking, _between, certified_pair, quick_deadline
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle

CAR = Vehicle(2.0, 0.5, 10.0, radius_m=0.5, deceleration_mps2=5.0, bounds=Bounds(actuation_delay_s=0.1))
AHEAD = State(0.0, 0.0, 0.0, 0.0)
HELD_BEYOND_GRIP = replace(
    CAR, deceleration_mps2=None, bounds=Bounds(lateral_accel_mps2=7.0, actuation_delay_s=0.1, steering_rad=0.01)
)


@pytest.mark.parametrize("speed_max_mps", [0.0, 2.0])
def test_where_the_vehicle_may_do_nothing_no_time_is_covered(speed_max_mps: float) -> None:
    state, disc = State(0.0, 0.0, 0.0, 0.45), Disc(60.0, 0.0, 1.0, speed_max_mps)
    asking = Asking(HELD_BEYOND_GRIP, state, [disc], 2.0)
    assert asking.cover(0.5) == (Cover(0.0, [], {}, "bound:lateral_accel_mps2"), 5.0)
    assert certified_pair(HELD_BEYOND_GRIP, state, [disc], [0.5, 0.01]) is None
    assert quick_deadline(HELD_BEYOND_GRIP, state, [disc], 0.0, 2.0) == (0.0, "bound:lateral_accel_mps2")


def test_obstacles_move_until_the_switch_after_the_hold_and_while_the_vehicle_brakes() -> None:
    """A disc head on: when the vehicle stands, 0.6 s + 0.1 s + 10/5 s later, it has come 2 m/s as long nearer."""
    disc = Disc(23.0, 0.0, 1.0, 2.0)
    asking = Asking(CAR, AHEAD, [disc], 2.0)
    asking.question.levels = 5
    assert asking.moving
    cover, way_m = asking.cover(0.6)
    assert way_m == pytest.approx(6.0)
    standing_m = 23.0 - 1.0 - 0.5 - 2.0 * (0.6 + 0.1 + 2.0)
    assert cover.until_m[Manoeuvre.BRAKE] == pytest.approx(standing_m - 10.0 - 1.0, abs=0.01)  # braked way, delay
    for speed_max_mps, holds in ((0.5, True), (9.0, False)):
        pair = certified_pair(CAR, AHEAD, [replace(disc, speed_max_mps=speed_max_mps)], [0.6])
        assert (pair is not None) is holds


def test_a_standing_obstacle_is_asked_about_where_it_stands() -> None:
    asking = Asking(CAR, AHEAD, [Disc(25.0, 0.0, 1.0)], 2.0)
    assert not asking.moving
    assert asking.question.speeds == []
    assert asking.question.cap_m == pytest.approx(20.0)
    cover, _ = asking.cover(2.0)
    assert cover.until_m[Manoeuvre.BRAKE] == pytest.approx(25.0 - 1.5 - 10.0 - 1.0, abs=1e-5)


def test_only_manoeuvres_of_constant_control_are_asked() -> None:
    coasting = replace(CAR, deceleration_mps2=None)
    asking = Asking(coasting, AHEAD, [Disc(20.0, 3.0, 1.0), Disc(20.0, -3.0, 1.0)], 2.0)
    family = asking.family_of.after(5.0)
    assert family.turns == ()
    assert all(sweep.manoeuvre.constant for sweep in family.sweeps)


def test_the_next_time_to_try() -> None:
    """The end until it has failed, then twice as long and a grain more, then half way."""
    assert _between(0.3, 2.0, False) == 2.0
    assert _between(0.0, 2.0, True) == DEADLINE_GRAIN_S
    assert _between(0.5, 2.0, True) == 2.0 * 0.5 + DEADLINE_GRAIN_S
    assert _between(0.4, 2.0, True) == 2.0 * 0.4 + DEADLINE_GRAIN_S
    assert _between(0.6, 2.0, True) == pytest.approx(1.3)


def test_a_guess_below_what_is_known_costs_nothing_but_itself() -> None:
    for least_s, guess_s in ((0.5, 0.4), (1.9999, 0.4), (1.9999, math.inf), (0.0, 5.0)):
        assert quick_deadline(CAR, AHEAD, [Disc(-90.0, 0.0, 1.0, 0.5)], least_s, 2.0, guess_s) == (2.0, "cap")


@pytest.mark.parametrize("speed_max_mps", [0.0, 2.0])
@pytest.mark.parametrize("distance_m", [16.0, 17.0, 19.0, 25.0])
@pytest.mark.parametrize("guess_s", [0.1, 1.0, math.inf])
def test_a_quick_deadline_is_covered_and_no_more_than_its_grain_short(
    speed_max_mps: float, distance_m: float, guess_s: float
) -> None:
    car = replace(CAR, bounds=replace(CAR.bounds, odometry_drift=0.02))
    wall = [Disc(distance_m, side, 4.0, speed_max_mps) for side in (-9.0, -3.0, 3.0, 9.0)]
    least_s = 0.0
    found_s, limited_by = quick_deadline(car, AHEAD, wall, least_s, 2.0, guess_s)
    asking = Asking(car, AHEAD, wall, 2.0)
    if found_s > 0.0:
        assert not asking.cover(found_s)[0].limit
    if limited_by != "cap":
        later_s = found_s + 1.1 * max(DEADLINE_GRAIN_S, DEADLINE_GRAIN * found_s)
        assert asking.cover(later_s)[0].limit == limited_by
