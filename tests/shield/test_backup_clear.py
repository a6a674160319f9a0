"""Blocked stretches of each manoeuvre, one obstacle at a time and in columns, against sampled distances."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.backup.at_once import AtOnce, plain
from shield.backup.clear import blocked, first_hit
from shield.backup.family import Kind, Sweep
from shield.backup.many import Array, blocked_many, first_hits
from shield.backup.sensing import beyond_range, beyond_view
from shield.events import Arc
from shield.manoeuvre import Manoeuvre
from tests.shield.dense import drive

L_R, SLIP = 1.6, 0.8
RHO, RHO_REAR = L_R / math.sin(SLIP), L_R / math.tan(SLIP)


def turning(kind: Kind, side: int, start: float = 0.0, end: float = 0.0) -> Sweep:
    manoeuvre = Manoeuvre.LEFT if side > 0 else Manoeuvre.RIGHT
    length = end * RHO
    return Sweep(manoeuvre, kind, 0.0, side, RHO, side * RHO_REAR, length, start, end, slip_rad=SLIP)


SWEEPS = {
    "left": turning(Kind.CIRCLE, 1),
    "right": turning(Kind.CIRCLE, -1),
    "straight": Sweep(Manoeuvre.STRAIGHT, Kind.LINE),
    "wedge": Sweep(Manoeuvre.STRAIGHT, Kind.LINE, wedge_rad=0.2),
    "brake_left": turning(Kind.ARC, 1, -0.3, 1.9),
    "brake_right": turning(Kind.ARC, -1, 0.0, 4.5),
    "brake_straight": Sweep(Manoeuvre.BRAKE_STRAIGHT, Kind.SEGMENT, length_m=9.0),
    "turn_left": turning(Kind.TURN, 1),
    "turn_right": turning(Kind.TURN, -1),
}


def curve_of(sweep: Sweep) -> list[Array]:
    """Return the sampled curves of a sweep, x and y each; a wedge is a fan of lines."""
    if sweep.kind is Kind.CIRCLE:
        x, y, _ = drive(L_R, lambda _: sweep.side * SLIP, 2.0 * math.pi * RHO, 0.01)
    elif sweep.kind is Kind.ARC:
        # Driven a whole turn further back, so that the curve may begin before the start.
        x, y, heading = drive(L_R, lambda _: sweep.side * SLIP, (2.0 * math.pi + sweep.end_rad) * RHO, 0.01)
        keep = sweep.side * heading >= 2.0 * math.pi + sweep.start_rad - 1e-3
        x, y = x[keep], y[keep]
    elif sweep.kind is Kind.SEGMENT:
        x = np.linspace(0.0, sweep.length_m, 900)
        y = np.zeros(900)
    else:
        along = np.linspace(0.0, 60.0, 1200)
        angles = np.linspace(-sweep.wedge_rad, sweep.wedge_rad, 1 if sweep.wedge_rad == 0.0 else 25)
        x, y = np.outer(np.cos(angles), along).ravel(), np.outer(np.sin(angles), along).ravel()
    return [x, y]


CURVES = {name: curve_of(sweep) for name, sweep in SWEEPS.items() if sweep.kind is not Kind.TURN}

arcs = st.builds(
    lambda beta, length: (beta, length),
    st.one_of(st.just(0.0), st.floats(-0.8, 0.8), st.sampled_from([1e-9, -1e-6])),
    st.floats(5.0, 25.0),
)
obstacles = st.tuples(st.floats(-25.0, 30.0), st.floats(-25.0, 25.0), st.floats(0.2, 6.0))


def is_blocked(stretches: list[tuple[float, float]], s: float) -> bool:
    return any(start <= s <= end for start, end in stretches)


@pytest.mark.parametrize("name", CURVES)
@given(arc=arcs, obstacle=obstacles)
def test_blocked_where_the_sampled_curve_comes_too_near(
    name: str, arc: tuple[float, float], obstacle: tuple[float, float, float]
) -> None:
    (beta, length), (ox, oy, radius) = arc, obstacle
    held = Arc(beta, L_R, length)
    stretches = blocked(held, L_R, SWEEPS[name], ox, oy, radius)
    x, y = CURVES[name]
    margin = 0.8 if name == "wedge" else 0.03  # between two lines of the fan, 50 m out
    for s in np.linspace(0.0, held.length, 23):
        ex, ey = held.seen_from(float(s), ox, oy)
        gap = float(np.hypot(x - ex, y - ey).min()) - radius
        # What touches the vehicle itself is the held arc's affair, and a straight may count it as behind.
        if abs(gap) > margin and math.hypot(ex, ey) > radius + 0.03:
            assert is_blocked(stretches, float(s)) == (gap < 0.0), (s, gap)


@given(arc=arcs, obstacle=obstacles, side=st.sampled_from([1, -1]))
def test_a_turn_until_straight_is_clear_is_blocked_where_no_angle_is_found(
    arc: tuple[float, float], obstacle: tuple[float, float, float], side: int
) -> None:
    (beta, length), (ox, oy, radius) = arc, obstacle
    held = Arc(beta, L_R, length)
    stretches = blocked(held, L_R, SWEEPS["turn_left" if side > 0 else "turn_right"], ox, oy, radius)
    px, py = CURVES["left"] if side > 0 else CURVES["right"]
    heading = side * np.linspace(0.0, 2.0 * math.pi, len(px))
    for s in np.linspace(0.0, held.length, 23):
        ex, ey = held.seen_from(float(s), ox, oy)

        def found(dilated: float, ex: float = ex, ey: float = ey) -> bool:
            ax, ay = ex - px, ey - py
            safe = np.hypot(ax, ay) >= dilated
            if safe.all():
                return True
            along, aside = ax * np.cos(heading) + ay * np.sin(heading), ay * np.cos(heading) - ax * np.sin(heading)
            clear = np.hypot(np.minimum(along, 0.0), aside) >= dilated
            return bool(clear[: int(safe.argmin())].any())

        if math.hypot(ex, ey) > radius + 0.05 and found(radius + 0.03) == found(radius - 0.03):
            assert is_blocked(stretches, float(s)) == (not found(radius)), s


@pytest.mark.parametrize("name", CURVES)
@given(arc=arcs, spots=st.lists(obstacles, min_size=1, max_size=5))
def test_columns_are_single_obstacles_side_by_side(
    name: str, arc: tuple[float, float], spots: list[tuple[float, float, float]]
) -> None:
    held = Arc(*(arc[0], L_R, arc[1]))
    x, y, radius = np.array(spots).T
    together = blocked_many(held, L_R, SWEEPS[name], x, y, radius)
    for index, (ox, oy, dilated) in enumerate(spots):
        single = blocked(held, L_R, SWEEPS[name], ox, oy, dilated)
        column = [(start, end) for start, end, which in together if which == index]
        for s in np.linspace(0.001, held.length - 0.001, 31):
            near_edge = any(abs(s - edge) < 1e-6 for stretch in single + column for edge in stretch)
            # What touches the vehicle itself is the held arc's affair, and a straight may count it as behind.
            if not near_edge and math.hypot(*held.seen_from(float(s), ox, oy)) > dilated:
                assert is_blocked(single, float(s)) == is_blocked(column, float(s))
        hits = first_hits(held, x, y, radius)
        assert hits[index] == pytest.approx(first_hit(held, ox, oy, dilated), abs=1e-9)


@given(arc=arcs, spots=st.lists(obstacles, min_size=1, max_size=6), pad=st.floats(0.0, 0.5))
def test_several_sweeps_in_one_pass_are_what_each_is_alone(
    arc: tuple[float, float], spots: list[tuple[float, float, float]], pad: float
) -> None:
    held = Arc(arc[0], L_R, arc[1])
    x, y, radius = np.array(spots).T
    sweeps = [replace(SWEEPS["left"], pad_m=pad), SWEEPS["straight"], replace(SWEEPS["right"], pad_m=2.0 * pad)]
    together = AtOnce(Arc(arc[0], L_R, 1.5 * arc[1]), L_R, sweeps, np.array((x, y, radius)), pad)
    assert together.hits == pytest.approx(first_hits(Arc(arc[0], L_R, 1.5 * arc[1]), x, y, radius + pad))
    for sweep, found in zip(sweeps, together.blocked(held), strict=True):
        assert plain(sweep)
        for index, (ox, oy, dilated) in enumerate(spots):
            single = blocked(held, L_R, sweep, ox, oy, dilated + sweep.pad_m)
            column = [(start, end) for start, end, which in found if which == index]
            for s in np.linspace(0.001, held.length - 0.001, 31):
                if not any(abs(s - edge) < 1e-6 for stretch in single + column for edge in stretch):
                    assert is_blocked(single, float(s)) == is_blocked(column, float(s))


REGION = {name: sweep for name, sweep in SWEEPS.items() if sweep.kind in (Kind.CIRCLE, Kind.ARC, Kind.SEGMENT)}


def on_ground(held: Arc, s: float, name: str) -> tuple[Array, Array]:
    """Return the sampled curve, started `s` metres along the arc, in the frame of the arc's start."""
    x, y = CURVES[name]
    x0, y0 = held.seen_from(s, 0.0, 0.0)
    cosine, sine = math.cos(held.kappa * s), math.sin(held.kappa * s)
    return cosine * (x - x0) - sine * (y - y0), sine * (x - x0) + cosine * (y - y0)


