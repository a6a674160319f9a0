"""Which of several edge servers a request goes to, and when a second one is asked as well.

A server's predicted finish is

    now + RTT + max(0, reported load - time since the report) + (sent since the report + 1) c + e

with c the mean computation of this model there and e >= 0 the mean by which its answers came later than predicted, so
that a server which lies about its load or is slow for a reason of its own is believed less with each answer. Where none
come any more, e halves every two seconds: nobody is shunned for good. Of two
servers drawn at random the one that finishes first is taken: the power of two choices keeps many vehicles, which all
see the same old reports, from running to the same server.

A request that is still unanswered when 95 of 100 would have been is sent to a second server, if that one can still be
in time; at most one request in ten is.

References: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, IEEE TPDS 12(10), 2001;
Dean and Barroso, The Tail at Scale, CACM 56(2), 2013.
"""

import math
import random
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

_WINDOW = 64
_LEAST_SAMPLES = 20
_REFRESH = 8
_WEIGHT = 0.2
_FORGIVEN_S = 2.0
_HEDGED_SHARE = 0.1

T = TypeVar("T")


class Latencies:
    """The last latencies, and their 95th percentile by the nearest rank."""

    def __init__(self) -> None:
        self._samples_s: deque[float] = deque(maxlen=_WINDOW)
        self._added = 0
        self.p95_s = math.inf
        """95th percentile [s], brought up to date every few samples; infinite before there are enough."""

    def add(self, latency_s: float) -> None:
        """Take in one latency [s]."""
        self._samples_s.append(latency_s)
        self._added += 1
        if self._added >= _LEAST_SAMPLES and self._added % _REFRESH == 0:
            ordered = sorted(self._samples_s)
            self.p95_s = ordered[math.ceil(0.95 * len(ordered)) - 1]


class Service:
    """What is known of one server's speed."""

    def __init__(self) -> None:
        self.rtt_s = 0.0
        """Round-trip time of the last ping [s]."""
        self.load_s = 0.0
        """Work the server last said it has accepted and not finished [s]."""
        self._reported_s = -math.inf
        self._sent_since = 0
        self._compute_s: dict[str, float] = {}
        self._latencies: dict[str, Latencies] = {}
        self._error_s = 0.0
        self._error_at_s = 0.0

    def report(self, load_s: float, now_s: float) -> None:
        """Take in the load that the server reports [s]."""
        self.load_s, self._reported_s, self._sent_since = load_s, now_s, 0

    def sent(self) -> None:
        """Take in that one more request went there."""
        self._sent_since += 1

    def forget(self) -> None:
        """Forget load and error: the connection is new."""
        self.load_s, self._reported_s, self._sent_since, self._error_s = 0.0, -math.inf, 0, 0.0

    def answered(self, model: str, compute_s: float, latency_s: float, predicted_s: float, now_s: float) -> None:
        """Take in an answer at `now_s`: time computed, time from sending, and the time predicted for it [s]."""
        known_s = self._compute_s.get(model, compute_s)
        self._compute_s[model] = known_s + _WEIGHT * (compute_s - known_s)
        self._error_s = max(0.0, self._believed_error_s(now_s) + _WEIGHT * (latency_s - predicted_s))
        self._error_at_s = now_s
        if model not in self._latencies:
            self._latencies[model] = Latencies()
        self._latencies[model].add(latency_s)

    def latency_s(self, model: str, now_s: float) -> float:
        """Return the time until an answer is predicted to be here [s]."""
        queue_s = max(0.0, self.load_s - (now_s - self._reported_s)) if self.load_s else 0.0
        compute_s = self._compute_s.get(model, 0.0)
        return self.rtt_s + queue_s + (self._sent_since + 1) * compute_s + self._believed_error_s(now_s)

    def _believed_error_s(self, now_s: float) -> float:
        if not self._error_s:
            return 0.0
        return self._error_s * math.exp2((self._error_at_s - now_s) / _FORGIVEN_S)

    def p95_s(self, model: str) -> float:
        """Return the 95th percentile of the last latencies [s]; infinite while it is not known."""
        known = self._latencies.get(model)
        return known.p95_s if known else math.inf


class HedgeBudget:
    """Lets at most one request in ten be sent twice."""

    def __init__(self) -> None:
        self._left = 1.0

    def earn(self) -> None:
        """Take in one request."""
        self._left = min(10.0, self._left + _HEDGED_SHARE)

    def spend(self) -> bool:
        """Return whether one may be sent twice now, and count it."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def two_of(candidates: Sequence[T], rng: random.Random) -> Sequence[T]:
    """Return two of the candidates at random, or all where there are no more."""
    return candidates if len(candidates) <= 2 else rng.sample(candidates, 2)
