"""From lanelets to a route: the centre lines of a lane and of the lanes it leads to."""

import math
from typing import Any

import numpy as np

from carla_bridge.errors import ScenarioError
from carla_bridge.route import Floats, Route, Section
from shield.state import wrap_angle

LENGTH_M = 300.0
"""How far lanes are followed [m]."""

_SPACING_M = 0.5
_NEAR_M = 8.0
_TURN_M = 5.0


def along_lanes(network: Any, x_m: float, y_m: float, heading_rad: float, goal_m: Floats | None) -> Route:
    """Return the route along the lane at a place.

    Args:
        network: A commonroad LaneletNetwork.
        x_m, y_m, heading_rad: Where the route must pass, and which way [m, rad].
        goal_m: Where lanes part, the one that ends nearest to this point (2,) is taken [m]; None: the first.
    Raises:
        ScenarioError: there is no lane at that place.
    """
    lane = min(network.lanelets, key=lambda item: _off(item.center_vertices, x_m, y_m, heading_rad), default=None)
    if lane is None or _off(lane.center_vertices, x_m, y_m, heading_rad) > _NEAR_M:
        raise ScenarioError(
            f"no lane passes ({x_m:.2f}, {y_m:.2f}) with heading {heading_rad:.3f} rad: the start must lie on a road"
        )
    parts, length_m, seen = [lane.center_vertices], 0.0, {lane.lanelet_id}
    while length_m < LENGTH_M:
        ahead = [network.find_lanelet_by_id(number) for number in lane.successor if number not in seen]
        if not ahead:
            break
        lane = min(ahead, key=lambda item: 0.0 if goal_m is None else math.dist(item.center_vertices[-1], goal_m))
        seen.add(lane.lanelet_id)
        parts.append(lane.center_vertices)
        length_m += float(np.hypot(*np.diff(lane.center_vertices, axis=0).T).sum())
    return route_through(np.concatenate(parts), heading_rad)


def _off(points_m: Floats, x_m: float, y_m: float, heading_rad: float) -> float:
    """Return how far a lane lies from a place [m], made worse by `_TURN_M` for each radian of its direction there."""
    steps = np.diff(points_m, axis=0)
    away = np.array([x_m, y_m]) - points_m[:-1]
    share = np.clip((away * steps).sum(axis=1) / np.maximum((steps * steps).sum(axis=1), 1e-12), 0.0, 1.0)
    gaps = np.hypot(*(away - share[:, None] * steps).T)
    at = int(np.argmin(gaps))
    turn = abs(wrap_angle(math.atan2(steps[at, 1], steps[at, 0]) - heading_rad))
    return float(gaps[at]) + _TURN_M * turn


def route_through(points_m: Floats, heading_rad: float) -> Route:
    """Return the route through points (n, 2) [m], carried on straight; through a single one along `heading_rad`."""
    kept = [points_m[0]]
    for point in points_m[1:]:
        if math.dist(point, kept[-1]) >= _SPACING_M:
            kept.append(point)
    if len(kept) == 1:
        kept.append(kept[0] + np.array([math.cos(heading_rad), math.sin(heading_rad)]))
    line = np.array(kept)
    rest_m = LENGTH_M - float(np.hypot(*np.diff(line, axis=0).T).sum())
    return Route.from_waypoints(line, [Section(rest_m, 0.0)] if rest_m > 1.0 else ())
