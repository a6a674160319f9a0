"""Scenarios: a road, what stands and moves on it, weather and sensors, from a TOML file (docs/scenarios.md)::

    name = "pedestrian_from_the_right"
    about = "A pedestrian steps onto the road from the right."
    target_speed_mps = 9.0
    sections = [{ length_m = 160.0, curvature_1pm = 0.0 }]
    weather = "overcast"

    [[obstacle]]
    kind = "crossing"
    s_m = [45.0, 60.0]                 # drawn for each seed
    offset_m = -7.0
    to_m = 7.0
    speed_mps = [0.8, 1.6]
    gap_m = [20.0, 35.0]

A key left out keeps its default; a road needs waypoints, sections, both, or a map.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from carla_bridge.errors import ScenarioError
from carla_bridge.obstacles import SpawnRule
from carla_bridge.route import Floats, Route, Section
from carla_bridge.scene.kinds import Placed, read_placed
from carla_bridge.scene.sensors import Sensors, read_sensors
from carla_bridge.scene.table import ZERO, Range, Table
from carla_bridge.scene.traffic import Course
from carla_bridge.scene.weather import Weather, read_weather
from shield.vehicle import Vehicle

PUBLISHED_NOISE_M = 1.15
_FIRST_SEED, _LAST_SEED = 0, 2**31 - 1
_ROAD = ("waypoints", "sections", "map")
_OWN = ("name", "about", "vehicle", "duration_s", "half_width_m", "target_speed_mps")
_PARTS = ("start", "seeds", "weather", "sensors", "obstacles", "obstacle")


@dataclass(frozen=True, slots=True)
class StartRange:
    """Where a vehicle starts, at rest: along and beside the road [m], its heading against the road's [rad]."""

    s_m: Range = ZERO
    offset_m: Range = ZERO
    heading_error_rad: Range = ZERO


@dataclass(frozen=True, slots=True)
class Scenario:
    """A road with its rules.

    Args:
        name: Name of the scenario.
        route: Centre line.
        half_width_m: From the centre line to the kerb [m]; beyond it a vehicle is off the track.
        target_speed_mps: Speed asked for [m/s].
        spawn: Where obstacles stand by the published rule.
        placed: Further obstacles, standing and moving.
        about: What it is about, in a sentence.
        vehicle: A vehicle file, or a shipped vehicle's name, that it is meant for.
        duration_s: Longest time driven [s].
        start: Where the vehicle starts.
        seeds: The seeds that it is meant to be driven with.
        weather: What the camera sees of it.
        sensors: What the vehicle is told with.
    """

    name: str
    route: Route
    half_width_m: float = 10.0
    target_speed_mps: float = 40.0 / 3.6
    spawn: SpawnRule = field(default_factory=SpawnRule)
    placed: tuple[Placed, ...] = ()
    about: str = ""
    vehicle: str = "demo"
    duration_s: float = 30.0
    start: StartRange = field(default_factory=StartRange)
    seeds: range = range(50)
    weather: Weather = field(default_factory=Weather)
    sensors: Sensors = field(default_factory=Sensors)

    def with_noise(self, noise_m: float = PUBLISHED_NOISE_M) -> "Scenario":
        """Return the scenario with N(0, noise_m) on each obstacle's x and y."""
        return replace(self, spawn=replace(self.spawn, noise_m=noise_m))

    def without_obstacles(self) -> "Scenario":
        """Return the scenario with an empty road."""
        return replace(self, spawn=replace(self.spawn, count=0), placed=())

    def courses(self, rng: np.random.Generator) -> list[Course]:
        """Return the placed obstacles of one seed, in the order of the file."""
        return [course for placed in self.placed for course in placed.draw(rng)]

    def declare(self, vehicle: Vehicle) -> Vehicle:
        """Return the vehicle with the bounds that hold with this scenario's sensors.

        Raises:
            ScenarioError: the sensors see too short a way for the vehicle's speed and the obstacles'.
        """
        return self.sensors.declare(vehicle, max((placed.top_mps for placed in self.placed), default=0.0))


def shipped_scenarios() -> tuple[str, ...]:
    """Return the names of the scenarios that come with the package."""
    return tuple(sorted(item.name[:-5] for item in _shipped().iterdir() if item.name.endswith(".toml")))


