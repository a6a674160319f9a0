"""Pieces of the backup deadline whose mistakes only show in rare places: each must keep what it promises alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shield.arc import Reach
from shield.backup import along, many, still
from shield.backup.at_once import AtOnce
from shield.backup.clear import blocked
from shield.backup.family import Family, FamilyOf, Kind, Sweep
from shield.backup.gaps import TurnsOf
from shield.backup.question import Question
from shield.backup.turn import Turns
from shield.deadline import Method, tolerable_deadline
from shield.events import ARC_IS_LINE_RAD, Arc
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle

L_M, SLIP = 2.0, 0.5
CAR = Vehicle(L_M, SLIP, 10.0, radius_m=0.5, deceleration_mps2=6.0)
PLAIN = replace(CAR, deceleration_mps2=None)


def asked(car: Vehicle, beta: float, bodies: list[tuple[float, float, float]]) -> tuple[Question, Family]:
    family_of = FamilyOf(car, beta, Reach.of(car, None), None, False)
    return Question(car, beta, bodies, family_of, car.bounds.position_m, 100.0, []), family_of.after(30.0)


# the held arc


def test_the_held_arc_keeps_its_pad_from_every_obstacle() -> None:
    """Straight at a disc of 1 m, 12 m ahead: it is met its pad and the switch time earlier."""
    car = replace(CAR, bounds=Bounds(steering_rad=0.01, actuation_delay_s=0.1))
    for count in (1, 9):
        question, family = asked(car, 0.0, [(12.0, 0.0, 1.0)] + [(-90.0 - k, 0.0, 1.0) for k in range(count - 1)])
        assert family.held_pad_m > 0.05
        arc = Arc(0.0, L_M, 40.0)
        together = still.at_once(question, family, arc)
        limit, cause = along._held_limit(question, family, arc, 30.0, 0.0, together)
        assert limit == pytest.approx(11.0 - family.held_pad_m - family.delay_m, abs=1e-6)
        assert cause == 0
        assert along._held_limit(question, family, arc, 5.0, 0.0, together) == (5.0, -1)


def test_obstacles_that_move_keep_the_held_arcs_pad_too() -> None:
    car = replace(CAR, bounds=Bounds(steering_rad=0.01, actuation_delay_s=0.1))
    question, family = asked(car, 0.0, [(12.0, 0.0, 1.0)])
    question = replace(question, speeds=[1.5])
    limit, _ = along._held_limit(question, family, Arc(0.0, L_M, 40.0), 30.0, 0.5, None)
    assert limit == pytest.approx(11.0 - family.held_pad_m - 0.75 - family.delay_m, abs=1e-6)


def test_a_covered_turn_is_repeated_turn_by_turn() -> None:
    left, right = Manoeuvre.LEFT, Manoeuvre.RIGHT
    first = [(left, 0.0, 4.0), (right, 4.0, 10.5)]
    assert along._repeated(first, 10.0, 10.5, 36.0) == [
        *first,
        (left, 10.5, 14.0),
        (right, 14.0, 20.5),
        (left, 20.5, 24.0),
        (right, 24.0, 30.5),
        (left, 30.5, 34.0),
        (right, 34.0, 36.0),
    ]
    assert along._repeated(first, 10.0, 10.5, 10.5) == first


BETA = 0.45
PERIOD_M = 2.0 * math.pi * L_M / math.sin(BETA)

rings = st.lists(st.tuples(st.floats(-9.0, 5.0), st.floats(-7.0, 15.0), st.floats(0.3, 2.5)), min_size=1, max_size=3)


def assert_clear_unrolled(
    bodies: list[tuple[float, float, float]], position_m: float, delay_s: float, start: float
) -> None:
    """Assert of a cover of several turns of the arc that each piece lies where its manoeuvre is clear, turn by turn."""
    car = replace(PLAIN, bounds=Bounds(position_m=position_m, actuation_delay_s=delay_s))
    question, family = asked(car, BETA, bodies)
    arc = Arc(BETA, L_M, PERIOD_M)
    cover = along.cover_from(question, start, 2.6 * PERIOD_M)
    at = start
    for manoeuvre, first, last in cover.pieces:
        assert first == at
        at = last
        sweep = next(item for item in (*family.sweeps, *family.turns) if item.manoeuvre is manoeuvre)
        taken = [stretch for x, y, radius in bodies for stretch in blocked(arc, L_M, sweep, x, y, radius + sweep.pad_m)]
        for s in np.linspace(first, last, 25).tolist():
            # a switch that is due here takes effect up to the delay later, from a place off by its error
            near = position_m if s > 0.0 else 0.0
            for part in (-near, 0.0, 0.5 * family.delay_m, family.delay_m + near):
                place = max(0.0, s + part) % PERIOD_M
                assert not any(low + 1e-5 < place < high - 1e-5 for low, high in taken), (manoeuvre, first, last, s)
    assert at == pytest.approx(cover.end_m) or not cover.pieces


@given(rings, st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.2]), st.floats(0.0, 12.0))
def test_every_piece_is_clear_on_the_arc_unrolled(
    bodies: list[tuple[float, float, float]], position_m: float, delay_s: float, start: float
) -> None:
    assert_clear_unrolled(bodies, position_m, delay_s, start)


@pytest.mark.parametrize(
    ("bodies", "position_m", "delay_s", "start"),
    [
        # the place at the start is known exactly, that one turn later is not
        ([(0.2, -0.9, 0.9)], 0.3, 0.0, 0.0),
        ([(0.2, -0.9, 0.9)], 1.0, 0.0, 0.0),
        # what is before the start of the cover comes round, too
        ([(2.8, -3.5, 3.9), (-2.2, 2.3, 2.3), (8.7, 17.6, 2.3)], 0.0, 0.2, 6.0),
        ([(-10.1, 17.0, 1.0), (10.4, -2.3, 3.3), (-3.4, 0.6, 0.7)], 0.0, 0.2, 1.0),
    ],
)
def test_a_turn_of_the_arc_is_like_the_first_only_where_nothing_is_uncertain(
    bodies: list[tuple[float, float, float]], position_m: float, delay_s: float, start: float
) -> None:
    assert_clear_unrolled(bodies, position_m, delay_s, start)


# turns


def turns_of(bodies: list[tuple[float, float, float]], beta: float = 0.0, length: float = 60.0) -> Turns:
    rho, rear = L_M / math.sin(SLIP), L_M / math.tan(SLIP)
    sweeps = tuple(
        Sweep(manoeuvre, Kind.TURN, 0.0, manoeuvre.side, rho, manoeuvre.side * rear, slip_rad=SLIP)
        for manoeuvre in (Manoeuvre.LEFT_THEN_STRAIGHT, Manoeuvre.RIGHT_THEN_STRAIGHT)
    )
    x, y, radius = np.array(bodies).T
    return Turns(beta, L_M, sweeps, (x, y, radius), length)


def curve_points(side: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve of one turn angle and the straight after it, in the body frame."""
    rho, rear = L_M / math.sin(SLIP), L_M / math.tan(SLIP)
    turned = SLIP - 0.5 * math.pi + np.linspace(0.0, angle, 150)
    x, y = -L_M + rho * np.cos(turned), rear + rho * np.sin(turned)
    way = np.linspace(0.0, 60.0, 601)
    x = np.concatenate([x, x[-1] + way * math.cos(angle)])
    y = np.concatenate([y, y[-1] + way * math.sin(angle)])
    return x, side * y


