"""Scenarios: a road, the speed asked for and the rule that sets its obstacles, from a TOML file::

    name = "town04_curves"
    waypoints = "town04_short.csv"     # beside the file; columns x_m, y_m; optional when there are sections
    half_width_m = 10.0                # from the centre line to the kerb
    target_speed_mps = 11.11
    sections = [{ length_m = 15.0, curvature_1pm = 0.02 }]
    [obstacles]                        # fields of carla_bridge.obstacles.SpawnRule
    count = 4

A key left out keeps its default; a road needs waypoints, sections, or both.
"""

import math
import tomllib
from dataclasses import dataclass, field, fields, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from carla_bridge.errors import ScenarioError
from carla_bridge.obstacles import SpawnRule
from carla_bridge.route import Floats, Route, Section

PUBLISHED_NOISE_M = 1.15


@dataclass(frozen=True, slots=True)
class Scenario:
    """A road with its rules.

    Args:
        name: Name of the scenario.
        route: Centre line.
        half_width_m: From the centre line to the kerb [m]; beyond it a vehicle is off the track.
        target_speed_mps: Speed asked for [m/s].
        spawn: Where obstacles stand.
    """

    name: str
    route: Route
    half_width_m: float = 10.0
    target_speed_mps: float = 40.0 / 3.6
    spawn: SpawnRule = field(default_factory=SpawnRule)

    def with_noise(self, noise_m: float = PUBLISHED_NOISE_M) -> "Scenario":
        """Return the scenario with N(0, noise_m) on each obstacle's x and y."""
        return replace(self, spawn=replace(self.spawn, noise_m=noise_m))

    def without_obstacles(self) -> "Scenario":
        """Return the scenario with an empty road."""
        return replace(self, spawn=replace(self.spawn, count=0))


def shipped_scenarios() -> tuple[str, ...]:
    """Return the names of the scenarios that come with the package."""
    return tuple(sorted(item.name[:-5] for item in _shipped().iterdir() if item.name.endswith(".toml")))


def load_scenario(source: str | Path) -> Scenario:
    """Read a scenario file, or one of the shipped scenarios by its name.

    Args:
        source: A TOML file, or the name of a shipped scenario ("town04_short", "town04_curves").
    Raises:
        ScenarioError: no such file; not TOML; a key is missing, unknown or holds an impossible value.
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
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"cannot read the scenario {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path} is not TOML: {error}") from error
    _refuse_unknown(
        table, {"name", "waypoints", "half_width_m", "target_speed_mps", "sections", "obstacles"}, f"{path}: "
    )
    rule = table.get("obstacles", {})
    _refuse_unknown(rule, {item.name for item in fields(SpawnRule)}, f"{path}: obstacles.")
    for key, value in rule.items():
        if key == "count" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ScenarioError(f"{path}: obstacles.count = {value!r}: must be a whole number that is not negative")
        _number(value, f"{path}: obstacles.{key}", least=0.0)
    return Scenario(
        name=str(table.get("name", path.stem)),
        route=_route(table, path),
        half_width_m=_positive(table.get("half_width_m", 10.0), f"{path}: half_width_m"),
        target_speed_mps=_positive(table.get("target_speed_mps", 40.0 / 3.6), f"{path}: target_speed_mps"),
        spawn=SpawnRule(**rule),
    )


def _route(table: dict[str, Any], path: Path) -> Route:
    sections = []
    for number, item in enumerate(table.get("sections", [])):
        where = f"{path}: sections[{number}]."
        _refuse_unknown(item, {"length_m", "curvature_1pm"}, where)
        sections.append(
            Section(
                _positive(item.get("length_m"), f"{where}length_m"),
                _number(item.get("curvature_1pm"), f"{where}curvature_1pm"),
            )
        )
    if "waypoints" in table:
        return Route.from_waypoints(_waypoints(path.parent / str(table["waypoints"])), sections)
    if not sections:
        raise ScenarioError(f"{path}: a road needs `waypoints` (a CSV file), `sections`, or both")
    return Route.from_sections(sections)


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


def _refuse_unknown(table: dict[str, Any], known: set[str], prefix: str) -> None:
    for key in table:
        if key not in known:
            raise ScenarioError(f"{prefix}{key}: unknown key; known here are {', '.join(sorted(known))}")


def _number(value: object, where: str, least: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        kind = "a number that is not negative" if least == 0.0 else "a finite number"
        raise ScenarioError(f"{where} = {value!r}: must be {kind}")
    return float(value)


def _positive(value: object, where: str) -> float:
    number = _number(value, where)
    if number <= 0.0:
        raise ScenarioError(f"{where} = {value!r}: must be positive")
    return number
