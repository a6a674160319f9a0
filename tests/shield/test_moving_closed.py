"""Braking beside obstacles where the held arc closes on itself, for large vehicles and small: against dense points."""

import math

import numpy as np
import pytest

from shield.backup.clear import point_on_turn
from shield.backup.family import Kind, Sweep
from shield.backup.moving import Braking, _repeated
from shield.events import LEAST_INNER_OF_ARC_M, Arc
from shield.manoeuvre import Manoeuvre

SLIP, TURNED_RAD = 0.7, 1.1


def sweeps(scale: float) -> dict[str, Sweep]:
    l_r, length = 1.6 * scale, 4.0 * scale
    rho = l_r / math.sin(SLIP)
    found = {
        "held": Sweep(Manoeuvre.BRAKE, Kind.HELD, length_m=length),
        "straight": Sweep(Manoeuvre.BRAKE_STRAIGHT, Kind.SEGMENT, length_m=length),
    }
    for side, manoeuvre in ((1, Manoeuvre.BRAKE_LEFT), (-1, Manoeuvre.BRAKE_RIGHT)):
        found["left" if side > 0 else "right"] = Sweep(
            manoeuvre, Kind.ARC, 0.0, side, rho, side * rho * math.cos(SLIP), length, 0.0, length / rho, slip_rad=SLIP
        )
    return found


def path(l_r: float, sweep: Sweep, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of the braking path in the body frame of its start."""
    way = np.linspace(0.0, sweep.length_m, 400)
    if sweep.kind is Kind.SEGMENT:
        return way, np.zeros(way.size)
    if sweep.kind is Kind.HELD:
        direction = beta + 0.5 * math.sin(beta) / l_r * way
        chord = way * np.sinc(0.5 * math.sin(beta) / l_r * way / math.pi)
        return chord * np.cos(direction), chord * np.sin(direction)
    x, y = zip(*(point_on_turn(l_r, sweep, float(q) / sweep.rho_m) for q in way), strict=True)
    return np.array(x), np.array(y)


@pytest.mark.parametrize("name", ["held", "straight", "left", "right"])
@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("beta", [0.8, -0.6])
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("cuts", [0, 1])
def test_a_place_is_blocked_on_every_turn_of_the_arc(
    name: str, scale: float, beta: float, count: int, cuts: int
) -> None:
    l_r, sweep, rng = 1.6 * scale, sweeps(scale)[name], np.random.default_rng(11)
    period = 2.0 * math.pi * l_r / abs(math.sin(beta))
    length, arc = 2.1 * period, Arc(beta, l_r, period)
    px, py = path(l_r, sweep, beta)
    hits, still = 0, np.zeros(count)
    for _ in range(12 // count):
        x, y = scale * rng.uniform(-7.0, 7.0, (2, count))
        radius = scale * rng.uniform(0.3, 2.0, count)
        braking = Braking(beta, l_r, length, sweep, (x, y, radius), still, (6.0 * scale, 5.0 * scale))
        if cuts:
            braking.cut(0.0, length, cuts)
        stretches = braking.blocked()
        for column in range(count):
            for s in np.linspace(0.01 * length, 0.99 * length, 41):
                ex, ey = arc.seen_from(float(s) % period, float(x[column]), float(y[column]))
                gap = float(np.hypot(px - ex, py - ey).min() - radius[column])
                # a disc inside the ring of a turn with little room counts as touched
                inside = sweep.kind is Kind.ARC and math.hypot(ex + l_r, ey - sweep.centre_y_m) < sweep.rho_m
                tight = inside and sweep.rho_m - radius[column] < LEAST_INNER_OF_ARC_M
                hit = any(start <= s <= end for start, end, which in stretches if which == column)
                assert hit or gap > -0.01 * scale
                assert not hit or gap < 0.02 * scale or tight
                hits += hit
    assert hits > 10


@pytest.mark.parametrize("starts", [[1.0], [1.0, 4.0], []])
def test_stretches_come_round_with_every_turn(starts: list[float]) -> None:
    arc = Arc(0.8, 1.6, 100.0)
    begin = np.array(starts)
    begins, ends, columns = _repeated(arc, 100.0, begin, begin + 0.5, np.arange(begin.size))
    turns = math.ceil(100.0 / arc.period)
    want = sorted((s + k * arc.period, i) for i, s in enumerate(starts) for k in range(turns))
    assert sorted(zip(begins.tolist(), columns.tolist(), strict=True)) == [
        (pytest.approx(at), column) for at, column in want
    ]
    assert ends == pytest.approx(begins + 0.5)
