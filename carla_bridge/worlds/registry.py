"""The further worlds by name, each with its own vehicle file, opened alike.

Libraries are imported when a world of theirs is opened, not before.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from carla_bridge.errors import WorldError
from carla_bridge.scenario import load_scenario
from carla_bridge.worlds.base import TrueWorld
from shield.vehicle import Vehicle, load_vehicle, parse_vehicle


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.

    Args:
        seed: Draws what the world draws.
        vehicle: Its parameters and declared bounds.
        scenario: A scenario's name, or a file; None: the world's own.
        speed_mps: Speed asked for [m/s]; None: the scenario's.
    """

    seed: int
    vehicle: Vehicle
    scenario: str | None
    speed_mps: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A world: its vehicle file, the longest time of an episode [s], and what opens it."""

    vehicle: str
    limit_s: float
    make: Callable[[Wanted], TrueWorld]


def _commonroad(wanted: Wanted) -> TrueWorld:
    module = importlib.import_module("carla_bridge.worlds.commonroad")
    recording = _recording(wanted.scenario)
    world: TrueWorld = module.CommonRoadWorld(recording, wanted.vehicle, wanted.seed, speed_mps=wanted.speed_mps)
    return world


@lru_cache(maxsize=8)
def _recording(source: str | None) -> Any:
    module = importlib.import_module("carla_bridge.worlds.commonroad")
    return module.read_recording(_shipped() / "street.xml" if source is None else source)


def _highway(wanted: Wanted) -> TrueWorld:
    if wanted.scenario is not None:
        raise WorldError(f"scenario = {wanted.scenario!r}: the highway world has none to choose")
    module = importlib.import_module("carla_bridge.worlds.highway")
    world: TrueWorld = module.HighwayWorld(wanted.vehicle, wanted.seed, speed_mps=wanted.speed_mps)
    return world


def _mujoco(wanted: Wanted) -> TrueWorld:
    module = importlib.import_module("carla_bridge.worlds.mujoco")
    scenario = load_scenario(wanted.scenario or "town04_curves")
    world: TrueWorld = module.MujocoWorld(scenario, wanted.vehicle, wanted.seed, speed_mps=wanted.speed_mps)
    return world


WORLDS = {
    "commonroad": Entry("traffic_car.toml", 15.0, _commonroad),
    "highway": Entry("highway_car.toml", 12.0, _highway),
    "mujoco": Entry("mujoco_car.toml", 20.0, _mujoco),
}


def open_world(
    name: str,
    scenario: str | None = None,
    vehicle: Vehicle | str | None = None,
    seed: int = 0,
    speed_mps: float | None = None,
) -> TrueWorld:
    """Open one of the further worlds at the start of an episode.

    Args:
        name: "commonroad", "highway" or "mujoco".
        scenario: For commonroad a CommonRoad file (None: the shipped street); for mujoco a scenario file or a shipped
            scenario's name (None: town04_curves); highway has none.
        vehicle: A vehicle, a vehicle file, or a shipped vehicle's name; None: the world's own.
        seed: Draws what the world draws.
        speed_mps: Speed asked for [m/s]; None: the scenario's.
    Raises:
        WorldError: no such world, or its library is not installed.
        ScenarioError: the scenario cannot be used.
        SimulatorError: the simulator failed.
        VehicleFileError: the vehicle file cannot be used.
    """
    if name not in WORLDS:
        raise WorldError(f"no world {name!r}: must be one of {', '.join(WORLDS)}")
    chosen = world_vehicle(name) if vehicle is None else load_vehicle(vehicle) if isinstance(vehicle, str) else vehicle
    return WORLDS[name].make(Wanted(seed, chosen, scenario, speed_mps))


def world_vehicle(name: str) -> Vehicle:
    """Return the vehicle of a world's own vehicle file."""
    own = WORLDS[name].vehicle
    return parse_vehicle((_shipped() / own).read_text(encoding="utf-8"), origin=own)


def _shipped() -> Path:
    return Path(str(files("carla_bridge") / "worlds"))
