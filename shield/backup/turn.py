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
from shield.backup.many import Array, roots_of
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

Index = NDArray[np.intp]
Points = NDArray[np.complex128]
Unturned = tuple[Array, Array, NDArray[np.bool_]]
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
        self.to_centre = complex(l_r, -rho_rear)
        # Unit vector from the centre to the start of the turn: at the angle slip - pi/2.
        self.first = complex(math.sin(slip), -math.cos(slip))
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
        unturned = self._unturned(about, rows)
        room = np.sqrt(self._nearest2(angles[:, None], about[rows], unturned)) - self.radius - GUARD_M
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
        return np.concatenate([seen if side > 0 else seen.conj() for side in self.sides]) + self.to_centre

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

    def _unturned(self, about: Points, rows: Index | slice) -> Unturned:
        """Return what of a point's distance from a turn's curve does not depend on its angle, for rows of points.

        That is the squared distances from its circle and from its start, and whether it is beyond the start's radius.
        """
        on_circle = np.abs(about) - self.rho
        from_start = about - self.to_centre
        square = from_start.real * from_start.real + from_start.imag * from_start.imag
        after = (about * self.first.conjugate()).imag >= 0.0
        return (on_circle * on_circle)[rows], square[rows], after[rows]

    def _nearest2(self, angle: Array, about: Points, unturned: Unturned) -> Array:
        """Return the squared distance of points from the curve of turn angle `angle` [m^2]."""
        on_circle, from_start, after = unturned
        # Along the straight and across it.
        seen = about * np.exp(-1j * angle)
        along, across = seen.real, seen.imag
        # On the turn's side of both its ends, or of one when it is more than half a circle.
        before = along * self.first.imag >= across * self.first.real
        turned = np.where(angle <= math.pi, after & before, after | before)
        behind = np.minimum(along - self.rho * self.first.real, 0.0)
        aside = across - self.rho * self.first.imag
        nearest: Array = np.minimum(np.where(turned, on_circle, from_start), behind * behind + aside * aside)
        return nearest

    def _clear_until(self, length: float, about: Points, rows: Index, angles: Array) -> tuple[Array, Index]:
        """Return, per turn angle, how far along the arc from here the fixed curve stays clear, and what ends it.

        Args:
            length: Where to stop [m].
            about: Obstacles as seen from here, a row per side.
            rows, angles: Side and turn angle [rad] of each curve.
        """
        hops, causes = np.full(angles.size, length), np.full(angles.size, -1)
        unturned = self._unturned(about, rows)
        reach = self.radius + (length * self.pace + HOP_M)
        near = self._nearest2(angles[:, None], about[rows], unturned) < reach * reach
        met = near.any(axis=1)
        if not met.all():
            # One angle that nothing can come near is enough.
            return np.where(met, 0.0, length), causes
        which, index = near.nonzero()
        row = rows[which]
        begins = self._first_touch(length, np.array(self.sides)[row], angles[which], about[row, index], index)
        for begin, curve, body in zip(begins.tolist(), which.tolist(), index.tolist(), strict=True):
            if begin < hops[curve]:
                hops[curve], causes[curve] = begin, body
        return hops, causes

    def _first_touch(self, length: float, side: Index, angle: Array, about: Points, index: Index) -> Array:
        """Return per pair of a fixed curve and an obstacle where along the arc from here the two first touch [m].

        In complex numbers the quadratics of `shield.events` read, with the body point f, the obstacle o, d = f - o and
        W = exp(i beta) + i kappa f:  a = |W|^2 - kappa Im(d* W) + kappa^2 E/4, b/2 = Re(d* W); a line of direction n
        likewise, with W of the obstacle.

        Args:
            length: Where to stop [m], which is returned where the two do not touch.
            side, angle: Side and turn angle [rad] of each curve.
            about: The obstacle of each, about the turn's centre.
            index: Which obstacle it is.
        """
        arc, radius = Arc(self.beta, self.l_r, length), self.radius[index]
        kappa, ahead = arc.kappa * side, arc.cos_beta + (1j * arc.sin_beta) * side
        direction = np.exp(1j * angle)
        body = about - self.to_centre
        # Circles about the turn's centre, outer and inner, about its start, and about the foot of the straight.
        points = np.empty((3, about.size), np.complex128)
        points[0], points[1] = -self.to_centre, 0.0
        np.subtract((self.rho * self.first) * direction, self.to_centre, out=points[2])
        way = ahead + (1j * kappa) * points
        away = points - body
        turning = away.conj() * way
        edges = np.empty((4, about.size))
        edges[0], edges[2:] = self.rho + radius, radius
        np.maximum(self.rho - radius, 0.0, out=edges[1])
        quarter = 0.25 * arc.kappa * arc.kappa
        table = np.empty((3, 6, about.size))
        a, half_b, c = table
        c[1:4] = away.real * away.real + away.imag * away.imag
        c[0] = c[1]
        c[:4] -= edges * edges
        half_b[1:4] = turning.real
        half_b[0] = half_b[1]
        a[1:4] = way.real * way.real + way.imag * way.imag - kappa * turning.imag
        a[0] = a[1]
        # The lines to either side of the straight: the obstacle's place across it, and its own way.
        across = (about * direction.conj()).imag - self.rho * self.first.imag
        normal = (1j * direction).conj() * (ahead + (1j * kappa) * body)
        np.subtract(across, radius, out=c[4])
        np.add(across, radius, out=c[5])
        half_b[4:] = -0.5 * normal.real
        a[4:] = (-0.5 * kappa) * normal.imag
        a += quarter * c
        s = roots_of(arc, a, half_b, c)
        edges = np.empty((s.shape[0] + 2, about.size))
        edges[0], edges[1:-1], edges[-1] = 0.0, s, arc.length
        edges.sort(axis=0)
        starts, ends = edges[:-1], edges[1:]
        half = 0.25 * kappa * (starts + ends)
        sine = np.sin(half)
        back = np.cos(half) - 1j * sine
        chord = 0.5 * (starts + ends) if arc.kappa == 0.0 else sine * (2.0 / kappa)
        seen = (back * body - chord * ahead) * back + self.to_centre
        hit = (self._nearest2(angle, seen, self._unturned(seen, slice(None))) < radius * radius) & (ends > starts)
        begins: Array = np.where(hit, starts, length).min(axis=0)
        return begins


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
