"""Passive safety: what a braking manoeuvre would touch when the obstacles move.

While the vehicle brakes from a place on the held arc, it passes the path point q no later than

    t_b + sqrt(2 q/d)        (t_b the brake build-up; a slower vehicle stops before it gets there)

after the start, at most t_b + U/d, and an obstacle of top speed w has grown by w times that. The path is cut into
pieces, each with the growth of its far end; a piece is an arc or a segment dilated by a constant, hence closed form.
A piece that comes up blocked where no manoeuvre is left is cut again, into `CUTS`, up to a number of times, so that an
answer errs, on the safe side, by no more than the braking time over CUTS^times.
"""

import math

import numpy as np
from numpy.typing import NDArray

from shield.backup.clear import blocked
from shield.backup.cover import Blocked
from shield.backup.family import Kind, Sweep
from shield.backup.many import Array, Mask, Shape, arc_shape, segment_shape, stretches_of
from shield.events import Arc

Index = NDArray[np.intp]

CUTS = 8
"""Pieces a blocked piece is cut into."""

FINEST = 5
"""How many times pieces are cut at most."""

FEW = 4
"""Up to so many obstacles the whole path is looked at in plain arithmetic."""

FINE, COARSE = np.linspace(0.0, 1.0, 33)[:, None], np.linspace(0.0, 1.0, 17)[:, None]
"""Shares of the braking time at which a path is looked at to see whether a place is hopeless; for few, for many."""


class Braking:
    """One braking manoeuvre among moving obstacles: its path in pieces, and where each blocks the held arc.

    Args:
        beta_rad: Slip angle held [rad].
        l_r: Distance from the centre of gravity to the rear axle [m].
        length: Length of the held arc asked about [m].
        sweep: Braking manoeuvre.
        bodies: x, y and radius of each obstacle in the body frame [m]; pads and growth until the start are in it.
        speeds: Top speed of each obstacle [m/s].
        limits: (deceleration [m/s^2], greatest speed at the start [m/s]).
    """

    def __init__(
        self,
        beta_rad: float,
        l_r: float,
        length: float,
        sweep: Sweep,
        bodies: tuple[Array, Array, Array],
        speeds: Array,
        limits: tuple[float, float],
    ) -> None:
        self.beta, self.l_r, self.length, self.sweep = beta_rad, l_r, length, sweep
        self.bodies, self.speeds = bodies, speeds
        self.deceleration, speed = limits
        self.rest_s = speed / self.deceleration
        build_m = max(0.0, sweep.length_m - 0.5 * speed * self.rest_s)
        self.build_s = build_m / speed if speed > 0.0 else 0.0
        self._samples: tuple[Array, Array, Array] | None = None
        columns = np.arange(bodies[0].shape[0])
        # A piece: shares of the braking time at its ends, its obstacle, how often it has been cut.
        self.pieces = (np.zeros(columns.size), np.ones(columns.size), columns, np.zeros(columns.size, np.intp))
        if columns.size > FEW:
            self.starts, self.ends, self.of_piece = self._blocked_by(*self.pieces[:3])
        else:
            self.starts, self.ends, self.of_piece = self._blocked_whole()

    def blocked(self) -> list[Blocked]:
        """Return (start [m], end [m], obstacle) wherever the manoeuvre, started there, may touch before rest."""
        columns = self.pieces[2][self.of_piece]
        return list(zip(self.starts.tolist(), self.ends.tolist(), columns.tolist(), strict=True))

    def cut(self, start: float, end: float, times: int) -> bool:
        """Cut every piece that blocks something of [start, end] [m] and was cut less than `times`; whether any was."""
        first, last, column, level = self.pieces
        meets = self.of_piece[(self.starts < end) & (self.ends > start)]
        again = np.zeros(first.size, bool)
        again[meets[level[meets] < times]] = True
        if not again.any():
            return False
        step = ((last[again] - first[again]) / CUTS)[:, None]
        edge = first[again][:, None] + step * np.arange(CUTS)
        far = edge + step
        far[:, -1] = last[again]
        new = (edge.ravel(), far.ravel(), np.repeat(column[again], CUTS), np.repeat(level[again] + 1, CUTS))
        starts, ends, of_piece = self._blocked_by(*new[:3])
        kept = ~again[self.of_piece]
        # Pieces that were cut stay in the list, blocking nothing, so that the numbers of the others stay.
        self.starts = np.concatenate((self.starts[kept], starts))
        self.ends = np.concatenate((self.ends[kept], ends))
        self.of_piece = np.concatenate((self.of_piece[kept], of_piece + first.size))
        self.pieces = tuple(np.concatenate(pair) for pair in zip(self.pieces, new, strict=True))  # type: ignore[assignment]
        return True

    def hopeful(self, places: tuple[Array, Array]) -> Mask:
        """Return at which places the manoeuvre may be clear, as far as a few of its points show.

        Args:
            places: x and y of the obstacles as seen from each place of the held arc, a row per place [m].
        """
        if self._samples is None:
            shares = FINE if self.speeds.size <= FEW else COARSE
            way = np.minimum(0.5 * self.deceleration * (shares * self.rest_s) ** 2, self.sweep.length_m)
            grown = self.bodies[2] + self.speeds * (self.build_s + shares * self.rest_s)
            self._samples = (*self._points(way), grown * grown)
        px, py, square = self._samples
        dx, dy = px - places[0][:, None], py - places[1][:, None]
        return np.asarray((dx * dx + dy * dy >= square).all(axis=(1, 2)))

    def _points(self, way: Array) -> tuple[Array, Array]:
        """Return body coordinates of the path points [m]."""
        sweep = self.sweep
        if sweep.kind is Kind.SEGMENT:
            return way, np.zeros_like(way)
        if sweep.kind is Kind.HELD:
            # Where a point at the origin lies after the arc is the inverse of how it is seen from there.
            kappa = math.sin(self.beta) / self.l_r
            half = 0.5 * kappa * way
            chord = way * np.sinc(half / math.pi)
            return chord * np.cos(self.beta + half), chord * np.sin(self.beta + half)
        angle = sweep.slip_rad - 0.5 * math.pi + way / sweep.rho_m
        y = sweep.centre_y_m + sweep.side * sweep.rho_m * np.sin(angle)
        return -self.l_r + sweep.rho_m * np.cos(angle), y

    def _blocked_whole(self) -> tuple[Array, Array, Index]:
        """Return the blocked stretches of the whole path, obstacle by obstacle."""
        sweep, ahead = self.sweep, 0.0
        if sweep.kind is Kind.HELD:
            # The path ahead of s meets what the arc itself, a point at each place, meets on the braking distance.
            sweep, ahead = Sweep(sweep.manoeuvre, Kind.SEGMENT), sweep.length_m
        arc = Arc(self.beta, self.l_r, self.length + ahead)
        rows = []
        grown = (self.bodies[2] + self.speeds * (self.build_s + self.rest_s)).tolist()
        for column, (x, y, radius) in enumerate(
            zip(self.bodies[0].tolist(), self.bodies[1].tolist(), grown, strict=True)
        ):
            for start, end in blocked(arc, self.l_r, sweep, x, y, radius):
                for turn in range(math.ceil((self.length + ahead) / arc.length)):
                    begin, stop = start + turn * arc.length - ahead, min(end + turn * arc.length, self.length)
                    if stop > max(begin, 0.0):
                        rows.append((max(begin, 0.0), stop, column))
        table = np.array(rows).reshape(-1, 3)
        return table[:, 0], table[:, 1], table[:, 2].astype(np.intp)

    def _blocked_by(self, first: Array, last: Array, column: Index) -> tuple[Array, Array, Index]:
        # The way driven by a share of the braking time is its square's.
        begin = 0.5 * self.deceleration * (first * self.rest_s) ** 2
        end = np.where(last >= 1.0, self.sweep.length_m, 0.5 * self.deceleration * (last * self.rest_s) ** 2)
        x, y, radius = self.bodies
        grown = radius[column] + self.speeds[column] * (self.build_s + last * self.rest_s)
        bodies = (x[column], y[column], grown)
        return _stretches(self.beta, self.l_r, self.length, self.sweep, begin, end, bodies)


