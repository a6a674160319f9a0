"""One complaint a second, so that a flood of damage is no flood of log."""

import logging

from devices.clock import Clock


class Throttle:
    """Writes one warning a second and counts the rest.

    Args:
        log: Where to.
        clock: What a second is measured by.
    """

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._next_s = -float("inf")
        self._unsaid = 0

    def warn(self, message: str) -> None:
        """Write `message`, or count it."""
        now_s = self._clock.now_s()
        if now_s < self._next_s:
            self._unsaid += 1
            return
        self._next_s = now_s + 1.0
        self._log.warning("%s%s", message, f" ({self._unsaid} more went unsaid)" if self._unsaid else "")
        self._unsaid = 0
