"""Digits: roots without cancellation, margins on the safe side, touching that counts, arcs that are nearly lines."""

import math

import numpy as np
import pytest

from shield import hold
from shield.arc import to_polar
from shield.backup.batch import _Chunk, backup_deadlines
from shield.backup.clear import first_hit
from shield.backup.many import first_hits
from shield.barrier import barrier_of
from shield.events import Arc
from shield.hold import _positive_for, hold_distance
from shield.vehicle import Vehicle, load_vehicle

CAR = load_vehicle("config1")


@pytest.mark.parametrize(
    ("value", "slope", "bend", "root"),
    [
        (1e-12, -1.0, 1.0, 1e-12),
        (1e-12, 1.0, 1.0, 2.0 + 1e-12),
        (1e-13, 0.5, 1.0, 1.0 + 2e-13),
        (2.0, 0.0, 1.0, 2.0),
        (0.5, -0.9, 0.1, 10.0 / (9.0 + math.sqrt(91.0))),
    ],
)
def test_the_zero_of_a_parabola_keeps_its_digits(value: float, slope: float, bend: float, root: float) -> None:
    assert _positive_for(value, slope, bend) == pytest.approx(root, rel=1e-11, abs=0.0)


def test_roots_far_apart_keep_their_digits() -> None:
    one = np.ones(1)
    chunk = _Chunk(one, 0.0 * one, 0.5 * one, one[:, None], one[:, None], one[:, None])
    for half_b in (-1.0, 1.0):
        u = chunk._roots(np.full((1, 1), 1e-10), np.full((1, 1), half_b), np.full((1, 1), 1.0))
        t = sorted(abs(-1.0 / part.item()) for part in u)
        assert t == pytest.approx([0.5, 2e10], rel=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.3, -0.6])
def test_touching_at_the_start_counts(beta: float) -> None:
    arc = Arc(beta, 1.6, 20.0)
    for x, y in ((2.0, 0.0), (0.0, 2.0), (-2.0, 0.0)):
        assert first_hit(arc, x, y, 2.0) == 0.0
        assert first_hits(arc, np.array([x]), np.array([y]), np.array([2.0])).tolist() == [0.0]


def test_what_a_hold_returns_is_certified_with_its_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    barrier = barrier_of(CAR)
    # straight at the obstacle, h = 0 at r_bar/(1 - sigma)
    gap = 20.0 - barrier.r_bar_m / (1.0 - barrier.sigma)
    monkeypatch.setattr(hold, "DISTANCE_MARGIN_M", 0.5)
    for within in (gap - 0.3, gap + 0.3, gap + 30.0):
        assert hold_distance(CAR, barrier, 20.0, math.pi, 0.0, within) < gap - 0.3
    assert hold_distance(CAR, barrier, 20.0, math.pi, 0.0, 2.0) == 2.0


@pytest.mark.parametrize("heading", [-9.0, -6.0, -3.2, 0.0, 3.2, 6.0, 9.0])
def test_the_polar_angle_does_not_depend_on_how_the_heading_is_written(heading: float) -> None:
    for x, y in ((3.0, 1.0), (-2.0, 0.5), (-1.0, -4.0), (2.0, -2.0)):
        r, xi = to_polar(x, y, heading, 0.0, 0.0)
        assert -math.pi <= float(xi) < math.pi
        seen = (-r * np.cos(xi), -r * np.sin(xi))
        cosine, sine = math.cos(heading), math.sin(heading)
        assert seen == pytest.approx((-cosine * x - sine * y, sine * x - cosine * y))


def test_an_arc_that_is_nearly_a_line_is_none_in_the_batch() -> None:
    car = Vehicle(1.6, 0.8, 12.0)
    beta, far, radius = 1.6e-9, 1000.0, 2.0
    aside = far * beta + 0.5 * far**2 * math.sin(beta) / car.l_r_m
    got = backup_deadlines(car, [0.0], [0.0], [0.0], [beta], [far], [radius + 0.6 * aside], [radius], 100.0)
    assert got.distance_m[0] < far


@pytest.mark.parametrize("beta", [1e-310, -1e-310, 5e-324])
def test_a_slip_angle_too_small_to_divide_by_is_a_line_in_the_batch(beta: float) -> None:
    for x, y in ((60.0, 0.5), (30.0, -3.0), (25.0, 12.0)):
        straight, nearly = (backup_deadlines(CAR, 0.0, 0.0, 0.0, [b], [x], [y], [4.0]) for b in (0.0, beta))
        assert straight.distance_m[0] > 0.0
        assert nearly.distance_m.tolist() == straight.distance_m.tolist()


def test_a_quadratic_without_powers_of_t_has_its_root_on_the_far_side() -> None:
    arc = Arc(0.5, 1.6, 100.0)
    roots: list[float] = []
    arc._add(roots, 0.0, 0.0, 1.0)
    assert roots == pytest.approx([0.5 * arc.period, 0.5 * arc.period])
