"""Split calibration samples into those that fit heads and those that choose thresholds, disjoint.

Samples of one group (a drive, near-duplicates of one picture) never stand on both sides. Shuffled by a seed, not by
their values: the choice must not look at the data.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def split(samples: int, share: float, seed: int, groups: Sequence[Hashable] | None = None) -> tuple[Ints, Ints]:
    """Return the indices of the first part, `share` of the samples as near as groups allow, and of the rest, sorted.

    Raises:
        ValueError: As many groups as samples are not given.
    """
    labels = _labels(samples, groups)
    order = np.random.default_rng(seed).permutation(labels.max() + 1)
    sizes = np.bincount(labels)[order]
    before = np.concatenate([[0], np.cumsum(sizes)])
    cut = int(np.abs(before - share * samples).argmin())
    first = np.isin(labels, order[:cut])
    return np.flatnonzero(first), np.flatnonzero(~first)


def folds(samples: int, count: int, seed: int, groups: Sequence[Hashable] | None = None) -> Ints:
    """Return a fold number for each sample, groups kept together, shape (n,)."""
    labels = _labels(samples, groups)
    order = np.random.default_rng(seed).permutation(labels.max() + 1)
    return np.asarray(np.argsort(order)[labels] % count, np.int64)


def _labels(samples: int, groups: Sequence[Hashable] | None) -> Ints:
    if groups is None:
        return np.arange(samples)
    if len(groups) != samples:
        raise ValueError(f"{len(groups)} groups for {samples} samples: must be one each")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)
