"""Turn at full lock until the straight line ahead is clear of several obstacles: certified along the held arc.

At one place the manoeuvre exists when some turn angle theta has the turn so far and the straight line from there
clear of every obstacle. With D, gamma the polar coordinates of an obstacle about the turn centre (-l, rho_r),
mirrored for a turn to the right, the turn meets it at

    hit = (gamma - b + pi/2 - acos((rho^2 + D^2 - R^2)/(2 D rho))) mod 2 pi,     never if |D - rho| >= R,

and the straight line is blocked for theta in (gamma - hi, gamma - lo),

    lo = max(-asin((R + rho_r)/D), -acos(l/D)),  hi = min(asin((R - rho_r)/D), acos(l/D)),  never if D <= l.

With theta fixed the manoeuvre is a fixed curve (`shield.backup.curve`), and there are two ways to say where along the
held arc it is clear. Seen from the body an obstacle moves |w| = |(cos beta - kappa y, sin beta + kappa x)| metres a
metre, all along, so that a curve which at one place passes every obstacle at a distance of R + h |w| is clear for h
metres either way: that settles most short stretches between other manoeuvres, many at a time (`spans_clear`). How far
exactly a fixed curve stays clear is closed form (`hop`): one hop goes there with the best of a few angles, from the
middle and the ends of the open ranges, and the next begins there; the last hop is shorter than `HOP_M`. Both are sound
whatever the choice of angles.
"""

import math

import numpy as np
from numpy.typing import NDArray

from shield.backup.curve import Curve, Index, Points
from shield.backup.family import Sweep
from shield.backup.many import Array
from shield.events import Arc

HOP_M = 1e-3
"""Hops shorter than this end the search, so a hop's turn angles are those open so much farther on [m]: at an edge a
disc may just touch a circle that it is about to block."""

STRIDE_M = 8.0
"""Length of the first hop asked for; it grows while hops succeed [m]."""

FRACTIONS, MIDDLE = (0.03, 0.5, 0.97), (0.5,)
"""Where in an open range of turn angles the candidates lie."""

GUARD_M = 1e-5
"""What a distance measured along a curve must exceed the radius by to count [m]."""

GRAIN_M = 1e-6
"""What is not looked at before the end of the question [m]."""

CLOSED = -2
"""In place of a turn's index: at the place looked at, no turn angle is clear."""

TWO_PI = 2.0 * math.pi

Bodies = tuple[Array, Array, Array]
"""x, y and dilated radius of each obstacle in the body frame [m]."""


