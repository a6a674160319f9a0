"""Routes from OpenDRIVE maps, read by CARLA's own map reader without a simulator.

CARLA's axes are left-handed: its y and yaw are turned over here, so that a route is the file's own line again.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from carla_bridge.carla.client import load_carla
from carla_bridge.errors import ScenarioError
from carla_bridge.route import Route

_STEP_M = 1.0
_LEAST_M = 5.0


def read_route(path: str | Path, x_m: float = 0.0, y_m: float = 0.0, length_m: float = math.inf) -> Route:
    """Return the centre of the driving lane nearest to (x_m, y_m), followed through an OpenDRIVE file.

    Args:
        path: The .xodr file.
        x_m, y_m: Where to start, in the file's axes [m].
        length_m: How far to follow it [m]; to its end, or once round, unless given.
    Raises:
        ScenarioError: no such file, not OpenDRIVE, or no driving lane to follow.
        SimulatorError: the wheel is not installed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"cannot read the map {path}: {error}") from error
    if "<OpenDRIVE" not in text:
        raise ScenarioError(f"{path} is no OpenDRIVE map: it has no element <OpenDRIVE>")
    try:
        road_map = load_carla().Map(Path(path).stem, text)
    except RuntimeError as error:
        raise ScenarioError(f"{path} is no OpenDRIVE map that CARLA's reader takes: {error}") from error
    return follow(road_map, x_m, y_m, length_m)


def follow(road_map: Any, x_m: float, y_m: float, length_m: float = math.inf) -> Route:
    """Return the lane of a carla.Map nearest to (x_m, y_m), straight on where it parts.

    Raises:
        ScenarioError: there is no driving lane, or it ends within 5 m.
    """
    here = road_map.get_waypoint(load_carla().Location(x_m, -y_m, 0.0))
    if here is None:
        raise ScenarioError(f"the map {road_map.name} has no driving lane")
    points, seen = [_point(here)], {_key(here)}
    while _STEP_M * len(points) <= length_m:
        choices = here.next(_STEP_M)
        if not choices:
            break
        yaw = here.transform.rotation.yaw
        here = min(choices, key=lambda item: abs(math.remainder(item.transform.rotation.yaw - yaw, 360.0)))
        if _key(here) in seen or math.dist(_point(here), points[-1]) < 0.1 * _STEP_M:
            break
        seen.add(_key(here))
        points.append(_point(here))
    if _STEP_M * (len(points) - 1) < _LEAST_M:
        raise ScenarioError(
            f"the lane of {road_map.name} at ({x_m:g}, {y_m:g}) ends within {_LEAST_M:g} m: start further back"
        )
    line = np.array(points)
    if not bool(np.all(np.isfinite(line))):
        raise ScenarioError(
            f"CARLA's reader finds no numbers for a geometry of {road_map.name}: write a spiral whose curvature stays "
            "as an arc, or as a line"
        )
    return Route.from_waypoints(line)


def _point(waypoint: Any) -> tuple[float, float]:
    where = waypoint.transform.location
    return float(where.x), -float(where.y)


def _key(waypoint: Any) -> tuple[int, int, int, int]:
    return waypoint.road_id, waypoint.section_id, waypoint.lane_id, round(waypoint.s / _STEP_M)