@given(
    st.lists(st.tuples(st.floats(-9.0, 14.0), st.floats(-12.0, 12.0), st.floats(0.3, 3.0)), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.3]),
    st.floats(0.0, 4.0),
    st.floats(0.05, 4.0),
)
@settings(max_examples=25)
def test_what_one_look_calls_clear_passes_every_disc(
    bodies: list[tuple[float, float, float]], beta: float, start: float, width: float
) -> None:
    """At the middle of the span some angle passes each disc by as much as it moves in half of it."""
    turns = turns_of(bodies, beta)
    (index,) = turns.spans_clear([(start, start + width)])
    if index < 0:
        return
    side, middle = turns.sides[index], start + 0.5 * width
    arc, best = Arc(beta, L_M, 60.0), -math.inf
    seen = [(*arc.seen_from(middle, x, y), radius) for x, y, radius in bodies]
    need = [0.5 * width * math.hypot(arc.cos_beta - arc.kappa * y, arc.sin_beta + arc.kappa * x) for x, y, _ in bodies]
    for angle in np.linspace(0.0, 2.0 * math.pi, 361).tolist():
        px, py = curve_points(side, angle)
        spare = min(
            float(np.hypot(px - x, py - y).min()) - radius - far for (x, y, radius), far in zip(seen, need, strict=True)
        )
        best = max(best, spare)
    assert best > -0.12  # the angle tried may lie between two of these


