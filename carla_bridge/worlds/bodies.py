"""Bodies as they truly are, upright boxes and drums, and the gap between two of them seen from above.

A box's corners about its centre are (+-length/2, +-width/2) turned by its heading. The gap of two convex bodies is the
least distance from a corner of one to an edge of the other, and 0 where they overlap: no line along an edge of either
then separates them. What a range sensor reports of a box is a row of discs that together cover it:

    n discs of radius hypot(length/(2n), width/2), centres length/n apart on its axis
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shield.state import Disc, wrap_angle

Floats = NDArray[np.float64]
FINE_M = 25.0
"""Distance of centres within which a box is reported as a row of discs; beyond it one disc holds it [m]."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box seen from above.

    Args:
        x_m, y_m: Its centre [m].
        heading_rad: Direction of its length [rad].
        length_m, width_m: Its sides [m].
    """

    x_m: float
    y_m: float
    heading_rad: float
    length_m: float
    width_m: float

    @property
    def radius_m(self) -> float:
        """Radius about its centre that holds it [m]."""
        return 0.5 * math.hypot(self.length_m, self.width_m)

    def corners(self) -> Floats:
        """Return its corners in order, shape (4, 2) [m]."""
        cos, sin = math.cos(self.heading_rad), math.sin(self.heading_rad)
        along, aside = 0.5 * self.length_m, 0.5 * self.width_m
        local = np.array([[along, aside], [-along, aside], [-along, -aside], [along, -aside]])
        turn = np.array([[cos, sin], [-sin, cos]])
        return np.asarray(local @ turn + (self.x_m, self.y_m), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Drum:
    """A round body seen from above: its centre and radius [m]."""

    x_m: float
    y_m: float
    radius_m: float


Body = Box | Drum


def gap_m(box: Box, other: Body) -> float:
    """Return the least distance between a box and another body [m]; 0 where they touch or overlap."""
    if isinstance(other, Drum):
        return max(0.0, _from_point_m(box, other.x_m, other.y_m) - other.radius_m)
    return _between_boxes_m(box.corners(), other.corners())


def least_gap_m(box: Box, other: Body) -> float:
    """Return a lower bound of `gap_m` that costs next to nothing [m]."""
    return math.hypot(other.x_m - box.x_m, other.y_m - box.y_m) - box.radius_m - other.radius_m


def discs_of(box: Box, speed_max_mps: float, from_m: tuple[float, float]) -> list[Disc]:
    """Return discs that cover a box, more of them where it is near.

    Args:
        box: The body.
        speed_max_mps: Its declared top speed [m/s].
        from_m: Where it is seen from, x and y [m].
    """
    far = math.hypot(box.x_m - from_m[0], box.y_m - from_m[1]) > FINE_M
    count = 1 if far else max(1, math.ceil(box.length_m / max(box.width_m, 0.1) * 1.5))
    radius = math.hypot(0.5 * box.length_m / count, 0.5 * box.width_m)
    cos, sin = math.cos(box.heading_rad), math.sin(box.heading_rad)
    steps = [(index + 0.5) / count - 0.5 for index in range(count)]
    return [
        Disc(box.x_m + step * box.length_m * cos, box.y_m + step * box.length_m * sin, radius, speed_max_mps)
        for step in steps
    ]


def greatest_way_m(before: Body, after: Body) -> float:
    """Return the greatest way of any point on a body's axis between two places [m]: its middle's, and its turn's."""
    way_m = math.hypot(after.x_m - before.x_m, after.y_m - before.y_m)
    if isinstance(before, Box) and isinstance(after, Box):
        way_m += 0.5 * after.length_m * abs(wrap_angle(after.heading_rad - before.heading_rad))
    return way_m


def _from_point_m(box: Box, x_m: float, y_m: float) -> float:
    dx, dy = x_m - box.x_m, y_m - box.y_m
    cos, sin = math.cos(box.heading_rad), math.sin(box.heading_rad)
    ahead, left = abs(dx * cos + dy * sin), abs(dy * cos - dx * sin)
    return math.hypot(max(0.0, ahead - 0.5 * box.length_m), max(0.0, left - 0.5 * box.width_m))


def _between_boxes_m(first: Floats, second: Floats) -> float:
    if not (_separated(first, second) or _separated(second, first)):
        return 0.0
    return min(_corners_to_edges_m(first, second), _corners_to_edges_m(second, first))


def _separated(first: Floats, second: Floats) -> bool:
    """Whether a line along an edge of `first` has the two bodies on its two sides."""
    edges = first[1:3] - first[0:2]
    own, others = first @ edges.T, second @ edges.T
    apart = (own.max(axis=0) < others.min(axis=0)) | (others.max(axis=0) < own.min(axis=0))
    return bool(apart.any())


def _corners_to_edges_m(corners: Floats, polygon: Floats) -> float:
    edges = np.roll(polygon, -1, axis=0) - polygon
    away = corners[:, None, :] - polygon[None, :, :]
    share = np.clip((away * edges).sum(axis=2) / (edges * edges).sum(axis=1), 0.0, 1.0)
    return float(np.sqrt(((away - share[:, :, None] * edges) ** 2).sum(axis=2)).min())
