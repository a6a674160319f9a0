"""Turn at full lock until the straight line ahead is clear of several obstacles: certified along the held arc.

At one place the manoeuvre exists when some turn angle theta has the turn so far and the straight line from there
clear of every obstacle. With D, gamma the polar coordinates of an obstacle about the turn centre (-l, rho_r),
mirrored for a turn to the right, the turn meets it at

    hit = (gamma - b + pi/2 - acos((rho^2 + D^2 - R^2)/(2 D rho))) mod 2 pi,     never if |D - rho| >= R,

and the straight line is blocked for theta in (gamma - hi, gamma - lo),

    lo = max(-asin((R + rho_r)/D), -acos(l/D)),  hi = min(asin((R - rho_r)/D), acos(l/D)),  never if D <= l.

With theta fixed the manoeuvre is a fixed curve, and there are two ways to say where along the held arc it is clear.
Seen from the body an obstacle moves |w| = |(cos beta - kappa y, sin beta + kappa x)| metres a metre, all along, so that
a curve which at one place passes every obstacle at a distance of R + h |w| is clear for h metres either way: that
settles most short stretches between other manoeuvres, many at a time (`spans_clear`). How far exactly a fixed curve
stays clear is closed form (`hop`): one hop goes there with the best of a few angles, from the middle and the ends of
the open ranges, and the next begins there; the last hop is shorter than `HOP_M`. Both are sound whatever the choice of
angles.
"""

import math

import numpy as np
from numpy.typing import NDArray

from shield.backup.family import Sweep
from shield.backup.many import Array, Shape, seen_from, stretches_of
from shield.events import Arc

HOP_M = 1e-3
"""Hops shorter than this end the search [m]."""

STRIDE_M = 1.0
"""Length of the first hop asked for; it grows while hops succeed [m]."""

FRACTIONS, MIDDLE = (0.03, 0.5, 0.97), (0.5,)
"""Where in an open range of turn angles the candidates lie."""

GUARD_M = 1e-5
"""What a distance measured along a curve must exceed the radius by to count [m]."""

GRAIN_M = 1e-6
"""What is not looked at before the end of the question [m]."""

TWO_PI = 2.0 * math.pi

Index = NDArray[np.intp]
Bodies = tuple[Array, Array, Array]
"""x, y and dilated radius of each obstacle in the body frame [m]."""


