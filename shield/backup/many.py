"""Blocked stretches of many obstacles at once: the closed forms of `shield.backup.clear`, an obstacle per column.

Rows are the events of one manoeuvre, columns the obstacles. Roots that do not exist or lie outside the arc become the
arc's end, so that sorting a column gives its stretches; one midpoint per stretch decides, as for a single obstacle.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shield.backup.cover import Blocked
from shield.backup.family import Kind, Sweep
from shield.events import GRAZE, HOLE_M, LEAST_INNER_M, LEAST_INNER_OF_ARC_M, Arc

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
    q = np.copysign(np.sqrt(np.maximum(discriminant, 0.0)), half_b)
    q += half_b
    np.negative(q, out=q)
    s = np.empty((2, *c.shape))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        np.divide(c, q, out=s[0])
        np.divide(q, a, out=s[1])
    if arc.kappa != 0.0:
        s *= 0.5 * arc.kappa
        np.arctan(s, out=s)
        s *= 2.0 / arc.kappa
        np.add(s, arc.period, out=s, where=s < 0.0)
    real = discriminant >= -GRAZE * np.abs(a + (0.25 * arc.kappa * arc.kappa) * c)
    # A quotient 0/0 is a quadratic without a question; it compares false and falls out here.
    np.copyto(s, arc.length, where=~(real & (s > 0.0) & (s < arc.length)))
    return s.reshape(-1, *c.shape[1:])


def together(conics: Sequence[Coefficients], columns: int) -> Array:
    """Return the coefficients of several families of quadratics as one table: (a, b/2, c) by quadratic by column."""
    sizes = [c.shape[0] for _, _, c in conics]
    table = np.empty((3, sum(sizes), columns))
    first = 0
    for size, conic in zip(sizes, conics, strict=True):
        for row, part in enumerate(conic):
            table[row, first : first + size] = part
        first += size
    return table


def seen_from(arc: Arc, s: Array | float, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the body coordinates, after `s` metres, of points that were at (x, y) at the start (arrays broadcast)."""
    kappa = arc.kappa
    if kappa == 0.0:
        return x - s * arc.cos_beta, y - s * arc.sin_beta
    half = (0.5 * kappa) * s
    sine, cosine = (math.sin(half), math.cos(half)) if isinstance(half, float) else (np.sin(half), np.cos(half))
    chord = (2.0 / kappa) * sine
    away_x = x - chord * (arc.cos_beta * cosine - arc.sin_beta * sine)
    away_y = y - chord * (arc.sin_beta * cosine + arc.cos_beta * sine)
    cos_turn, sin_turn = 1.0 - 2.0 * sine * sine, 2.0 * sine * cosine
    return cos_turn * away_x + sin_turn * away_y, cos_turn * away_y - sin_turn * away_x


def first_hits(arc: Arc, ox: Array, oy: Array, radius: Array) -> Array:
    """Return where the held arc first touches each disc [m]; infinite where it never does up to the arc's length."""
    a, half_b, c = conic_of_circle(arc, 0.0, 0.0, radius, ox, oy)
    return first_of(arc, c, roots_of(arc, a, half_b, c).reshape(2, -1))


def first_of(arc: Arc, c: Array, roots: Array) -> Array:
    """Return the first of each disc's two roots of the held arc, given the last coefficient of its quadratic."""
    first: Array = roots.min(axis=0)
    first[first >= arc.length] = np.inf
    first[c <= 0.0] = 0.0  # touching counts: its root, s = 0, is not among those found
    return first


def blocked_many(arc: Arc, l_r: float, sweep: Sweep, ox: Array, oy: Array, radius: Array) -> list[Blocked]:
    """Return (start [m], end [m], obstacle) wherever `sweep`, started there, would touch a disc of `radius`."""
    if sweep.kind is Kind.CIRCLE:
        shape = circle_shape(l_r, sweep, radius)
    elif sweep.kind is Kind.LINE:
        shape = line_shape(sweep.wedge_rad, radius)
    elif sweep.kind is Kind.ARC:
        shape = arc_shape(l_r, sweep, np.array(sweep.start_rad), np.array(sweep.end_rad), radius)
    else:
        shape = segment_shape(np.array(0.0), np.array(sweep.length_m), radius)
    start, end, column = stretches_of(arc, shape, ox, oy)
    return list(zip(start.tolist(), end.tolist(), column.tolist(), strict=True))


Test = Callable[[Array, Array], Mask]


@dataclass(frozen=True, slots=True)
class Shape:
    """A dilated curve per column: the circles (fx, fy, c) and lines (nx, ny, c) that bound it, and who is inside."""

    circles: tuple[Array | float, Array | float, Array] | None
    lines: tuple[Array | float, Array | float, Array] | None
    inside: Test


