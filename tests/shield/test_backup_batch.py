"""The batch against the single query."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shield.arc import advance
from shield.backup import question
from shield.backup.batch import backup_deadlines
from shield.deadline import Method, tolerable_deadline
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle

CONFIG1, CONFIG2 = load_vehicle("config1"), load_vehicle("config2")


@given(st.sampled_from([CONFIG1, CONFIG2]), st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_batch_is_the_query_for_one_disc_and_never_longer_for_several(
    vehicle: Vehicle, discs: int, seed: int, shared: bool
) -> None:
    car = replace(vehicle, bounds=Bounds(heading_rad=0.01))
    rng = np.random.default_rng(seed)
    count = 12
    beta = rng.uniform(-1.0, 1.0, count) * car.beta_max_rad
    beta[:3] = (0.0, 1e-9, -1e-12)
    x, y, heading = rng.uniform(-5.0, 5.0, count), rng.uniform(-5.0, 5.0, count), rng.uniform(-4.0, 4.0, count)
    shape = (discs,) if shared else (count, discs)
    ox, oy, radius = rng.uniform(-30.0, 30.0, shape), rng.uniform(-30.0, 30.0, shape), rng.uniform(0.1, 5.0, shape)
    got = backup_deadlines(car, x, y, heading, beta, ox, oy, radius, 5.0)
    for i in range(count):
        row = (ox, oy, radius) if shared else (ox[i], oy[i], radius[i])
        obstacles = [Disc(*map(float, spot)) for spot in zip(*row, strict=True)]
        state = State(float(x[i]), float(y[i]), float(heading[i]), float(beta[i]))
        want = tolerable_deadline(Method.BACKUP, car, state, obstacles, 5.0)
        assert got.deadline_s[i] <= want.deadline_s + 1e-6
        assert (got.obstacle[i] == -1) == (got.deadline_s[i] == 5.0)
        if discs == 1:
            assert got.distance_m[i] == pytest.approx(want.distance_m, abs=1e-4)


@given(
    st.sampled_from([CONFIG1, CONFIG2]),
    st.floats(-0.99, 0.99),  # at full lock the held arc is the circle, and touches all along
    st.floats(0.0, 25.0),
    st.sampled_from([1, -1, 0]),
    st.booleans(),
    st.floats(0.3, 6.0),
    st.sampled_from([0.0, 1e-12, -1e-12, 1e-10, -1e-10, 1e-9, -1e-9, 1e-8, -1e-8, 1e-7, -1e-7, 1e-4, -1e-4]),
    st.booleans(),
)
def test_batch_and_query_agree_where_a_curve_just_touches_a_disc(
    vehicle: Vehicle, share: float, way: float, side: int, outwards: bool, radius: float, off: float, within: bool
) -> None:
    """A disc to one side of the way of the vehicle (side 0) or of a full circle's centre, that just touches or misses.

    `within`: inside the circle, which then goes round it.
    """
    beta, l_r = share * vehicle.beta_max_rad, vehicle.l_r_m
    kappa = math.sin(beta) / l_r
    x, y, heading = advance(0.0, 0.0, 0.0, beta, l_r, way)
    ex, ey = (-l_r, side * vehicle.rho_rear_m) if side else (0.0, 0.0)
    # How that point moves, in the body frame, and square to it.
    wx, wy = math.cos(beta) - kappa * ey, math.sin(beta) + kappa * ex
    assume(math.hypot(wx, wy) > 0.05)
    across = math.atan2(wy, wx) + float(heading) + (0.5 if outwards else -0.5) * math.pi
    rho = vehicle.rho_m if side else 0.0
    reach = rho - radius + off if within and side else rho + radius + off
    assume(reach > 0.5)
    px = float(x) + ex * math.cos(heading) - ey * math.sin(heading) + reach * math.cos(across)
    py = float(y) + ex * math.sin(heading) + ey * math.cos(heading) + reach * math.sin(across)
    bare = radius - question.MARGIN_M - question.MARGIN_RELATIVE * math.hypot(px, py)
    got = backup_deadlines(vehicle, 0.0, 0.0, 0.0, [beta], [px], [py], [bare], 5.0)
    want = tolerable_deadline(Method.BACKUP, vehicle, State(0.0, 0.0, 0.0, beta), [Disc(px, py, bare)], 5.0)
    assert got.deadline_s[0] <= want.deadline_s + 1e-6
    # A start within rounding of an edge is refused by one and not by the other.
    assert got.distance_m[0] == pytest.approx(want.distance_m, abs=1e-3) or got.deadline_s[0] == 0.0


def test_an_empty_road_lasts_to_the_cap() -> None:
    got = backup_deadlines(CONFIG1, [0.0, 1.0], 0.0, 0.0, [0.1, 0.2], np.empty(0), np.empty(0), np.empty(0), 3.0)
    assert got.deadline_s.tolist() == [3.0, 3.0]
    assert got.obstacle.tolist() == [-1, -1]


def test_a_slip_angle_beyond_the_grip_has_no_deadline() -> None:
    car = replace(CONFIG1, bounds=Bounds(lateral_accel_mps2=8.0))
    got = backup_deadlines(car, 0.0, 0.0, 0.0, [0.3, 0.01], [90.0], [0.0], [1.0])
    assert got.deadline_s[0] == 0.0
    assert got.deadline_s[1] > 1.0


def test_what_the_batch_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="without brakes"):
        backup_deadlines(replace(CONFIG1, deceleration_mps2=5.0), 0.0, 0.0, 0.0, [0.0], [9.0], [0.0], [1.0])
    with pytest.raises(ValueError, match="declares more"):
        backup_deadlines(replace(CONFIG1, bounds=Bounds(tick_s=0.1)), 0.0, 0.0, 0.0, [0.0], [9.0], [0.0], [1.0])


@pytest.mark.parametrize(
    ("beta", "x", "radius", "cap"),
    [(math.nan, 9.0, 1.0, 1.0), (1.3, 9.0, 1.0, 1.0), (0.0, math.inf, 1.0, 1.0), (0.0, 9.0, -1.0, 1.0), (0, 9, 1, 0)],
)
def test_impossible_input_is_refused(beta: float, x: float, radius: float, cap: float) -> None:
    with pytest.raises(ValueError):
        backup_deadlines(CONFIG1, 0.0, 0.0, 0.0, [beta], [x], [0.0], [radius], cap)
