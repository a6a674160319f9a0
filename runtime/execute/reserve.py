"""The time kept before each deadline for the reply to get out: a floor, and what getting out was seen to take.

reserve = least + greatest lateness of the timer + longest way out of a reply, both of the last 512, at most `most`. On
an idle machine both are a few tens of microseconds; beside busy processes they are what makes answers late. One late
answer in a thousand is what is aimed at, so a p99 would be too little.
"""

import threading

from devices.clock import NS_PER_S
from runtime.execute.latency import LatencyWindow

_REMEMBERED = 512


class Reserve:
    """What is kept before deadlines; any thread may note and read.

    Args:
        least_s: Kept always [s].
        most_s: Never kept more [s], so that a bad moment does not refuse everything.
    """

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = max(least_s, most_s)
        self._waking = LatencyWindow(_REMEMBERED)
        self._leaving = LatencyWindow(_REMEMBERED)
        self._lock = threading.Lock()

    @property
    def total_s(self) -> float:
        """Time to keep [s]."""
        return min(self._most_s, self._least_s + self._waking.most_s + self._leaving.most_s)

    @property
    def total_ns(self) -> int:
        """Time to keep [ns]."""
        return round(self.total_s * NS_PER_S)

    def woke(self, late_s: float) -> None:
        """Note how late a timer's action began [s]."""
        with self._lock:
            self._waking.add(max(0.0, late_s))

    def left(self, took_s: float) -> None:
        """Note how long a reply took from its making until it left the process [s]."""
        with self._lock:
            self._leaving.add(max(0.0, took_s))