def load_scenario(source: str | Path) -> Scenario:
    """Read a scenario file, or one of the shipped scenarios by its name.

    Args:
        source: A TOML file, or the name of a shipped scenario (`headway scenarios` lists them).
    Raises:
        ScenarioError: no such file; not TOML; a key is missing, unknown or holds an impossible value.
        SimulatorError: its road is a map and the extra that reads maps is not installed.
    """
    path = Path(source)
    if path.suffix or path.name != str(source):
        return _read(path)
    if str(source) not in shipped_scenarios():
        names = ", ".join(shipped_scenarios())
        raise ScenarioError(f"no shipped scenario is called {source!r}: there are {names}, or give a .toml file")
    with as_file(_shipped()) as folder:
        return _read(folder / f"{source}.toml")


def _shipped() -> Any:
    return files("carla_bridge") / "scenarios"


def _read(path: Path) -> Scenario:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"cannot read the scenario {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} is not TOML: {error}") from error
    table = Table(values, f"{path}: ", (*_OWN, *_ROAD, *_PARTS))
    return Scenario(
        name=table.text("name", path.stem),
        spawn=_spawn(table),
        placed=tuple(read_placed(item, where) for item, where in table.items("obstacle")),
        about=table.text("about") if "about" in table else "",
        vehicle=table.text("vehicle", "demo"),
        duration_s=table.number("duration_s", 30.0, positive=True),
        half_width_m=table.number("half_width_m", 10.0, positive=True),
        target_speed_mps=table.number("target_speed_mps", 40.0 / 3.6, positive=True),
        start=_start(table),
        seeds=_seeds(table),
        weather=read_weather(table),
        sensors=read_sensors(table),
        route=_route(table, path),
    )


def _spawn(table: Table) -> SpawnRule:
    """Read `[obstacles]`, the published rule; where the file places obstacles itself, there are none by the rule."""
    rule = table.table("obstacles", [item.name for item in fields(SpawnRule)])
    lone = "obstacle" in table and "obstacles" not in table
    published = SpawnRule()
    count = rule.whole("count", 0 if lone else published.count)
    names = [item.name for item in fields(SpawnRule)[1:]]
    return SpawnRule(count, **{name: rule.number(name, getattr(published, name), least=0.0) for name in names})


def _start(table: Table) -> StartRange:
    own = table.table("start", StartRange.__dataclass_fields__)
    return StartRange(
        own.range("s_m", ZERO, least=0.0), own.range("offset_m", ZERO), own.range("heading_error_rad", ZERO)
    )


def _seeds(table: Table) -> range:
    own = table.table("seeds", ("first", "count"))
    first, count = own.whole("first", _FIRST_SEED), own.whole("count", 50, least=1)
    if first + count - 1 > _LAST_SEED:
        raise ScenarioError(f"{own.where('first')} = {first}: the last seed must be at most {_LAST_SEED}")
    return range(first, first + count)


def _route(table: Table, path: Path) -> Route:
    sections = []
    for item, where in table.items("sections"):
        one = Table(item, f"{where}.", ("length_m", "curvature_1pm"))
        sections.append(Section(one.number("length_m", positive=True), one.number("curvature_1pm")))
    if "map" in table:
        return _mapped(table, path, sections)
    if "waypoints" in table:
        return Route.from_waypoints(_waypoints(path.parent / table.text("waypoints")), sections)
    if not sections:
        raise ScenarioError(f"{path}: a road needs `waypoints` (a CSV file), `sections`, both, or `map` (.xodr)")
    return Route.from_sections(sections)


def _mapped(table: Table, path: Path, sections: Sequence[Section]) -> Route:
    if sections or "waypoints" in table:
        raise ScenarioError(f"{path}: `map` is a road of its own: leave out `sections` and `waypoints`")
    own = table.table("map", ("file", "x_m", "y_m", "length_m"))
    from carla_bridge.opendrive import read_route  # needs the extra `carla`

    length_m = own.optional("length_m")
    where = own.number("x_m", 0.0), own.number("y_m", 0.0)
    return read_route(path.parent / own.text("file"), *where, *([] if length_m is None else [length_m]))


def _waypoints(path: Path) -> Floats:
    try:
        lines = path.read_text(encoding="utf-8").split()
        rows = [[float(cell) for cell in line.split(",")] for line in lines[1:]]
    except OSError as error:
        raise ScenarioError(f"cannot read the waypoints {path}: {error.strerror}") from error
    except ValueError as error:
        raise ScenarioError(f"{path}: each line after the first must be two numbers x_m,y_m: {error}") from error
    if lines[:1] != ["x_m,y_m"] or len(rows) < 2 or any(len(row) != 2 for row in rows):
        raise ScenarioError(f"{path}: must start with the line x_m,y_m and hold at least two points of two numbers")
    return np.array(rows)
