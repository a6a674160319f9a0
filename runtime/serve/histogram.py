"""A histogram as Prometheus counts it: fixed upper ends, one increment a sample."""

import math
from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts values by bucket; one thread adds, any thread reads.

    Args:
        ends: Upper ends of the buckets, rising; one without an end comes after them.
    """

    __slots__ = ("_counts", "_ends", "sum")

    def __init__(self, ends: Sequence[float]) -> None:
        self._ends = tuple(ends)
        self._counts = [0] * (len(self._ends) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value; what is no number, or infinite, lies above every end and is not summed."""
        self._counts[bisect_left(self._ends, value)] += 1
        if math.isfinite(value):
            self.sum += value

    def counts(self) -> dict[str, int]:
        """Return by upper end how many values lay at or below it."""
        total, found = 0, {}
        for end, count in zip((*map(str, self._ends), "+Inf"), tuple(self._counts), strict=True):
            total += count
            found[end] = total
        return found
