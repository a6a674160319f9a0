"""What a perception network is asked of a frame, and the true answers from the world's geometry.

Six numbers, in this order (all about the vehicle's centre of gravity at the frame's time):

    lane_offset_m          distance to the left of the centre line
    heading_error_rad      heading less that of the centre line beside the vehicle
    curvature_1pm          mean curvature of the centre line over the next AHEAD_M metres
    obstacle_presence      1 if an obstacle's centre lies in the camera's view within SIGHT_M, else 0
    obstacle_bearing_rad   angle from the heading to the nearest such obstacle, positive to the left
    obstacle_range_m       distance of centres to it
"""

import math
from collections.abc import Sequence

import numpy as np

from carla_bridge.camera import CameraMount
from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Floats, Route
from shield.state import wrap_angle

ANSWER_NAMES = (
    "lane_offset_m",
    "heading_error_rad",
    "curvature_1pm",
    "obstacle_presence",
    "obstacle_bearing_rad",
    "obstacle_range_m",
)
AHEAD_M = 20.0
SIGHT_M = 40.0
_LEAST_AHEAD_M = 2.5


def true_answers(
    route: Route,
    pose: tuple[float, float, float],
    obstacles: Sequence[Obstacle],
    mount: CameraMount,
    near_s_m: float | None = None,
) -> Floats:
    """Return the six answers, shape (6,); without an obstacle in view bearing is 0 and range SIGHT_M.

    Args:
        route: Centre line.
        pose: Centre of gravity x, y [m] and heading [rad].
        obstacles: Where they truly stand.
        mount: The camera, whose view decides what can be seen.
        near_s_m: Arc length near which the vehicle is [m], where known.
    """
    x_m, y_m, heading = pose
    place = route.locate(x_m, y_m, near_s_m)
    seen = [polar for drum in obstacles if (polar := _in_view(pose, drum, mount)) is not None]
    range_m, bearing_rad = min(seen, default=(SIGHT_M, 0.0))
    return np.array(
        [
            place.offset_m,
            wrap_angle(heading - place.heading_rad),
            route.mean_curvature(place.s_m, AHEAD_M),
            1.0 if seen else 0.0,
            bearing_rad,
            range_m,
        ]
    )


def _in_view(pose: tuple[float, float, float], drum: Obstacle, mount: CameraMount) -> tuple[float, float] | None:
    """Return (range [m], bearing [rad]) of an obstacle about the centre of gravity, None if the camera misses it."""
    x_m, y_m, heading = pose
    dx, dy = drum.x_m - x_m, drum.y_m - y_m
    ahead = dx * math.cos(heading) + dy * math.sin(heading)
    left = dy * math.cos(heading) - dx * math.sin(heading)
    range_m = math.hypot(ahead, left)
    from_camera = math.atan2(left, ahead - mount.forward_m)
    if range_m > SIGHT_M or ahead < _LEAST_AHEAD_M or abs(from_camera) > mount.half_view_rad:
        return None
    return range_m, math.atan2(left, ahead)
