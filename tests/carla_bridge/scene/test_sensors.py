"""The scenario's sensors: what they do wrong is what the vehicle declares."""

import math
from pathlib import Path

import pytest

from carla_bridge.errors import ScenarioError
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.scenario import load_scenario
from shield.guard import Control
from shield.vehicle import load_vehicle

DEMO = load_vehicle("demo")
ROAD = "sections = [{ length_m = 150.0, curvature_1pm = 0.0 }]\n"
WALKER = """
[[obstacle]]
kind = "crossing"
s_m = 30.0
offset_m = -6.0
to_m = 6.0
speed_mps = 2.0
gap_m = 40.0
"""


def world_of(tmp_path: Path, sensors: str, obstacle: str = WALKER) -> KinematicWorld:
    path = tmp_path / "road.toml"
    path.write_text(f"{ROAD}sensors = {{ {sensors} }}\n{obstacle}")
    return KinematicWorld(load_scenario(path), DEMO, 5)


def test_what_the_file_says_of_errors_becomes_the_declared_bound(tmp_path: Path) -> None:
    world = world_of(tmp_path, "position_m = 0.3, heading_rad = 0.02, speed_mps = 0.4")
    bounds = world.vehicle.bounds
    assert (bounds.position_m, bounds.heading_rad, bounds.speed_mps) == (0.3, 0.02, 0.4)
    assert bounds.actuation_delay_s == DEMO.bounds.actuation_delay_s


def test_without_sensors_the_vehicle_is_the_files(tmp_path: Path) -> None:
    assert world_of(tmp_path, "").vehicle is DEMO


def test_between_two_looks_a_disc_grows_so_that_it_always_covers_the_obstacle(tmp_path: Path) -> None:
    world = world_of(tmp_path, "rate_hz = 5.0, position_m = 0.1")
    radii = set()
    for _ in range(300):
        world.apply(Control(0.0, 0.0))
        world.tick()
        (disc,), (drum,) = world.obstacles(), world.drums
        state, (x_m, y_m, _) = world.state(), world.pose
        off = math.hypot((disc.x_m - state.x_m) - (drum.x_m - x_m), (disc.y_m - state.y_m) - (drum.y_m - y_m))
        assert off + 4.0 - DEMO.radius_m <= disc.radius_m + 0.1 + 1e-9
        radii.add(round(disc.radius_m, 3))
    assert len(radii) == 20
    assert max(radii) == pytest.approx(min(radii) + 0.19 * 2.0)


def test_what_is_out_of_range_is_not_told(tmp_path: Path) -> None:
    standing = '[[obstacle]]\nkind = "standing"\ns_m = 60.0\n'
    world = world_of(tmp_path, "range_m = 30.0", standing)
    assert world.vehicle.bounds.sensing_range_m == 30.0
    assert world.obstacles() == ()
    while world.pose[0] < 40.0:
        world.apply(Control(0.0, 10.0))
        world.tick()
    assert len(world.obstacles()) == 1


def test_the_declared_range_leaves_room_for_what_moves_between_looks(tmp_path: Path) -> None:
    world = world_of(tmp_path, "range_m = 60.0, rate_hz = 10.0")
    declared = world.vehicle.bounds.sensing_range_m
    assert declared is not None
    until_rest_s = 0.5 + DEMO.bounds.switch_time_s + DEMO.v_max_mps / 6.0
    assert declared == pytest.approx(60.0 - 0.1 * (DEMO.v_max_mps + 2.0) - 2.0 * until_rest_s)


def test_too_short_a_range_is_refused_with_the_least_that_would_do(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"sensors.range_m = 5: too short, must be above 5\.\d m"):
        world_of(tmp_path, "range_m = 5.0")
