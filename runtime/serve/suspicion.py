"""What an edge server's answers say against it: it is slower than its own figures, or its reported load cannot be.

An answer should come after  sending + link + queue + compute,  the first two as the link carried it and the last two as
the server tells. One that comes a window later counts as "slow", and the log says by how much. A server that reports
over a second of work and then answers in a tenth of that has "load_disbelieved" counted against it. Neither changes
what is done: the answer counts, and what comes too late is the policy's business.
"""

import logging
from collections import Counter

from devices.clock import Clock, MonotonicClock
from offload.link import WINDOW_S
from offload.outcome import Outcome
from offload.throttle import Throttle
from offload.wire import Code

_LOG = logging.getLogger("headway.offload")
_LEAST_LOAD_S = 1.0
_SHARE = 0.1


class Suspicion:
    """Counts and tells what does not fit, for one client."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """Answers by what was wrong with them: "slow", "load_disbelieved", and "unusable" where somebody says so."""
        clock = clock or MonotonicClock()
        self._slow, self._lying = Throttle(_LOG, clock), Throttle(_LOG, clock)

    def take(self, outcome: Outcome, rtt_s: float) -> None:
        """Look at one outcome; `rtt_s` is the round-trip time of a ping to that server [s]."""
        if outcome.code is not Code.OK:
            return
        took_s = outcome.latency_s
        beyond_s = took_s - _on_the_way_s(outcome, rtt_s) - outcome.queue_s - outcome.compute_s
        if beyond_s > WINDOW_S:
            self.counts["slow"] += 1
            self._slow.warn(
                f"{outcome.endpoint} is slow: its answer took {took_s:.3f} s, {beyond_s:.3f} s more than the link and "
                f"the server's own figures tell"
            )
        if outcome.load_s > _LEAST_LOAD_S and took_s < _SHARE * outcome.load_s:
            self.counts["load_disbelieved"] += 1
            self._lying.warn(
                f"the load of {outcome.endpoint} is not believed: it tells of {outcome.load_s:.1f} s of work and "
                f"answered in {took_s:.3f} s"
            )


def _on_the_way_s(outcome: Outcome, rtt_s: float) -> float:
    handle = outcome.handle
    if handle.transmission is None:
        return rtt_s
    return handle.transmission.arrival_s - handle.submitted_s + handle.transmission.reply_delay_s
