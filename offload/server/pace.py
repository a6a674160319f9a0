"""How much longer workers take for their jobs than the models alone would.

Between two runs a worker takes a job, hands an answer over, and waits for its core. While jobs are waiting,

    pace = (time from the end of one run to the end of the next) / (time the models are expected to take)

averaged with 0.95 of the past a run. What a queue holds divided by what its workers do is what a newcomer must wait: a
server that leaves this out promises a few per cent too much, and then answers everything a little too late.
"""

_KEPT = 0.95
_LEAST, _MOST = 0.5, 10.0


class Pace:
    """The average over all workers; each one writes on its own thread."""

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._expected_s = 0.0
        self._ended: dict[int, tuple[float, bool]] = {}
        self.ratio = 1.0
        """Time taken over time expected."""

    def ended(self, worker: int, now_s: float, expected_us: int, more: bool) -> None:
        """Take in that a worker is done with jobs at `now_s` [s], and whether `more` are waiting.

        Args:
            expected_us: What the models were expected to take [us]; 0: not to be counted.
        """
        since_s, busy = self._ended.get(worker, (now_s, False))
        self._ended[worker] = now_s, more
        if busy and expected_us > 0:
            self._spent_s = _KEPT * self._spent_s + now_s - since_s
            self._expected_s = _KEPT * self._expected_s + 1e-6 * expected_us
            self.ratio = min(_MOST, max(_LEAST, self._spent_s / self._expected_s))
