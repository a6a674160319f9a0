"""The deadline that the guard gives: how long an answer that the vehicle waits for may take, whatever its client says.

Each tick of the guard issues the tolerable deadline of the control in force anew. While a vehicle is driven, a request
to a model that it waits for is due by then at the latest; its client may ask for less, never for more. There is none
while nobody drives, while no limit is known, and once the backup manoeuvre runs: then nothing is held any more that an
answer could come too late for.
"""

import math
import time
from dataclasses import dataclass

from devices.clock import NS_PER_S
from runtime.serve.guard_messages import Report

SILENT_S = 1.0
_SILENT_NS = round(SILENT_S * NS_PER_S)
_NONE_NS = (0, 0)


@dataclass(slots=True)
class GuardBound:
    """The last deadline heard; one thread hears, any thread asks."""

    _heard_ns: int = -_SILENT_NS  # when the last tick was heard
    _last: tuple[int, int] = _NONE_NS  # when it was heard, when it falls [ns]; replaced as one

    def hear(self, report: Report, now_ns: int | None = None) -> None:
        """Take in a tick of the guard, heard at `now_ns` [ns] (None: now)."""
        heard_ns = time.monotonic_ns() if now_ns is None else now_ns
        self._heard_ns = heard_ns
        if report.mode == "backup" or not math.isfinite(report.deadline_s):
            self._last = _NONE_NS
        else:
            self._last = (heard_ns, report.stamp_ns + round(report.deadline_s * NS_PER_S))

    def driven(self, now_ns: int | None = None) -> bool:
        """Whether the guard has had a vehicle within the last second: it ticks for one alone."""
        return (time.monotonic_ns() if now_ns is None else now_ns) - self._heard_ns <= _SILENT_NS

    def falls_ns(self, now_ns: int | None = None) -> int | None:
        """Return when the deadline falls, CLOCK_MONOTONIC [ns]; None where there is none."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        heard_ns, falls_ns = self._last
        silent = now_ns - heard_ns > _SILENT_NS
        return None if silent or falls_ns <= now_ns else falls_ns
