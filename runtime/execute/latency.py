"""How long a model takes here, from its last runs: what admission, early stopping and running inline go by.

p99 is the nearest-rank percentile of a sliding window: with n samples the ceil(.99 n)-th smallest, so up to 100 samples
it is the greatest. `usual_s` leaves out a tenth of the samples, two at least: what busy neighbours did to those is not
the model's doing. The writer computes both, so that readers on other threads read one number.
"""

import math
from collections import deque

WINDOW = 128
_EXACT_UNTIL = 64
_REFRESH = 8
_LEAST_OUTLIERS = 2


class LatencyWindow:
    """The last durations of one piece of work; one thread adds at a time, any thread reads."""

    __slots__ = ("_added", "_samples", "count", "least_s", "median_s", "most_s", "p99_s", "usual_s")

    def __init__(self, size: int = WINDOW) -> None:
        self._samples: deque[float] = deque(maxlen=size)
        self._added = 0
        self.count = 0
        self.least_s = 0.0
        self.median_s = 0.0
        self.p99_s = 0.0
        self.most_s = 0.0
        self.usual_s = 0.0

    def add(self, duration_s: float) -> None:
        """Take in one duration [s]."""
        self._samples.append(duration_s)
        self._added += 1
        if self._added <= _EXACT_UNTIL or self._added % _REFRESH == 0:
            self._refresh()

    def _refresh(self) -> None:
        ordered = sorted(self._samples)
        self.count = len(ordered)
        self.least_s = ordered[0]
        self.median_s = ordered[(len(ordered) - 1) // 2]
        self.p99_s = ordered[math.ceil(0.99 * len(ordered)) - 1]
        self.most_s = ordered[-1]
        self.usual_s = ordered[max(0, len(ordered) - 1 - max(_LEAST_OUTLIERS, len(ordered) // 10))]


class ModelLatency:
    """Durations of one loaded model.

    Args:
        exits: Number of its exits.

    `first[k]`: from the start to the answer of exit k when it is the shallowest wanted. `step[k]`: from the answer of
    exit k-1 to that of exit k.
    """

    def __init__(self, exits: int) -> None:
        self.first = tuple(LatencyWindow() for _ in range(exits))
        self.step = tuple(LatencyWindow() for _ in range(exits))

    def complete_p99_s(self, first_exit: int = 0, last_exit: int | None = None) -> float:
        """Return an upper estimate of the p99 of a run to `last_exit`, None: to the end: the sum of its parts' [s]."""
        stop = None if last_exit is None else last_exit + 1
        return self.first[first_exit].p99_s + sum(window.p99_s for window in self.step[first_exit + 1 : stop])

    def complete_usual_s(self, last_exit: int | None = None) -> float:
        """Return what a run to `last_exit`, None: to the end, usually takes at most: the sum of its parts' [s]."""
        stop = None if last_exit is None else last_exit + 1
        return self.first[0].usual_s + sum(window.usual_s for window in self.step[1:stop])
