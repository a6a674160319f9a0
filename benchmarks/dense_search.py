"""How long a slip angle can be held, found by brute force: the other side of the tightness benchmark.

No closed form and nothing of the shield's: the held arc and every manoeuvre are stepped by the midpoint rule, a place
on the arc counts as clear when the points of some manoeuvre are all outside every disc, a turn followed by a straight
is tried at every angle of a grid, and places are looked at every `STRIDE_M`. A place that fails is looked at again with
curves ten and a hundred times as fine before it counts; an opening narrower than that is not found.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Test = Callable[..., Mask]

STRIDE_M, GRAIN_M = 0.05, 0.001
"""Places on the held arc: first every stride, then every grain where the first of them fails [m]."""

CURVE_M, FINER_M = 0.04, (0.004, 0.0004)
"""Spacing of a manoeuvre's points, and the spacings tried where a place has failed [m]."""

AT_ONCE = 64
"""Places looked at together."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A path stepped from the origin with heading 0: places, headings and the way so far."""

    x: Array
    y: Array
    heading: Array
    way: Array


def drive(l_r: float, beta: float, length: float, step: float) -> Curve:
    """Return the path of a held slip angle, a point every `step` or a little less."""
    count = max(1, math.ceil(length / step))
    h = length / count
    heading = h * math.sin(beta) / l_r * np.arange(count + 1)
    middle = 0.5 * (heading[:-1] + heading[1:]) + beta
    x, y = (np.concatenate(([0.0], np.cumsum(h * part(middle)))) for part in (np.cos, np.sin))
    return Curve(x, y, heading, np.asarray(h * np.arange(count + 1)))


