"""Turns followed by a straight among several obstacles: which angles are tried."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.backup.clear import blocked
from shield.backup.family import Kind, Sweep
from shield.backup.turn import Turns
from shield.deadline import Method, tolerable_deadline
from shield.events import Arc
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Bounds, load_vehicle


def test_the_first_opening_is_tried_however_narrow_it_is() -> None:
    # Two wider openings lie behind a disc that the turn is about to meet, so that both end where the left circle does.
    discs = [
        Disc(-8.13534, -7.02755, 3.58633),
        Disc(14.08508, -2.518, 3.70413),
        Disc(15.15025, -2.66224, 3.95242),
        Disc(16.32056, 4.39617, 1.42328),
        Disc(1.67599, 4.74658, 1.84031),
        Disc(22.15901, 10.12296, 3.07495),
        Disc(6.6195, -0.50813, 4.70521),
        Disc(22.49437, 2.77412, 1.62783),
    ]
    found = tolerable_deadline(Method.BACKUP, load_vehicle("config1"), State(0.0, 0.0, 0.0, 0.212335), discs, 2.0)
    # 2.237 m: where stepping 1 mm at a time and sampling every turn angle finds the first place without a rescue.
    assert found.distance_m == pytest.approx(2.237, abs=2e-3)
    assert [item.manoeuvre for item in found.certificate.intervals] == [Manoeuvre.LEFT, Manoeuvre.LEFT_THEN_STRAIGHT]


VEHICLE = load_vehicle("config2")
SWEEPS = tuple(
    Sweep(
        manoeuvre,
        Kind.TURN,
        0.0,
        manoeuvre.side,
        VEHICLE.rho_m,
        manoeuvre.side * VEHICLE.rho_rear_m,
        slip_rad=VEHICLE.beta_max_rad,
    )
    for manoeuvre in (Manoeuvre.LEFT_THEN_STRAIGHT, Manoeuvre.RIGHT_THEN_STRAIGHT)
)


def possible(sweep: Sweep, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> bool:
    """Return whether some sampled turn and the straight from there pass discs seen from the body."""
    turn = np.linspace(0.0, 2.0 * math.pi, 2001)
    angle = sweep.slip_rad - 0.5 * math.pi + turn
    px = -VEHICLE.l_r_m + sweep.rho_m * np.cos(angle)
    py = sweep.centre_y_m + sweep.side * sweep.rho_m * np.sin(angle)
    ax, ay = x - px[:, None], y - py[:, None]
    reached = np.logical_and.accumulate((np.hypot(ax, ay) >= radius).all(axis=1))
    ux, uy = np.cos(turn)[:, None], sweep.side * np.sin(turn)[:, None]
    straight = (np.hypot(np.minimum(ax * ux + ay * uy, 0.0), ay * ux - ax * uy) >= radius).all(axis=1)
    return bool((reached & straight).any())


@given(
    st.floats(-1.0, 1.0),
    st.lists(
        st.tuples(st.floats(3.0, 40.0), st.floats(-math.pi, math.pi), st.floats(0.3, 2.0)), min_size=2, max_size=12
    ),
    st.floats(0.0, 5.0),
    st.floats(0.05, 3.0),
)
def test_what_one_look_or_the_hops_call_clear_is(
    share: float, spots: list[tuple[float, float, float]], start: float, width: float
) -> None:
    distance, bearing, radius = np.array(spots).T
    beta = share * VEHICLE.beta_max_rad
    x, y = (distance + radius) * np.cos(bearing), (distance + radius) * np.sin(bearing)
    turns = Turns(beta, VEHICLE.l_r_m, SWEEPS, (x, y, radius), 20.0)
    stretches = []
    (index,) = turns.spans_clear([(start, start + width)])
    if index >= 0:
        stretches.append((index, start, start + width))
    hops, _ = turns.until(start, start + width)
    begin = start
    for index, end in hops:
        stretches.append((index, begin, end))
        begin = end
    for index, first, last in stretches:
        for s in np.linspace(first, last, 7):
            ex, ey = np.array([turns.arc.seen_from(float(s), a, b) for a, b in zip(x, y, strict=True)]).T
            # What the held arc itself touches is asked elsewhere.
            if (np.hypot(ex, ey) > radius).all():
                assert possible(SWEEPS[index], ex, ey, radius - 0.02), (index, s)


def test_a_turn_that_is_due_may_start_until_the_switch_time_has_passed() -> None:
    delayed = replace(VEHICLE, bounds=Bounds(actuation_delay_s=0.03))
    delta = delayed.v_max_mps * delayed.bounds.switch_time_s
    rng = np.random.default_rng(23)
    seen = 0
    for _ in range(60):
        radius = rng.uniform(0.3, 2.0, 16)
        distance, bearing = radius + rng.uniform(1.0, 30.0, 16), rng.uniform(-math.pi, math.pi, 16)
        x, y = distance * np.cos(bearing), distance * np.sin(bearing)
        beta = float(rng.uniform(-1.0, 1.0)) * VEHICLE.beta_max_rad
        discs = [Disc(float(a), float(b), float(r)) for a, b, r in zip(x, y, radius, strict=True)]
        answer = tolerable_deadline(Method.BACKUP, delayed, State(0.0, 0.0, 0.0, beta), discs, 3.0)
        arc = Arc(beta, VEHICLE.l_r_m, 100.0)
        for item in answer.certificate.intervals:
            for sweep in (sweep for sweep in SWEEPS if sweep.manoeuvre is item.manoeuvre):
                seen += 1
                for s in np.linspace(item.start_m, item.end_m + delta, 5):
                    ex, ey = np.array([arc.seen_from(float(s), a, b) for a, b in zip(x, y, strict=True)]).T
                    assert possible(sweep, ex, ey, radius - 0.02), (item, s)
    assert seen > 10


def test_where_a_circle_begins_to_be_blocked_no_angle_beyond_its_disc_is_tried() -> None:
    """There the disc only touches the circle, so that on the spot every angle behind it looks open.

    The way is straight on, towards one disc that also blocks every straight before the turn would meet it.
    """
    left, (x, y, radius) = SWEEPS[0], (30.0, 8.0, 4.0)
    arc = Arc(0.0, VEHICLE.l_r_m, 60.0)
    circle = replace(left, kind=Kind.CIRCLE, manoeuvre=Manoeuvre.LEFT)
    edge = blocked(arc, VEHICLE.l_r_m, circle, x, y, radius)[0][0]
    wall = [(x + 20.0, y + 40.0, 39.0), (x + 15.0, y - 15.0, 14.0)]
    bodies = tuple(np.array(part) for part in zip((x, y, radius), *wall, strict=True))
    turns = Turns(0.0, VEHICLE.l_r_m, (left,), (bodies[0], bodies[1], bodies[2]), 60.0)
    assert turns._candidates(turns._seen_from([edge]), True)[1].size > 0
    assert turns.hop(edge, 1.0) == (-1, 0.0, -1)
    (_, reached), *_ = turns.until(edge - 0.5, edge + 1.0)[0]
    assert reached == pytest.approx(edge, abs=1e-6)