class Turns:
    """The turns to either side of one vehicle, which holds a slip angle, among several obstacles.

    Points are complex numbers about the turn's centre, mirrored for a turn to the right.

    Args:
        beta_rad: Slip angle held [rad].
        l_r: Distance from the centre of gravity to the rear axle [m].
        sweeps: The turns (side, radius, slip angle), one a side, alike but for the side.
        bodies: Obstacles in the body frame at the start of the arc.
        length: Where to stop asking [m].
    """

    def __init__(self, beta_rad: float, l_r: float, sweeps: tuple[Sweep, ...], bodies: Bodies, length: float) -> None:
        self.sides = [sweep.side for sweep in sweeps]
        rho, rho_rear, slip = sweeps[0].rho_m, abs(sweeps[0].centre_y_m), sweeps[0].slip_rad
        self.rho, self.slip, self.beta, self.l_r, self.length = rho, slip, beta_rad, l_r, length
        x, y, radius = bodies
        self.radius, self.places = radius, x + 1j * y
        self.arc = Arc(beta_rad, l_r, length)
        self.curve = Curve(rho, complex(math.sin(slip), -math.cos(slip)), complex(l_r, -rho_rear))
        kappa = self.arc.kappa
        self.pace = np.hypot(self.arc.cos_beta - kappa * y, self.arc.sin_beta + kappa * x)
        # What is divided by the distance D to give the sines of four angles; D/(2 rho) is still to add to the last.
        self.sines = np.empty((4, 1, radius.size))
        self.sines[0, 0], self.sines[1, 0], self.sines[2, 0] = radius + rho_rear, l_r, radius - rho_rear
        self.sines[3, 0] = (0.5 / rho) * (rho - radius) * (rho + radius)

    def spans_clear(self, spans: list[tuple[float, float]]) -> list[int]:
        """Return per span (start, end) [m] the index of a turn that one angle makes clear all along it.

        -1: none was found, but one may still be there: `until` looks closer; `CLOSED`: half way along every angle is
        blocked.
        """
        about = self._seen_from([0.5 * (start + end) for start, end in spans])
        rows, angles = self._candidates(about, False)
        found = [CLOSED] * len(spans)
        for row in rows.tolist():
            found[row % len(spans)] = -1
        if angles.size == 0:
            return found
        half = np.array([0.5 * (end - start) for start, end in spans])
        unturned = self.curve.unturned(about, rows)
        room = np.sqrt(self.curve.nearest2(angles[:, None], about[rows], unturned)) - self.radius - GUARD_M
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
        rows, angles = self._candidates(self._seen_from([at + min(HOP_M, stride)]), True)
        if angles.size == 0:
            return -1, 0.0, -1
        hops, causes = self._clear_until(stride, self._seen_from([at]), rows, angles)
        best = int(hops.argmax())
        return int(rows[best]), float(hops[best]), int(causes[best])

    def _seen_from(self, places: list[float]) -> Points:
        """Return the obstacles as seen from places along the arc [m], a row per side and place."""
        kappa, ahead = self.arc.kappa, complex(self.arc.cos_beta, self.arc.sin_beta)
        turned, shift = [], []
        for s in places:
            half = 0.5 * kappa * s
            sine, cosine = math.sin(half), math.cos(half)
            back = complex(cosine, -sine)
            turned.append(back * back)
            shift.append((2.0 * sine / kappa if kappa != 0.0 else s) * ahead * back)
        seen = np.array(turned)[:, None] * self.places - np.array(shift)[:, None]
        return np.concatenate([seen if side > 0 else seen.conj() for side in self.sides]) + self.curve.to_centre

    def _candidates(self, about: Points, ends: bool) -> tuple[Index, Array]:
        """Return candidate turn angles [rad] with their row: open ahead, and the turn up to there hits nothing.

        Args:
            about: Obstacles per row.
            ends: Whether the ends of the ranges are wanted besides the middle.
        """
        least, begin, end, blocks = self._blocked_angles(about)
        # What reaches past a whole turn blocks the first angles too.
        wraps = np.where(blocks, end, 0.0).max(axis=1)
        matters = blocks & (begin < least[:, None])
        counts = matters.sum(axis=1).tolist()
        begin, end = begin[matters], end[matters]
        order = (begin + TWO_PI * matters.nonzero()[0]).argsort()
        begins, ends_at = begin[order].tolist(), end[order].tolist()
        rows: list[int] = []
        angles: list[float] = []
        done = 0
        for row, (limit, wrap, count) in enumerate(zip(least.tolist(), wraps.tolist(), counts, strict=True)):
            mine = slice(done, done + count)
            done += count
            openings = _openings(begins[mine], ends_at[mine], max(0.0, wrap - TWO_PI), limit)
            if not openings:
                continue
            chosen = _chosen(openings)
            found = [first + width * share for width, first in chosen for share in (FRACTIONS if ends else MIDDLE)]
            if ends and openings[0][1] == 0.0:
                found.append(0.0)
            rows += [row] * len(found)
            angles += found
        return np.array(rows, np.intp), np.array(angles)

    def _blocked_angles(self, about: Points) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
        """Return the least turn angle that hits, and where straight ahead is blocked: begin, end, whether at all."""
        distance = np.abs(about)
        gamma = np.arctan2(about.imag, about.real)
        sines = self.sines * (1.0 / np.maximum(distance, 1e-12))
        sines[3] += (0.5 / self.rho) * distance
        np.minimum(sines, 1.0, out=sines)
        np.maximum(sines, -1.0, out=sines)
        below, right, above, turned = np.arcsin(sines, out=sines)
        # gamma - (slip - pi/2) - acos of the last sine.
        hit = gamma + (turned - self.slip)
        np.add(hit, TWO_PI, out=hit, where=hit < 0.0)
        near = np.abs(distance - self.rho) < self.radius
        ahead = 0.5 * math.pi - right
        low, high = np.minimum(below, ahead), np.minimum(above, ahead)
        begin, width = gamma - high, high + low
        np.add(begin, TWO_PI, out=begin, where=begin < 0.0)
        return np.where(near, hit, TWO_PI).min(axis=1), begin, begin + width, (distance > self.l_r) & (width > 0.0)

    def _clear_until(self, length: float, about: Points, rows: Index, angles: Array) -> tuple[Array, Index]:
        """Return, per turn angle, how far along the arc from here the fixed curve stays clear, and what ends it.

        Args:
            length: Where to stop [m].
            about: Obstacles as seen from here, a row per side.
            rows, angles: Side and turn angle [rad] of each curve.
        """
        hops, causes = np.full(angles.size, length), np.full(angles.size, -1)
        unturned = self.curve.unturned(about, rows)
        reach = self.radius + (length * self.pace + HOP_M)
        near = self.curve.nearest2(angles[:, None], about[rows], unturned) < reach * reach
        met = near.any(axis=1)
        if not met.all():
            # One angle that nothing can come near is enough.
            return np.where(met, 0.0, length), causes
        which, index = near.nonzero()
        row = rows[which]
        arc = Arc(self.beta, self.l_r, length)
        begins = self.curve.first_touch(
            arc, np.array(self.sides)[row], angles[which], about[row, index], self.radius[index]
        )
        for begin, curve, body in zip(begins.tolist(), which.tolist(), index.tolist(), strict=True):
            if begin < hops[curve]:
                hops[curve], causes[curve] = begin, body
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
