"""From a ray sensor's ranges to obstacle discs.

Hits of neighbouring rays no farther apart than `GAP_M` and `GAP_RAYS` times the rays' own distance are one obstacle.
Three hits or more on a round obstacle lie on its circle, found by least squares on

    x^2 + y^2 = 2 a x + 2 b y + c,      centre (a, b), radius sqrt(c + a^2 + b^2).

Fewer hits, or a circle that no obstacle can have, make one wide disc that holds every obstacle with a hit on its face.
"""

import math
from dataclasses import dataclass

import numpy as np

from carla_bridge.route import Floats

GAP_M, GAP_RAYS = 0.7, 3.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A disc made out: centre [m] in the sensor's frame, radius [m], whether it is sure to be one obstacle's own."""

    x_m: float
    y_m: float
    radius_m: float
    sure: bool


def discs_from(angles_rad: Floats, ranges_m: Floats, least_m: float, most_m: float) -> list[Seen]:
    """Return the discs that a turn of rays shows.

    Args:
        angles_rad: Directions, increasing, evenly over one turn, shape (n,) [rad].
        ranges_m: Distance of the hit along each, shape (n,) [m]; not finite where nothing is.
        least_m, most_m: Least and greatest radius that an obstacle has [m].
    """
    hit = np.isfinite(ranges_m)
    if not hit.any():
        return []
    points = ranges_m[hit, None] * np.column_stack([np.cos(angles_rad[hit]), np.sin(angles_rad[hit])])
    order = np.flatnonzero(hit)
    apart = np.hypot(*(points - np.roll(points, 1, axis=0)).T)
    beside = (order - np.roll(order, 1)) % len(angles_rad) == 1
    own = ranges_m[hit] * (angles_rad[1] - angles_rad[0])
    begins = ~beside | (apart > GAP_M + GAP_RAYS * own)
    if not begins.any():
        begins[0] = True
    first = int(np.flatnonzero(begins)[0])
    points, begins = np.roll(points, -first, axis=0), np.roll(begins, -first)
    groups = np.split(points, np.flatnonzero(begins)[1:])
    return [_disc(group, least_m, most_m) for group in groups]


def _disc(points: Floats, least_m: float, most_m: float) -> Seen:
    if len(points) >= 3:
        table = np.column_stack([2.0 * points, np.ones(len(points))])
        (a, b, c), _, rank, _ = np.linalg.lstsq(table, (points**2).sum(axis=1), rcond=None)
        square = c + a * a + b * b
        if rank == 3 and square > 0.0 and 0.9 * least_m <= math.sqrt(square) <= 1.1 * most_m:
            return Seen(float(a), float(b), math.sqrt(square), True)
    middle = points.mean(axis=0)
    spread = float(np.hypot(*(points - middle).T).max())
    return Seen(float(middle[0]), float(middle[1]), spread + 2.0 * most_m, False)