def test_how_fast_a_disc_moves_counts_in_a_look() -> None:
    """A ring of discs with room of less than a metre between two of them, seen from an arc on which they move fast."""
    ring = [(15.0 * math.cos(k * math.pi / 6.0), 15.0 * math.sin(k * math.pi / 6.0), 3.0) for k in range(12)]
    turns = turns_of(ring, 0.3)
    assert turns.pace.min() > 1.0
    assert turns.spans_clear([(0.0, 0.02)])[0] >= 0
    assert turns.spans_clear([(0.0, 2.2)])[0] < 0


@pytest.mark.parametrize("beta", [0.0, 0.3, -0.4])
@pytest.mark.parametrize("side", [1, -1])
def test_the_first_touch_of_a_disc_that_a_turn_goes_round(beta: float, side: int) -> None:
    """Discs nearly as large as the turn, about its centre, and others: stepped along the arc."""
    turns = turns_of([(30.0, 0.0, 1.0)], beta)
    curve, rho = turns.curve, turns.rho
    arc = Arc(beta, L_M, 12.0)
    rng = np.random.default_rng(8)
    touched = 0
    for trial in range(60):
        if trial % 2:
            angle, radius = 6.2, rho - rng.uniform(0.1, 0.9)
            about = complex(*rng.uniform(-0.3, 0.3, 2))
        else:
            angle, radius = float(rng.uniform(0.1, 5.0)), float(rng.uniform(0.5, 2.5))
            about = complex(*rng.uniform(-12.0, 12.0, 2))
        x, y = (about - curve.to_centre).real, (about - curve.to_centre).imag * side
        along_arc = [i * 0.004 for i in range(3000)]
        seen = [arc.seen_from(s, x, y) for s in along_arc]
        points = np.array([complex(ex, side * ey) for ex, ey in seen]) + curve.to_centre
        gaps = np.sqrt(curve.nearest2(np.full(3000, angle), points, curve.unturned(points, slice(None)))) - radius
        met = np.nonzero(gaps < -1e-6)[0]
        first = along_arc[int(met[0])] if met.size else 12.0
        (found,) = curve.first_touch(
            arc, np.array([side]), np.array([angle]), np.array([about]), np.array([radius])
        ).tolist()
        assert found <= first + 1e-3
        touched += 0.0 < first < 12.0
    assert touched > 10


def test_a_look_keeps_its_guard() -> None:
    """A disc abreast of the straight that the widest opening's middle leads into, a hair's breadth from it."""
    for radius, clear in ((1.0, True), (3.0, False)):
        turns = turns_of([(6.0, 0.0, radius), (-6.0, 0.0, 0.3)])
        (index,) = turns.spans_clear([(0.0, 0.0)])
        about = turns._seen_from([0.0])
        rows, angles = turns._candidates(about, False)
        room = np.sqrt(turns.curve.nearest2(angles[:, None], about[rows], turns.curve.unturned(about, rows)))
        least = float((room - turns.radius).min(axis=1).max())
        assert (index >= 0) is (least >= 1e-5), (radius, clear)
        # the same look with the discs grown until just the guard is missing
        for grown, found in ((least - 1.5e-5, True), (least - 0.5e-5, False)):
            tight = turns_of([(6.0, 0.0, radius), (-6.0, 0.0, 0.3)])
            tight.radius = turns.radius + grown
            assert (tight.spans_clear([(0.0, 0.0)])[0] >= 0) is found


