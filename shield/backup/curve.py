"""The curve of a turn that ends in a straight line: how far points are from it, and when an obstacle first touches it.

Points are complex numbers about the turn's centre, mirrored for a turn to the right; the turn begins at the body's
centre of gravity, with its first direction square to the radius there, and the straight goes on from where it ends.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shield.backup.many import Array, roots_of
from shield.events import Arc

Index = NDArray[np.intp]
Points = NDArray[np.complex128]
Unturned = tuple[Array, Array, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Curve:
    """The turn's circle.

    Args:
        rho: Its radius [m].
        first: Unit vector from its centre to the start of the turn, at the angle slip - pi/2.
        to_centre: What makes body coordinates those about the centre, (l_r, -rho_rear) [m].
    """

    rho: float
    first: complex
    to_centre: complex

    def unturned(self, about: Points, rows: Index | slice) -> Unturned:
        """Return what of a point's distance from a turn's curve does not depend on its angle, for rows of points.

        That is the squared distances from its circle and from its start, and whether it is beyond the start's radius.
        """
        on_circle = np.abs(about) - self.rho
        from_start = about - self.to_centre
        square = from_start.real * from_start.real + from_start.imag * from_start.imag
        after = (about * self.first.conjugate()).imag >= 0.0
        return (on_circle * on_circle)[rows], square[rows], after[rows]

    def nearest2(self, angle: Array, about: Points, unturned: Unturned) -> Array:
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

    def first_touch(self, arc: Arc, side: Index, angle: Array, about: Points, radius: Array) -> Array:
        """Return per pair of a fixed curve and an obstacle where along the arc from here the two first touch [m].

        In complex numbers the quadratics of `shield.events` read, with the body point f, the obstacle o, d = f - o and
        W = exp(i beta) + i kappa f:  a = |W|^2 - kappa Im(d* W) + kappa^2 E/4, b/2 = Re(d* W); a line of direction n
        likewise, with W of the obstacle.

        Args:
            arc: The held arc from here on; its length is returned where the two do not touch.
            side, angle: Side and turn angle [rad] of each curve.
            about: The obstacle of each, about the turn's centre.
            radius: Its dilated radius [m].
        """
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
        hit = (self.nearest2(angle, seen, self.unturned(seen, slice(None))) < radius * radius) & (ends > starts)
        begins: Array = np.where(hit, starts, arc.length).min(axis=0)
        return begins
