"""The road as the vehicle believes it to be: one arc in the odometry frame, corrected by each answer.

An answer gives offset d, heading error e and curvature k beside the pose (x, y, psi) of its frame. The centre line's
heading there is t = psi - e and its nearest point (x, y) - d (-sin t, cos t); from there it is taken to go on with k.
Between answers odometry moves the vehicle along it. Each new answer corrects the arc, seen from the new frame's pose,
with the gain 1 - exp(-dt / tau): noise averages out over tau whatever the rate of the answers.
"""

import math
from dataclasses import dataclass

from shield.state import State, wrap_angle


@dataclass(frozen=True, slots=True)
class RoadArc:
    """A centre line of constant curvature.

    Args:
        x_m, y_m: Its origin, s = 0 [m].
        heading_rad: Its direction there [rad].
        curvature_1pm: Its curvature [1/m], positive to the left.
    """

    x_m: float
    y_m: float
    heading_rad: float
    curvature_1pm: float

    def locate(self, x_m: float, y_m: float) -> tuple[float, float]:
        """Return arc length and offset to the left (s, d) [m] of a point; exact for points nearer than the centre."""
        cos, sin, k = math.cos(self.heading_rad), math.sin(self.heading_rad), self.curvature_1pm
        dx, dy = x_m - self.x_m, y_m - self.y_m
        ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
        along = math.atan2(k * ahead, 1.0 - k * left) / k if abs(k) > 1e-7 else ahead
        root = math.hypot(k * ahead, 1.0 - k * left)
        return along, (2.0 * left - k * (ahead**2 + left**2)) / (1.0 + root)

    def at(self, s_m: float, d_m: float = 0.0) -> tuple[float, float]:
        """Return the point (x, y) [m] at arc length `s_m`, `d_m` to the left."""
        half = 0.5 * self.curvature_1pm * s_m
        chord = s_m * (math.sin(half) / half if abs(half) > 1e-8 else 1.0)
        direction, end = self.heading_rad + half, self.heading_at(s_m)
        return (
            self.x_m + chord * math.cos(direction) - d_m * math.sin(end),
            self.y_m + chord * math.sin(direction) + d_m * math.cos(end),
        )

    def heading_at(self, s_m: float) -> float:
        """Return the direction at arc length `s_m` [rad], not wrapped."""
        return self.heading_rad + self.curvature_1pm * s_m


def arc_beside(pose: State, offset_m: float, error_rad: float, curvature_1pm: float) -> RoadArc:
    """Return the arc that passes `offset_m` to the right of `pose`, `error_rad` to the right of its heading."""
    heading = pose.heading_rad - error_rad
    return RoadArc(
        pose.x_m + offset_m * math.sin(heading), pose.y_m - offset_m * math.cos(heading), heading, curvature_1pm
    )


class RoadFilter:
    """Keeps the arc.

    Args:
        settle_s: Time constant tau [s].
        jump_m: Answers that put the road farther off than this start anew [m].
    """

    def __init__(self, settle_s: float, jump_m: float) -> None:
        self._settle_s = settle_s
        self._jump_m = jump_m
        self._stamp_s = -math.inf
        self.arc: RoadArc | None = None

    def correct(self, pose: State, offset_m: float, error_rad: float, curvature_1pm: float, stamp_s: float) -> None:
        """Take in an answer about the frame taken at `stamp_s` [s] from `pose`; one older than the last is ignored."""
        if stamp_s <= self._stamp_s:
            return
        gain = 1.0 - math.exp(-(stamp_s - self._stamp_s) / self._settle_s)
        self._stamp_s = stamp_s
        if self.arc is not None:
            s_m, d_m = self.arc.locate(pose.x_m, pose.y_m)
            if abs(offset_m - d_m) <= self._jump_m:
                error = wrap_angle(pose.heading_rad - self.arc.heading_at(s_m))
                offset_m = d_m + gain * (offset_m - d_m)
                error_rad = error + gain * wrap_angle(error_rad - error)
                curvature_1pm = self.arc.curvature_1pm + gain * (curvature_1pm - self.arc.curvature_1pm)
        self.arc = arc_beside(pose, offset_m, error_rad, curvature_1pm)
