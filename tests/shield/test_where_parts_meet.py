"""Clear sets tried where their parts meet: a set is bounded by circles and lines, and a missing one shows only there.

The proof over every cell bounds rounding; that roots are asked for every edge of a set is an argument on paper. Here a
disc is put, at some place of the held arc, where edges cross: about the turn's centre, on the rays through a turn's
ends, at a radius near the turn's own, on the curve's ends. No place called clear may be one that the curve touches.
"""

import math

import numpy as np
import pytest

from shield.arc import advance
from shield.backup.clear import blocked, point_on_turn
from shield.backup.family import Kind, Sweep
from shield.backup.many import blocked_many
from shield.events import Arc
from shield.manoeuvre import Manoeuvre

POINTS = 400
OFF_M = (0.0, 1e-9, 1e-6, 1e-3, 2e-3, 5e-3, 0.05, 0.3, 1.0)
"""How far from such a place a disc is put, times a normal deviate."""


def drawn(kind: Kind, rng: np.random.Generator) -> tuple[float, Sweep, np.ndarray]:
    """Return the rear length, a sweep, and points of its curve in the body frame, one a row."""
    l_r, slip, side = float(rng.uniform(0.8, 2.5)), float(rng.uniform(0.1, 0.95)), int(rng.choice([1, -1]))
    rho = l_r / math.sin(slip)
    if kind is Kind.SEGMENT:
        length = float(rng.uniform(0.1, 20.0))
        return l_r, Sweep(Manoeuvre.BRAKE_STRAIGHT, kind, length_m=length), np.linspace((0, 0), (length, 0), POINTS)
    start = float(rng.choice([0.0, rng.uniform(-1.5, 0.0)]))
    start, end = (0.0, 2.0 * math.pi) if kind is Kind.CIRCLE else (start, start + float(rng.uniform(0.02, 6.2)))
    centre_y = side * l_r / math.tan(slip)
    sweep = Sweep(Manoeuvre.LEFT, kind, 0.0, side, rho, centre_y, end * rho, start, end, slip_rad=slip)
    return l_r, sweep, np.array([point_on_turn(l_r, sweep, float(turn)) for turn in np.linspace(start, end, POINTS)])


def awkward(
    l_r: float, sweep: Sweep, points: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[float, float], float]:
    """Return the centre, in the body frame, and the radius of a disc near where edges of the sweep's set meet."""
    off = float(rng.choice(OFF_M) * rng.normal())
    if sweep.kind is Kind.SEGMENT or rng.random() < 0.3:
        radius, way = float(rng.uniform(0.1, 6.0)), float(rng.uniform(0.0, 2.0 * math.pi))
        x, y = points[int(rng.choice([0, POINTS - 1, int(rng.integers(POINTS))]))]
        return (x + (radius + off) * math.cos(way), y + (radius + off) * math.sin(way)), radius
    rho, turn = sweep.rho_m, float(rng.choice([sweep.start_rad, sweep.end_rad, rng.uniform(0.0, 6.3)])) + 0.01 * off
    radius = abs(float(rng.choice([rho, rho - 0.25, rho - 1.0, rng.uniform(0.1, 3.0 * rho)])) + off) + 1e-3
    distance = float(rng.choice([0.0, 1.0, rho - radius, rho + radius, rng.uniform(0.0, rho)])) + off
    x, y = point_on_turn(l_r, sweep, turn)
    share = distance / rho
    return (-l_r + share * (x + l_r), sweep.centre_y_m + share * (y - sweep.centre_y_m)), radius


@pytest.mark.parametrize("kind", [Kind.CIRCLE, Kind.ARC, Kind.SEGMENT])
def test_no_place_called_clear_is_one_that_is_touched(kind: Kind) -> None:
    rng, looked = np.random.default_rng(20), 0
    for _ in range(500):
        l_r, sweep, points = drawn(kind, rng)
        (bx, by), radius = awkward(l_r, sweep, points, rng)
        beta = float(rng.choice([0.0, sweep.slip_rad, -sweep.slip_rad, rng.uniform(-0.95, 0.95)]))
        arc = Arc(beta, l_r, float(rng.uniform(3.0, 25.0)))
        here = float(rng.uniform(0.0, arc.length))
        x, y, heading = (float(value) for value in advance(0.0, 0.0, 0.0, beta, l_r, here))
        ox = x + bx * math.cos(heading) - by * math.sin(heading)
        oy = y + bx * math.sin(heading) + by * math.cos(heading)
        columns = blocked_many(arc, l_r, sweep, np.array([ox]), np.array([oy]), np.array([radius]))
        alone, many = blocked(arc, l_r, sweep, ox, oy, radius), [row[:2] for row in columns]
        for s in (here, here - 1e-3, here + 1e-3, *rng.uniform(0.0, arc.length, 8)):
            ex, ey = arc.seen_from(float(s), ox, oy)
            if not 0.0 < s < arc.length or math.hypot(ex, ey) <= radius:  # the held arc's affair
                continue
            looked += 1
            # A sampled curve is never nearer than the true one.
            if float(np.hypot(points[:, 0] - ex, points[:, 1] - ey).min()) < radius - 1e-5:
                for stretches in (alone, many):
                    assert any(start <= s <= end for start, end in stretches), (sweep, beta, (ox, oy), radius, s)
    assert looked > 1000
