"""What an edge server counts: written by its threads in passing, read by whoever asks for the metrics."""

from bisect import bisect_left
from collections import Counter

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Histogram:
    """Times counted by bucket; one thread adds."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, time_s: float) -> None:
        """Count one time [s]."""
        self._counts[bisect_left(BUCKETS_S, time_s)] += 1
        self.sum_s += time_s

    def buckets(self) -> list[tuple[str, float]]:
        """Return the upper ends and how many times lay below each, as Prometheus wants them."""
        total, rows = 0, []
        for end, count in zip((*map(str, BUCKETS_S), "+Inf"), tuple(self._counts), strict=True):
            total += count
            rows.append((end, float(total)))
        return rows


class Tally:
    """The counts of one server."""

    def __init__(self) -> None:
        self.replies: Counter[str] = Counter()
        """Replies by code, and "unreachable": replies whose client was gone or did not read."""
        self.queue = Histogram()
        self.compute = Histogram()
        self.batches: Counter[int] = Counter()
        """Runs by how many jobs ran together; those on the I/O thread not included."""
        self.inline = 0
        """Runs on the I/O thread."""
        self.rerun = 0
        """Jobs computed again because the deadline of another one in their batch fell."""
        self.reloads: Counter[str] = Counter()
        """Reloads of the models: "done" and "failed"."""
