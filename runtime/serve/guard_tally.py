"""What a guard counts about itself: how it decided, how long that took, what the kernel granted. None of it grows."""

import os
import resource
from collections import Counter
from dataclasses import asdict

from runtime.serve.guard_messages import GuardStatus
from runtime.serve.histogram import Histogram
from runtime.serve.latency import LatencyHistogram
from runtime.serve.realtime import RealTime
from shield.guard import Decision, Mode
from shield.vehicle import Vehicle

_DEADLINES_S = (0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
_TICKS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)


class GuardTally:
    """Counts since the guard's start.

    Args:
        vehicle: Whom it guards.
        certificate: Id of the certificate that covers it, if any.
        started_s: The guard's clock at its start [s].
    """

    def __init__(self, vehicle: Vehicle, certificate: str | None, started_s: float) -> None:
        self._vehicle = vehicle
        self._certificate = certificate
        self._started_s = started_s
        self._modes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._interventions = 0
        self._mode: Mode | None = None
        self._late = 0
        self._backups = 0
        self._tick_time = LatencyHistogram()
        self._tick_buckets = Histogram(_TICKS_S)
        self._deadlines = Histogram(_DEADLINES_S)
        self._faults = _page_faults()
        self.proposals = 0
        self.realtime: RealTime | None = None

    def decided(self, decision: Decision) -> None:
        """Count a tick's decision."""
        self._deadlines.add(decision.deadline_s)
        self._backups += decision.mode is Mode.BACKUP and self._mode is not Mode.BACKUP
        self._mode = decision.mode
        self._modes[decision.mode] += 1
        self._reasons[decision.reason] += 1
        self._interventions += decision.intervened

    def answered(self, duration_s: float, *, late: bool) -> None:
        """Count an observation's answer, `late` if it left after it could have taken effect."""
        self._tick_time.add(duration_s)
        self._tick_buckets.add(duration_s)
        self._late += late

    def begin(self, realtime: RealTime) -> None:
        """Note what the kernel granted; page faults count from now on."""
        self.realtime = realtime
        self._faults = _page_faults()

    def status(self, now_s: float, watchers: int) -> GuardStatus:
        """Return everything as the guard tells it."""
        return GuardStatus(
            pid=os.getpid(),
            vehicle=self._vehicle.name,
            fingerprint=self._vehicle.fingerprint(),
            certificate=self._certificate,
            uptime_s=now_s - self._started_s,
            ticks=self._tick_time.count,
            modes=dict(self._modes),
            reasons=dict(self._reasons),
            interventions=self._interventions,
            tick_p99_ms=self._tick_time.quantile(0.99) * 1e3,
            tick_max_ms=self._tick_time.largest * 1e3,
            proposals=self.proposals,
            watchers=watchers,
            realtime={} if self.realtime is None else asdict(self.realtime),
            late=self._late,
            backups=self._backups,
            tick_buckets=self._tick_buckets.counts(),
            deadline_buckets=self._deadlines.counts(),
            tick_sum_s=self._tick_buckets.sum,
            deadline_sum_s=self._deadlines.sum,
            page_faults=_page_faults() - self._faults,
        )


def _page_faults() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt
