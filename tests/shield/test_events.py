"""Every event along the held arc is found, and nothing else is: roots against the signs of what they are roots of."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.events import Arc

L_R = 1.6
places = st.floats(-8.0, 8.0)
normals = st.floats(-math.pi, math.pi)
arcs = st.builds(
    lambda beta, length: Arc(beta, L_R, length),
    st.one_of(st.just(0.0), st.floats(-0.8, 0.8), st.sampled_from([1e-9, -1e-6])),
    st.one_of(st.floats(0.2, 2.0), st.floats(2.0, 30.0)),
)


def check(arc: Arc, roots: list[float], value: Callable[[float], float]) -> None:
    """Every root is one, inside the arc; and wherever the sampled sign changes, a root lies between."""
    for root in roots:
        assert 0.0 < root < arc.length
        assert value(root) == pytest.approx(0.0, abs=1e-6)
    # The body point moves at no more than 1 + |kappa| * 30 m per metre.
    way = np.linspace(0.0, arc.length, 160)
    values = [value(float(s)) for s in way]
    for before, after, start, end in zip(values, values[1:], way, way[1:], strict=False):
        if before * after < 0.0 and min(abs(before), abs(after)) > 1e-9:
            assert any(start - 1e-9 <= root <= end + 1e-9 for root in roots), (start, end)


@given(arcs, places, places, st.floats(0.1, 6.0), places, places)
def test_where_an_obstacle_is_at_a_distance_of_a_body_point(
    arc: Arc, fx: float, fy: float, c: float, ox: float, oy: float
) -> None:
    roots: list[float] = []
    arc.add_circle(roots, fx, fy, c, ox, oy)

    def value(s: float) -> float:
        x, y = arc.seen_from(s, ox, oy)
        return math.hypot(x - fx, y - fy) - c

    check(arc, roots, value)


@given(arcs, normals, places, places, places)
def test_where_an_obstacle_is_on_a_body_line(arc: Arc, angle: float, c: float, ox: float, oy: float) -> None:
    roots: list[float] = []
    nx, ny = math.cos(angle), math.sin(angle)
    arc.add_line(roots, nx, ny, c, ox, oy)

    def value(s: float) -> float:
        x, y = arc.seen_from(s, ox, oy)
        return nx * x + ny * y - c

    check(arc, roots, value)


@given(arcs, normals, places, places, places)
def test_where_a_body_point_is_on_a_line_of_the_ground(arc: Arc, angle: float, c: float, fx: float, fy: float) -> None:
    roots: list[float] = []
    nx, ny = math.cos(angle), math.sin(angle)
    arc.add_ground_line(roots, nx, ny, c, fx, fy)

    def value(s: float) -> float:
        x0, y0 = arc.seen_from(s, 0.0, 0.0)
        cosine, sine = math.cos(arc.kappa * s), math.sin(arc.kappa * s)
        x, y = cosine * (fx - x0) - sine * (fy - y0), sine * (fx - x0) + cosine * (fy - y0)
        return nx * x + ny * y - c

    check(arc, roots, value)


@given(arcs, places, places)
def test_a_point_seen_from_along_the_arc_is_where_the_motion_puts_it(arc: Arc, x: float, y: float) -> None:
    """In steps of a millimetre: the body moves by (cos b, sin b) ds and turns by kappa ds."""
    for s in (0.1, 0.5 * arc.length, arc.length):
        ahead, behind = arc.seen_from(s + 5e-4, x, y), arc.seen_from(s - 5e-4, x, y)
        here = arc.seen_from(s, x, y)
        assert (ahead[0] - behind[0]) / 1e-3 == pytest.approx(arc.kappa * here[1] - arc.cos_beta, abs=1e-5)
        assert (ahead[1] - behind[1]) / 1e-3 == pytest.approx(-arc.kappa * here[0] - arc.sin_beta, abs=1e-5)
    assert arc.seen_from(0.0, x, y) == (x, y)
