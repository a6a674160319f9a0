"""Where the vehicle is, what it holds, and what stands around it.

Frame: right-handed, x and y in metres, headings in radians counter-clockwise from +x. The position is that of the
centre of gravity. A slip angle beta is positive to the left; the centre of gravity moves in direction heading + beta.
"""

import math
from dataclasses import dataclass


def wrap_angle(angle_rad: float) -> float:
    """Return `angle_rad` [rad] wrapped to [-pi, pi)."""
    return (angle_rad + math.pi) % (2.0 * math.pi) - math.pi


@dataclass(frozen=True, slots=True)
class State:
    """Pose of the vehicle, the slip angle it holds and, where measured, its speed.

    Args:
        x_m, y_m: Centre of gravity [m].
        heading_rad: Heading of the body [rad].
        beta_rad: Slip angle held [rad], positive to the left.
        speed_mps: Measured speed of the centre of gravity [m/s]; None means anywhere in [0, v_max].
    """

    x_m: float
    y_m: float
    heading_rad: float
    beta_rad: float = 0.0
    speed_mps: float | None = None


@dataclass(frozen=True, slots=True)
class Disc:
    """A round obstacle of `radius_m` [m] that may move in any direction at up to `speed_max_mps` [m/s].

    `radius_m` is the obstacle's own; the vehicle's radius and the position error are added by the shield.
    """

    x_m: float
    y_m: float
    radius_m: float
    speed_max_mps: float = 0.0
