"""The events of the batch, one by one, against a walk along the arc; and the whole for a vehicle with a body."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from shield.backup import batch
from shield.backup.batch import FOREVER, _Chunk, backup_deadlines
from shield.barrier import barrier_deadline
from shield.deadline import Method, tolerable_deadline
from shield.published import published_deadline
from shield.state import Disc, State
from shield.vehicle import Bounds, load_vehicle

Array = npt.NDArray[np.float64]
COUNT, STEP_M, LENGTH_M = 300, 0.01, 12.0


def chunk_of(seed: int, curved: bool) -> _Chunk:
    rng = np.random.default_rng(seed)
    beta = rng.uniform(-0.8, 0.8, COUNT) * curved
    x, y, radius = (rng.uniform(low, high, (COUNT, 1)) for low, high in ((-9.0, 9.0), (-9.0, 9.0), (0.3, 3.0)))
    return _Chunk(np.cos(beta), np.sin(beta), np.sin(beta) / 1.5, x, y, radius)


def walked(chunk: _Chunk) -> tuple[Array, Array]:
    """The obstacle in the body frame every STEP_M along the arc, shape (steps, COUNT)."""
    seen = []
    for s in np.arange(0.0, LENGTH_M, STEP_M):
        at = chunk.only(np.ones(COUNT, bool))
        at.advance(np.full(COUNT, s))
        seen.append((at.x[:, 0], at.y[:, 0]))
    xs, ys = zip(*seen, strict=True)
    return np.stack(xs), np.stack(ys)


NX, NY = math.cos(0.6), -math.sin(0.6)
EVENTS: dict[str, tuple[Callable[[_Chunk], Array], Callable[[Array, Array, Array], Array]]] = {
    "ring": (lambda c: c.circle(-1.5, 2.5, 2.8), lambda x, y, r: r - np.abs(np.hypot(x + 1.5, y - 2.5) - 2.8)),
    "disc": (lambda c: c.circle(0.0, 0.0, 0.0), lambda x, y, r: r - np.hypot(x, y)),
    "line": (lambda c: c.straight(), lambda x, y, r: np.minimum(x, r - np.abs(y))),
    "front": (lambda c: c.behind(NX, NY), lambda x, y, r: NX * x + NY * y),
}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("curved", [True, False])
def test_an_event_comes_when_a_walk_first_meets_it(name: str, curved: bool) -> None:
    chunk = chunk_of(2, curved)
    event, depth_of = EVENTS[name]
    found = chunk.length_of(event(chunk)[:, 0])
    depth = depth_of(*walked(chunk), chunk.radius[:, 0])
    met, some = depth > 0.0, np.arange(COUNT)
    first = np.where(met.any(axis=0), met.argmax(axis=0) * STEP_M, FOREVER)
    late, early = found > first + 1e-9, (found < first - 1.01 * STEP_M) & (found < LENGTH_M - STEP_M)
    assert not late.any()
    # an event found before the walk sees one is a touch shallower than the walk's steps
    index = np.minimum(np.floor(found[early] / STEP_M).astype(int), depth.shape[0] - 1)
    assert (depth[index, some[early]] > -1e-3).all()
    assert 20 < (found < LENGTH_M).sum() < COUNT


@pytest.mark.parametrize("name", ["config1", "config2"])
@pytest.mark.parametrize("discs", [1, 3])
def test_a_body_and_its_heading_error_count_and_so_does_every_chunk(
    name: str, discs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "PAIRS_AT_ONCE", 40)
    car, rng, count = (
        replace(load_vehicle(name), radius_m=0.9, bounds=Bounds(heading_rad=0.03)),
        np.random.default_rng(8),
        100,
    )
    beta = rng.uniform(-1.0, 1.0, count) * car.beta_max_rad
    x, y, heading = rng.uniform(-5.0, 5.0, count), rng.uniform(-5.0, 5.0, count), rng.uniform(-4.0, 4.0, count)
    ox, oy = rng.uniform(-25.0, 25.0, (count, discs)), rng.uniform(-25.0, 25.0, (count, discs))
    radius = rng.uniform(0.0, 5.0, (count, discs))
    got = backup_deadlines(car, x, y, heading, beta, ox, oy, radius, 5.0)
    for i in range(count):
        obstacles = [Disc(*map(float, spot)) for spot in zip(ox[i], oy[i], radius[i], strict=True)]
        state = State(float(x[i]), float(y[i]), float(heading[i]), float(beta[i]))
        want = tolerable_deadline(Method.BACKUP, car, state, obstacles, 5.0)
        assert 0.0 <= got.deadline_s[i] <= want.deadline_s + 1e-6
        if discs == 1:
            assert got.distance_m[i] == pytest.approx(want.distance_m, abs=1e-4)


def test_discs_shared_by_every_state_are_seen_by_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    car, rng = load_vehicle("config1"), np.random.default_rng(1)
    x, y, heading, beta = (rng.uniform(-size, size, 30) for size in (5.0, 5.0, 3.0, 0.1))
    ox, oy, radius = rng.uniform(-25.0, 25.0, 4), rng.uniform(-25.0, 25.0, 4), rng.uniform(0.5, 3.0, 4)
    whole = backup_deadlines(car, x, y, heading, beta, ox, oy, radius, 5.0)
    monkeypatch.setattr(batch, "PAIRS_AT_ONCE", 20)
    parts = backup_deadlines(car, x, y, heading, beta, ox, oy, radius, 5.0)
    assert parts.distance_m.tolist() == whole.distance_m.tolist()


def test_the_obstacle_that_ends_a_deadline_is_named_state_by_state(monkeypatch: pytest.MonkeyPatch) -> None:
    car = load_vehicle("config1")
    # the second state stands behind the third disc's wall, the first is stopped by the first disc
    ox, oy, radius = [[60.0, 0.0, 0.0], [500.0, 500.0, 20.0]], [[0.0, 90.0, -90.0], [0.0, 90.0, 0.0]], [4.0, 4.0, 4.0]
    at = (car, [0.0, 0.0], 0.0, 0.0, 0.0, ox, oy, [radius, radius])
    got = backup_deadlines(*at, 9.0)
    assert got.obstacle.tolist() == [0, 2]
    monkeypatch.setattr(batch, "HOPS_AT_MOST", 0)
    cut = backup_deadlines(*at, 9.0)
    assert cut.obstacle.tolist() == [0, 0]
    assert (cut.distance_m < got.distance_m).all()


def test_a_point_is_an_obstacle_and_an_endless_cap_is_refused() -> None:
    car = load_vehicle("config1")
    assert backup_deadlines(car, [0.0], 0.0, 0.0, 0.0, [30.0], [0.0], [0.0]).obstacle.tolist() == [0]
    with pytest.raises(ValueError, match="cap_s"):
        backup_deadlines(car, [0.0], 0.0, 0.0, 0.0, [30.0], [0.0], [1.0], math.inf)


def test_ten_seconds_are_asked_about_unless_told_otherwise() -> None:
    car, state = load_vehicle("config1"), State(0.0, 0.0, 0.0, 0.0)
    assert backup_deadlines(car, [0.0], 0.0, 0.0, 0.0, [], [], []).deadline_s.tolist() == [10.0]
    assert [tolerable_deadline(method, car, state, []).deadline_s for method in Method] == [10.0] * 3
    assert [ask(car, state, []).deadline_s for ask in (barrier_deadline, published_deadline)] == [10.0] * 2


def test_full_lock_short_caps_and_speed_errors_are_answered() -> None:
    car = replace(load_vehicle("config1"), bounds=Bounds(speed_mps=0.5))
    for beta in (car.beta_max_rad, -car.beta_max_rad):
        assert backup_deadlines(car, [0.0], 0.0, 0.0, beta, [90.0], [0.0], [1.0], 0.5).deadline_s.tolist() == [0.5]
