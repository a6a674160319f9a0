"""Clocks, passed in wherever time matters: monotonic in the daemon, virtual in experiments and tests.

Absolute times never leave a host. `VirtualClock` is also a timer service: `advance` fires what falls due on its way, in
order of time, so that one seed gives one history.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Tells the time since an arbitrary origin; never goes backwards."""

    def now_s(self) -> float:
        """Return the time [s]."""
        ...

    def now_ns(self) -> int:
        """Return the time [ns]."""
        ...


class TimerHandle:
    """One pending action; `cancel` forgets it, whether or not it has fired."""

    __slots__ = ("action", "at_ns")

    def __init__(self, at_ns: int, action: Callable[[], None]) -> None:
        self.at_ns = at_ns
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Forget the action, and with it whatever it refers to."""
        self.action = None


class Timers(Protocol):
    """Calls an action once a time is reached."""

    def call_at(self, at_ns: int, action: Callable[[], None]) -> TimerHandle:
        """Have `action` called, on a thread of the service's choice, once the clock reads `at_ns` [ns]."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC of this host."""

    def now_s(self) -> float:
        """Return the time [s]."""
        return time.monotonic()

    def now_ns(self) -> int:
        """Return the time [ns]."""
        return time.monotonic_ns()


class VirtualClock:
    """A clock that stands still until it is advanced; any thread may advance it.

    Args:
        start_s: Time it reads at first [s].
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_ns = round(start_s * NS_PER_S)
        self._timers: list[tuple[int, int, TimerHandle]] = []
        self._sequence = itertools.count()
        self._lock = threading.Lock()

    def now_s(self) -> float:
        """Return the time [s]."""
        return self._now_ns / NS_PER_S

    def now_ns(self) -> int:
        """Return the time [ns]."""
        return self._now_ns

    def call_at(self, at_ns: int, action: Callable[[], None]) -> TimerHandle:
        """Have `action` called by the `advance` that reaches `at_ns` [ns]; if past already, by the next one."""
        handle = TimerHandle(at_ns, action)
        with self._lock:
            heapq.heappush(self._timers, (at_ns, next(self._sequence), handle))
        return handle

    def advance(self, duration_s: float, *, until: Callable[[], bool] | None = None) -> None:
        """Move on by `duration_s` [s], firing timers on the way; stop early at the timer after which `until()` holds.

        Raises:
            ValueError: `duration_s` is negative or not finite.
        """
        if not 0.0 <= duration_s < float("inf"):
            raise ValueError(f"duration_s = {duration_s!r}: must be a finite time that is not negative")
        target_ns = self._now_ns + round(duration_s * NS_PER_S)
        while not (until is not None and until()):
            handle = self._take_due(target_ns)
            if handle is None:
                self._now_ns = max(self._now_ns, target_ns)
                return
            self._now_ns = max(self._now_ns, handle.at_ns)
            if handle.action is not None:
                handle.action()

    def _take_due(self, target_ns: int) -> TimerHandle | None:
        with self._lock:
            if self._timers and self._timers[0][0] <= target_ns:
                return heapq.heappop(self._timers)[2]
            return None
