"""One complaint a second of each kind, so that a flood of damage is no flood of log."""

import logging
from collections import Counter

from devices.clock import Clock


class Throttle:
    """Writes one warning a second of each kind and counts the rest: a flood of one does not hide another.

    Args:
        log: Where to.
        clock: What a second is measured by.
    """

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._next_s: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def warn(self, message: str, kind: str = "", code: str = "") -> None:
        """Write `message`, or count it; there are few kinds, and nobody else makes them up; `code` names it."""
        now_s = self._clock.now_s()
        if now_s < self._next_s.get(kind, now_s):
            self._unsaid[kind] += 1
            return
        self._next_s[kind] = now_s + 1.0
        unsaid = self._unsaid.pop(kind, 0)
        more = f" ({unsaid} more went unsaid)" if unsaid else ""
        self._log.warning("%s%s", message, more, extra={"code": code or "complaint", "kind": kind})