@pytest.mark.parametrize("name", REGION)
@given(arc=arcs, reach=st.floats(3.0, 40.0))
def test_what_is_not_beyond_the_range_stays_inside_it(name: str, arc: tuple[float, float], reach: float) -> None:
    held = Arc(*(arc[0], L_R, arc[1]))
    stretches = beyond_range(held, L_R, REGION[name], reach)
    for s in np.linspace(0.001, held.length - 0.001, 23):
        farthest = float(np.hypot(*on_ground(held, float(s), name)).max())
        if farthest > reach + 0.03:
            assert is_blocked(stretches, float(s))
        elif REGION[name].kind is not Kind.ARC and farthest < reach - 0.03:
            assert not is_blocked(stretches, float(s))


@pytest.mark.parametrize("name", REGION)
@given(arc=arcs, view=st.floats(0.5, 6.2))
def test_what_is_not_beyond_the_view_stays_inside_it(name: str, arc: tuple[float, float], view: float) -> None:
    held = Arc(*(arc[0], L_R, arc[1]))
    stretches = beyond_view(held, L_R, REGION[name], view)
    for s in np.linspace(0.001, held.length - 0.001, 23):
        x, y = on_ground(held, float(s), name)
        away = np.hypot(x, y) > 0.1
        outside = np.abs(np.arctan2(y, x))[away] > 0.5 * view + 0.03 / np.hypot(x, y)[away]
        if outside.any():
            assert is_blocked(stretches, float(s))


