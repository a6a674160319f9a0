"""Full circles and straight lines among many obstacles, and the held arc itself: one pass over all their roots.

The events are those of `shield.backup.clear`, an obstacle per column, as in `shield.backup.many`; what differs between
the manoeuvres is the test at the midpoints. Nothing is added to the closed forms here, only taken together, because a
pass over a few numbers costs hardly less than one over many.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shield.backup.cover import Blocked
from shield.backup.family import Kind, Sweep
from shield.backup.many import (
    Array,
    Mask,
    conic_of_circle,
    conic_of_line,
    first_of,
    roots_of,
    seen_from,
    together,
)
from shield.events import LEAST_INNER_M, Arc

_LINE_NX, _LINE_NY = np.array([[0.0], [0.0], [1.0]]), np.array([[1.0], [1.0], [0.0]])
_LINE_C = np.array([[1.0], [-1.0], [0.0]])


def plain(sweep: Sweep) -> bool:
    """Return whether `AtOnce` takes the sweep: a full circle, or a straight line without wedge and pad."""
    return sweep.kind is Kind.CIRCLE or (sweep.kind is Kind.LINE and sweep.wedge_rad == 0.0 and sweep.pad_m == 0.0)


@dataclass(frozen=True, slots=True)
class _Part:
    """One sweep's centre, roots and bounds, and the obstacles at which it changes or which always block it."""

    centre_y: float
    roots: Array
    bounds: tuple[Array, Array] | None
    changes: NDArray[np.intp]
    always: NDArray[np.intp]


class AtOnce:
    """The roots of the held arc and of every plain sweep of a family, found in one pass.

    The line behind which a straight touches nothing is x = 0, as for one obstacle.

    Args:
        arc: Held arc.
        l_r: Distance from the centre of gravity to the rear axle [m].
        sweeps: Plain ones (`plain`), of which one at most is a straight line.
        bodies: x, y and radius, without any pad, of each obstacle [m].
        held_pad: Pad of the held arc itself [m].
    """

    def __init__(self, arc: Arc, l_r: float, sweeps: Sequence[Sweep], bodies: Array, held_pad: float) -> None:
        ox, oy, radius = bodies
        self.sweeps, self.ox, self.oy, self.radius, self.l_r = sweeps, ox, oy, radius, l_r
        circles = [sweep for sweep in sweeps if sweep.kind is Kind.CIRCLE]
        self.centre_y = np.array([[sweep.centre_y_m] for sweep in circles]).reshape(-1, 1)
        # The held arc; outer and inner edge of each circle; both edges and the foot of the line.
        self.edges = np.empty((1 + 2 * len(circles), radius.size))
        centres = np.zeros((2, 1 + 2 * len(circles), 1))
        centres[0, 1:] = -l_r
        np.add(radius, held_pad, out=self.edges[0])
        for row, sweep in enumerate(circles):
            centres[1, 1 + 2 * row : 3 + 2 * row] = sweep.centre_y_m
            np.add(radius, sweep.rho_m + sweep.pad_m, out=self.edges[1 + 2 * row])
            np.maximum((sweep.rho_m - sweep.pad_m) - radius, 0.0, out=self.edges[2 + 2 * row])
        conics = [conic_of_circle(arc, centres[0], centres[1], self.edges, ox, oy)]
        if len(circles) < len(sweeps):
            conics.append(conic_of_line(arc, _LINE_NX, _LINE_NY, _LINE_C * radius, ox, oy))
        a, half_b, c = together(conics, radius.size)
        self.roots = roots_of(arc, a, half_b, c).reshape(2, -1, radius.size)
        self.hits = first_of(arc, c[0], self.roots[:, 0])

    def blocked(self, arc: Arc) -> Iterator[list[Blocked]]:
        """Yield where each sweep is blocked up to the end of `arc`, which is the one given at first or a part of it."""
        length = arc.length
        # By event, then by which of its two roots.
        roots = np.minimum(self.roots[:, 1:].swapaxes(0, 1), length, order="C")
        changes: Mask = np.logical_or.reduce(roots < length, axis=1)
        x, y = seen_from(arc, 0.5 * length, self.ox, self.oy)
        outer2, inner2 = self._bounds()
        always = _on_ring(x + self.l_r, y - self.centre_y, outer2, inner2)
        parts = []
        done = 0
        for sweep in self.sweeps:
            if sweep.kind is Kind.CIRCLE:
                rows, held = slice(2 * done, 2 * done + 2), always[done]
                bounds: tuple[Array, Array] | None = (outer2[done], inner2[done])
                done += 1
            else:
                rows, held, bounds = slice(2 * len(self.centre_y), None), _straight_ahead(x, y, self.radius), None
            some: Mask = np.logical_or.reduce(changes[rows], axis=0)
            always_in = (held & ~some).nonzero()[0]
            parts.append(
                _Part(sweep.centre_y_m, roots[rows].reshape(-1, some.size), bounds, some.nonzero()[0], always_in)
            )
        free = 0
        while free < len(parts):
            # What nothing blocks is often enough, so what comes after it waits until it is asked for.
            begin = free
            while free < len(parts) and (parts[free].changes.size or parts[free].always.size):
                free += 1
            free += 1
            yield from self._stretches(arc, parts[begin:free])

    def _bounds(self) -> tuple[Array, Array]:
        """Return the squares between which a distance from each circle's centre lies on the dilated circle [m^2]."""
        inner = self.edges[2::2]
        square = self.edges * self.edges
        # An inner ring that is not there holds nothing, not even its centre.
        return square[1::2], np.where(inner > LEAST_INNER_M, square[2::2], -1.0)

    def _stretches(self, arc: Arc, parts: Sequence[_Part]) -> list[list[Blocked]]:
        """Return for each part the stretches in which its test holds, which can change only at its roots."""
        found = [[(0.0, arc.length, index) for index in part.always.tolist()] for part in parts]
        which = np.concatenate([part.changes for part in parts])
        if which.size == 0:
            return found
        edges = np.full((which.size, 2 + max([part.roots.shape[0] for part in parts])), arc.length)
        edges[:, 0] = 0.0
        begin = 0
        for part in parts:
            end = begin + part.changes.size
            edges[begin:end, 1 : 1 + part.roots.shape[0]] = part.roots[:, part.changes].T
            begin = end
        edges.sort(axis=1)
        starts, ends = edges[:, :-1], edges[:, 1:]
        x, y = seen_from(arc, 0.5 * (starts + ends), self.ox[which][:, None], self.oy[which][:, None])
        hit = ends > starts
        begin = 0
        for part, stretches in zip(parts, found, strict=True):
            rows = slice(begin, begin + part.changes.size)
            begin = rows.stop
            if part.bounds is None:
                inside = _straight_ahead(x[rows], y[rows], self.radius[part.changes][:, None])
            else:
                outer2, inner2 = (bound[part.changes][:, None] for bound in part.bounds)
                inside = _on_ring(x[rows] + self.l_r, y[rows] - part.centre_y, outer2, inner2)
            inside &= hit[rows]
            columns = part.changes[inside.nonzero()[0]].tolist()
            stretches += zip(starts[rows][inside].tolist(), ends[rows][inside].tolist(), columns, strict=True)
        return found


def _on_ring(x: Array, y: Array, outer2: Array, inner2: Array) -> Mask:
    square = x * x + y * y
    return (square > inner2) & (square < outer2)


def _straight_ahead(x: Array, y: Array, radius: Array) -> Mask:
    return (x > 0.0) & (np.abs(y) < radius)
