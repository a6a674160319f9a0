"""The published table, rebuilt from its formula."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.barrier import barrier_deadline, least_distance
from shield.deadline import Certificate, Method, tolerable_deadline
from shield.published import (
    RINGS,
    Ring,
    Table,
    cell_edges,
    lambert_w,
    pointwise_deadline,
    published_deadline,
    ring_table,
)
from shield.state import Disc, State
from shield.vehicle import Barrier, Bounds, Vehicle, load_vehicle

VEHICLE = load_vehicle("config2")
BARRIER = Barrier(r_bar_m=4.0, sigma=0.48)


def at(r: float, xi: float, beta: float) -> State:
    """The vehicle at (r, xi) of a disc at the origin, heading along +x."""
    return State(r * math.cos(xi), r * math.sin(xi), 0.0, beta)


DISC = Disc(0.0, 0.0, 4.0)


@given(st.floats(0.0, 1e9))
def test_lambert_w_inverts_w_exp_w(z: float) -> None:
    w = float(lambert_w(z))
    assert w * math.exp(w) == pytest.approx(z, rel=1e-12)


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: f"{ring.offset_m:g}m")
def test_tables_agree_with_the_shipped_ones(ring: Ring, reference_dir: Path) -> None:
    shipped = np.load(reference_dir / "energyshield" / "deadline_lut_config2.npz")
    prefix = f"offset_{ring.offset_m:g}m_"
    table = ring_table(VEHICLE, ring).deadline_s
    assert table.shape == shipped[prefix + "deadline_s"].shape
    assert np.abs(table - shipped[prefix + "deadline_s"]).max() < 1e-4
    offset, longest, xi_step, beta_step, _, _ = shipped[prefix + "meta"]
    assert (ring.offset_m, ring.xi_step_rad, ring.beta_step_rad) == (offset, xi_step, beta_step)
    assert ring.longest_s == pytest.approx(longest)
    edges = cell_edges(math.pi, ring.xi_step_rad)
    assert edges[:-1] == pytest.approx(shipped[prefix + "xi_left_rad"], abs=1e-12)


@given(st.sampled_from(RINGS), st.floats(-math.pi, math.pi), st.floats(-0.4636, 0.4636))
def test_the_formula_solves_the_published_equation(ring: Ring, xi: float, beta: float) -> None:
    """sqrt(2) L_h |f| t exp(L_f t) = h at t = deadline + eps."""
    t = float(pointwise_deadline(VEHICLE, ring.offset_m, xi, beta)) + 0.010
    r = float(least_distance(BARRIER, xi)) + ring.offset_m
    f = math.hypot(20.0 * math.cos(xi - beta), -20.0 / r * math.sin(xi - beta) - 20.0 / 2.0 * math.sin(beta))
    h = (0.48 * math.cos(xi / 2) + 0.52) / 4.0 - 1.0 / r
    assert math.sqrt(2.0) * (1.0 / 16.0) * f * t * math.exp(20.0 * t) == pytest.approx(h, rel=1e-9)


def test_a_wide_disc_has_the_slope_of_its_angle() -> None:
    """Beyond r_bar sigma = 2 m the angle's part of L_h, sigma/(2 r_bar), is the larger."""
    wide = Vehicle(2.0, 0.4, 20.0, barrier=Barrier(10.0, 0.5))
    t = float(pointwise_deadline(wide, 3.0, 1.0, 0.1)) + 0.010
    r = 10.0 / (0.5 * math.cos(0.5) + 0.5) + 3.0
    f = math.hypot(20.0 * math.cos(0.9), 20.0 / r * math.sin(0.9) + 20.0 / 2.0 * math.sin(0.1))
    h = (0.5 * math.cos(0.5) + 0.5) / 10.0 - 1.0 / r
    assert math.sqrt(2.0) * (0.5 / 20.0) * f * t * math.exp(20.0 * t) == pytest.approx(h, rel=1e-9)


@given(st.sampled_from(RINGS), st.floats(-math.pi, math.pi), st.floats(-0.4636, 0.4636), st.floats(1e-6, 0.99))
def test_the_look_up_takes_the_ring_and_the_least_corner(ring: Ring, xi: float, beta: float, inside: float) -> None:
    r = float(least_distance(BARRIER, xi)) + ring.offset_m + inside
    answer = published_deadline(VEHICLE, at(r, xi, beta), [DISC])
    beta_max = VEHICLE.beta_max_rad
    left = -math.pi + math.floor((xi + math.pi) / ring.xi_step_rad) * ring.xi_step_rad
    low = -beta_max + math.floor((beta + beta_max) / ring.beta_step_rad) * ring.beta_step_rad
    corners = [
        float(pointwise_deadline(VEHICLE, ring.offset_m, min(x, math.pi), min(b, beta_max)))
        for x in (left, left + ring.xi_step_rad)
        for b in (low, low + ring.beta_step_rad)
    ]
    # the measured angle differs by rounding: next to an edge the neighbouring cell is as right
    on_edge = min((xi - left) % ring.xi_step_rad, (left - xi) % ring.xi_step_rad) < 1e-9
    if not on_edge:
        assert answer.deadline_s == pytest.approx(min(max(min(corners), 0.0), ring.longest_s), abs=1e-12)
    assert not answer.guarantee


def test_states_at_the_ends_of_the_table() -> None:
    beta_max = VEHICLE.beta_max_rad
    for xi in (-math.pi, math.pi, math.nextafter(math.pi, 0.0)):
        for beta in (-beta_max, beta_max):
            answer = published_deadline(VEHICLE, at(20.0, xi, beta), [DISC])
            assert 0.0 <= answer.deadline_s <= 0.14