def _stretches(
    beta_rad: float,
    l_r: float,
    length: float,
    sweep: Sweep,
    begin: Array,
    end: Array,
    bodies: tuple[Array, Array, Array],
) -> tuple[Array, Array, Index]:
    """Return the blocked stretches of one piece of the path per column."""
    x, y, radius = bodies
    if sweep.kind is Kind.HELD:
        arc = Arc(beta_rad, l_r, length + sweep.length_m)
        starts, ends, column = _repeated(arc, length + sweep.length_m, *stretches_of(arc, _point(radius), x, y))
        # The piece [begin, end] ahead of s meets what the arc itself meets at s + begin ... s + end.
        starts, ends = np.maximum(starts - end[column], 0.0), np.minimum(ends - begin[column], length)
        real = ends > starts
        return starts[real], ends[real], column[real]
    arc = Arc(beta_rad, l_r, length)
    if sweep.kind is Kind.SEGMENT:
        shape = segment_shape(begin, end, radius)
    else:
        ahead = max(0.0, sweep.end_rad - sweep.length_m / sweep.rho_m)
        from_rad = np.maximum(sweep.start_rad, begin / sweep.rho_m - sweep.lag_rad)
        shape = arc_shape(l_r, sweep, from_rad, np.minimum(sweep.end_rad, end / sweep.rho_m + ahead), radius)
    return _repeated(arc, length, *stretches_of(arc, shape, x, y))


def _point(radius: Array) -> Shape:
    square = radius * radius
    return Shape((0.0, 0.0, radius[None, :]), None, lambda x, y: x * x + y * y < square)


def _repeated(arc: Arc, length: float, starts: Array, ends: Array, column: Index) -> tuple[Array, Array, Index]:
    """Return the stretches of every turn of an arc that closes on itself before `length`."""
    if arc.length >= length or starts.size == 0:
        return starts, ends, column
    shifts = arc.length * np.arange(math.ceil(length / arc.length))[:, None]
    return (starts + shifts).ravel(), (ends + shifts).ravel(), np.tile(column, shifts.size)
