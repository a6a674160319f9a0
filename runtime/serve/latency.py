"""A histogram of durations that costs one increment a sample and never grows.

Buckets are 1 microsecond wide at the bottom and 3 % wide above, up to a minute, so that a quantile is off by at most
3 %; the largest sample is kept exactly.
"""

import math

_FIRST_S = 1e-6
_LOG_GROWTH = math.log(1.03)
_BUCKETS = 2 + math.ceil(math.log(60.0 / _FIRST_S) / _LOG_GROWTH)


class LatencyHistogram:
    """Counts durations [s]."""

    __slots__ = ("_buckets", "count", "largest")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self.largest = 0.0

    def add(self, duration_s: float) -> None:
        """Count one duration [s]."""
        index = 0 if duration_s <= _FIRST_S else 1 + int(math.log(duration_s / _FIRST_S) / _LOG_GROWTH)
        self._buckets[min(index, _BUCKETS - 1)] += 1
        self.count += 1
        self.largest = max(self.largest, duration_s)

    def quantile(self, share: float) -> float:
        """Return the upper end [s] of the bucket that holds the `share` quantile; 0 when nothing was counted."""
        wanted = share * self.count
        seen = 0
        for index, number in enumerate(self._buckets):
            seen += number
            if number and seen >= wanted:
                return min(self.largest, _FIRST_S * math.exp(index * _LOG_GROWTH))
        return 0.0