def test_inside_the_innermost_ring_there_is_no_time() -> None:
    edge = float(least_distance(BARRIER, 2.0)) + 1.0
    assert published_deadline(VEHICLE, at(edge - 1e-9, 2.0, 0.1), [DISC]).deadline_s == 0.0
    assert published_deadline(VEHICLE, at(edge + 1e-9, 2.0, 0.1), [DISC]).limited_by == "obstacle:0"
    far = tolerable_deadline(Method.PUBLISHED, VEHICLE, at(60.0, 0.0, 0.0), [DISC])
    assert 0.0 < far.deadline_s <= 0.14
    assert far.distance_m == pytest.approx(20.0 * far.deadline_s)


@given(st.floats(5.0, 40.0), st.floats(-math.pi, math.pi), st.floats(-0.46, 0.46), st.floats(0.0, 9.0))
def test_a_position_error_never_lengthens_it(r: float, xi: float, beta: float, error: float) -> None:
    state = at(r, xi, beta)
    deadlines = [
        published_deadline(replace(VEHICLE, bounds=Bounds(position_m=e)), state, [DISC]).deadline_s
        for e in (0.0, 0.5 * error, error)
    ]
    assert deadlines == sorted(deadlines, reverse=True)


def test_where_a_nearer_ring_holds_more_the_least_counts() -> None:
    """Rings cut their cells in different places: here the ring at 8 m allows 25 ms more than that at 16 m."""
    xi, beta = -1.4106354556128908, 0.1805492430833578
    nearer, farther = (ring_table(VEHICLE, ring).at(xi, beta) for ring in RINGS[4:6])
    assert nearer > farther + 0.02
    r = float(least_distance(BARRIER, xi)) + 16.5
    blurred = replace(VEHICLE, bounds=Bounds(position_m=1.0))
    assert published_deadline(VEHICLE, at(r, xi, beta), [DISC]).deadline_s == farther
    assert published_deadline(blurred, at(r, xi, beta), [DISC]).deadline_s == farther


def test_a_position_error_is_taken_off_the_distance() -> None:
    edge = float(least_distance(BARRIER, 2.0)) + 1.0
    blurred = replace(VEHICLE, bounds=Bounds(position_m=0.5))
    assert published_deadline(blurred, at(edge + 0.5 - 1e-9, 2.0, 0.1), [DISC]).deadline_s == 0.0
    inner = ring_table(VEHICLE, RINGS[0]).at(2.0, 0.1)
    assert published_deadline(blurred, at(edge + 1.2, 2.0, 0.1), [DISC]).deadline_s == inner > 0.0


@given(st.floats(5.0, 40.0), st.floats(-math.pi, math.pi), st.floats(-0.46, 0.46))
def test_the_exact_deadline_is_never_shorter(r: float, xi: float, beta: float) -> None:
    state = at(r, xi, beta)
    exact = barrier_deadline(VEHICLE, state, [DISC]).deadline_s
    assert published_deadline(VEHICLE, state, [DISC]).deadline_s <= exact


def test_several_obstacles_and_large_ones() -> None:
    state = at(40.0, 3.0, 0.0)
    near, large = Disc(20.0 * math.cos(3.0), 20.0 * math.sin(3.0), 4.0), Disc(0.0, 0.0, 4.5)
    one = published_deadline(VEHICLE, state, [DISC])
    two = published_deadline(VEHICLE, state, [DISC, near])
    assert two.deadline_s < one.deadline_s
    assert two.limited_by == "obstacle:1"
    assert published_deadline(VEHICLE, state, [DISC, large]).deadline_s == 0.0
    assert published_deadline(VEHICLE, state, [], cap_s=1.5).limited_by == "cap"


def test_other_vehicles_have_tables_of_their_own() -> None:
    other = ring_table(load_vehicle("config1"), RINGS[0])
    assert other.deadline_s.shape[1] == math.ceil(2.0 * 0.8891626118118093 / RINGS[0].beta_step_rad)
    assert ring_table(VEHICLE, RINGS[0]) is ring_table(replace(VEHICLE, name="again"), RINGS[0])
    with pytest.raises(ValueError, match="declares no"):
        ring_table(Vehicle(l_r_m=1.6, beta_max_rad=0.5, v_max_mps=10.0), RINGS[0])


def test_every_cell_of_a_table_is_found_by_its_middle_and_the_ends_by_the_last_one() -> None:
    ring = Ring(1.0, 0.1, 0.5, 0.2)
    xi, beta = cell_edges(math.pi, 0.5), cell_edges(0.5, 0.2)
    numbered = Table(ring, 0.5, np.arange((len(xi) - 1.0) * (len(beta) - 1)).reshape(len(xi) - 1, -1))
    assert numbered.deadline_s.shape == (13, 5)
    for i in range(13):
        for j in range(5):
            found = numbered.at(0.5 * (xi[i] + xi[i + 1]), 0.5 * (beta[j] + beta[j + 1]))
            assert found == numbered.deadline_s[i, j]
    assert numbered.at(-math.pi - 1.0, -2.0) == 0.0
    assert numbered.at(math.pi + 1.0, 2.0) == numbered.at(math.pi, 0.5) == 64.0


def test_a_published_answer_proves_nothing() -> None:
    answer = published_deadline(VEHICLE, at(20.0, 2.0, 0.1), [DISC])
    assert answer.certificate == Certificate((), None, 0.0, 0.0, VEHICLE.fingerprint())
    assert answer.guarantee is False