def test_a_curve_that_something_comes_near_within_the_stretch_is_not_clear_for_all_of_it() -> None:
    """Straight on for half a metre; the curve leads off to the left at a right angle, the disc comes at it head on."""
    rho = L_M / math.sin(SLIP)
    line_x = -L_M + rho * math.cos(SLIP)  # where the straight after a quarter turn runs, ahead of the body
    for short, hop in ((5e-4, 0.4995), (0.1, 0.4), (-1e-3, 0.5)):
        turns = turns_of([(line_x + 1.0 + 0.5 - short, 30.0, 1.0)])
        about = turns._seen_from([0.0])
        rows = np.array([0])
        angle = np.array([0.5 * math.pi])
        px, _ = curve_points(1, float(angle[0]))
        disc_x = line_x + 1.0 + 0.5 - short - (line_x - float(px[-1]))
        turns.places = np.array([complex(disc_x, 30.0)])
        about = turns._seen_from([0.0])
        hops, causes = turns._clear_until(0.5, about, rows, angle)
        assert hops.tolist() == pytest.approx([hop], abs=1e-6)
        assert causes.tolist() == ([0] if short > 0.0 else [-1])


def test_of_two_curves_the_one_that_something_comes_near_does_not_count() -> None:
    turns = turns_of([(12.0, 12.0, 4.0)])
    about = turns._seen_from([0.0])
    # a turn to the left into the disc, and one right round to the other side
    hops, _ = turns._clear_until(0.5, about, np.array([0, 1]), np.array([0.75, 1.5]))
    assert hops.tolist() == [0.0, 0.5]


def test_a_stretch_of_turns_is_blocked_outside_itself() -> None:
    question, family = asked(PLAIN, 0.0, [(12.0, 0.0, 1.0)])
    turns = TurnsOf(question, family, Arc(0.0, L_M, 40.0), 0.0, 40.0)
    ((first, last, cause),) = turns._shrunk(3.0, 7.0, 0)
    assert (first, cause) == (3.0, 0)
    assert last == 7.0 - family.delay_m


# many obstacles at once


def in_stretches(stretches: list[tuple[float, float]], s: float) -> bool:
    return any(low <= s <= high for low, high in stretches)


@pytest.mark.parametrize("radius", [0.7, 1.9, 3.0, 4.2, 4.6, 6.0])
def test_one_pass_over_big_and_small_discs_is_what_each_is_alone(radius: float) -> None:
    """Discs larger and smaller than the turning circle, on it, within it, about its centre, and beside the line."""
    rho, rear = L_M / math.sin(SLIP), L_M / math.tan(SLIP)
    sweeps = [
        Sweep(Manoeuvre.LEFT, Kind.CIRCLE, 0.05, 1, rho, rear),
        Sweep(Manoeuvre.STRAIGHT, Kind.LINE),
        Sweep(Manoeuvre.RIGHT, Kind.CIRCLE, 0.3, -1, rho, -rear),
    ]
    centre = (-L_M + 3.0, rear)
    places = [
        centre,
        (centre[0], centre[1] + 0.5),
        (centre[0] + 0.5, -rear),
        (9.0, radius + 0.3),
        (9.0, -radius + 0.3),
        (12.0, 5.0),
        (4.0, -9.0),
    ]
    bodies = np.array([(x, y, radius) for x, y in places]).T
    # on an arc of 6 m the discs about the left circle's centre are nearest to it half way
    for beta, length in ((0.0, 14.0), (0.0, 6.0), (0.2, 14.0), (-0.35, 14.0)):
        arc = Arc(beta, L_M, length)
        together = AtOnce(arc, L_M, sweeps, bodies, 0.1)
        for sweep, found in zip(sweeps, together.blocked(arc), strict=True):
            for index, (x, y) in enumerate(places):
                single = blocked(arc, L_M, sweep, x, y, radius + sweep.pad_m)
                column = [(low, high) for low, high, which in found if which == index]
                edges = [edge for stretch in single + column for edge in stretch]
                for s in np.linspace(0.003, length - 0.01, 300).tolist():
                    if min((abs(s - edge) for edge in edges), default=1.0) > 1e-6:
                        assert in_stretches(single, s) == in_stretches(column, s), (sweep.manoeuvre, index, s)


