"""Where a manoeuvre would leave the region in which the obstacle list is complete.

Beyond the declared sensing range or outside the field of view, obstacles may stand that nobody listed, so a manoeuvre
counts there only if it closes a loop or stops inside. The region belongs to the start of the held arc. The range is
measured from the centre of gravity, and the vehicle's disc and the manoeuvre's pad stay inside it. The cone of view
has its tip so far behind that the vehicle's own disc, pad included, touches its edges: what is beside the vehicle at
the start is taken as seen, and the centre of gravity may not leave the cone from where it stands.
"""

import math
from collections.abc import Callable

from shield.backup.clear import Stretch, point_on_turn
from shield.backup.family import Kind, Sweep
from shield.events import Arc

Point = tuple[float, float]
Outside = Callable[[float], bool]


def beyond_range(arc: Arc, l_r: float, sweep: Sweep, range_m: float) -> list[Stretch]:
    """Return where `sweep`, started there, would leave the disc of `range_m` (vehicle and pad taken off) [m]."""
    points, room = _hull(arc, l_r, sweep, range_m)
    roots: list[float] = []
    if room > 0.0:
        for x, y in points:
            arc.add_circle(roots, x, y, room, 0.0, 0.0)

    def outside(s: float) -> bool:
        x0, y0 = arc.seen_from(s, 0.0, 0.0)
        return room <= 0.0 or any((x - x0) ** 2 + (y - y0) ** 2 > room * room for x, y in points)

    return _stretches(arc, roots, outside)


def beyond_view(arc: Arc, l_r: float, sweep: Sweep, view_rad: float) -> list[Stretch]:
    """Return where `sweep`, started there, would leave the cone of full opening angle `view_rad` [rad].

    For a cone wider than half a turn the whole manoeuvre must lie on the seen side of one of its edges.
    """
    if view_rad >= 2.0 * math.pi:
        return []
    points, room = _hull(arc, l_r, sweep, 0.0)
    half = 0.5 * view_rad
    edges = [(math.sin(half), -math.cos(half)), (math.sin(half), math.cos(half))]
    roots: list[float] = []
    for nx, ny in edges:
        for x, y in points:
            arc.add_ground_line(roots, nx, ny, -room, x, y)

    def outside(s: float) -> bool:
        seen = [all(_along(arc, s, point, edge) >= -room for point in points) for edge in edges]
        return not (all(seen) if view_rad <= math.pi else any(seen))

    return _stretches(arc, roots, outside)


def _hull(arc: Arc, l_r: float, sweep: Sweep, room: float) -> tuple[list[Point], float]:
    """Return body points and how far the curve may reach beyond them, taken off `room`."""
    if sweep.kind is Kind.CIRCLE or (sweep.kind is Kind.ARC and sweep.end_rad - sweep.start_rad >= math.pi):
        return [(-l_r, sweep.centre_y_m)], room - sweep.rho_m
    if sweep.kind is Kind.SEGMENT:
        return [(0.0, 0.0), (sweep.length_m, 0.0)], room
    if sweep.kind is Kind.ARC:
        ends = [point_on_turn(l_r, sweep, turn) for turn in (sweep.start_rad, sweep.end_rad)]
        return ends, room - sweep.rho_m * (1.0 - math.cos(0.5 * (sweep.end_rad - sweep.start_rad)))
    turn = abs(arc.kappa) * sweep.length_m
    if turn >= math.pi:
        radius = 1.0 / arc.kappa
        return [(-arc.sin_beta * radius, arc.cos_beta * radius)], room - abs(radius)
    x, y = arc.seen_from(sweep.length_m, 0.0, 0.0)
    # The start seen from the end, turned back into the start's frame, is the end seen from the start.
    angle = arc.kappa * sweep.length_m
    end = (-math.cos(angle) * x + math.sin(angle) * y, -math.sin(angle) * x - math.cos(angle) * y)
    bulge = 0.0 if turn == 0.0 else (1.0 - math.cos(0.5 * turn)) / abs(arc.kappa)
    return [(0.0, 0.0), end], room - bulge


def _along(arc: Arc, s: float, point: Point, normal: Point) -> float:
    """Return n.p for a body point carried `s` metres along the arc, in the frame of the arc's start [m]."""
    x0, y0 = arc.seen_from(s, 0.0, 0.0)
    away_x, away_y = point[0] - x0, point[1] - y0
    cosine, sine = math.cos(arc.kappa * s), math.sin(arc.kappa * s)
    return normal[0] * (cosine * away_x - sine * away_y) + normal[1] * (sine * away_x + cosine * away_y)


def _stretches(arc: Arc, roots: list[float], outside: Outside) -> list[Stretch]:
    stretches: list[Stretch] = []
    last = 0.0
    for root in [*sorted(roots), arc.length]:
        if root > last and outside(0.5 * (last + root)):
            stretches.append((last, root))
        last = max(last, root)
    return stretches
