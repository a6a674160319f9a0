"""Blocked stretches of many obstacles at once: the closed forms of `shield.backup.clear`, an obstacle per column.

Rows are the events of one manoeuvre, columns the obstacles. Roots that do not exist or lie outside the arc become the
arc's end, so that sorting a column gives its stretches; one midpoint per stretch decides, as for a single obstacle.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shield.backup.clear import point_on_turn
from shield.backup.cover import Blocked
from shield.backup.family import Kind, Sweep
from shield.events import Arc

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Coefficients = tuple[Array, Array, Array]


def conic_of_circle(arc: Arc, fx: Array | float, fy: Array | float, c: Array, ox: Array, oy: Array) -> Coefficients:
    """Return (a, b/2, c) of the quadratic in t for "the obstacle is at distance c of the body point f"."""
    kappa = arc.kappa
    dx, dy = fx - ox, fy - oy
    wx, wy = arc.cos_beta - kappa * fy, arc.sin_beta + kappa * fx
    e = dx * dx + dy * dy - c * c
    return wx * wx + wy * wy + kappa * (dy * wx - dx * wy) + (0.25 * kappa * kappa) * e, dx * wx + dy * wy, e


def conic_of_line(
    arc: Arc, nx: Array | float, ny: Array | float, c: Array | float, ox: Array, oy: Array
) -> Coefficients:
    """Return (a, b/2, c) of the quadratic in t for "the obstacle is on the body line n.e = c"."""
    kappa = arc.kappa
    wx, wy = arc.cos_beta - kappa * oy, arc.sin_beta + kappa * ox
    q = nx * ox + ny * oy - c
    return (0.5 * kappa) * (ny * wx - nx * wy) + (0.25 * kappa * kappa) * q, -0.5 * (nx * wx + ny * wy), q


def roots_of(arc: Arc, a: Array, half_b: Array, c: Array) -> Array:
    """Return both roots of every quadratic as arc lengths, along the first axis; arc.length stands for none."""
    discriminant = half_b * half_b - a * c
    q = -(half_b + np.copysign(np.sqrt(np.maximum(discriminant, 0.0)), half_b))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        s = np.concatenate((c / q, q / a))
    if arc.kappa != 0.0:
        s = np.arctan((0.5 * arc.kappa) * s) * (2.0 / arc.kappa)
        s = np.where(s < 0.0, s + arc.period, s)
    real = discriminant >= 0.0
    # A quotient 0/0 is a quadratic without a question; it compares false and falls out here.
    return np.where(np.concatenate((real, real)) & (s > 0.0) & (s < arc.length), s, arc.length)


def seen_from(arc: Arc, s: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the body coordinates, after `s` metres, of points that were at (x, y) at the start (arrays broadcast)."""
    kappa = arc.kappa
    if kappa == 0.0:
        return x - s * arc.cos_beta, y - s * arc.sin_beta
    half = (0.5 * kappa) * s
    sine, cosine = np.sin(half), np.cos(half)
    chord = (2.0 / kappa) * sine
    away_x = x - chord * (arc.cos_beta * cosine - arc.sin_beta * sine)
    away_y = y - chord * (arc.sin_beta * cosine + arc.cos_beta * sine)
    cos_turn, sin_turn = 1.0 - 2.0 * sine * sine, 2.0 * sine * cosine
    return cos_turn * away_x + sin_turn * away_y, cos_turn * away_y - sin_turn * away_x


def first_hits(arc: Arc, ox: Array, oy: Array, radius: Array) -> Array:
    """Return where the held arc first touches each disc [m]; infinite where it never does up to the arc's length."""
    a, half_b, c = conic_of_circle(arc, 0.0, 0.0, radius, ox, oy)
    n = ox.shape[0]
    s = roots_of(arc, a, half_b, c)
    first = np.minimum(s[:n], s[n:])
    return np.where(c < 0.0, 0.0, np.where(first < arc.length, first, np.inf))


