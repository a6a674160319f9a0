"""From a turn of CARLA's ray-cast lidar to discs that cover what it saw.

Hits next to one another are one obstacle; what is longer or wider than the declared diameter D is cut up. Whatever is
no more than D across and was hit at p lies between p and p + D u, u the ray's direction, and no further aside than the
next ray: at most (r + D) d for distance r and angle d between rays. The disc of an obstacle is the least circle about
all p and p + D u, made larger by that. So it is too large rather than too small: for upright round obstacles at most D
across and wider than r d (an independent ray caster shows it in the tests), and but for spikes between two rays for
every other shape of that size. A flat road is assumed: hits below `_LEAST_HEIGHT_M` are it.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from carla_bridge.route import Floats

_LEAST_HEIGHT_M, _MOST_HEIGHT_M = 0.3, 2.2
_CELL_M = 0.35
_ROUNDING_M = 0.01


@dataclass(frozen=True, slots=True)
class LidarSettings:
    """A lidar on the vehicle's roof that turns once a tick.

    Args:
        range_m: Within it every obstacle is reported [m].
        diameter_m: The greatest that any obstacle measures across [m].
        rays: Rays a turn and channel.
        channels: Channels, evenly from `upper_deg` to `lower_deg`.
        upper_deg, lower_deg: Their pitch [degree].
        height_m: Above the ground [m].
    """

    range_m: float = 40.0
    diameter_m: float = 1.5
    rays: int = 720
    channels: int = 32
    upper_deg: float = 0.0
    lower_deg: float = -25.0
    height_m: float = 2.0

    def attributes(self, tick_s: float) -> dict[str, str]:
        """Return the blueprint's attributes for a step of `tick_s` [s]: no noise, no lost points."""
        return {
            "channels": str(self.channels),
            "range": repr(self.range_m),
            "points_per_second": str(round(self.channels * self.rays / tick_s)),
            "rotation_frequency": repr(1.0 / tick_s),
            "upper_fov": repr(self.upper_deg),
            "lower_fov": repr(self.lower_deg),
            "horizontal_fov": "360.0",
            "noise_stddev": "0.0",
            "dropoff_general_rate": "0.0",
        }


def cover(points_m: Floats, settings: LidarSettings, body_m: tuple[float, float]) -> list[tuple[float, float, float]]:
    """Return discs (ahead, left, radius) [m] about the sensor that cover what it saw.

    Args:
        points_m: Hits (n, 3): ahead, to the right, up of the sensor [m].
        settings: The sensor's.
        body_m: Half length and half width of the vehicle, whose own hits are left out [m].
    """
    height = points_m[:, 2] + settings.height_m
    own = (np.abs(points_m[:, 0]) < body_m[0]) & (np.abs(points_m[:, 1]) < body_m[1])
    flat = points_m[(height > _LEAST_HEIGHT_M) & (height < _MOST_HEIGHT_M) & ~own, :2] * (1.0, -1.0)
    if not len(flat):
        return []
    return [_disc(group, settings) for group in _groups(flat, settings.diameter_m)]


def _groups(flat: Floats, most_m: float) -> list[Floats]:
    """Return the hits of each obstacle: those in cells that touch; what is longer than `most_m` is cut into squares."""
    cell = np.floor(flat / _CELL_M).astype(np.int64)
    cell -= cell.min(axis=0) - 1
    taken = np.zeros(cell.max(axis=0) + 2, np.uint8)
    taken[cell[:, 0], cell[:, 1]] = 1
    _, label = cv2.connectedComponents(taken, connectivity=8)
    found = []
    for group in _split(flat, label[cell[:, 0], cell[:, 1]]):
        square = np.floor((group - group.min(axis=0)) / most_m).astype(np.int64)
        found += _split(group, square[:, 0] * (int(square[:, 1].max()) + 1) + square[:, 1])
    return found


def _split(points: Floats, keys: NDArray[Any]) -> list[Floats]:
    order = np.argsort(keys, kind="stable")
    return np.split(points[order], np.flatnonzero(np.diff(keys[order])) + 1)


def _disc(group: Floats, settings: LidarSettings) -> tuple[float, float, float]:
    ranges = np.hypot(*group.T)
    far = group * (1.0 + settings.diameter_m / ranges)[:, None]
    both: NDArray[np.float32] = np.concatenate([group, far]).astype(np.float32)
    (x_m, y_m), radius_m = cv2.minEnclosingCircle(both)
    aside_m = (float(ranges.max()) + settings.diameter_m) * 2.0 * math.pi / settings.rays
    return float(x_m), float(y_m), float(radius_m) + aside_m + _ROUNDING_M
