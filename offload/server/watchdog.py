"""Stops a run that keeps the I/O thread longer than it may.

A model's time can depend on its input, so that one that was always quick takes ages once. Arming costs next to nothing:
the watchdog looks every few milliseconds while runs are being armed, and sleeps soundly when none was for a while.
"""

import threading
import time

from devices.backend import CancelToken

_IDLE_LOOKS = 100


class Watchdog:
    """Cancels the token of a run that was armed and not disarmed in time.

    Args:
        limit_s: How long a run may take [s]; it is stopped between once and twice that.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._armed: tuple[CancelToken, float] | None = None
        self._runs = 0
        self._awake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="edge-watchdog", daemon=True)
        self._thread.start()

    def arm(self, token: CancelToken) -> None:
        """Start watching a run."""
        self._armed = (token, time.monotonic())
        self._runs += 1
        if not self._awake.is_set():
            self._awake.set()

    def disarm(self) -> None:
        """Stop watching it."""
        self._armed = None

    def close(self) -> None:
        """End the watchdog."""
        self._closed = True
        self._awake.set()
        self._thread.join()

    def _watch(self) -> None:
        idle, seen = 0, 0
        while not self._closed:
            self._awake.wait()
            time.sleep(self._limit_s)
            armed = self._armed
            if armed is not None and time.monotonic() - armed[1] >= self._limit_s:
                armed[0].cancel()
            idle = 0 if self._runs != seen else idle + 1
            seen = self._runs
            if idle > _IDLE_LOOKS and armed is None:
                idle = 0
                self._awake.clear()
                if self._runs != seen:  # armed between the look and the clearing
                    self._awake.set()
