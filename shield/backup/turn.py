"""Turn at full lock until the straight line ahead is clear of several obstacles: certified hops along the held arc.

At one place the manoeuvre exists when some turn angle theta has the turn so far and the straight line from there
clear of every obstacle. With D, gamma the polar coordinates of an obstacle about the turn centre (-l, rho_r),
mirrored for a turn to the right, the turn meets it at

    hit = (gamma - b + pi/2 - acos((rho^2 + D^2 - R^2)/(2 D rho))) mod 2 pi,     never if |D - rho| >= R,

and the straight line is blocked for theta in (gamma - hi, gamma - lo),

    lo = max(-asin((R + rho_r)/D), -acos(l/D)),  hi = min(asin((R - rho_r)/D), acos(l/D)),  never if D <= l.

With theta fixed the manoeuvre is a fixed curve, and how far along the held arc it stays clear is closed form. One hop
goes there with the best of a few angles from the middle and the ends of the open ranges; the last hop is shorter than
`HOP_M`. Every hop is exact for its angle, so the whole is sound whatever the choice of angles.
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

FRACTIONS = np.array([0.03, 0.5, 0.97])
"""Where in an open range of turn angles the candidates lie."""

MIDDLE = 1
"""Index of the middle of the first range among the candidates."""

TWO_PI = 2.0 * math.pi


def turn_clear_until(
    beta_rad: float,
    l_r: float,
    sweep: Sweep,
    bodies: tuple[Array, Array, Array],
    start: float,
    enough: float,
    length: float,
) -> tuple[float, int]:
    """Return how far from `start` along the held arc the turn followed by a straight stays possible.

    Args:
        beta_rad: Slip angle held [rad].
        l_r: Distance from the centre of gravity to the rear axle [m].
        sweep: The turn (side, radius, slip angle).
        bodies: x, y and dilated radius of each obstacle in the body frame at the start of the arc [m].
        start: Where on the arc to begin [m].
        enough: Where something else takes over, so that no further hop is needed [m].
        length: Where to stop asking [m].
    Returns:
        The end of the clear stretch [m], `start` itself when it is not possible there; and the obstacle that ends it.
    """
    ox, oy, radius = bodies
    at, cause, stride = start, -1, STRIDE_M
    whole = Arc(beta_rad, l_r, length)
    while at < enough:
        x, y = seen_from(whole, np.array(at), ox, oy)
        angles = open_angles(l_r, sweep, x, y, radius)
        if angles.size == 0:
            break
        stride = min(stride, enough - at)
        ahead = Arc(beta_rad, l_r, stride)
        # The middle of the widest range is enough nearly always; the others are for where it is not.
        hops, causes = _clear_until(ahead, l_r, sweep, angles[MIDDLE : MIDDLE + 1], x, y, radius)
        if hops[0] < stride:
            hops, causes = _clear_until(ahead, l_r, sweep, angles, x, y, radius)
        best = int(hops.argmax())
        hop = float(hops[best])
        at += hop
        cause = int(causes[best])
        if hop < min(HOP_M, stride):
            break
        if hop >= stride:
            stride *= 4.0
    return (at, cause) if at < enough else (min(at, length), -1)


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
    # What reaches past a whole turn blocks the first angles too.
    over = end > TWO_PI
    begin, end = np.concatenate((begin, np.zeros(int(over.sum())))), np.concatenate((end, end[over] - TWO_PI))
    order = begin.argsort()
    spans = zip(begin[order].tolist(), end[order].tolist(), strict=True)
    ranges: list[tuple[float, float]] = []
    at = 0.0
    for span_begin, span_end in spans:
        if span_begin > at:
            ranges.append((at, min(span_begin, least)))
        if span_end > at:
            at = span_end
            if at >= least:
                break
    if at < least:
        ranges.append((at, least))
    openings = [(last - first, first) for first, last in ranges if last > first]
    if not openings:
        return np.empty(0)
    widest = sorted(openings, reverse=True)[:2]
    # And the nearest: a disc that the turn is about to meet ends every opening beyond it at once.
    table = np.array(widest if openings[0] in widest else [*widest, openings[0]])
    return np.append((table[:, 1:] + table[:, :1] * FRACTIONS).ravel(), [0.0] if ranges[0][0] == 0.0 else [])


def _clear_until(
    arc: Arc, l_r: float, sweep: Sweep, angles: Array, x: Array, y: Array, radius: Array
) -> tuple[Array, NDArray[np.intp]]:
    """Return, per turn angle, how far along the arc the fixed curve stays clear of all, and which obstacle ends it."""
    side, rho, centre_y = sweep.side, sweep.rho_m, sweep.centre_y_m
    zero_angle = sweep.slip_rad - 0.5 * math.pi
    # Where the straight begins and its direction, in the body frame.
    px = -l_r + rho * np.cos(angles + zero_angle)
    py = centre_y + side * rho * np.sin(angles + zero_angle)
    ux, uy = np.cos(angles), side * np.sin(angles)

    def slack(which: NDArray[np.intp], ex: Array, ey: Array) -> Array:
        """Distance from the curve of turn angle `which`, of its turn or of its straight."""
        dx, dy = ex + l_r, ey - centre_y
        turned = (np.arctan2(side * dy, dx) - zero_angle) % TWO_PI
        on_turn = np.where(turned <= angles[which], np.abs(np.sqrt(dx * dx + dy * dy) - rho), math.inf)
        ax, ay = ex - px[which], ey - py[which]
        behind = np.minimum(ax * ux[which] + ay * uy[which], 0.0)
        aside = ay * ux[which] - ax * uy[which]
        near = np.minimum(on_turn * on_turn, behind * behind + aside * aside)
        nearest: Array = np.sqrt(np.minimum(near, ex * ex + ey * ey))
        return nearest

    length = arc.length
    hops, causes = np.full(angles.size, length), np.full(angles.size, -1)
    # Seen from the body an obstacle moves at |1 + kappa (...)| = |w| per metre all along, so most cannot get here.
    pace = np.hypot(arc.cos_beta - arc.kappa * y, arc.sin_beta + arc.kappa * x)
    every = np.arange(angles.size)[:, None]
    which, index = np.nonzero(slack(every, x, y) < radius + length * pace + HOP_M)
    if which.size == 0:
        return hops, causes
    ex, ey, dilated = x[index], y[index], radius[index]
    offset = ux[which] * py[which] - uy[which] * px[which]
    ends_x, ends_y = np.zeros((2, which.size)), np.zeros((2, which.size))
    # The start's own disc bounds the dilated turn too, although the held arc never enters it.
    ends_x[1], ends_y[1] = px[which], py[which]
    rings = np.stack((rho + dilated, np.maximum(rho - dilated, 0.0)))
    shape = Shape(
        (
            np.concatenate((np.full_like(rings, -l_r), ends_x)),
            np.concatenate((np.full_like(rings, centre_y), ends_y)),
            np.concatenate((rings, [dilated, dilated])),
        ),
        (-uy[which], ux[which], offset + np.stack((dilated, -dilated))),
        lambda seen_x, seen_y: slack(which, seen_x, seen_y) < dilated,
    )
    begins, _, columns = stretches_of(arc, shape, ex, ey)
    for begin, column in zip(begins.tolist(), columns.tolist(), strict=True):
        if begin < hops[which[column]]:
            hops[which[column]], causes[which[column]] = begin, index[column]
    return hops, causes
