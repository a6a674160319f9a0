"""How far a turn that ends in a straight line stays clear along the held arc, against the drawn curve."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shield.backup import batch, question
from shield.backup.batch import backup_deadlines
from shield.backup.curve import Curve
from shield.backup.family import Kind, Sweep
from shield.backup.question import bodies_of
from shield.backup.turn import Turns
from shield.events import Arc
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import load_vehicle

L_M, SLIP, STEP_M = 1.6, 0.7, 0.05


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("beta", [0.0, 0.35, -0.6])
def test_a_fixed_curve_is_clear_until_the_walk_first_meets_a_disc(side: int, beta: float) -> None:
    rng = np.random.default_rng(12)
    rho = L_M / math.sin(SLIP)
    manoeuvre = Manoeuvre.LEFT_THEN_STRAIGHT if side > 0 else Manoeuvre.RIGHT_THEN_STRAIGHT
    sweep = Sweep(manoeuvre, Kind.TURN, 0.0, side, rho, side * rho * math.cos(SLIP), slip_rad=SLIP)
    arc = Arc(beta, L_M, 4.0)
    angles = np.array([0.0, 0.2, 0.9, 1.8, 3.0, 4.4, 5.9])
    ended = 0
    for _ in range(9):
        x, y, radius = rng.uniform(-9.0, 9.0, 3), rng.uniform(-9.0, 9.0, 3), rng.uniform(0.2, 2.0, 3)
        turns = Turns(beta, L_M, (sweep,), (x, y, radius), arc.length)
        seen, row = turns._seen_from([0.0]), np.zeros(1, np.intp)
        alone = [turns._clear_until(arc.length, seen, row, angles[i : i + 1]) for i in range(angles.size)]
        hops, causes = (np.concatenate(part) for part in zip(*alone, strict=True))
        for angle, hop, cause in zip(angles, hops, causes, strict=True):
            turned = np.linspace(0.0, angle, 150) + SLIP - 0.5 * math.pi
            cx, cy = -L_M + rho * np.cos(turned), sweep.centre_y_m + side * rho * np.sin(turned)
            ways = [math.inf]
            for i in range(3):
                for s in np.arange(0.0, min(hop + 2.0 * STEP_M, arc.length), STEP_M):
                    ex, ey = arc.seen_from(float(s), float(x[i]), float(y[i]))
                    along = max(0.0, (ex - cx[-1]) * math.cos(angle) + (ey - cy[-1]) * side * math.sin(angle))
                    px, py = cx[-1] + along * math.cos(angle), cy[-1] + along * side * math.sin(angle)
                    near = min(float(np.hypot(ex - cx, ey - cy).min()), math.hypot(ex - px, ey - py))
                    if near < radius[i] - 1e-3:
                        ways.append(float(s))
                        break
            assert hop <= min(*ways, math.inf) + 1e-9
            if hop < arc.length - 3.0 * STEP_M:
                ended += 1
                ex, ey = arc.seen_from(hop + 1e-9, float(x[cause]), float(y[cause]))
                along = max(0.0, (ex - cx[-1]) * math.cos(angle) + (ey - cy[-1]) * side * math.sin(angle))
                px, py = cx[-1] + along * math.cos(angle), cy[-1] + along * side * math.sin(angle)
                near = min(float(np.hypot(ex - cx, ey - cy).min()), math.hypot(ex - px, ey - py))
                assert near <= radius[cause] + 1e-2
            else:
                assert cause == -1 or hop < arc.length
    assert ended > 10


def test_margins_against_rounding_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    car, state, disc = load_vehicle("config1"), State(0.0, 0.0, 0.0, 0.0), Disc(30.0, 0.0, 2.0)
    found = []
    for margin in (0.0, 0.5):
        monkeypatch.setattr(batch, "MARGIN_M", margin)
        monkeypatch.setattr(question, "MARGIN_M", margin)
        ((_, _, radius),) = bodies_of(car, state, [disc])
        got = backup_deadlines(car, [0.0], 0.0, 0.0, 0.0, [30.0], [0.0], [2.0]).distance_m[0]
        found.append((radius, got))
    assert found[1][0] == pytest.approx(found[0][0] + 0.5)
    assert found[1][1] < found[0][1] - 0.3


def off_curve(rho: float, side: int, angle: float, x: float, y: float) -> float:
    """Return the distance of a body point from the turn and the straight, by angles about the turn's centre."""
    rear = rho * math.cos(SLIP)
    around = (math.atan2(side * y - rear, x + L_M) - (SLIP - 0.5 * math.pi)) % (2.0 * math.pi)
    foot = SLIP - 0.5 * math.pi + angle
    px, py = rho * math.cos(foot) - L_M, rear + rho * math.sin(foot)
    along = max(0.0, (x - px) * math.cos(angle) + (side * y - py) * math.sin(angle))
    straight = math.hypot(px + along * math.cos(angle) - x, py + along * math.sin(angle) - side * y)
    circle = abs(math.hypot(x + L_M, side * y - rear) - rho) if around <= angle else math.hypot(x, y)
    return min(straight, circle)


@given(
    st.floats(-0.85, 0.85),
    st.sampled_from([1, -1]),
    st.floats(0.0, 6.2),
    st.tuples(st.floats(-9.0, 9.0), st.floats(-9.0, 9.0), st.floats(0.1, 3.0)),
    st.floats(0.5, 30.0),
)
def test_the_first_touch_is_that_of_the_proved_quadratics(
    beta: float, side: int, angle: float, disc: tuple[float, float, float], length: float
) -> None:
    """The roots of one obstacle's own closed forms, one by one, and the midpoints between them."""
    arc, (ox, oy, radius) = Arc(beta, L_M, length), disc
    rho = L_M / math.sin(SLIP)
    rear = rho * math.cos(SLIP)
    foot = SLIP - 0.5 * math.pi + angle
    px, py = rho * math.cos(foot) - L_M, side * (rear + rho * math.sin(foot))
    roots: list[float] = []
    for fx, fy, c in ((-L_M, side * rear, rho + radius), (-L_M, side * rear, rho - radius), (0.0, 0.0, radius)):
        if c > 0.0:
            arc.add_circle(roots, fx, fy, c, ox, oy)
    arc.add_circle(roots, px, py, radius, ox, oy)
    nx, ny = -side * math.sin(angle), math.cos(angle)
    for c in (radius, -radius):
        arc.add_line(roots, nx, ny, nx * px + ny * py + c, ox, oy)
    want, last = arc.length, 0.0
    for root in [*sorted(roots), arc.length]:
        near = off_curve(rho, side, angle, *arc.seen_from(0.5 * (last + root), ox, oy))
        assume(root - last < 1e-6 or abs(near - radius) > 1e-7)
        if root - last >= 1e-6 and near < radius:
            want = last
            break
        last = root
    curve = Curve(rho, complex(math.sin(SLIP), -math.cos(SLIP)), complex(L_M, -rear))
    about = np.array([complex(ox, side * oy)]) + curve.to_centre
    got = curve.first_touch(arc, np.array([side]), np.array([angle]), about, np.array([radius]))
    assert got[0] == pytest.approx(want, abs=2e-6)
