"""A radio cell whose airtime is shared equally by all who send.

The cell carries `streams` transmissions at their full rate. With N sending, each gets min(1, streams / N) of the time.
A transmission that needs the airtime a ends when the service V(t) = integral of min(1, streams / N) dt has grown by a
since it began; because all get the same, the order of ends is that of V at the end, whoever comes and goes.
"""

import heapq
import math


class Cell:
    """The cell; times are given in rising order.

    Args:
        streams: Transmissions carried at full rate at once.
    """

    def __init__(self, streams: float) -> None:
        if not 0.0 < streams < math.inf:
            raise ValueError(f"streams = {streams!r}: must be a positive number")
        self._streams = streams
        self._service_s = 0.0
        self._now_s = 0.0
        self._turn = 0
        self._ends: list[tuple[float, int, int]] = []
        self._began: dict[int, tuple[int, float]] = {}
        self.busy_s = 0.0

    @property
    def sending(self) -> int:
        """How many send."""
        return len(self._began)

    def sends(self, sender: int) -> bool:
        """Return whether `sender` sends."""
        return sender in self._began

    def share(self, extra: int = 0) -> float:
        """Return the share of its full rate that each gets, with `extra` more sending."""
        return min(1.0, self._streams / max(1, self.sending + extra))

    def move_to(self, now_s: float) -> None:
        """Let time pass until `now_s` [s]; no transmission may end before."""
        passed_s = now_s - self._now_s
        self._service_s += passed_s * self.share()
        self.busy_s += passed_s * min(1.0, self.sending / self._streams)
        self._now_s = now_s

    def start(self, sender: int, airtime_s: float) -> None:
        """Begin a transmission that needs `airtime_s` [s] at full rate; a sender sends one at a time."""
        if sender in self._began:
            raise ValueError(f"sender {sender} sends already: one transmission at a time")
        self._turn += 1
        self._began[sender] = (self._turn, self._service_s)
        heapq.heappush(self._ends, (self._service_s + airtime_s, self._turn, sender))

    def stop(self, sender: int) -> float:
        """End a sender's transmission, done or not, and return the airtime it had [s]."""
        _, began_s = self._began.pop(sender)
        return self._service_s - began_s

    def next_end(self) -> tuple[float, int]:
        """Return when [s] the next transmission ends and whose; infinity when nobody sends."""
        while self._ends:
            end_s, turn, sender = self._ends[0]
            if self._began.get(sender, (0, 0.0))[0] == turn:
                return self._now_s + max(0.0, end_s - self._service_s) / self.share(), sender
            heapq.heappop(self._ends)  # was given up
        return math.inf, -1
