"""Where each shape of manoeuvre is blocked, against the distance to that shape; how far a curve leaves its hull."""

import math

import numpy as np
import pytest

from shield.backup.clear import blocked, first_hit, point_on_turn
from shield.backup.family import Kind, Sweep
from shield.backup.many import blocked_many, first_hits
from shield.backup.sensing import _hull
from shield.events import HOLE_M, LEAST_INNER_M, LEAST_INNER_OF_ARC_M, Arc
from shield.manoeuvre import Manoeuvre

L_M = 1.6


def circle(kind: Kind, side: int, slip: float, start: float = 0.0, end: float = 0.0) -> Sweep:
    rho = L_M / math.sin(slip)
    manoeuvre = Manoeuvre.LEFT if side > 0 else Manoeuvre.RIGHT
    return Sweep(manoeuvre, kind, 0.0, side, rho, side * rho * math.cos(slip), 3.0, start, end, slip_rad=slip)


SWEEPS = {
    "left": circle(Kind.CIRCLE, 1, 0.8),
    "right": circle(Kind.CIRCLE, -1, 0.5),
    "arc left": circle(Kind.ARC, 1, 0.6, -0.3, 1.4),
    "arc right": circle(Kind.ARC, -1, 0.7, 0.0, 2.9),
    "wide arc": circle(Kind.ARC, 1, 0.8, -0.5, 4.5),
    "segment": Sweep(Manoeuvre.BRAKE_STRAIGHT, Kind.SEGMENT, length_m=4.0),
    "line": Sweep(Manoeuvre.STRAIGHT, Kind.LINE),
    "padded line": Sweep(Manoeuvre.STRAIGHT, Kind.LINE, pad_m=0.3),
    "wedge": Sweep(Manoeuvre.STRAIGHT, Kind.LINE, pad_m=0.3, wedge_rad=0.5),
    "bare wedge": Sweep(Manoeuvre.STRAIGHT, Kind.LINE, wedge_rad=1.2),
}


def depth(sweep: Sweep, x: float, y: float, radius: float) -> float:
    """How deep a disc about (x, y) reaches over the curve [m]."""
    if sweep.kind is Kind.LINE and sweep.wedge_rad == 0.0 and sweep.pad_m == 0.0:
        return min(x, radius - abs(y))
    if sweep.kind is Kind.LINE:
        angle = max(0.0, abs(math.atan2(y, x)) - sweep.wedge_rad)
        far = math.hypot(x, y)
        return radius - (far * math.sin(angle) if angle < 0.5 * math.pi else far)
    if sweep.kind is Kind.SEGMENT:
        return radius - math.hypot(x - min(max(x, 0.0), sweep.length_m), y)
    dx, dy = x + L_M, y - sweep.centre_y_m
    across = abs(math.hypot(dx, dy) - sweep.rho_m)
    if sweep.kind is Kind.CIRCLE:
        return radius - across
    begin = sweep.slip_rad - 0.5 * math.pi + sweep.start_rad
    turn = (math.atan2(sweep.side * dy, dx) - begin) % (2.0 * math.pi)
    if turn <= sweep.end_rad - sweep.start_rad:
        return radius - across
    ends = [point_on_turn(L_M, sweep, at) for at in (sweep.start_rad, sweep.end_rad)]
    return radius - min(math.hypot(x - a, y - b) for a, b in ends)


def either_way(sweep: Sweep, x: float, y: float, radius: float) -> bool:
    """Whether a disc lies inside the turn with so little room that it may count as touching it."""
    least = {Kind.CIRCLE: LEAST_INNER_M, Kind.ARC: LEAST_INNER_OF_ARC_M}.get(sweep.kind, -math.inf)
    inner = sweep.rho_m - radius
    return inner <= least and math.hypot(x + L_M, y - sweep.centre_y_m) <= max(inner, 0.0) + HOLE_M


@pytest.mark.parametrize("name", SWEEPS)
def test_a_shape_is_blocked_exactly_where_the_disc_reaches_it(name: str) -> None:
    sweep, rng = SWEEPS[name], np.random.default_rng(4)
    hits = 0
    for beta in (0.0, 0.3, -0.6, 0.05):
        arc = Arc(beta, L_M, 8.0)
        ox, oy, radius = (rng.uniform(low, high, 60) for low, high in ((-7.0, 9.0), (-7.0, 7.0), (0.2, 4.0)))
        table = blocked_many(arc, L_M, sweep, ox, oy, radius)
        touched = first_hits(arc, ox, oy, radius)
        for i in range(60):
            x, y, r = float(ox[i]), float(oy[i]), float(radius[i])
            alone = blocked(arc, L_M, sweep, x, y, r)
            together = [(begin, end) for begin, end, column in table if column == i]
            for s in np.linspace(0.01, 0.999 * arc.length, 40):
                seen = arc.seen_from(float(s), x, y)
                deep = depth(sweep, *seen, r)
                if deep > 1e-6 or (deep < -1e-6 and not either_way(sweep, *seen, r)):
                    assert any(a <= s <= b for a, b in alone) == (deep > 0.0)
                    # many are asked as the padded line is: what lies beside the start counts too
                    if name != "line":
                        assert any(a <= s <= b for a, b in together) == (deep > 0.0)
                    hits += deep > 0.0
                if math.hypot(*arc.seen_from(float(s), x, y)) < r - 1e-6:
                    assert first_hit(arc, x, y, r) < s
                    assert touched[i] < s
                elif s < min(first_hit(arc, x, y, r), touched[i]):
                    assert math.hypot(*arc.seen_from(float(s), x, y)) > r - 1e-6
    assert hits > 200


HELD = Sweep(Manoeuvre.BRAKE, Kind.HELD, length_m=5.0)
NARROW = {name: SWEEPS[name] for name in ("left", "right", "arc left", "arc right", "wide arc", "segment")}


@pytest.mark.parametrize("name", [*NARROW, "held"])
@pytest.mark.parametrize("beta", [0.0, 0.4, -0.7, 1.4, -1.4])
def test_no_curve_leaves_its_hull_by_more_than_is_taken_off(name: str, beta: float) -> None:
    sweep, arc = NARROW.get(name, HELD), Arc(beta, L_M, 1.0)
    points, room = _hull(arc, L_M, sweep, 50.0)
    if sweep.kind is Kind.HELD:
        k, s = math.sin(beta) / L_M, np.linspace(0.0, sweep.length_m, 400)
        along = s if k == 0.0 else np.sin(k * s) / k
        aside = 0.0 * s if k == 0.0 else (1.0 - np.cos(k * s)) / k
        curve = [
            (math.cos(beta) * a - math.sin(beta) * b, math.sin(beta) * a + math.cos(beta) * b)
            for a, b in zip(along, aside, strict=True)
        ]
    elif sweep.kind is Kind.SEGMENT:
        curve = [(float(x), 0.0) for x in np.linspace(0.0, sweep.length_m, 100)]
    else:
        end = 2.0 * math.pi if sweep.kind is Kind.CIRCLE else sweep.end_rad
        curve = [point_on_turn(L_M, sweep, float(turn)) for turn in np.linspace(sweep.start_rad, end, 401)]
    p, q = np.array(points[0]), np.array(points[-1])
    leaves = []
    for at in np.array(curve):
        share = 0.0 if len(points) == 1 else float(np.clip((at - p) @ (q - p) / ((q - p) @ (q - p)), 0.0, 1.0))
        leaves.append(float(np.hypot(*(at - p - share * (q - p)))))
    assert max(leaves) <= 50.0 - room + 1e-9
    assert max(leaves) >= 50.0 - room - 1e-3
