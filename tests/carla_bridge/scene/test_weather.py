"""Weather changes pictures and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from carla_bridge.kinematic import KinematicWorld
from carla_bridge.obstacles import Obstacle
from carla_bridge.scenario import load_scenario
from carla_bridge.scene.weather import WEATHERS
from shield.guard import Control
from shield.vehicle import load_vehicle

ROAD = load_scenario("empty_road")
DEMO = load_vehicle("demo")


def world_in(weather: str, distance_m: float = 30.0) -> KinematicWorld:
    scenario = replace(ROAD, weather=WEATHERS[weather])
    return KinematicWorld(scenario, DEMO, 4, obstacles=(Obstacle(distance_m, 0.0),))


@pytest.mark.parametrize("weather", sorted(WEATHERS))
def test_the_drive_is_the_same_in_every_weather_and_the_picture_is_not(weather: str) -> None:
    clear, other = world_in("clear"), world_in(weather)
    for world in (clear, other):
        for _ in range(20):
            world.apply(Control(0.05, 8.0))
            world.tick()
    assert other.pose == clear.pose
    assert other.state() == clear.state()
    assert np.array_equal(other.frame(), clear.frame()) == (weather == "clear")


def test_fog_hides_what_is_far_and_shows_what_is_near() -> None:
    def drum_shows(distance_m: float) -> float:
        with_drum, without = world_in("fog", distance_m), world_in("fog", 500.0)
        return float(np.abs(with_drum.frame().astype(float) - without.frame().astype(float)).max())

    assert drum_shows(8.0) > 60.0
    assert drum_shows(80.0) < 12.0


def test_night_is_dark() -> None:
    assert world_in("night").frame().mean() < 0.4 * world_in("clear").frame().mean()
