"""Passive safety: what a braking manoeuvre would touch when the obstacles move.

While the vehicle brakes from a place on the held arc, it passes the path point q no later than

    t_b + sqrt(2 q/d)        (t_b the brake build-up; a slower vehicle stops before it gets there)

after the start, at most t_b + U/d, and an obstacle of top speed w has grown by w times that. The path is cut into
pieces, each with the growth of its far end; a piece is an arc or a segment dilated by a constant, hence closed form.
Pieces that come up blocked are cut again, up to `levels` times into `CUTS`, so that an answer errs, on the safe side,
by no more than the braking time over CUTS^levels.
"""

import math

import numpy as np
from numpy.typing import NDArray

from shield.backup.cover import Blocked
from shield.backup.family import Kind, Sweep
from shield.backup.many import Array, Shape, arc_shape, segment_shape, stretches_of
from shield.events import Arc

Index = NDArray[np.intp]

CUTS = 8
"""Pieces a blocked piece is cut into."""

FINEST = 5
"""How many times pieces are cut at most."""


def blocked_moving(
    beta_rad: float,
    l_r: float,
    length: float,
    sweep: Sweep,
    bodies: tuple[Array, Array, Array],
    speeds: Array,
    braking: tuple[float, float],
    levels: int,
) -> list[Blocked]:
    """Return (start [m], end [m], obstacle) wherever `sweep`, started there, would touch an obstacle before rest.

    Args:
        beta_rad: Slip angle held [rad].
        l_r: Distance from the centre of gravity to the rear axle [m].
        length: Length of the held arc asked about [m].
        sweep: Braking manoeuvre.
        bodies: x, y and radius of each obstacle in the body frame [m]; pads and growth until the start are in it.
        speeds: Top speed of each obstacle [m/s].
        braking: (deceleration [m/s^2], greatest speed at the start [m/s]).
        levels: How many times blocked pieces are cut again.
    """
    x, y, radius = bodies
    deceleration, speed = braking
    rest_s = speed / deceleration
    build_s = max(0.0, sweep.length_m - 0.5 * speed * rest_s) / speed if speed > 0.0 else 0.0
    column = np.arange(x.shape[0])
    first, last = np.zeros(column.shape), np.ones(column.shape)
    for level in range(levels + 1):
        # first and last are shares of the braking time; the way driven by then is their square.
        begin = 0.5 * deceleration * (first * rest_s) ** 2
        end = np.where(last >= 1.0, sweep.length_m, 0.5 * deceleration * (last * rest_s) ** 2)
        grown = radius[column] + speeds[column] * (build_s + last * rest_s)
        starts, ends, hit = _stretches(beta_rad, l_r, length, sweep, begin, end, (x[column], y[column], grown))
        if level == levels or hit.size == 0:
            return list(zip(starts.tolist(), ends.tolist(), column[hit].tolist(), strict=True))
        again = np.unique(hit)
        step = (last[again] - first[again]) / CUTS
        cut = np.arange(CUTS)
        column = np.repeat(column[again], CUTS)
        edge = first[again][:, None] + step[:, None] * cut
        far = np.where(cut == CUTS - 1, last[again][:, None], edge + step[:, None])
        first, last = edge.ravel(), far.ravel()
    raise AssertionError("unreachable: the last level returns")


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
