"""highway-env's physics under our control: the bicycle, turned to our axes, among its drivers."""

import math

import pytest

from carla_bridge.bicycle import Bicycle
from carla_bridge.errors import SimulatorError, WorldError
from carla_bridge.worlds.bodies import Box
from carla_bridge.worlds.highway import HighwayWorld
from carla_bridge.worlds.registry import open_world, world_vehicle
from shield.guard import Control
from shield.vehicle import load_vehicle

pytest.importorskip("highway_env")
CAR = world_vehicle("highway")


def test_a_positive_slip_angle_turns_left_and_follows_the_bicycle() -> None:
    world = HighwayWorld(CAR, vehicles=0, error_share=0.0)
    body = Bicycle(CAR, *world.pose)
    for beta_rad, speed_mps, brake in ((0.0, 10.0, False), (0.15, 10.0, False), (-0.1, 10.0, True)):
        for _ in range(60):
            world.apply(Control(beta_rad, speed_mps, brake))
            world.tick()
            body.step(beta_rad, speed_mps, brake, world.tick_s)
    x_m, y_m, heading = world.pose
    assert heading == pytest.approx(body.heading_rad, abs=0.03)
    assert math.hypot(x_m - body.x_m, y_m - body.y_m) < 0.5
    assert world.motion.speed_mps == pytest.approx(body.speed_mps, abs=0.15)
    assert body.heading_rad > 0.2
    assert world.broken == {}


def test_the_traffic_starts_around_ours_and_stays_within_its_declared_speed() -> None:
    world = HighwayWorld(CAR, 3)
    assert world.motion.speed_mps == 0.0
    assert len(world.drums) == 10
    xs = [drum.x_m for drum in world.drums]
    assert min(xs) < world.pose[0] < max(xs)
    for _ in range(100):
        world.apply(Control(0.0, 8.0))
        world.tick()
    assert "obstacle_speed" not in world.broken
    assert all(disc.speed_max_mps == world.obstacle_speed_mps for disc in world.obstacles())
    assert world.frame().shape == (80, 160, 3)


def test_one_seed_gives_one_episode() -> None:
    def drive(seed: int) -> list[tuple[float, float]]:
        world = open_world("highway", seed=seed)
        for _ in range(25):
            world.apply(Control(0.02, 6.0))
            world.tick()
        return [(disc.x_m, disc.y_m) for disc in world.obstacles()]

    assert drive(4) == drive(4)
    assert drive(4) != drive(5)


def test_ours_runs_into_a_slower_one_ahead_without_a_shield() -> None:
    world = HighwayWorld(CAR, 3, vehicles=5)
    while not world.done and world.time_s < 20.0:
        world.apply(Control(0.0, 20.0))
        world.tick()
    contact = world.collisions[0]
    assert (contact.moving, contact.by) == (True, "ego")
    assert world.report().min_clearance_m == 0.0


def test_a_failing_simulator_is_told_from_a_failing_agent() -> None:
    world = HighwayWorld(CAR)
    world._env.road = None
    with pytest.raises(SimulatorError, match="highway-env failed"):
        world.tick()


def test_another_vehicle_is_refused() -> None:
    with pytest.raises(WorldError, match="highway-env's vehicles have 2"):
        HighwayWorld(load_vehicle("passenger_car"))
    with pytest.raises(WorldError, match="has none to choose"):
        open_world("highway", scenario="town04_short")


def test_bodies_are_boxes_in_our_axes() -> None:
    world = HighwayWorld(CAR, 2)
    for thing in world._things():
        assert isinstance(thing.body, Box)
        assert thing.body.length_m == 5.0
        assert thing.vx_mps > 0.0
