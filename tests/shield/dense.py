"""A second opinion on the backup deadline: plain stepping and sampling, no closed form and no code of the shield's.

The vehicle is a pose that is stepped along its path by the midpoint rule; a manoeuvre is a list of points; a turn
followed by a straight is every angle of a fine grid. Distances are to points, so a small tolerance belongs to each
claim.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Car:
    """What the oracle knows of the vehicle."""

    l_r: float
    beta_max: float
    braking_m: float | None = None


def _constant(slip: float, _: float) -> float:
    return slip


def drive(l_r: float, slip: Callable[[float], float], length: float, step: float) -> tuple[Array, Array, Array]:
    """Return x, y, heading at every step along a path driven from the origin with the slip angle slip(s)."""
    count = max(1, math.ceil(length / step))
    h = length / count
    x, y, heading = np.zeros(count + 1), np.zeros(count + 1), np.zeros(count + 1)
    for i in range(count):
        beta = slip((i + 0.5) * h)
        turn = math.sin(beta) / l_r * h
        direction = heading[i] + 0.5 * turn + beta
        x[i + 1] = x[i] + h * math.cos(direction)
        y[i + 1] = y[i] + h * math.sin(direction)
        heading[i + 1] = heading[i] + turn
    return x, y, heading


def gaps(x: Array, y: Array, discs: Array) -> Array:
    """Return the distance from every point to every disc's edge, points by discs; discs are rows (x, y, R)."""
    return np.asarray(np.hypot(x[:, None] - discs[:, 0], y[:, None] - discs[:, 1]) - discs[:, 2])


def ray_gaps(x: Array, y: Array, heading: Array, discs: Array) -> Array:
    """Return the distance from the straight line ahead of every pose to every disc's edge."""
    ax, ay = discs[:, 0] - x[:, None], discs[:, 1] - y[:, None]
    ux, uy = np.cos(heading)[:, None], np.sin(heading)[:, None]
    along, aside = ax * ux + ay * uy, ay * ux - ax * uy
    return np.asarray(np.hypot(np.minimum(along, 0.0), aside) - discs[:, 2])


class Oracle:
    """Which manoeuvres clear a set of discs, by sampling; the paths are stepped once and moved about."""

    def __init__(self, car: Car, beta: float, step: float = 0.01) -> None:
        self.car, self.beta = car, beta
        circle = 2.0 * math.pi * car.l_r / math.sin(car.beta_max)
        self.turns = {g: drive(car.l_r, partial(_constant, g * car.beta_max), circle, step) for g in (1, -1)}
        self.brakes: dict[str, tuple[Array, Array, Array]] = {}
        if car.braking_m is not None:
            slips = {"brake": beta, "brake_left": car.beta_max, "brake_right": -car.beta_max, "brake_straight": 0.0}
            for name, slip in slips.items():
                self.brakes[name] = drive(car.l_r, partial(_constant, slip), car.braking_m, step)

    def clear(self, x: float, y: float, heading: float, discs: Array, slack: float = 0.0) -> set[str]:
        """Return the manoeuvres that keep more than `-slack` from every disc, started at the pose."""
        cosine, sine = math.cos(heading), math.sin(heading)
        dx, dy = discs[:, 0] - x, discs[:, 1] - y
        body = np.stack((cosine * dx + sine * dy, cosine * dy - sine * dx, discs[:, 2] - slack), axis=1)
        found = set()
        for g, name in ((1, "left"), (-1, "right")):
            px, py, headings = self.turns[g]
            safe = np.asarray((gaps(px, py, body) >= 0.0).all(axis=1))
            if safe.all():
                found.add(name)
            so_far = len(safe) if safe.all() else int(safe.argmin())
            ahead = ray_gaps(px[:so_far], py[:so_far], headings[:so_far], body)
            if safe.all() or (ahead >= 0.0).all(axis=1).any():
                found.add(f"{name}_then_straight")
        if (ray_gaps(np.zeros(1), np.zeros(1), np.zeros(1), body) >= 0.0).all():
            found.add("straight")
        for name, (px, py, _) in self.brakes.items():
            if (gaps(px, py, body) >= 0.0).all():
                found.add(name)
        return found

    def exit(self, discs: Array, length: float, step: float, slack: float = 0.0) -> float:
        """Return the first sampled place on the held arc that is hit or from which nothing is clear [m]."""
        x, y, heading = drive(self.car.l_r, lambda _: self.beta, length, step)
        s = np.linspace(0.0, length, len(x))
        hit = np.asarray((gaps(x, y, discs) < -slack).any(axis=1))
        for i in range(len(x)):
            if hit[i] or not self.clear(x[i], y[i], heading[i], discs, slack):
                return float(s[i])
        return math.inf
