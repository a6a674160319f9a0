"""Where along the held arc a manoeuvre would touch an obstacle: closed form, one obstacle at a time.

The places where a manoeuvre's status can change are the obstacle's entries into the curve dilated by R, which is
bounded by circles and lines (`shield.events`); between two of them one midpoint decides. Every function returns the
blocked stretches of [0, arc.length] as (start, end) in metres.
"""

import math
from collections.abc import Callable

from shield.backup.family import Kind, Sweep
from shield.events import HOLE_M, LEAST_INNER_M, LEAST_INNER_OF_ARC_M, Arc

Stretch = tuple[float, float]
Test = Callable[[float, float], bool]


def first_hit(arc: Arc, ox: float, oy: float, radius: float) -> float:
    """Return where the held arc first touches the disc [m]; infinite when it never does up to the arc's length."""
    if ox * ox + oy * oy <= radius * radius:  # touching counts: its root, s = 0, is not among those found
        return 0.0
    roots: list[float] = []
    arc.add_circle(roots, 0.0, 0.0, radius, ox, oy)
    return min(roots) if roots else math.inf


def blocked(arc: Arc, l_r: float, sweep: Sweep, ox: float, oy: float, radius: float) -> list[Stretch]:
    """Return where `sweep`, started there, would touch the disc of `radius` (pads included) about (ox, oy).

    Turns followed by a straight are taken as for one obstacle alone: clear when the circle is, when the straight is, or
    when the obstacle lies behind the line through the centre of gravity across the turn's first direction.
    """
    roots: list[float] = []
    test = _TESTS[sweep.kind](arc, l_r, sweep, ox, oy, radius, roots)
    roots.sort()
    roots.append(arc.length)
    seen_from = arc.seen_from
    stretches: list[Stretch] = []
    last = 0.0
    for root in roots:
        if root > last:
            x, y = seen_from(0.5 * (last + root), ox, oy)
            if test(x, y):
                if stretches and stretches[-1][1] == last:
                    stretches[-1] = (stretches[-1][0], root)
                else:
                    stretches.append((last, root))
            last = root
    return stretches


def _circle(arc: Arc, l_r: float, sweep: Sweep, ox: float, oy: float, radius: float, roots: list[float]) -> Test:
    centre_y, rho = sweep.centre_y_m, sweep.rho_m
    outer, inner = rho + radius, rho - radius
    arc.add_circle(roots, -l_r, centre_y, outer, ox, oy)
    if inner > LEAST_INNER_M:
        arc.add_circle(roots, -l_r, centre_y, inner, ox, oy)
    outer2, inner2 = outer * outer, inner * inner if inner > LEAST_INNER_M else -1.0

    def test(x: float, y: float) -> bool:
        x += l_r
        y -= centre_y
        return inner2 < x * x + y * y < outer2

    return test


def _line(arc: Arc, l_r: float, sweep: Sweep, ox: float, oy: float, radius: float, roots: list[float]) -> Test:
    if sweep.wedge_rad == 0.0 and sweep.pad_m == 0.0:
        arc.add_line(roots, 0.0, 1.0, radius, ox, oy)
        arc.add_line(roots, 0.0, 1.0, -radius, ox, oy)
        arc.add_line(roots, 1.0, 0.0, 0.0, ox, oy)
        return lambda x, y: x > 0.0 and -radius < y < radius
    cosine, sine = math.cos(sweep.wedge_rad), math.sin(sweep.wedge_rad)
    arc.add_line(roots, -sine, cosine, radius, ox, oy)
    arc.add_line(roots, -sine, -cosine, radius, ox, oy)
    arc.add_line(roots, cosine, sine, 0.0, ox, oy)
    arc.add_line(roots, cosine, -sine, 0.0, ox, oy)
    # What lies behind is still touched by a vehicle that strays that far before it is under way.
    arc.add_circle(roots, 0.0, 0.0, radius, ox, oy)
    radius2 = radius * radius

    def test(x: float, y: float) -> bool:
        beside = abs(y) * cosine - x * sine >= radius
        behind = x * cosine + abs(y) * sine <= 0.0
        return not (beside or behind) or x * x + y * y < radius2

    return test