class Turns:
    """The turns to either side of one vehicle, which holds a slip angle, among several obstacles.

    Args:
        beta_rad: Slip angle held [rad].
        l_r: Distance from the centre of gravity to the rear axle [m].
        sweeps: The turns (side, radius, slip angle), one a side, alike but for the side.
        bodies: Obstacles in the body frame at the start of the arc.
        length: Where to stop asking [m].
    """

    def __init__(self, beta_rad: float, l_r: float, sweeps: tuple[Sweep, ...], bodies: Bodies, length: float) -> None:
        self.sides = np.array([float(sweep.side) for sweep in sweeps])
        self.rho, self.rho_rear = sweeps[0].rho_m, abs(sweeps[0].centre_y_m)
        self.zero_angle = sweeps[0].slip_rad - 0.5 * math.pi
        self.beta, self.l_r, self.length = beta_rad, l_r, length
        self.x, self.y, self.radius = bodies
        self.arc = Arc(beta_rad, l_r, length)
        kappa = self.arc.kappa
        self.pace = np.hypot(self.arc.cos_beta - kappa * self.y, self.arc.sin_beta + kappa * self.x)

    def spans_clear(self, spans: list[tuple[float, float]]) -> list[int]:
        """Return per span (start, end) [m] the index of a turn that one angle makes clear all along it; -1 for none.

        What is not found here may still be there: `until` looks closer.
        """
        places = np.array([0.5 * (start + end) for start, end in spans])
        x, y = seen_from(self.arc, places[:, None], self.x, self.y)
        sides = np.repeat(self.sides, len(spans))
        x, y = np.tile(x, (self.sides.size, 1)), np.tile(y, (self.sides.size, 1)) * sides[:, None]
        rows, angles = self._candidates(x, y, False)
        found = [-1] * len(spans)
        if angles.size == 0:
            return found
        half = np.array([0.5 * (end - start) for start, end in spans])
        room = self._slack(angles[:, None], x[rows], y[rows]) - self.radius - GUARD_M
        clear = (room >= half[rows % len(spans)][:, None] * self.pace).all(axis=1)
        for row in rows[clear].tolist():
            span = row % len(spans)
            if found[span] < 0:
                found[span] = row // len(spans)
        return found

    def until(self, start: float, enough: float) -> tuple[list[tuple[int, float]], int]:
        """Return the hops from `start` on that turns make possible, and the obstacle that ends the last.

        Args:
            start: Where on the arc to begin [m].
            enough: Where something else takes over, so that no further hop is needed [m].
        Returns:
            (index of the turn, end of its stretch [m]) of each hop, none when it is not possible at the start.
        """
        at, cause, stride = start, -1, STRIDE_M
        hops: list[tuple[int, float]] = []
        while at < enough - GRAIN_M:
            stride = min(stride, enough - at)
            turn, hop, ended_by = self.hop(at, stride)
            cause = ended_by if ended_by >= 0 else cause
            at += hop
            if hop > 0.0:
                hops.append((turn, at))
            if hop < min(HOP_M, stride):
                break
            if hop >= stride:
                stride *= 4.0
        return hops, cause if at < enough - GRAIN_M else -1

    def hop(self, at: float, stride: float) -> tuple[int, float, int]:
        """Return the turn that stays clear farthest from `at` with one angle, how far, and which obstacle ends it."""
        x, y = seen_from(self.arc, np.array(at), self.x, self.y)
        mirrored = self.sides[:, None] * y
        rows, angles = self._candidates(np.broadcast_to(x, mirrored.shape), mirrored, True)
        if angles.size == 0:
            return -1, 0.0, -1
        hops, causes = self._clear_until(Arc(self.beta, self.l_r, stride), self.sides[rows], angles, x, y)
        best = int(hops.argmax())
        return int(rows[best]), float(hops[best]), int(causes[best])

    def _candidates(self, x: Array, y: Array, ends: bool) -> tuple[Index, Array]:
        """Return candidate turn angles [rad] with their row: open ahead, and the turn up to there hits nothing.

        Args:
            x, y: Obstacles per row, in the body frame there, mirrored for a turn to the right [m].
            ends: Whether the ends of the ranges are wanted besides the middle.
        """
        least, begin, span, blocks = self._blocked_angles(x, y)
        begin = np.where(blocks, begin, math.inf)
        end = begin + span
        # What reaches past a whole turn blocks the first angles too.
        already = np.where(blocks & (end > TWO_PI), end - TWO_PI, 0.0).max(axis=1)
        order = begin.argsort(axis=1) + np.arange(0, begin.size, begin.shape[1])[:, None]
        begins, ends_at = begin.ravel()[order].tolist(), end.ravel()[order].tolist()
        rows: list[int] = []
        angles: list[float] = []
        for row, (limit, at) in enumerate(zip(least.tolist(), already.tolist(), strict=True)):
            openings = _openings(begins[row], ends_at[row], at, limit)
            if not openings:
                continue
            chosen = _chosen(openings)
            found = [first + width * share for width, first in chosen for share in (FRACTIONS if ends else MIDDLE)]
            if ends and openings[0][1] == 0.0:
                found.append(0.0)
            rows += [row] * len(found)
            angles += found
        return np.array(rows, np.intp), np.array(angles)

    def _blocked_angles(self, x: Array, y: Array) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
        """Return the least turn angle that hits, and where straight ahead is blocked: begin, width, whether at all."""
        rho, rho_rear, l_r, radius = self.rho, self.rho_rear, self.l_r, self.radius
        dx, dy = x + l_r, y - rho_rear
        distance = np.sqrt(dx * dx + dy * dy)
        gamma = np.arctan2(dy, dx)
        safe = np.maximum(distance, 1e-12)
        inverse = 1.0 / safe
        cosine = np.minimum(1.0, np.maximum(-1.0, (0.5 / rho) * ((rho * rho - radius * radius) * inverse + safe)))
        hit = np.where(np.abs(distance - rho) < radius, (gamma - self.zero_angle - np.arccos(cosine)) % TWO_PI, TWO_PI)
        ahead = np.arccos(np.minimum(1.0, l_r * inverse))
        low = np.maximum(-np.arcsin(np.minimum(1.0, (radius + rho_rear) * inverse)), -ahead)
        high = np.minimum(np.arcsin(np.minimum(1.0, np.maximum(-1.0, (radius - rho_rear) * inverse))), ahead)
        return hit.min(axis=1), (gamma - high) % TWO_PI, high - low, (distance > l_r) & (high > low)

    def _slack(self, angle: Array, x: Array, y: Array) -> Array:
        """Return the distance of (x, y), mirrored for a turn to the right, from the curve of turn angle `angle` [m]."""
        rho = self.rho
        dx, dy = x + self.l_r, y - self.rho_rear
        first_x, first_y = math.cos(self.zero_angle), math.sin(self.zero_angle)
        last_x, last_y = np.cos(angle + self.zero_angle), np.sin(angle + self.zero_angle)
        # On the turn's side of both its ends, or of one when it is more than half a circle.
        after, before = first_x * dy - first_y * dx >= 0.0, dx * last_y - dy * last_x >= 0.0
        turned = np.where(angle <= math.pi, after & before, after | before)
        on_turn = np.where(turned, np.abs(np.sqrt(dx * dx + dy * dy) - rho), math.inf)
        # Where the straight begins, and its direction, seen from the turn's centre.
        ux, uy = np.cos(angle), np.sin(angle)
        ax, ay = dx - rho * last_x, dy - rho * last_y
        behind = np.minimum(ax * ux + ay * uy, 0.0)
        aside = ay * ux - ax * uy
        near = np.minimum(on_turn * on_turn, behind * behind + aside * aside)
        nearest: Array = np.sqrt(np.minimum(near, x * x + y * y))
        return nearest

    def _clear_until(self, arc: Arc, sides: Array, angles: Array, x: Array, y: Array) -> tuple[Array, Index]:
        """Return, per turn angle, how far along `arc` the fixed curve stays clear of all, and what ends it."""
        rho, l_r, radius, length = self.rho, self.l_r, self.radius, arc.length
        hops, causes = np.full(angles.size, length), np.full(angles.size, -1)
        near = self._slack(angles[:, None], x, sides[:, None] * y) < radius + (length * self.pace + HOP_M)
        met = near.any(axis=1)
        if not met.all():
            # One angle that nothing can come near is enough.
            return np.where(met, 0.0, length), causes
        which, index = np.nonzero(near)
        ex, ey, dilated = x[index], y[index], radius[index]
        side, angle = sides[which], angles[which]
        # Where the straight begins and its direction, in the body frame.
        ux, uy = np.cos(angle), side * np.sin(angle)
        px = rho * np.cos(angle + self.zero_angle) - l_r
        py = side * (rho * np.sin(angle + self.zero_angle) + self.rho_rear)
        zero = np.zeros_like(px)
        # The start's own disc bounds the dilated turn too, although the held arc never enters it.
        shape = Shape(
            (
                np.stack((zero - l_r, zero - l_r, zero, px)),
                np.stack((side * self.rho_rear, side * self.rho_rear, zero, py)),
                np.stack((rho + dilated, np.maximum(rho - dilated, 0.0), dilated, dilated)),
            ),
            (-uy, ux, ux * py - uy * px + np.stack((dilated, -dilated))),
            lambda seen_x, seen_y: self._slack(angle, seen_x, side * seen_y) < dilated,
        )
        begins, _, columns = stretches_of(arc, shape, ex, ey)
        for begin, column in zip(begins.tolist(), columns.tolist(), strict=True):
            if begin < hops[which[column]]:
                hops[which[column]], causes[which[column]] = begin, index[column]
        return hops, causes


def _openings(begins: list[float], ends: list[float], already: float, limit: float) -> list[tuple[float, float]]:
    """Return (width, begin) of what is open in [already, limit] between blocked ranges whose begins rise."""
    openings = []
    at = already
    for begin, end in zip(begins, ends, strict=True):
        if begin >= limit:
            break
        if begin > at:
            openings.append((begin - at, at))
        if end > at:
            at = end
    if at < limit:
        openings.append((limit - at, at))
    return openings


def _chosen(openings: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the two widest and the nearest: a disc that the turn is about to meet ends every opening beyond it."""
    if len(openings) <= 2:
        return openings
    widest = sorted(openings, reverse=True)[:2]
    return widest if openings[0] in widest else [*widest, openings[0]]
