"""How long one range of segments takes, by the number of jobs that run together."""

import math
import threading
from collections import deque

_KEPT_TIMES = 200
_REFRESH = 20


class Times:
    """The last computation times of batches of one size."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=_KEPT_TIMES)
        self._added = 0
        self._lock = threading.Lock()
        self.mean_s = 0.0
        """Mean of the last runs [s]."""
        self.p50_s = math.inf
        """Median of the last runs [s], brought up to date every few runs; infinite before the first."""
        self.p99_s = math.inf
        """99th percentile of the last runs [s], brought up to date as the median."""

    def add(self, time_s: float) -> None:
        """Take in one run's time [s]."""
        with self._lock:
            self._times_s.append(time_s)
            self._added += 1
            if self._added % _REFRESH == 0 or self._added < _REFRESH:
                ordered = sorted(self._times_s)
                self.mean_s = sum(ordered) / len(ordered)
                self.p50_s = ordered[(len(ordered) - 1) // 2]
                self.p99_s = ordered[math.ceil(0.99 * len(ordered)) - 1]


class BatchTimes:
    """Times by batch size, and how many jobs are worth running together."""

    def __init__(self) -> None:
        self.alone = Times()
        """Times of jobs that run alone."""
        self._of: dict[int, Times] = {1: self.alone}

    def of(self, size: int) -> Times:
        """Return the times of batches of `size` jobs."""
        times = self._of.get(size)
        return times if times is not None else self._of.setdefault(size, Times())

    def limit(self, sizes: tuple[int, ...], left_s: float) -> int:
        """Return how many jobs to run together so that the first is done within `left_s` [s] and each costs less.

        Args:
            sizes: Batch sizes to choose from, ascending, each measured before.
        """
        best, least_s = 1, 0.95 * self.alone.mean_s
        for size in sizes:
            times = self.of(size)
            if times.p99_s <= left_s and times.mean_s / size < least_s:
                best, least_s = size, times.mean_s / size
        return best