def _turn(arc: Arc, l_r: float, sweep: Sweep, ox: float, oy: float, radius: float, roots: list[float]) -> Test:
    on_circle = _circle(arc, l_r, sweep, ox, oy, radius, roots)
    on_line = _line(arc, l_r, sweep, ox, oy, radius, roots)
    nx, ny = math.cos(sweep.slip_rad), sweep.side * math.sin(sweep.slip_rad)
    arc.add_line(roots, nx, ny, 0.0, ox, oy)
    return lambda x, y: x * nx + y * ny > 0.0 and on_circle(x, y) and on_line(x, y)


def _arc(arc: Arc, l_r: float, sweep: Sweep, ox: float, oy: float, radius: float, roots: list[float]) -> Test:
    side, rho, centre_y, slip = sweep.side, sweep.rho_m, sweep.centre_y_m, sweep.slip_rad
    # With little room inside, the whole hole counts as touched, beside the turn's ends too: no edge crosses it.
    outer, room = rho + radius, rho - radius > LEAST_INNER_OF_ARC_M
    inner = rho - radius if room else max(rho - radius, 0.0) + HOLE_M
    arc.add_circle(roots, -l_r, centre_y, outer, ox, oy)
    arc.add_circle(roots, -l_r, centre_y, inner, ox, oy)
    ends = [point_on_turn(l_r, sweep, turn) for turn in (sweep.start_rad, sweep.end_rad)]
    for x, y in ends:
        arc.add_circle(roots, x, y, radius, ox, oy)
    outer2, inner2 = outer * outer, inner * inner
    start, span = sweep.start_rad, sweep.end_rad - sweep.start_rad
    radius2 = radius * radius
    (x0, y0), (x1, y1) = ends

    def test(x: float, y: float) -> bool:
        dx, dy = x + l_r, y - centre_y
        square = dx * dx + dy * dy
        if square <= inner2:
            return not room
        # The start of the turn lies at the angle slip - pi/2 about its centre, mirrored for a turn to the right.
        turn = (math.atan2(side * dy, dx) - slip + 0.5 * math.pi - start) % (2.0 * math.pi)
        if turn <= span and square < outer2:
            return True
        return (x - x0) ** 2 + (y - y0) ** 2 < radius2 or (x - x1) ** 2 + (y - y1) ** 2 < radius2

    return test


def _segment(arc: Arc, l_r: float, sweep: Sweep, ox: float, oy: float, radius: float, roots: list[float]) -> Test:
    length, radius2 = sweep.length_m, radius * radius
    arc.add_line(roots, 0.0, 1.0, radius, ox, oy)
    arc.add_line(roots, 0.0, 1.0, -radius, ox, oy)
    arc.add_circle(roots, 0.0, 0.0, radius, ox, oy)
    arc.add_circle(roots, length, 0.0, radius, ox, oy)

    def test(x: float, y: float) -> bool:
        beyond = x if x < 0.0 else max(0.0, x - length)
        return beyond * beyond + y * y < radius2

    return test


def point_on_turn(l_r: float, sweep: Sweep, turn_rad: float) -> tuple[float, float]:
    """Return the body coordinates of the centre of gravity after a turn of `turn_rad` on the sweep's circle [m]."""
    angle = sweep.slip_rad - 0.5 * math.pi + turn_rad
    return -l_r + sweep.rho_m * math.cos(angle), sweep.centre_y_m + sweep.side * sweep.rho_m * math.sin(angle)


_TESTS = {Kind.CIRCLE: _circle, Kind.LINE: _line, Kind.TURN: _turn, Kind.ARC: _arc, Kind.SEGMENT: _segment}
