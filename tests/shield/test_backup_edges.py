"""The edges of the backup deadline's pieces: grazes, joined hops, delays and speeds at which a formula changes."""

import cmath
import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.arc import Reach
from shield.backup import many, query, sensing
from shield.backup.batch import _Chunk
from shield.backup.clear import blocked
from shield.backup.family import FamilyOf, Kind, Sweep
from shield.backup.gaps import TurnsOf
from shield.backup.moving import Braking
from shield.backup.question import Cover, Question
from shield.backup.turn import Turns
from shield.events import GRAZE, HOLE_M, Arc
from shield.manoeuvre import Manoeuvre
from shield.vehicle import Bounds, Vehicle

L_M, SLIP = 2.0, 0.5
CAR = Vehicle(L_M, SLIP, 10.0, radius_m=0.5)
DISCS = [(12.0, 1.0, 1.0), (20.0, -2.0, 1.0)]


def column(*values: float) -> np.ndarray:
    return np.array([values])


# A miss within the graze counts as a touch.


def test_a_miss_within_the_graze_is_a_root_on_a_line() -> None:
    """(t - 3)^2 lifted by nothing, by less and by more than the graze."""
    arc = Arc(0.0, L_M, 10.0)
    lifted = column(9.0, 9.0 + 0.5 * GRAZE, 9.0 + 3.0 * GRAZE)
    roots = many.roots_of(arc, np.ones_like(lifted), np.full_like(lifted, -3.0), lifted)
    assert roots[:, :2] == pytest.approx(3.0)
    assert (roots[:, 2] == arc.length).all()
    chunk = _Chunk(np.ones(1), np.zeros(1), np.zeros(1), lifted, lifted, lifted)
    for u in chunk._roots(np.ones_like(lifted), np.full_like(lifted, -3.0), lifted, GRAZE):
        assert u[0, :2] == pytest.approx(-1.0 / 3.0)
        assert u[0, 2] == math.inf


@pytest.mark.parametrize("kappa", [0.2, 2.0])
def test_what_counts_as_a_graze_on_an_arc(kappa: float) -> None:
    """F = (a t^2 + 2 b t + c)/(1 + kappa^2 t^2/4) misses zero by -(discriminant)/(a + kappa^2 c/4) at least."""
    a, c = 1.0, 4.0 / kappa**2
    threshold = GRAZE * (a + 0.25 * kappa * kappa * c)
    missed = np.array([0.9, 1.1])
    half_b = -np.sqrt(a * c - missed * threshold)[None]
    arc = Arc(math.asin(kappa), 1.0, 50.0) if kappa < 1.0 else Arc(math.asin(0.5), 0.25, 50.0)
    assert arc.kappa == pytest.approx(kappa)
    whole = np.ones_like(half_b)
    roots = many.roots_of(arc, a * whole, half_b, c * whole)
    assert roots[:, 0] == pytest.approx(0.5 * math.pi / kappa)  # t = 2/kappa: a quarter of the turn
    assert (roots[:, 1] == arc.length).all()
    chunk = _Chunk(np.ones(1), np.zeros(1), np.array([arc.kappa]), whole, whole, whole)
    for u in chunk._roots(a * whole, half_b, c * whole, GRAZE):
        assert u[0, 0] == pytest.approx(-0.5 * kappa)
        assert u[0, 1] == math.inf


@pytest.mark.parametrize("count", [1, 9])
def test_the_hole_of_an_arc_with_little_room_counts_as_touched_and_a_little_more(count: int) -> None:
    """Opposite to the turn, beside its ends: the ring's edge is there, and the hole reaches `HOLE_M` over it."""
    rho, radius = 3.0, 2.5
    sweep = Sweep(Manoeuvre.LEFT, Kind.ARC, 0.0, 1, rho, 4.0, slip_rad=SLIP, start_rad=0.0, end_rad=0.8)
    opposite = SLIP - 0.5 * math.pi + 0.4 + math.pi
    arc = Arc(0.0, L_M, 1e-5)
    for over, touched in ((-0.9, True), (0.9, True), (1.2, False)):
        far = rho - radius + over * HOLE_M
        x, y = -L_M + far * math.cos(opposite), 4.0 + far * math.sin(opposite)
        if count == 1:
            found = [(first, last) for first, last in blocked(arc, L_M, sweep, x, y, radius)]
        else:
            columns = np.array([(x, y, radius)] + [(90.0, 0.0, radius)] * (count - 1)).T
            found = [(first, last) for first, last, _ in many.blocked_many(arc, L_M, sweep, *columns)]
        assert found == ([(0.0, arc.length)] if touched else [])


# Turns that follow each other.


