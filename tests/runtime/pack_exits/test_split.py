"""Splits are disjoint, whole, and never part a group."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.pack.exits.split import folds, split


@given(
    groups=st.lists(st.integers(0, 20), min_size=2, max_size=120), share=st.floats(0.05, 0.95), seed=st.integers(0, 9)
)
def test_both_parts_are_disjoint_whole_and_keep_groups(groups: list[int], share: float, seed: int) -> None:
    first, second = split(len(groups), share, seed, groups)
    assert sorted([*first, *second]) == list(range(len(groups)))
    assert not {groups[i] for i in first} & {groups[i] for i in second}
    largest = max(groups.count(label) for label in groups)
    assert abs(len(first) - share * len(groups)) <= largest / 2 + 1e-9


@given(samples=st.integers(2, 400), share=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_without_groups_the_share_is_met_and_the_seed_decides(samples: int, share: float, seed: int) -> None:
    first, _ = split(samples, share, seed)
    assert abs(len(first) - share * samples) <= 0.5 + 1e-9
    np.testing.assert_array_equal(first, split(samples, share, seed)[0])


@given(groups=st.lists(st.integers(0, 20), min_size=3, max_size=120), count=st.integers(2, 5))
def test_folds_keep_groups(groups: list[int], count: int) -> None:
    numbers = folds(len(groups), count, 0, groups)
    for label in set(groups):
        assert len({int(number) for number, other in zip(numbers, groups, strict=True) if other == label}) == 1
    assert set(numbers) <= set(range(count))


def test_folds_are_even() -> None:
    assert sorted(np.bincount(folds(31, 3, 0))) == [10, 10, 11]


def test_a_label_is_needed_for_each_sample() -> None:
    with pytest.raises(ValueError, match="2 groups for 3 samples"):
        split(3, 0.5, 0, ["a", "b"])