def test_braking_on_the_held_arc_is_blocked_from_its_start_where_the_way_to_rest_is() -> None:
    question, family = asked(CAR, 0.0, [(5.0, 0.0, 1.0)])
    held = next(sweep for sweep in family.sweeps if sweep.kind is Kind.HELD)
    assert held.length_m > 4.0
    ((first, last, cause),) = still.blocked_by_obstacles(question, family, Arc(0.0, L_M, 9.0), held, 9.0)
    assert (first, last, cause) == (0.0, 9.0, 0)


# families remembered for a vehicle


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(),
        Bounds(steering_rad=0.01),
        Bounds(odometry_drift=0.1),
        Bounds(slip_rate_radps=0.8),
        Bounds(lateral_accel_mps2=7.0),
        Bounds(heading_rad=0.02, actuation_delay_s=0.1),
        Bounds(slip_rate_radps=0.8, lateral_accel_mps2=7.0, steering_bias_rad=0.01),
    ],
)
@pytest.mark.parametrize("car", [CAR, PLAIN, replace(CAR, a_max_mps2=2.0)])
def test_a_family_remembered_is_that_of_the_question(car: Vehicle, bounds: Bounds) -> None:
    """Other slip angles, speeds, ways and commands in flight of a vehicle are answered as for one never asked about."""
    vehicle = replace(car, bounds=bounds)
    questions = [
        (0.0, None, 5.0, None, False),
        (0.15, 3.0, 12.0, None, True),
        (-0.2, 9.0, 30.0, None, False),
        (0.05, None, 1.0, 0.3, False),
        (0.05, None, 1.0, None, False),
        (0.25, None, 1.0, -0.25, False),
        (0.05, 5.0, 1.0, None, True),
    ]
    for beta, speed, way, flight, moving in questions:
        own = FamilyOf(vehicle, beta, Reach.of(vehicle, speed), flight, moving)
        fresh = replace(vehicle)
        other = FamilyOf(fresh, beta, Reach.of(fresh, speed), flight, moving)
        assert own.refused == other.refused
        assert own.after(way) == other.after(way)


def test_a_vehicle_that_may_do_nothing_has_no_time_at_all() -> None:
    stuck = replace(PLAIN, bounds=Bounds(steering_rad=0.01))
    gripping = replace(CAR, bounds=Bounds(lateral_accel_mps2=7.0))
    for car, beta in ((stuck, 0.0), (gripping, 0.45)):  # nothing to do; held beyond the grip
        found = tolerable_deadline(Method.BACKUP, car, State(0.0, 0.0, 0.0, beta), [Disc(30.0, 0.0, 1.0)], 2.0)
        assert found.limited_by.startswith("bound:")
        assert (found.deadline_s, found.distance_m, found.certificate.intervals) == (0.0, 0.0, ())
        assert found.certificate.single is None


@given(
    st.floats(-SLIP, SLIP),
    st.lists(st.tuples(st.floats(2.0, 20.0), st.floats(-9.0, 9.0), st.floats(0.3, 2.0)), min_size=1, max_size=3),
)
def test_the_one_manoeuvre_for_a_lost_state_needs_no_state(
    beta: float, bodies: list[tuple[float, float, float]]
) -> None:
    found = tolerable_deadline(
        Method.BACKUP, PLAIN, State(0.0, 0.0, 0.0, beta), [Disc(x, y, radius) for x, y, radius in bodies], 2.0
    )
    single = found.certificate.single
    assert single is None or single.constant
    if single is not None:
        assert 0.0 < found.certificate.single_until_s <= found.deadline_s


