"""Ends a run on the caller's thread that takes longer than it may.

What usually takes a fraction of a millisecond is run where the request came in, on the thread that serves everybody. A
model may still take a thousand times longer for one input (a loop whose length it reads from there), so each such run
is held on a leash: at its deadline, or after `most_s`, it is stopped, and the thread is free again.

One timer serves all runs: it looks again when the run of then would have to end, or `most_s` later; setting one for
each run would wake the timer's thread for each. It rests once nothing was run for `IDLE_LOOKS` looks.
"""

import threading
from collections.abc import Callable

from devices.clock import NS_PER_S, Clock, Timers

IDLE_LOOKS = 50


class Leash:
    """Holds the run of one thread at a time.

    Args:
        timers: What wakes it.
        clock: The clock that they go by.
        most_s: How long a run may take [s].
    """

    def __init__(self, timers: Timers, clock: Clock, most_s: float) -> None:
        self._timers = timers
        self._clock = clock
        self._most_ns = round(most_s * NS_PER_S)
        self._lock = threading.Lock()
        self._run: tuple[Callable[[], object], int] | None = None
        self._runs = 0
        self._looks_ns: int | None = None  # when it looks next; None: it rests
        self._seen = 0
        self._idle_looks = 0

    def begin(self, stop: Callable[[], object], deadline_ns: int | None) -> None:
        """Have `stop` called, on the timer's thread, unless `end` comes in time.

        Args:
            stop: Stops the run; may be called when it has just ended.
            deadline_ns: When the run is of no use any more [ns]; None: never. `most_s` from now it ends in any case.
        """
        until_ns = self._clock.now_ns() + self._most_ns
        if deadline_ns is not None and deadline_ns < until_ns:
            until_ns = deadline_ns
        self._run = (stop, until_ns)
        self._runs += 1
        if self._looks_ns is None or until_ns < self._looks_ns:
            self._look_at(until_ns)

    def end(self) -> None:
        """Be told that the run has ended."""
        self._run = None

    def _look_at(self, at_ns: int) -> None:
        with self._lock:
            self._looks_ns = at_ns
        self._timers.call_at(at_ns, lambda: self._look(at_ns))

    def _look(self, at_ns: int) -> None:
        """Stop the run that has to end by now, and look again later."""
        run, now_ns = self._run, self._clock.now_ns()
        if run is not None and run[1] <= now_ns:
            run[0]()
        with self._lock:
            if self._looks_ns != at_ns:  # an earlier look was asked for meanwhile, and goes on
                return
            self._idle_looks = self._idle_looks + 1 if self._runs == self._seen else 0
            self._seen = self._runs
            if self._idle_looks > IDLE_LOOKS:
                self._looks_ns, self._idle_looks = None, 0
        run = self._run  # after it has begun to rest: one that began before then is seen here
        if self._looks_ns is None and run is None:
            return
        self._look_at(run[1] if run is not None and run[1] > now_ns else now_ns + self._most_ns)
