"""How the socket thread waits for what comes next.

A thread that sleeps is woken some tens of microseconds after its message came, with cold caches. After a request that
was answered on the spot the same client often asks again at once, so the thread stays awake for a moment: not after
those by ZeroMQ, whose own threads need the core to bring the next one in.
"""

import os
import time
from typing import Any

import zmq

_NS_PER_US = 1000


class Patience:
    """Waits for descriptors and sockets.

    Args:
        poller: What is waited for.
        most_ms: Longest wait at a time [ms].
        busy_us: How long to stay awake after a message that `stay` was told of [us]; 0: not at all.
    """

    def __init__(self, poller: zmq.Poller, most_ms: int, busy_us: int) -> None:
        self._poller = poller
        self._most_ms = most_ms
        self._busy_ns = busy_us * _NS_PER_US if os.cpu_count() != 1 else 0
        self._awake_ns = 0

    def stay(self) -> None:
        """Stay awake for a moment from now on."""
        self._awake_ns = time.monotonic_ns() + self._busy_ns

    def wait(self, most_ms: int) -> dict[Any, int]:
        """Return what is ready, once something is or `most_ms` [ms] have passed."""
        while time.monotonic_ns() < self._awake_ns:
            ready = self._poller.poll(0)
            if ready or not most_ms:
                return dict(ready)
            os.sched_yield()
        return dict(self._poller.poll(min(most_ms, self._most_ms)))