# the question itself


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
def test_numbers_that_are_not_finite_are_refused(wrong: float) -> None:
    disc = Disc(9.0, 1.0, 1.0)
    for state, discs, cap_s in (
        (State(wrong, 0.0, 0.0), [disc], 2.0),
        (State(0.0, wrong, 0.0), [disc], 2.0),
        (State(0.0, 0.0, wrong), [disc], 2.0),
        (State(0.0, 0.0, 0.0, 0.1, wrong), [disc], 2.0),
        (State(0.0, 0.0, 0.0), [disc], wrong),
        (State(0.0, 0.0, 0.0), [replace(disc, x_m=wrong)], 2.0),
        (State(0.0, 0.0, 0.0), [replace(disc, y_m=wrong)], 2.0),
        (State(0.0, 0.0, 0.0), [replace(disc, radius_m=wrong)], 2.0),
        (State(0.0, 0.0, 0.0), [replace(disc, speed_max_mps=wrong)], 2.0),
    ):
        with pytest.raises(ValueError, match=r"finite"):
            tolerable_deadline(Method.BACKUP, CAR, state, discs, cap_s)


def test_an_arc_is_taken_for_a_line_only_where_it_turns_by_next_to_nothing() -> None:
    for length in (0.5, 20.0, 400.0):
        for share, bent in ((2.0, True), (0.5, False)):
            beta = math.asin(share * ARC_IS_LINE_RAD * L_M / length)
            assert (Arc(beta, L_M, length).kappa != 0.0) is bent


def test_no_way_takes_no_time() -> None:
    for speed in (None, 0.0, 3.0):
        assert Reach.of(replace(CAR, a_max_mps2=2.0), speed).time_s(0.0) == 0.0
        assert Reach.of(CAR, speed).time_s(0.0) == 0.0


def test_a_turn_past_two_discs_passes_both_with_one_angle() -> None:
    """What each of two discs alone would allow is not enough where they allow it at different angles."""
    rng = np.random.default_rng(21)
    turns = looked = 0
    for _ in range(150):
        radius = rng.uniform(1.5, 4.0, 2)
        x, y = rng.uniform(4.0, 14.0, 2), np.array([-1.0, 1.0]) * rng.uniform(0.5, 5.0, 2)
        discs = [Disc(*place) for place in zip(x.tolist(), y.tolist(), radius.tolist(), strict=True)]
        if min(math.hypot(disc.x_m, disc.y_m) - disc.radius_m for disc in discs) < 0.6:
            continue
        found = tolerable_deadline(Method.BACKUP, PLAIN, State(0.0, 0.0, 0.0), discs, 2.0)
        looked += 1
        for piece in found.certificate.intervals:
            if piece.manoeuvre.constant:
                continue
            turns += 1
            for s in (piece.start_m + 1e-3, 0.5 * (piece.start_m + piece.end_m), piece.end_m - 1e-3):
                best = -math.inf
                for angle in np.linspace(0.0, 2.0 * math.pi, 361).tolist():
                    px, py = curve_points(piece.manoeuvre.side, angle)
                    spare = [
                        float(np.hypot(px - (a - s), py - b).min()) - r for a, b, r in zip(x, y, radius, strict=True)
                    ]
                    best = max(best, min(spare) - PLAIN.radius_m)
                assert best > -0.1, (discs, piece, s)
    assert looked > 60
    assert turns > 5


def test_the_last_stretch_of_a_circle_counts_after_both_its_roots() -> None:
    """The disc is near at first, left behind, and near again as the arc closes."""
    arc = Arc(BETA, L_M, 0.995 * PERIOD_M)
    shape = many.Shape((0.0, 0.0, np.array([0.5])), None, lambda x, y: x * x + y * y < 0.25)
    starts, ends, columns = many.stretches_of(arc, shape, np.array([0.1]), np.array([0.0]))
    assert columns.tolist() == [0, 0]
    assert (starts[0], ends[1]) == (0.0, arc.length)
    assert ends[0] < 1.0 < arc.length - 1.0 < starts[1]
