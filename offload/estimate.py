"""What an offload would cost: from the last true samples of the channel, or from what a client has measured.

A policy of the published experiments sees true samples:

    L_est = bits / mean(goodput) + mean(RTT) + mean(queue)
    E_est = P_up(mean(phi)) bits / mean(goodput)

over the last five windows; before five samples have been seen there is no estimate.

A client only sees its own requests. A ping that was answered gives a round-trip time r. An answer to `bits` that took
L, of which the server had it wait q and computed c, gives a queue q and a rate

    bits / (L - q - c - r50)

with r50 the median round-trip time of the window. Small payloads tell nothing of the rate and are left out.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (run-time estimation).
"""

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

from offload.link import ChannelSample
from offload.radio import Radio


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected time until the answer [s] and energy of sending [J] of one offload."""

    latency_s: float
    energy_j: float


class ChannelEstimator:
    """Means over the last `count` true samples of the channel.

    Args:
        radio: Whose power is charged.
        count: How many samples must be there before anything is estimated.
    """

    def __init__(self, radio: Radio, count: int = 5) -> None:
        if count < 1:
            raise ValueError(f"count = {count}: must be at least 1")
        self._radio = radio
        self._samples: deque[ChannelSample] = deque(maxlen=count)

    def observe(self, sample: ChannelSample) -> None:
        """Take in the channel of one window."""
        self._samples.append(sample)

    def estimate(self, bits: float) -> Estimate | None:
        """Return what sending `bits` would cost, or None while samples are missing."""
        count = len(self._samples)
        if count < (self._samples.maxlen or 0):
            return None
        goodput_bps = sum(item.goodput_bps for item in self._samples) / count
        if goodput_bps <= 0.0:
            return Estimate(math.inf, math.inf)
        send_s = bits / goodput_bps
        wait_s = sum(item.rtt_s + item.queue_s for item in self._samples) / count
        rate_bps = sum(item.rate_bps for item in self._samples) / count
        return Estimate(send_s + wait_s, self._radio.up_w(rate_bps) * send_s)


class Window:
    """The values of the last seconds, with their mean and quantiles.

    Args:
        length_s: How long a value counts [s].
        most: Values kept at most; older ones go first.
    """

    def __init__(self, length_s: float = 5.0, most: int = 256) -> None:
        if not length_s > 0.0 or most < 1:
            raise ValueError(f"length_s = {length_s!r}, most = {most}: must be positive")
        self._length_s = length_s
        self._most = most
        self._values: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        """Return how many values count."""
        return len(self._sorted)

    def add(self, value: float, now_s: float) -> None:
        """Take in a value measured at `now_s` [s]."""
        if not math.isfinite(value):
            raise ValueError(f"value = {value!r}: must be a number")
        self._values.append((now_s, value))
        insort(self._sorted, value)
        if len(self._values) > self._most:
            self._drop()
        self.age(now_s)

    def age(self, now_s: float) -> None:
        """Let go of what is older than the window at `now_s` [s]."""
        while self._values and self._values[0][0] < now_s - self._length_s:
            self._drop()

    @property
    def mean(self) -> float:
        """The mean; NaN without values."""
        return math.fsum(self._sorted) / len(self._sorted) if self._sorted else math.nan

    def quantile(self, share: float) -> float:
        """Return the value that `share` of the values do not exceed, by the nearest rank; NaN without values."""
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share = {share!r}: must be above 0 and at most 1")
        ordered = self._sorted[:]  # another thread may be adding
        return ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.nan

    def _drop(self) -> None:
        _, value = self._values.popleft()
        del self._sorted[bisect_left(self._sorted, value)]


class LinkEstimator:
    """What a client's own requests and pings tell of its uplink; see the top of this module.

    Args:
        length_s: How long a measurement counts [s].
        least_bits: Smallest payload that tells of the rate.
    """

    def __init__(self, length_s: float = 5.0, least_bits: int = 65_536) -> None:
        self.rate_bps = Window(length_s)
        """Goodput of the uplink [bit/s]."""
        self.rtt_s = Window(length_s)
        """Round-trip time without payload [s]."""
        self.queue_s = Window(length_s)
        """Time the server had requests wait [s]."""
        self._least_bits = least_bits

    def pinged(self, rtt_s: float, now_s: float) -> None:
        """Take in the round-trip time of a ping [s]."""
        self.rtt_s.add(rtt_s, now_s)

    def answered(self, bits: float, latency_s: float, queue_s: float, compute_s: float, now_s: float) -> None:
        """Take in an answer: payload, time from submission to here, queue and computation at the server [s]."""
        self.queue_s.add(queue_s, now_s)
        self.rtt_s.age(now_s)
        sent_s = latency_s - queue_s - compute_s - (self.rtt_s.quantile(0.5) if len(self.rtt_s) else 0.0)
        if bits >= self._least_bits and sent_s > 0.0:
            self.rate_bps.add(bits / sent_s, now_s)

    def age(self, now_s: float) -> None:
        """Let go of what is too old at `now_s` [s]."""
        for window in (self.rate_bps, self.rtt_s, self.queue_s):
            window.age(now_s)