def blocked_many(arc: Arc, l_r: float, sweep: Sweep, ox: Array, oy: Array, radius: Array) -> list[Blocked]:
    """Return (start [m], end [m], obstacle) wherever `sweep`, started there, would touch a disc; pads are in `radius`."""
    circles, lines, test = _SHAPES[sweep.kind](l_r, sweep, radius)
    n = ox.shape[0]
    rows = []
    if circles is not None:
        fx, fy, c = circles
        rows.append(conic_of_circle(arc, fx, fy, c, ox, oy))
    if lines is not None:
        nx, ny, c = lines
        rows.append(conic_of_line(arc, nx, ny, c, ox, oy))
    a, half_b, c = (np.concatenate(part) for part in zip(*(np.broadcast_arrays(*row) for row in rows), strict=True))
    s = roots_of(arc, a, half_b, c)
    edges = np.zeros((s.shape[0] + 2, n))
    edges[1:-1] = s
    edges[-1] = arc.length
    edges.sort(axis=0)
    x, y = seen_from(arc, 0.5 * (edges[:-1] + edges[1:]), ox, oy)
    hit = test(x, y) & (edges[1:] > edges[:-1])
    if not hit.any():
        return []
    stretch, index = np.nonzero(hit)
    return list(zip(edges[stretch, index].tolist(), edges[stretch + 1, index].tolist(), index.tolist(), strict=True))


Test = Callable[[Array, Array], Mask]
Rows = tuple[Array | float, Array | float, Array] | None


def _column(*values: float) -> Array:
    return np.array(values)[:, None]


def _circle(l_r: float, sweep: Sweep, radius: Array) -> tuple[Rows, Rows, Test]:
    rho, centre_y = sweep.rho_m, sweep.centre_y_m
    outer, inner = rho + radius, np.maximum(rho - radius, 0.0)
    outer2, inner2 = outer * outer, np.where(rho > radius, inner * inner, -1.0)

    def test(x: Array, y: Array) -> Mask:
        x, y = x + l_r, y - centre_y
        square = x * x + y * y
        return (square > inner2) & (square < outer2)

    return (-l_r, centre_y, np.stack((outer, inner))), None, test


def _line(l_r: float, sweep: Sweep, radius: Array) -> tuple[Rows, Rows, Test]:
    cosine, sine = math.cos(sweep.wedge_rad), math.sin(sweep.wedge_rad)
    zero = np.zeros_like(radius)
    nx, ny = _column(-sine, -sine, cosine, cosine), _column(cosine, -cosine, sine, -sine)

    def test(x: Array, y: Array) -> Mask:
        aside = np.abs(y)
        return (aside * cosine - x * sine < radius) & (x * cosine + aside * sine > 0.0)

    return None, (nx, ny, np.stack((radius, radius, zero, zero))), test


def _arc(l_r: float, sweep: Sweep, radius: Array) -> tuple[Rows, Rows, Test]:
    side, slip, centre_y = sweep.side, sweep.slip_rad, sweep.centre_y_m
    (_, _, rings), _, on_ring = _circle(l_r, sweep, radius)  # type: ignore[misc]
    (x0, y0), (x1, y1) = (point_on_turn(l_r, sweep, turn) for turn in (sweep.start_rad, sweep.end_rad))
    start, span = sweep.start_rad, sweep.end_rad - sweep.start_rad
    radius2 = radius * radius

    def test(x: Array, y: Array) -> Mask:
        turn = np.arctan2(side * (y - centre_y), x + l_r) - (slip - 0.5 * math.pi + start)
        near_end = ((x - x0) ** 2 + (y - y0) ** 2 < radius2) | ((x - x1) ** 2 + (y - y1) ** 2 < radius2)
        return near_end | ((turn % (2.0 * math.pi) <= span) & on_ring(x, y))

    circles = (_column(-l_r, -l_r, x0, x1), _column(centre_y, centre_y, y0, y1), np.concatenate((rings, [radius] * 2)))
    return circles, None, test


def _segment(l_r: float, sweep: Sweep, radius: Array) -> tuple[Rows, Rows, Test]:
    length, radius2 = sweep.length_m, radius * radius

    def test(x: Array, y: Array) -> Mask:
        beyond = x - np.clip(x, 0.0, length)
        return beyond * beyond + y * y < radius2

    circles = (_column(0.0, length), 0.0, np.stack((radius, radius)))
    lines = (0.0, _column(1.0, 1.0), np.stack((radius, -radius)))
    return circles, lines, test


_SHAPES = {Kind.CIRCLE: _circle, Kind.LINE: _line, Kind.ARC: _arc, Kind.SEGMENT: _segment}