@dataclass
class Search:
    """Brute force for one vehicle.

    Args:
        l_r: Centre of gravity to rear axle [m].
        slip: Slip angle at full lock [rad].
        v_max: Top speed [m/s].
        deceleration: Of the braking manoeuvres [m/s^2]; None: there are none.
        start_mps, a_max: Greatest speed at the start [m/s] and acceleration [m/s^2], for the braking distance.
    """

    l_r: float
    slip: float
    v_max: float
    deceleration: float | None = None
    start_mps: float = math.inf
    a_max: float = 0.0
    _curves: dict[tuple[float, float, float], Curve] = field(default_factory=dict)

    def exit(self, beta: float, discs: Array, within_m: float, also_near_m: float) -> float:
        """Return the first place [m] that is hit or from which nothing is clear; `within_m` when there is none.

        Args:
            beta: Slip angle held [rad].
            discs: Rows (x, y, R) in the body frame of the start, vehicle included [m].
            within_m: Where the search ends [m].
            also_near_m: A place around which every grain is looked at too, so that a gap between two strides counts.
        """
        arc = drive(self.l_r, beta, within_m + STRIDE_M, GRAIN_M)
        stride = round(STRIDE_M / GRAIN_M)
        last = int(np.searchsorted(arc.way, within_m))
        near = int(np.searchsorted(arc.way, also_near_m))
        around = np.arange(max(0, near - stride), min(last, near + stride) + 1)
        strides = np.unique(np.append(np.arange(0, last + 1, stride), last))
        first = self._first_failing(arc, beta, discs, strides)
        if first is not None and first > 0:
            first = self._first_failing(arc, beta, discs, np.arange(max(0, first - stride), first + 1))
        close = self._first_failing(arc, beta, discs, around)
        failing = [index for index in (first, close) if index is not None]
        return float(arc.way[min(failing)]) if failing else within_m

    def _first_failing(self, arc: Curve, beta: float, discs: Array, places: NDArray[np.intp]) -> int | None:
        for begin in range(0, len(places), AT_ONCE):
            part = places[begin : begin + AT_ONCE]
            clear = self._clear(arc, beta, discs, part, CURVE_M)
            for index in part[~clear]:
                if not any(self._clear(arc, beta, discs, np.array([index]), spacing)[0] for spacing in FINER_M):
                    return int(index)
        return None

    def _clear(self, arc: Curve, beta: float, discs: Array, places: NDArray[np.intp], spacing: float) -> Mask:
        """Return whether each place is outside every disc with some manoeuvre clear of them all."""
        cosine, sine = np.cos(arc.heading[places])[:, None], np.sin(arc.heading[places])[:, None]
        dx, dy = discs[:, 0] - arc.x[places][:, None], discs[:, 1] - arc.y[places][:, None]
        x, y, radius = cosine * dx + sine * dy, cosine * dy - sine * dx, discs[:, 2]
        outside = (np.hypot(x, y) >= radius).all(axis=1)
        clear = outside & (np.hypot(np.minimum(x, 0.0), y) >= radius).all(axis=1)

        def ask(test: Test, *rest: float) -> None:
            rows = np.flatnonzero(outside & ~clear)
            if rows.size:
                clear[rows] = test(x[rows], y[rows], radius, spacing, arc.way[places[rows]], *rest)

        if self.deceleration is not None:
            for slip in (0.0, beta, self.slip, -self.slip):
                ask(self._brakes, slip)
        for side in (1.0, -1.0):
            ask(self._circle, side)
        for side in (1.0, -1.0):
            ask(self._turn_then_straight, side)
        return clear

    def _curve(self, slip: float, length: float, spacing: float) -> Curve:
        key = (slip, length, spacing)
        if key not in self._curves:
            self._curves[key] = drive(self.l_r, slip, length, spacing)
        return self._curves[key]

    def _full_lock(self, side: float, spacing: float) -> Curve:
        return self._curve(side * self.slip, 2.0 * math.pi * self.l_r / math.sin(self.slip), spacing)

    def _circle(self, x: Array, y: Array, radius: Array, spacing: float, _: Array, side: float) -> Mask:
        return self._safe(self._full_lock(side, spacing), x, y, radius).all(axis=1)

    def _turn_then_straight(self, x: Array, y: Array, radius: Array, spacing: float, _: Array, side: float) -> Mask:
        curve = self._full_lock(side, spacing)
        reached = np.logical_and.accumulate(self._safe(curve, x, y, radius), axis=1)
        straight = np.ones_like(reached)
        cosine, sine = np.cos(curve.heading)[None, :], np.sin(curve.heading)[None, :]
        for column in range(x.shape[1]):
            ax, ay = x[:, column, None] - curve.x, y[:, column, None] - curve.y
            ahead, aside = ax * cosine + ay * sine, ay * cosine - ax * sine
            straight &= np.minimum(ahead, 0.0) ** 2 + aside**2 >= radius[column] ** 2
        return (reached & straight).any(axis=1)

    def _brakes(self, x: Array, y: Array, radius: Array, spacing: float, way: Array, slip: float) -> Mask:
        length = self._braking_m(way)
        curve = self._curve(slip, self._braking_m(np.array([math.inf]))[0], spacing)
        passed = curve.way[None, :] <= length[:, None]
        safe = (self._safe(curve, x, y, radius) | ~passed).all(axis=1)
        tip_x, tip_y = np.interp(length, curve.way, curve.x), np.interp(length, curve.way, curve.y)
        at_tip = (np.hypot(x - tip_x[:, None], y - tip_y[:, None]) >= radius).all(axis=1)
        return np.asarray(safe & at_tip)

    def _braking_m(self, way: Array) -> Array:
        assert self.deceleration is not None
        start = min(self.v_max, self.start_mps)
        gained = 2.0 * self.a_max * way if self.a_max > 0.0 else np.zeros_like(way)
        return np.asarray(np.minimum(self.v_max**2, start**2 + gained) / (2.0 * self.deceleration))

    @staticmethod
    def _safe(curve: Curve, x: Array, y: Array, radius: Array) -> Mask:
        """Return whether each point of the curve is outside every disc: places by points."""
        safe = np.ones((x.shape[0], curve.x.size), dtype=bool)
        for column in range(x.shape[1]):
            dx, dy = curve.x - x[:, column, None], curve.y - y[:, column, None]
            safe &= dx * dx + dy * dy >= radius[column] ** 2
        return safe


def barrier_exit(l_r: float, r_bar: float, sigma: float, beta: float, disc: Array, within_m: float) -> float:
    """Return the first place [m], of one every grain, with h < 0 towards the disc centre (x, y)."""
    arc = drive(l_r, beta, within_m, GRAIN_M)
    dx, dy = arc.x - disc[0], arc.y - disc[1]
    xi = np.arctan2(dy, dx) - arc.heading
    xi = (xi + math.pi) % (2.0 * math.pi) - math.pi
    h = (sigma * np.cos(0.5 * xi) + 1.0 - sigma) / r_bar - 1.0 / np.hypot(dx, dy)
    negative = np.flatnonzero(h < 0.0)
    return float(arc.way[negative[0]]) if negative.size else within_m
