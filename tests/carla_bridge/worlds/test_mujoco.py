"""The car in MuJoCo: its bounds hold, its sensor finds what stands there, and its picture shows it."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from carla_bridge.errors import ScenarioError, SimulatorError, WorldError
from carla_bridge.kinematic import Start
from carla_bridge.obstacles import Obstacle
from carla_bridge.scenario import load_scenario
from carla_bridge.worlds.drive import drive_world
from carla_bridge.worlds.mujoco import TOP_SPEED_MPS, MujocoWorld
from carla_bridge.worlds.registry import open_world, world_vehicle
from shield.guard import Control

pytest.importorskip("mujoco")
CAR = world_vehicle("mujoco")
EMPTY = load_scenario("town04_short").without_obstacles()


def drive(world: MujocoWorld, control: Control, time_s: float) -> None:
    for _ in range(round(time_s / world.tick_s)):
        world.apply(control)
        world.tick()


def test_it_stands_still_on_its_springs() -> None:
    world = MujocoWorld(EMPTY, CAR)
    before = world.pose
    drive(world, Control(0.0, 0.0, True), 1.0)
    assert math.dist(world.pose, before) < 1e-3
    assert world.motion.speed_mps < 0.01


@pytest.mark.parametrize("seed", [0, 1])
def test_whatever_is_asked_for_the_declared_bounds_hold(seed: int) -> None:
    rng, world = np.random.default_rng(seed), MujocoWorld(EMPTY, CAR)
    grip = CAR.bounds.lateral_accel_mps2 or math.inf
    limit = math.asin(min(1.0, CAR.l_r_m * grip / CAR.v_max_mps**2))
    for _ in range(25):
        control = Control(
            float(rng.uniform(-limit, limit)), float(rng.uniform(0.0, TOP_SPEED_MPS)), bool(rng.random() < 0.25)
        )
        drive(world, control, float(rng.uniform(0.1, 1.2)))
    assert world.broken == {}


def test_it_is_not_the_model_of_the_shield() -> None:
    world = MujocoWorld(EMPTY, CAR)
    drive(world, Control(0.0, 8.0), 4.0)
    drive(world, Control(0.1, 8.0), 2.0)
    motion = world.motion
    curved = math.asin(motion.yaw_rate_radps / motion.speed_mps * CAR.l_r_m)
    # Tyres slip outwards: the course lags behind the wheels by more than the path's curvature does.
    error_rad = CAR.bounds.steering_rad + CAR.bounds.steering_bias_rad
    assert 0.002 < 0.1 - motion.slip_rad < error_rad
    assert abs(curved - 0.1) < error_rad


def test_the_ray_sensor_finds_drums_where_they_stand() -> None:
    x_m, y_m = EMPTY.route.at(25.0, 3.0)
    hidden = EMPTY.route.at(50.0, 6.0)
    world = MujocoWorld(EMPTY, CAR, obstacles=(Obstacle(x_m, y_m), Obstacle(*hidden)))
    (seen,) = world.obstacles()
    assert math.hypot(seen.x_m - x_m, seen.y_m - y_m) < 0.01
    assert seen.radius_m == pytest.approx(1.2, abs=0.01)
    drive(world, Control(0.0, 8.0), 4.0)
    assert len(world.obstacles()) == 2
    assert set(world.broken) <= {"listed"}


def test_a_drum_is_hit_by_the_body_and_that_ends_the_episode() -> None:
    world = MujocoWorld(EMPTY, CAR, obstacles=(Obstacle(*EMPTY.route.at(20.0)),))
    drive(world, Control(0.0, 6.0), 6.0)
    contact = world.collisions[0]
    assert (contact.other, contact.by, contact.moving) == ("drum 0", "ego", True)
    assert world.done
    assert world.motion.speed_mps < 3.0  # the drum stands


def test_a_blind_driver_is_kept_off_the_drums_by_the_shield_alone() -> None:
    saved = drive_world("mujoco", open_world("mujoco", seed=1), limit_s=5.5, pass_m=0.0)
    assert (saved.collisions_moving, saved.uncertified, saved.broken) == (0, 0, {})
    assert saved.interventions > 0
    assert saved.min_clearance_moving_m is not None
    assert saved.min_clearance_moving_m > 0.0
    lost = drive_world("mujoco", open_world("mujoco", seed=1), shielded=False, pass_m=0.0)
    assert lost.collisions_moving == 1


@pytest.fixture
def pictured() -> Iterator[MujocoWorld]:
    try:
        world = MujocoWorld(EMPTY, CAR, obstacles=(Obstacle(*EMPTY.route.at(15.0)),), own_camera=True)
    except SimulatorError as error:
        pytest.skip(str(error))
    yield world
    world.close()


def test_its_own_camera_sees_the_drum_ahead(pictured: MujocoWorld) -> None:
    frame = pictured.frame().astype(int)
    assert frame.shape == (80, 160, 3)
    orange = (frame[:, :, 0] > frame[:, :, 2] + 60) & (frame[:, :, 0] > 120)
    rows, columns = np.nonzero(orange)
    assert 50 < rows.size < 4000
    assert abs(columns.mean() - 79.5) < 6.0
    assert frame[70:, :, :].std() > 1.0


def test_what_it_cannot_do_is_told() -> None:
    with pytest.raises(WorldError, match="starts at rest"):
        MujocoWorld(EMPTY, CAR, start=Start(speed_mps=5.0))
    with pytest.raises(ScenarioError, match="they stand"):
        open_world("mujoco", "crossing_pedestrian")
    world = MujocoWorld(EMPTY, CAR)
    with pytest.raises(WorldError, match="must be finite"):
        world.apply(Control(math.nan, 1.0))
    world.close()
    world.close()
    with pytest.raises(WorldError, match="after close"):
        world.tick()
