"""The centre line of a road: points, headings and curvature by arc length, and where a vehicle is beside it.

A route is built from waypoints, from sections whose curvature changes linearly (a clothoid; a straight or an arc when
it does not change), or from waypoints carried on by sections. With arc length s, heading t(s) and curvature k(s):

    dx/ds = cos t,   dy/ds = sin t,   dt/ds = k

A place beside it is (s, d): d [m] is positive to the left of the driving direction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shield.state import wrap_angle

Floats = NDArray[np.float64]

STEP_M = 0.5
_WINDOW_M = 15.0


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of road over which the curvature changes linearly to `curvature_1pm` (positive: to the left).

    Args:
        length_m: Length of the section [m].
        curvature_1pm: Curvature at its end [1/m]; it starts from that of the section before, or from 0.
    """

    length_m: float
    curvature_1pm: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point is along a route.

    Args:
        s_m: Arc length of the nearest point of the centre line [m].
        offset_m: Signed distance from the centre line [m], positive to the left.
        heading_rad: Heading of the centre line there [rad].
        curvature_1pm: Its curvature there [1/m].
    """

    s_m: float
    offset_m: float
    heading_rad: float
    curvature_1pm: float


class Route:
    """A centre line sampled every `STEP_M`; ends are carried on straight.

    Args:
        points_m: Samples of the centre line, shape (n, 2) [m], n >= 2.
        heading_rad: Heading at each sample, shape (n,) [rad], without jumps of 2 pi.
        s_m: Arc length at each sample, shape (n,) [m], strictly increasing from 0.
    Raises:
        ValueError: the shapes differ, there are fewer than two samples, or s_m does not increase.
    """

    def __init__(self, points_m: Floats, heading_rad: Floats, s_m: Floats) -> None:
        if len(points_m) < 2 or points_m.shape != (len(s_m), 2) or heading_rad.shape != s_m.shape:
            raise ValueError(f"a route needs n >= 2 points (n, 2), headings and lengths (n,), not {points_m.shape}")
        if not bool(np.all(np.diff(s_m) > 0.0)):
            raise ValueError("the arc lengths of a route must increase from sample to sample")
        self.points_m = points_m
        self.heading_rad = heading_rad
        self.s_m = s_m
        self.curvature_1pm: Floats = np.gradient(heading_rad, s_m)

    @classmethod
    def from_waypoints(cls, waypoints_m: Floats, sections: Sequence[Section] = ()) -> Self:
        """Return the polyline through `waypoints_m` (n, 2) [m], carried on by `sections`."""
        steps = np.diff(waypoints_m, axis=0)
        lengths = np.hypot(steps[:, 0], steps[:, 1])
        if len(waypoints_m) < 2 or not bool(np.all(lengths > 0.0)):
            raise ValueError("a route needs at least two waypoints, each different from the one before")
        corner_s = np.concatenate([[0.0], np.cumsum(lengths)])
        s_m = np.linspace(0.0, corner_s[-1], max(2, math.ceil(corner_s[-1] / STEP_M) + 1))
        points = np.column_stack([np.interp(s_m, corner_s, waypoints_m[:, i]) for i in (0, 1)])
        bearing = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        heading = np.interp(s_m, 0.5 * (corner_s[:-1] + corner_s[1:]), bearing)
        if not sections:
            return cls(points, heading, s_m)
        tail = cls.from_sections(sections, float(points[-1, 0]), float(points[-1, 1]), float(heading[-1]))
        return cls(
            np.concatenate([points, tail.points_m[1:]]),
            np.concatenate([heading, tail.heading_rad[1:]]),
            np.concatenate([s_m, s_m[-1] + tail.s_m[1:]]),
        )

    @classmethod
    def from_sections(
        cls, sections: Sequence[Section], x_m: float = 0.0, y_m: float = 0.0, heading_rad: float = 0.0
    ) -> Self:
        """Return the road that starts at (x_m, y_m) [m] with `heading_rad` and follows `sections`."""
        if not sections:
            raise ValueError("a route needs at least one section")
        ends = np.concatenate([[0.0], np.cumsum([section.length_m for section in sections])])
        s_m = np.linspace(0.0, ends[-1], max(2, math.ceil(ends[-1] / STEP_M) + 1))
        heading = heading_rad + _turned(ends, np.array([0.0] + [section.curvature_1pm for section in sections]), s_m)
        step = np.diff(s_m)
        middle = 0.5 * (heading[:-1] + heading[1:])
        x = x_m + np.concatenate([[0.0], np.cumsum(np.cos(middle) * step)])
        y = y_m + np.concatenate([[0.0], np.cumsum(np.sin(middle) * step)])
        return cls(np.column_stack([x, y]), heading, s_m)

    @property
    def length_m(self) -> float:
        """Length of the centre line [m]."""
        return float(self.s_m[-1])

    def locate(self, x_m: float, y_m: float, near_s_m: float | None = None) -> Place:
        """Return the place of a point; with `near_s_m` only within 15 m of that arc length (loops are no trap)."""
        low, high = 0, len(self.s_m)
        if near_s_m is not None:
            low, high = np.searchsorted(self.s_m, (near_s_m - _WINDOW_M, near_s_m + _WINDOW_M))
            low, high = max(0, min(int(low), len(self.s_m) - 2)), max(2, int(high))
        gap = self.points_m[low:high] - (x_m, y_m)
        nearest = low + int(np.argmin(gap[:, 0] ** 2 + gap[:, 1] ** 2))
        along, offset = self._beside(nearest, x_m, y_m)
        s_m = float(self.s_m[nearest]) + along
        return Place(s_m, offset, self.heading_at(s_m), self.curvature_at(s_m))

    def _beside(self, index: int, x_m: float, y_m: float) -> tuple[float, float]:
        """Return how far along the tangent of sample `index` a point lies, allowing for curvature, and its offset."""
        heading, curvature = float(self.heading_rad[index]), float(self.curvature_1pm[index])
        dx, dy = x_m - float(self.points_m[index, 0]), y_m - float(self.points_m[index, 1])
        ahead = dx * math.cos(heading) + dy * math.sin(heading)
        left = dy * math.cos(heading) - dx * math.sin(heading)
        along = math.atan2(curvature * ahead, 1.0 - curvature * left) / curvature if abs(curvature) > 1e-9 else ahead
        # The distance to the osculating circle in the form that is exact for a straight line too.
        root = math.hypot(curvature * ahead, 1.0 - curvature * left)
        return along, (2.0 * left - curvature * (ahead**2 + left**2)) / (1.0 + root)

    def heading_at(self, s_m: float) -> float:
        """Heading of the centre line at arc length `s_m` [rad], wrapped."""
        return wrap_angle(float(np.interp(s_m, self.s_m, self.heading_rad)))

    def curvature_at(self, s_m: float) -> float:
        """Curvature at arc length `s_m` [1/m]; beyond the ends, that of the end."""
        return float(np.interp(s_m, self.s_m, self.curvature_1pm))

    def mean_curvature(self, s_m: float, ahead_m: float) -> float:
        """Mean curvature over the next `ahead_m` metres from `s_m` [1/m]: the change of heading over the way."""
        ends = np.interp((s_m, s_m + ahead_m), self.s_m, self.heading_rad)
        return float(ends[1] - ends[0]) / ahead_m

    def frames_at(self, s_m: Floats) -> tuple[Floats, Floats]:
        """Return points (n, 2) [m] and unit tangents (n, 2) at arc lengths `s_m` (n,), straight past the ends."""
        heading = np.interp(s_m, self.s_m, self.heading_rad)
        tangent = np.column_stack([np.cos(heading), np.sin(heading)])
        points = np.column_stack([np.interp(s_m, self.s_m, self.points_m[:, i]) for i in (0, 1)])
        beyond = s_m - np.clip(s_m, 0.0, self.s_m[-1])
        return points + tangent * beyond[:, None], tangent

    def at(self, s_m: float, offset_m: float = 0.0) -> tuple[float, float]:
        """Return the point (x, y) [m] at arc length `s_m`, `offset_m` to the left of the centre line."""
        points, tangents = self.frames_at(np.array([s_m]))
        (x, y), (tx, ty) = points[0], tangents[0]
        return float(x - offset_m * ty), float(y + offset_m * tx)


def _turned(ends: Floats, curvature: Floats, s_m: Floats) -> Floats:
    """Return the integral from 0 to `s_m` of the curvature that goes linearly from end to end, exactly."""
    length, change = np.diff(ends), np.diff(curvature)
    at_ends = np.concatenate([[0.0], np.cumsum((curvature[:-1] + 0.5 * change) * length)])
    index = np.clip(np.searchsorted(ends, s_m, side="right") - 1, 0, len(length) - 1)
    inside = s_m - ends[index]
    return np.asarray(at_ends[index] + curvature[index] * inside + 0.5 * change[index] / length[index] * inside**2)
