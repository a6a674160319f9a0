"""Short episodes of every policy: they repeat bit by bit, and their books balance."""

from dataclasses import replace

import pytest

from carla_bridge.experiment.episode import SEO_POLICIES, Episode, local_energy_j, run_episode
from offload.policy import POLICIES
from shield.deadline import Method

SHORT = Episode(limit_s=0.8, seed=2)


@pytest.mark.parametrize("policy", [*POLICIES, *SEO_POLICIES])
def test_an_episode_repeats_bit_by_bit_and_its_books_balance(policy: str) -> None:
    episode = replace(SHORT, policy=policy)
    first, second = run_episode(episode), run_episode(episode)
    assert first == second
    assert first.windows == 40
    assert first.completed
    assert first.uncertified == 0
    models = 2 if policy in SEO_POLICIES else 1
    assert first.local + first.offloads + first.transit + first.idle + first.failsafes == models * first.windows
    assert sum(first.bin_windows) == first.windows
    assert sum(first.bin_energy_j) == pytest.approx(first.energy_j)
    assert first.exit_scaled_j <= first.energy_j
    assert first.energy_j >= (first.local + first.failsafes) * local_energy_j() * (1 - 1e-12)
    if policy == "local":
        assert first.energy_j == pytest.approx(40 * local_energy_j())
    else:
        assert first.energy_j < 40 * models * local_energy_j()


def test_deadlines_are_the_ones_asked_for() -> None:
    sums = {
        (method, shield): run_episode(
            replace(SHORT, policy="uniform", limit_s=0.4, deadline=method, shield=shield)
        ).deadline_sum_s
        for method in Method
        for shield in (True, False)
    }
    for shield in (True, False):
        published, barrier, backup = (
            sums[method, shield] for method in (Method.PUBLISHED, Method.BARRIER, Method.BACKUP)
        )
        assert published < barrier <= backup
    assert sums[Method.BARRIER, False] == pytest.approx(sums[Method.BARRIER, True])


def test_noise_and_empty_roads_are_other_worlds() -> None:
    plain = run_episode(replace(SHORT, limit_s=0.1))
    noisy = run_episode(replace(SHORT, limit_s=0.1, noise=True))
    empty = run_episode(replace(SHORT, limit_s=0.1, obstacles=False))
    assert plain.min_distance_m != noisy.min_distance_m
    assert empty.min_distance_m is None
    assert empty.bin_windows[-1] == empty.windows


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="'greedy': must be one of local, eager, uniform, adaptive, seo-offload"):
        run_episode(replace(SHORT, policy="greedy"))
