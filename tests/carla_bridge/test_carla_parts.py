"""The parts of CarlaWorld that need no simulator: lidar against an own ray caster, vehicle file against geometry."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carla_bridge.carla.agreement import mismatches, worst_slip_error
from carla_bridge.carla.lidar import LidarSettings, cover
from carla_bridge.carla.steering import Steering
from carla_bridge.obstacles import Obstacle
from shield.vehicle import load_vehicle
from tests.carla_emulator.sensors import Floats, turn

LIDAR = LidarSettings()
BODY_M = (2.3, 1.0)
DRUMS = st.builds(
    lambda r, a, radius, height: Obstacle(r * math.cos(a), r * math.sin(a), radius, height),
    st.floats(5.0, 35.0),
    st.floats(-math.pi, math.pi),
    st.floats(0.2, 0.75),
    st.floats(0.9, 1.9),
)


def sweep(drums: tuple[Obstacle, ...], lidar: LidarSettings = LIDAR) -> Floats:
    """Return the hits of one turn about the origin: ahead, right, up."""
    bearings: Floats = np.arange(lidar.rays, dtype=np.float64) * (2.0 * math.pi / lidar.rays)
    pitches: Floats = np.radians(np.linspace(lidar.upper_deg, lidar.lower_deg, lidar.channels))
    return turn((0.0, 0.0, lidar.height_m), 0.0, bearings, pitches, lidar.range_m, drums)[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(DRUMS, max_size=5).map(tuple))
def test_each_round_obstacle_in_sight_is_covered(drums: tuple[Obstacle, ...]) -> None:
    discs = cover(sweep(drums), LIDAR, BODY_M)
    for drum in drums:
        if not any(_hides(other, drum) for other in drums if other is not drum):
            for angle in np.linspace(0.0, 2.0 * math.pi, 90).tolist():
                rim = drum.x_m + drum.radius_m * math.cos(angle), drum.y_m + drum.radius_m * math.sin(angle)
                assert any(math.dist(rim, (x, y)) <= radius for x, y, radius in discs), (drum, discs)


def _hides(other: Obstacle, drum: Obstacle) -> bool:
    """Whether one of two might cover part of the other."""
    near, far = sorted((other, drum), key=lambda item: math.hypot(item.x_m, item.y_m))
    angle = math.atan2(near.y_m, near.x_m) - math.atan2(far.y_m, far.x_m)
    wide = sum(math.asin(min(1.0, item.radius_m / math.hypot(item.x_m, item.y_m))) for item in (near, far))
    return abs(math.remainder(angle, 2.0 * math.pi)) < wide + 0.01


def test_an_empty_road_and_the_own_body_give_no_disc() -> None:
    assert cover(sweep(()), LIDAR, BODY_M) == []
    roof = np.array([[0.5, 0.3, -0.4], [-1.0, 0.5, -0.5]])
    assert cover(roof, LIDAR, BODY_M) == []


def test_a_long_wall_becomes_a_row_of_discs_beside_the_road() -> None:
    along = np.linspace(-20.0, 20.0, 400)
    wall = np.column_stack([along, np.full(400, 6.0), np.full(400, -1.0)])
    discs = cover(wall, LIDAR, BODY_M)
    assert all(min(math.hypot(x - a, y + 6.0) - radius for x, y, radius in discs) <= 0.0 for a in along)
    assert max(y + radius for _, y, radius in discs) < -3.5


def test_a_lidar_turns_once_a_tick() -> None:
    told = LIDAR.attributes(0.02)
    assert (told["rotation_frequency"], told["points_per_second"]) == ("50.0", str(32 * 720 * 50))


STEERING = Steering(3.2, 1.6, math.radians(70.0), (0.0, 20.0, 60.0, 120.0), (1.0, 0.9, 0.8, 0.7))


@given(st.floats(-0.6, 0.6), st.floats(0.0, 20.0))
def test_steer_and_slip_are_each_others_inverse(beta_rad: float, speed_mps: float) -> None:
    assert STEERING.slip_rad(STEERING.steer(beta_rad, speed_mps), speed_mps) == pytest.approx(beta_rad, abs=1e-9)


def test_a_file_that_fits_has_no_mismatch_and_each_that_does_not_is_named() -> None:
    # At 12 m/s full lock is 70 degrees times 0.866 of the curve: a slip angle of 0.6297 rad, not the file's 0.889.
    reached = STEERING.slip_rad(-1.0, 12.0)
    fits = replace(load_vehicle("demo"), beta_max_rad=reached, radius_m=2.5)
    assert mismatches(fits, STEERING, 2.42, 0.02) == ()
    assert worst_slip_error(load_vehicle("demo"), STEERING)[0] == pytest.approx(0.8891626 - reached, abs=1e-3)
    cases = {
        "l_r_m = 1.2": replace(fits, l_r_m=1.2),
        "smaller beta_max_rad than 0.889": replace(fits, beta_max_rad=0.8891626),
        "radius_m = 1: the simulator's body needs 2.42 m": replace(fits, radius_m=1.0),
        "bounds.tick_s = 0.01": replace(fits, bounds=replace(fits.bounds, tick_s=0.01)),
        "bounds.actuation_delay_s = 0": replace(fits, bounds=replace(fits.bounds, actuation_delay_s=0.0)),
    }
    for words, vehicle in cases.items():
        assert any(words in told for told in mismatches(vehicle, STEERING, 2.42, 0.02)), words