class Hops:
    """A search that found these hops."""

    def __init__(self, hops: list[tuple[int, float]]) -> None:
        self.hops = hops

    def until(self, begin: float, stop: float) -> tuple[list[tuple[int, float]], int]:
        return self.hops, 0


def turns_of(car: Vehicle) -> TurnsOf:
    family_of = FamilyOf(car, 0.0, Reach.of(car, None), None, False)
    question = Question(car, 0.0, DISCS, family_of, 0.0, 60.0, [])
    return TurnsOf(question, family_of.after(30.0), Arc(0.0, L_M, 60.0), 0.0, 60.0)


def test_only_hops_of_the_same_turn_are_joined() -> None:
    """The last hop's turn, which is that of the first, too, does not take over what lies between."""
    turns = turns_of(CAR)
    left, right = turns.family.turns
    for hops, expected in (
        ([(0, 2.0), (0, 4.0), (1, 6.0)], [(left, 0.0, 4.0), (right, 4.0, 6.0)]),
        ([(0, 2.0), (1, 4.0), (0, 6.0)], [(left, 0.0, 2.0), (right, 2.0, 4.0), (left, 4.0, 6.0)]),
        ([(1, 2.0), (1, 4.0), (1, 6.0)], [(right, 0.0, 6.0)]),
    ):
        turns.searches = [(cast(Turns, Hops(hops)), turns.family.turns)]
        found = turns._from(0.0, 5.0, 50.0)
        assert [(name, first, last) for name, stretches in found for first, last, _ in stretches] == [
            (sweep.manoeuvre, first, last) for sweep, first, last in expected
        ]


def test_sides_take_turns_only_where_the_switch_is_at_once() -> None:
    for delay_s, searches in ((0.0, 1), (0.1, 2), (0.2, 2)):
        turns = turns_of(replace(CAR, bounds=Bounds(actuation_delay_s=delay_s)))
        assert turns.after == pytest.approx(10.0 * delay_s)
        turns._ahead([], 0.0, 30.0)
        assert turns.searches is not None
        assert len(turns.searches) == searches


# What the region in view is asked with.


@given(
    st.floats(-SLIP, SLIP), st.floats(0.0, 12.0), st.floats(-9.0, 9.0), st.floats(-9.0, 9.0), st.floats(-math.pi, 3.1)
)
def test_a_body_point_carried_along_the_arc(beta: float, s: float, x: float, y: float, angle: float) -> None:
    arc = Arc(beta, L_M, 20.0)
    steps = np.linspace(0.0, s, 2001)
    ahead = np.exp(1j * (beta + arc.kappa * steps))
    way = complex(0.5 * s * np.mean(ahead[1:] + ahead[:-1]))
    place = way + cmath.exp(1j * arc.kappa * s) * complex(x, y)
    normal = (math.cos(angle), math.sin(angle))
    assert sensing._along(arc, s, (x, y), normal) == pytest.approx(
        normal[0] * place.real + normal[1] * place.imag, abs=1e-4
    )


# The one manoeuvre for a lost state; slow vehicles that brake.


def test_a_turn_that_ends_in_a_straight_is_never_the_one_for_a_lost_state() -> None:
    left, right, turn = Manoeuvre.LEFT, Manoeuvre.RIGHT, Manoeuvre.LEFT_THEN_STRAIGHT
    reach = Reach.of(CAR, None)
    for until_m, single, until in (
        ({turn: 5.0}, None, 0.0),
        ({left: 3.0, turn: 5.0}, left, 3.0),
        ({turn: 5.0, left: 3.0, right: 4.0}, right, 4.0),
    ):
        found = query._deadline(CAR, reach, Cover(6.0, [], until_m, ""), 0.6).certificate
        assert (found.single, found.single_until_m) == (single, until)


@pytest.mark.parametrize("speed", [0.4, 0.9, 1.0, 3.0])
def test_the_brakes_take_their_time_at_any_speed(speed: float) -> None:
    """A disc that moves at 2 m/s has grown by that much more when the vehicle stands: 0.3 s of build-up and speed/d."""
    deceleration, build_s = 5.0, 0.3
    way = speed * build_s + 0.5 * speed**2 / deceleration
    for count in (1, 9):
        bodies = tuple(np.full(count, value) for value in (way + 3.0, 0.0, 1.0))
        braking = Braking(
            0.0,
            L_M,
            4.0,
            Sweep(Manoeuvre.BRAKE, Kind.SEGMENT, length_m=way),
            cast(Any, bodies),
            np.full(count, 2.0),
            (deceleration, speed),
        )
        first = min(start for start, _, _ in braking.blocked())
        assert first == pytest.approx(2.0 - 2.0 * (build_s + speed / deceleration), abs=1e-9)