def along_edges(x: Array, y: Array, view: float) -> list[float]:
    """Return how far inside each edge of the cone of view the samples stay at least [m]."""
    sine, cosine = math.sin(0.5 * view), math.cos(0.5 * view)
    return [float((sine * x + side * cosine * y).min()) for side in (-1.0, 1.0)]


@pytest.mark.parametrize("name", ["left", "right", "brake_straight"])
@given(arc=arcs, view=st.floats(0.5, 6.2))
def test_the_view_is_left_exactly_where_the_samples_cross_an_edge(
    name: str, arc: tuple[float, float], view: float
) -> None:
    held = Arc(*(arc[0], L_R, arc[1]))
    stretches = beyond_view(held, L_R, REGION[name], view)
    for s in np.linspace(0.001, held.length - 0.001, 23):
        edges = along_edges(*on_ground(held, float(s), name), view)
        # Up to half a turn both edges count; beyond it the manoeuvre must stay on the seen side of one of them.
        inside = min(edges) if view <= math.pi else max(edges)
        if abs(inside) > 0.03:
            assert is_blocked(stretches, float(s)) == (inside < 0.0), (s, edges)


@given(arc=arcs, braking=st.floats(0.5, 25.0), view=st.floats(0.5, 6.2))
def test_braking_on_the_held_arc_stays_inside_what_is_seen(
    arc: tuple[float, float], braking: float, view: float
) -> None:
    beta, length = arc
    held, sweep = Arc(beta, L_R, length), Sweep(Manoeuvre.BRAKE, Kind.HELD, length_m=braking)
    unseen = beyond_view(held, L_R, sweep, view)
    x, y, _ = drive(L_R, lambda _: beta, length + braking, 0.05)
    way = np.linspace(0.0, length + braking, len(x))
    kappa = abs(math.sin(beta)) / L_R
    closes = kappa * braking >= math.pi
    if closes and kappa * (length + braking) < 2.0 * math.pi:
        return  # the samples do not go round the circle that is looked at
    for s in np.linspace(0.05, held.length - 0.05, 12):
        # A braking path of half a turn and more counts as the whole circle, a shorter one as its chord and its rise.
        part = np.ones(len(x), bool) if closes else (way >= s) & (way <= s + braking)
        px, py = x[part], y[part]
        farthest = float(np.hypot(px, py).max())
        rise = 0.0 if closes else (1.0 - math.cos(0.5 * kappa * braking)) / max(kappa, 1e-9)
        if farthest > 0.2:
            assert is_blocked(beyond_range(held, L_R, sweep, farthest - 0.06), float(s))
        assert not is_blocked(beyond_range(held, L_R, sweep, farthest + rise + 0.06), float(s))
        away = np.hypot(px, py) > 0.1
        outside = np.abs(np.arctan2(py, px))[away] > 0.5 * view + 0.05 / np.hypot(px, py)[away]
        if outside.any():
            assert is_blocked(unseen, float(s))
        edges = along_edges(px, py, view)
        if (min(edges) if view <= math.pi else max(edges)) > rise + 0.05:
            assert not is_blocked(unseen, float(s))


def test_a_disc_that_swallows_the_turn_centre_blocks_the_arc_about_it() -> None:
    """Wider than the turn, and farther from both ends of the arc than its radius."""
    sweep, radius = SWEEPS["brake_right"], RHO + 0.2
    middle = SLIP - 0.5 * math.pi + 0.5 * sweep.end_rad
    ox, oy = -L_R + 0.9 * math.cos(middle), sweep.centre_y_m - 0.9 * math.sin(middle)
    held = Arc(0.0, L_R, 0.1)
    x, y = CURVES["brake_right"]
    gaps = np.hypot(x - ox, y - oy) - radius
    assert gaps.min() < 0.0 < min(gaps[0], gaps[-1])
    assert blocked(held, L_R, sweep, ox, oy, radius) == [(0.0, 0.1)]
    assert blocked_many(held, L_R, sweep, np.array([ox]), np.array([oy]), np.array([radius])) == [(0.0, 0.1, 0)]
