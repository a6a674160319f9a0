"""Turn at full lock until the straight line ahead is clear of several obstacles: certified hops along the held arc.

At one place the manoeuvre exists when some turn angle theta has the turn so far and the straight line from there clear of
every obstacle. With D, gamma the polar coordinates of an obstacle about the turn centre (-l, rho_r), mirrored for a turn
to the right, the turn meets it at

    hit = (gamma - b + pi/2 - acos((rho^2 + D^2 - R^2)/(2 D rho))) mod 2 pi,     never if |D - rho| >= R,

and the straight line is blocked for theta in (gamma - hi, gamma - lo),

    lo = max(-asin((R + rho_r)/D), -acos(l/D)),  hi = min(asin((R - rho_r)/D), acos(l/D)),  never if D <= l.

With theta fixed the manoeuvre is a fixed curve, and how far along the held arc it stays clear is closed form. One hop
goes there with the best of a few angles from the middle and the ends of the open ranges; the last hop is shorter than
`HOP_M`. Every hop is exact for its angle, so the whole is sound whatever the choice of angles.
"""

import math

import numpy as np

from shield.backup.family import Sweep
from shield.backup.many import Array, conic_of_circle, conic_of_line, roots_of, seen_from
from shield.events import Arc

HOP_M = 1e-3
"""Hops shorter than this end the search [m]."""

FRACTIONS = np.array([0.03, 0.5, 0.97])
"""Where in an open range of turn angles the candidates lie."""

TWO_PI = 2.0 * math.pi


def turn_clear_until(
    beta_rad: float, l_r: float, sweep: Sweep, bodies: tuple[Array, Array, Array], start: float, length: float
) -> tuple[float, int]:
    """Return how far from `start` along the held arc the turn followed by a straight stays possible.

    Args:
        beta_rad: Slip angle held [rad].
        l_r: Distance from the centre of gravity to the rear axle [m].
        sweep: The turn (side, radius, slip angle).
        bodies: x, y and dilated radius of each obstacle in the body frame at the start of the arc [m].
        start: Where on the arc to begin [m].
        length: Where to stop asking [m].
    Returns:
        The end of the clear stretch [m], `start` itself when it is not possible there; and the obstacle that ends it.
    """
    ox, oy, radius = bodies
    at, cause = start, -1
    whole = Arc(beta_rad, l_r, length)
    while at < length:
        x, y = seen_from(whole, np.float64(at), ox, oy)  # type: ignore[arg-type]
        angles = open_angles(l_r, sweep, x, y, radius)
        if angles.size == 0:
            break
        ahead = Arc(beta_rad, l_r, length - at)
        ends, causes = _clear_until(ahead, l_r, sweep, angles, x, y, radius)
        best = int(np.argmax(ends))
        hop = float(ends[best])
        if ahead.length < length - at and hop >= ahead.length:
            return length, -1
        at, cause = at + hop, int(causes[best])
        if hop < HOP_M:
            break
    return (at, cause) if at < length else (length, -1)


