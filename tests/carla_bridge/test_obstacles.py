"""Obstacles stand where the published rule puts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.obstacles import BODY_RADIUS_M, COLLISION_DISTANCE_M, DRUM_RADIUS_M, SpawnRule
from carla_bridge.route import Route, Section

ROAD = Route.from_sections([Section(200.0, 0.0)])


@given(st.integers(0, 2**32 - 1))
def test_they_stand_on_the_centre_line_at_the_published_distances(seed: int) -> None:
    drums = SpawnRule().spawn(ROAD, np.random.default_rng(seed))
    along = [drum.x_m for drum in drums]
    assert len(drums) == 4
    assert all(drum.y_m == 0.0 for drum in drums)
    assert 35.0 <= along[0] <= 45.0
    for gap in np.diff(along):
        assert 6.0 - 1e-9 <= gap <= 26.0 + 1e-9


def test_noise_moves_them_by_its_standard_deviation() -> None:
    rule = SpawnRule(noise_m=1.15)
    aside = [drum.y_m for seed in range(400) for drum in rule.spawn(ROAD, np.random.default_rng(seed))]
    assert np.std(aside) == pytest.approx(1.15, rel=0.05)
    assert np.mean(aside) == pytest.approx(0.0, abs=0.1)


def test_the_same_seed_gives_the_same_road_and_none_may_be_asked_for() -> None:
    first, second = (SpawnRule().spawn(ROAD, np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert SpawnRule(count=0).spawn(ROAD, np.random.default_rng(7)) == ()


def test_touching_is_nearer_than_the_published_distance() -> None:
    assert COLLISION_DISTANCE_M == DRUM_RADIUS_M + BODY_RADIUS_M
    assert COLLISION_DISTANCE_M < 4.0
