"""What an offload would cost, estimated from the last true samples of the channel.

    L_est = bits / mean(goodput) + mean(RTT) + mean(queue)
    E_est = P_up(mean(phi)) bits / mean(goodput)

over the last five windows; before five samples have been seen there is no estimate.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (run-time estimation).
"""

import math
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