def stretches_of(arc: Arc, shape: Shape, ox: Array, oy: Array) -> tuple[Array, Array, NDArray[np.intp]]:
    """Return start [m], end [m] and column of every stretch of the arc in which an obstacle is inside its shape."""
    rows = []
    if shape.circles is not None:
        fx, fy, c = shape.circles
        rows.append(conic_of_circle(arc, fx, fy, c, ox, oy))
    if shape.lines is not None:
        nx, ny, c = shape.lines
        rows.append(conic_of_line(arc, nx, ny, c, ox, oy))
    s = roots_of(arc, *together(rows, ox.shape[0]))
    edges = np.zeros((s.shape[0] + 2, ox.shape[0]))
    edges[1:-1] = s
    edges[-1] = arc.length
    edges.sort(axis=0)
    x, y = seen_from(arc, 0.5 * (edges[:-1] + edges[1:]), ox, oy)
    hit = shape.inside(x, y) & (edges[1:] > edges[:-1])
    stretch, column = np.nonzero(hit)
    return edges[stretch, column], edges[stretch + 1, column], column


def circle_shape(l_r: float, sweep: Sweep, radius: Array) -> Shape:
    """Return the dilated full circle of `sweep`."""
    rho, centre_y = sweep.rho_m, sweep.centre_y_m
    outer, inner = rho + radius, np.maximum(rho - radius, 0.0)
    outer2, inner2 = outer * outer, np.where(inner > LEAST_INNER_M, inner * inner, -1.0)

    def inside(x: Array, y: Array) -> Mask:
        x, y = x + l_r, y - centre_y
        square = x * x + y * y
        return (square > inner2) & (square < outer2)

    return Shape((-l_r, centre_y, np.stack((outer, inner))), None, inside)


def line_shape(wedge_rad: float, radius: Array) -> Shape:
    """Return the dilated wedge of all straight lines whose heading is within `wedge_rad` of the body's."""
    cosine, sine = math.cos(wedge_rad), math.sin(wedge_rad)
    zero, radius2 = np.zeros_like(radius), radius * radius
    nx, ny = np.array([[-sine], [-sine], [cosine], [cosine]]), np.array([[cosine], [-cosine], [sine], [-sine]])

    def inside(x: Array, y: Array) -> Mask:
        aside = np.abs(y)
        ahead = (aside * cosine - x * sine < radius) & (x * cosine + aside * sine > 0.0)
        return ahead | (x * x + y * y < radius2)

    return Shape((0.0, 0.0, radius[None, :]), (nx, ny, np.stack((radius, radius, zero, zero))), inside)


def arc_shape(l_r: float, sweep: Sweep, start: Array, end: Array, radius: Array) -> Shape:
    """Return the dilated arcs of the circle of `sweep` between the turn angles `start` and `end` [rad]."""
    side, rho, centre_y = sweep.side, sweep.rho_m, sweep.centre_y_m
    zero_angle = sweep.slip_rad - 0.5 * math.pi
    # Where there is little room inside, the whole hole counts as touched, as it does for one obstacle alone.
    outer, room = rho + radius, rho - radius > LEAST_INNER_OF_ARC_M
    inner = np.where(room, rho - radius, np.maximum(rho - radius, 0.0) + HOLE_M)
    outer2, inner2 = outer * outer, inner * inner
    x0, y0 = -l_r + rho * np.cos(zero_angle + start), centre_y + side * rho * np.sin(zero_angle + start)
    x1, y1 = -l_r + rho * np.cos(zero_angle + end), centre_y + side * rho * np.sin(zero_angle + end)
    span, radius2 = end - start, radius * radius

    def inside(x: Array, y: Array) -> Mask:
        dx, dy = x + l_r, y - centre_y
        square = dx * dx + dy * dy
        turn = (np.arctan2(side * dy, dx) - (zero_angle + start)) % (2.0 * math.pi)
        near_end = ((x - x0) ** 2 + (y - y0) ** 2 < radius2) | ((x - x1) ** 2 + (y - y1) ** 2 < radius2)
        around = near_end | ((turn <= span) & (square < outer2))
        return np.where(square <= inner2, ~room, around)

    columns = radius.shape[0]
    fx = np.stack([np.broadcast_to(part, columns) for part in (-l_r, -l_r, x0, x1)])
    fy = np.stack([np.broadcast_to(part, columns) for part in (centre_y, centre_y, y0, y1)])
    return Shape((fx, fy, np.stack((outer, inner, radius, radius))), None, inside)


def segment_shape(begin: Array, end: Array, radius: Array) -> Shape:
    """Return the dilated stretches of the body's x axis between `begin` and `end` [m]."""
    radius2 = radius * radius

    def inside(x: Array, y: Array) -> Mask:
        beyond = x - np.clip(x, begin, end)
        return beyond * beyond + y * y < radius2

    points = np.stack([np.broadcast_to(part, radius.shape[0]) for part in (begin, end)])
    circles = (points, 0.0, np.stack((radius, radius)))
    return Shape(circles, (0.0, np.ones((2, 1)), np.stack((radius, -radius))), inside)
