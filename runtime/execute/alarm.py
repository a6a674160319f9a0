"""Timers on the monotonic clock: one thread that calls each action when its time has come.

Where the process may, that thread gets the lowest real-time priority: it does next to nothing, but what it does can't
wait for a busy neighbour.
"""

import contextlib
import heapq
import itertools
import logging
import os
import threading
from collections.abc import Callable

from devices.clock import NS_PER_S, Clock, MonotonicClock, TimerHandle

_log = logging.getLogger(__name__)


class AlarmThread:
    """Calls actions at given times, on a thread of its own.

    Args:
        clock: The clock; None: CLOCK_MONOTONIC.
        on_late: Told how late each action begins [s].

    A cancelled timer stays in the heap until its time; setting a timer wakes the thread only when it is the earliest.
    """

    def __init__(self, clock: Clock | None = None, on_late: Callable[[float], None] | None = None) -> None:
        self._clock = clock or MonotonicClock()
        self._on_late = on_late
        self._heap: list[tuple[int, int, TimerHandle, int]] = []
        self._sequence = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="headway-alarm", daemon=True)
        self._thread.start()

    def call_at(self, at_ns: int, action: Callable[[], None]) -> TimerHandle:
        """Have `action` called once the clock reads `at_ns` [ns]; at once if it already does."""
        handle = TimerHandle(at_ns, action)
        with self._changed:
            heapq.heappush(self._heap, (at_ns, next(self._sequence), handle, max(at_ns, self._clock.now_ns())))
            if self._heap[0][2] is handle:
                self._changed.notify()
        return handle

    def close(self) -> None:
        """Stop; pending actions are not called."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # not permitted, or not Linux
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))  # 0: this thread
        while True:
            due = self._next_due()
            if due is None:
                return
            handle, due_ns = due
            action = handle.action
            if action is not None:
                try:
                    if self._on_late is not None:
                        self._on_late((self._clock.now_ns() - due_ns) / NS_PER_S)
                    action()
                except Exception:
                    _log.exception("a timer's action failed", extra={"code": "callback_failed"})
            del due, handle, action  # what they refer to must not live until the next timer

    def _next_due(self) -> tuple[TimerHandle, int] | None:
        with self._changed:
            while not self._closed:
                while self._heap and self._heap[0][2].action is None:
                    heapq.heappop(self._heap)
                left_ns = self._heap[0][0] - self._clock.now_ns() if self._heap else None
                if left_ns is not None and left_ns <= 0:
                    return heapq.heappop(self._heap)[2:]
                self._changed.wait(None if left_ns is None else left_ns / NS_PER_S)
            return None
