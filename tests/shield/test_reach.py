"""Reach of many vehicles at once: against the scalar formulas, a dense simulation, and the single query."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shield.arc import Reach, advance
from shield.backup.batch import backup_deadlines
from shield.deadline import Method, tolerable_deadline
from shield.reach import farthest_m, soonest_s
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle

CONFIG1 = load_vehicle("config1")


def car(top: float, a_max: float | None, error: float = 0.0) -> Vehicle:
    return replace(CONFIG1, v_max_mps=top, a_max_mps2=a_max, bounds=Bounds(speed_mps=error))


@given(
    st.floats(0.5, 40.0),
    st.one_of(st.none(), st.floats(0.1, 20.0)),
    st.floats(0.0, 2.0),
    st.lists(st.floats(0.0, 45.0), min_size=1, max_size=6),
    st.lists(st.floats(0.0, 30.0), min_size=1, max_size=5),
)
def test_arrays_give_what_one_vehicle_gives(
    top: float, a_max: float | None, error: float, speeds: list[float], times: list[float]
) -> None:
    vehicle = car(top, a_max, error)
    far = farthest_m(vehicle, np.array(speeds)[:, None], times)
    soon = soonest_s(vehicle, np.array(speeds)[:, None], far)
    assert far.shape == soon.shape == (len(speeds), len(times))
    for i, speed in enumerate(speeds):
        one = Reach.of(vehicle, speed)
        assert far[i] == pytest.approx([one.distance_m(t) for t in times], rel=1e-12, abs=1e-12)
        assert soon[i] == pytest.approx([one.time_s(s) for s in far[i].tolist()], rel=1e-12, abs=1e-12)
    assert soon == pytest.approx(np.broadcast_to(times, soon.shape), rel=1e-9, abs=1e-7)


def test_unknown_speeds_are_top_speed() -> None:
    assert farthest_m(car(10.0, 2.0), None, [0.0, 1.0, 2.0]).tolist() == [0.0, 10.0, 20.0]
    assert soonest_s(car(10.0, 2.0), None, 5.0) == pytest.approx(0.5)
    assert soonest_s(car(10.0, 2.0), [0.0, 0.0], 0.0).tolist() == [0.0, 0.0]


@given(st.integers(0, 2**32 - 1))
def test_pose_after_a_time_bounds_every_drive(seed: int) -> None:
    """Drives with random throttle never come farther along their arc; full throttle comes just there."""
    rng = np.random.default_rng(seed)
    vehicle, dt, steps = car(12.0, 3.0), 1e-3, 2000
    speed = rng.uniform(0.0, 12.0, 8)
    throttle = rng.uniform(-1.0, 1.0, (8, steps)) * 3.0
    throttle[0] = 3.0
    after = np.clip(speed[:, None] + np.cumsum(throttle, axis=1) * dt, 0.0, 12.0)
    after[1:] = np.minimum(after[1:], speed[1:, None] + 3.0 * dt * np.arange(1, steps + 1))
    driven = (np.concatenate((speed[:, None], after[:, :-1]), axis=1) + after).sum(axis=1) * 0.5 * dt
    far = farthest_m(vehicle, speed, steps * dt)
    assert (driven <= far + 1e-6).all()
    assert driven[0] == pytest.approx(far[0], abs=1e-3)
    x, y, _ = advance(0.0, 0.0, 0.0, 0.2, vehicle.l_r_m, far)
    assert (np.hypot(x, y) <= far + 1e-9).all()


@pytest.mark.parametrize("speed", [-1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="each must be finite and not negative"):
        farthest_m(CONFIG1, [1.0, speed], 1.0)


@given(st.integers(0, 2**32 - 1), st.one_of(st.none(), st.floats(0.5, 9.0)))
def test_batch_with_measured_speeds_is_the_query(seed: int, a_max: float | None) -> None:
    vehicle = replace(CONFIG1, a_max_mps2=a_max, bounds=Bounds(speed_mps=0.3))
    rng = np.random.default_rng(seed)
    count = 8
    beta = rng.uniform(-0.99, 0.99, count) * vehicle.beta_max_rad
    x, y, heading = rng.uniform(-5.0, 5.0, count), rng.uniform(-5.0, 5.0, count), rng.uniform(-4.0, 4.0, count)
    ox, oy, radius = (rng.uniform(low, high, (count, 1)) for low, high in ((-30, 30), (-30, 30), (0.1, 5.0)))
    speed = rng.uniform(0.0, vehicle.v_max_mps, count)
    got = backup_deadlines(vehicle, x, y, heading, beta, ox, oy, radius, 5.0, speed_mps=speed)
    for i in range(count):
        state = State(float(x[i]), float(y[i]), float(heading[i]), float(beta[i]), speed_mps=float(speed[i]))
        disc = Disc(float(ox[i, 0]), float(oy[i, 0]), float(radius[i, 0]))
        want = tolerable_deadline(Method.BACKUP, vehicle, state, [disc], 5.0)
        assert got.deadline_s[i] == pytest.approx(want.deadline_s, abs=1e-3)
        assert (got.obstacle[i] == -1) == (got.deadline_s[i] == 5.0)