def open_angles(l_r: float, sweep: Sweep, x: Array, y: Array, radius: Array) -> Array:
    """Return candidate turn angles [rad] from which straight ahead is clear and up to which the turn hits nothing."""
    rho, rho_rear = sweep.rho_m, sweep.side * sweep.centre_y_m
    dx, dy = x + l_r, sweep.side * y - rho_rear
    distance = np.hypot(dx, dy)
    gamma = np.arctan2(dy, dx)
    safe = np.maximum(distance, 1e-12)
    cosine = (rho * rho + safe * safe - radius * radius) / (2.0 * rho * safe)
    first = (gamma - (sweep.slip_rad - 0.5 * math.pi) - np.arccos(np.clip(cosine, -1.0, 1.0))) % TWO_PI
    hit = np.where(np.abs(distance - rho) < radius, first, TWO_PI)
    least = float(hit.min())
    ahead = np.arccos(np.minimum(1.0, l_r / safe))
    low = np.maximum(-np.arcsin(np.minimum(1.0, (radius + rho_rear) / safe)), -ahead)
    high = np.minimum(np.arcsin(np.clip((radius - rho_rear) / safe, -1.0, 1.0)), ahead)
    blocks = (distance > l_r) & (high > low)
    begin = (gamma - high)[blocks] % TWO_PI
    end = begin + (high - low)[blocks]
    spans = sorted(zip(begin.tolist() + (begin - TWO_PI).tolist(), end.tolist() + (end - TWO_PI).tolist(), strict=True))
    ranges: list[tuple[float, float]] = []
    at = 0.0
    for span_begin, span_end in spans:
        if span_begin > at:
            ranges.append((at, min(span_begin, least)))
        at = max(at, span_end)
        if at >= least:
            break
    if at < least:
        ranges.append((at, least))
    widths = sorted(((last - first, first) for first, last in ranges if last > first), reverse=True)[:4]
    if not widths:
        return np.empty(0)
    table = np.array(widths)
    return np.append((table[:, 1:] + table[:, :1] * FRACTIONS).ravel(), [0.0] if ranges[0][0] == 0.0 else [])


def _clear_until(
    arc: Arc, l_r: float, sweep: Sweep, angles: Array, x: Array, y: Array, radius: Array
) -> tuple[Array, Array]:
    """Return, per turn angle, how far along the arc the fixed curve stays clear of all, and which obstacle ends it."""
    side, rho, slip, centre_y = sweep.side, sweep.rho_m, sweep.slip_rad, sweep.centre_y_m
    count, n = angles.size, x.size
    theta = angles[:, None]
    # Where the straight begins, and its direction and normal in the body frame.
    px = -l_r + rho * np.cos(theta + (slip - 0.5 * math.pi))
    py = centre_y + side * rho * np.sin(theta + (slip - 0.5 * math.pi))
    ux, uy = np.cos(theta), side * np.sin(theta)
    offset = ux * py - uy * px
    rings = [conic_of_circle(arc, -l_r, centre_y, c, x, y) for c in (rho + radius, np.maximum(rho - radius, 0.0))]
    # The start's own disc bounds the dilated turn too, although the held arc never enters it.
    per_angle = [conic_of_circle(arc, 0.0, 0.0, radius, x, y), conic_of_circle(arc, px, py, radius, x, y)]
    per_angle += [conic_of_line(arc, -uy, ux, offset + c, x, y) for c in (radius, -radius)]
    a, b, c = (
        np.stack([np.broadcast_to(part, (count, n)) for part in parts])
        for parts in zip(*rings, *per_angle, strict=True)
    )
    s = roots_of(arc, a, b, c)
    edges = np.zeros((s.shape[0] + 2, count, n))
    edges[1:-1] = s
    edges[-1] = arc.length
    edges.sort(axis=0)
    ex, ey = seen_from(arc, 0.5 * (edges[:-1] + edges[1:]), x, y)
    dx, dy = ex + l_r, ey - centre_y
    square, radius2 = dx * dx + dy * dy, radius * radius
    turned = (np.arctan2(side * dy, dx) - (slip - 0.5 * math.pi)) % TWO_PI
    inner = np.where(rho > radius, (rho - radius) ** 2, -1.0)
    on_turn = (turned <= theta) & (square > inner) & (square < (rho + radius) ** 2)
    ax, ay = ex - px, ey - py
    along, aside = ax * ux + ay * uy, ay * ux - ax * uy
    behind = np.minimum(along, 0.0)
    on_line = behind * behind + aside * aside < radius2
    # A stretch of no length decides nothing.
    at_start = ex * ex + ey * ey < radius2
    blocked = (on_turn | on_line | at_start) & (edges[1:] > edges[:-1])
    first = np.where(blocked, edges[:-1], arc.length).min(axis=0)
    causes = first.argmin(axis=1)
    return first[np.arange(count), causes], causes
