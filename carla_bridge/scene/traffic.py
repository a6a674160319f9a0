"""Obstacles that move along a road: each follows legs, one after the other, and never exceeds its top speed.

A leg says with which speed along the road and at which place across it the obstacle goes on, and when that begins: at
once, or when the gap along the road to the vehicle falls (or rises) to a number of metres. Speeds are measured on the
ground: on a bend, a place d to the left of a centre line of curvature k passes (1 - k d) metres for each of its metres.
What moves does not look out for the vehicle.
"""

import math
from dataclasses import dataclass, replace

from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Route

_BEYOND_M = 60.0


@dataclass(frozen=True, slots=True)
class Leg:
    """A stretch of an obstacle's way.

    Args:
        speed_mps: Speed along the road [m/s]; negative: against it.
        accel_mps2: How fast it gets there [m/s^2].
        offset_m: Where across the road it goes [m], positive to the left.
        lateral_mps: How fast it goes there [m/s].
        gap_m: Begins when the obstacle is this far ahead of the vehicle along the road [m]; None: at once.
        rising: Whether the gap has to rise to `gap_m`; else to fall.
        after_s: Begins no sooner than this after the leg before [s].
    """

    speed_mps: float
    accel_mps2: float
    offset_m: float
    lateral_mps: float
    gap_m: float | None = None
    rising: bool = False
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Course:
    """One obstacle and its way.

    Args:
        shape: Radius, height and colours; its place is that of the course.
        s_m, offset_m: Where it starts, along and across the road [m].
        legs: Its way; none: it stands.
        declared_mps: Top speed that the vehicle is told [m/s]; None: the true one.
    """

    shape: Obstacle
    s_m: float
    offset_m: float
    legs: tuple[Leg, ...] = ()
    declared_mps: float | None = None

    @property
    def top_mps(self) -> float:
        """The fastest that it ever moves over the ground [m/s]."""
        if not self.legs:
            return 0.0
        lateral = max(leg.lateral_mps for leg in self.legs)
        return math.hypot(max(abs(leg.speed_mps) for leg in self.legs), lateral)


class Mover:
    """An obstacle on its course.

    Args:
        course: What it does.
        route: The road.
    """

    def __init__(self, course: Course, route: Route) -> None:
        self._course, self._route = course, route
        self._s_m, self._offset_m = course.s_m, course.offset_m
        self._speed_mps = 0.0
        self._leg = -1
        self._since_s = 0.0
        self._top_mps = course.top_mps
        x_m, y_m = route.at(self._s_m, self._offset_m)
        declared = self._top_mps if course.declared_mps is None else course.declared_mps
        self.obstacle = replace(course.shape, x_m=x_m, y_m=y_m, speed_max_mps=declared)
        if course.legs and course.legs[0].gap_m is None and course.legs[0].after_s == 0.0:
            self._leg = 0
            self._speed_mps = course.legs[0].speed_mps  # what moves from the start is at its speed then

    def step(self, ego_s_m: float, dt_s: float) -> Obstacle:
        """Move on by `dt_s` [s] with the vehicle at `ego_s_m` [m] along the road; return where it is then."""
        if not self._course.legs:
            return self.obstacle
        self._since_s += dt_s
        self._begin_next(self._s_m - ego_s_m)
        if self._leg < 0:
            return self.obstacle
        leg = self._course.legs[self._leg]
        change = leg.accel_mps2 * dt_s
        self._speed_mps += min(max(leg.speed_mps - self._speed_mps, -change), change)
        across = leg.lateral_mps * dt_s
        stretch = max(0.2, 1.0 - self._route.curvature_at(self._s_m) * self._offset_m)
        self._s_m = min(max(self._s_m + self._speed_mps * dt_s / stretch, -_BEYOND_M), self._route.length_m + _BEYOND_M)
        self._offset_m += min(max(leg.offset_m - self._offset_m, -across), across)
        self._go_to(*self._route.at(self._s_m, self._offset_m), dt_s)
        return self.obstacle

    def _begin_next(self, gap_m: float) -> None:
        if self._leg + 1 >= len(self._course.legs):
            return
        leg = self._course.legs[self._leg + 1]
        met = leg.gap_m is None or (gap_m >= leg.gap_m if leg.rising else gap_m <= leg.gap_m)
        if met and self._since_s >= leg.after_s:
            self._leg, self._since_s = self._leg + 1, 0.0

    def _go_to(self, x_m: float, y_m: float, dt_s: float) -> None:
        """Go towards a point, no further than the top speed allows: it is kept whatever the road does."""
        dx, dy = x_m - self.obstacle.x_m, y_m - self.obstacle.y_m
        way = math.hypot(dx, dy)
        share = min(1.0, self._top_mps * dt_s / way) if way > 0.0 else 0.0
        self.obstacle = replace(
            self.obstacle,
            x_m=self.obstacle.x_m + share * dx,
            y_m=self.obstacle.y_m + share * dy,
            speed_mps=share * way / dt_s,
        )
