"""What an offload may cost: the payload replayed over the channel of the last windows, from each of them on.

With the samples of the last N windows, N courses are equally likely: course i sends the payload over the windows i,
i + 1, ... (past the last one it goes on with the first), each at its own rate, and meets the round-trip and queueing
time of the window in which the last bit leaves. Their latencies and energies are the quantiles of the estimate, at the
levels 1/(N + 1), ..., N/(N + 1); what is left, 1/(N + 1), is the chance of a course worse than any seen.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from offload.estimate import ChannelEstimator, Estimate
from offload.link import WINDOW_S, ChannelSample
from offload.radio import Radio

_LONGEST = 64  # windows; a course that has not ended by then counts as lost


@dataclass(frozen=True, slots=True)
class Course:
    """One way an offload may go: time until the answer [s], of which sending [s], and energy of sending [J]."""

    latency_s: float
    send_s: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class Outlook(Estimate):
    """An estimate that also knows how uncertain it is: equally likely courses beside the published means."""

    courses: tuple[Course, ...] = ()


class OutlookEstimator(ChannelEstimator):
    """The published means over five windows, and the courses over the last `history` windows.

    Args:
        radio: Whose power is charged.
        history: How many windows are remembered.
        window_s: Length of a window [s].
    """

    def __init__(self, radio: Radio, history: int = 25, window_s: float = WINDOW_S) -> None:
        super().__init__(radio)
        if history < 1:
            raise ValueError(f"history = {history}: must be at least 1")
        self._history: deque[ChannelSample] = deque(maxlen=history)
        self._window_s = window_s

    def observe(self, sample: ChannelSample) -> None:
        """Take in the channel of one window."""
        super().observe(sample)
        self._history.append(sample)

    def estimate(self, bits: float) -> Outlook | None:
        """Return what sending `bits` may cost, or None while samples are missing."""
        means = super().estimate(bits)
        if means is None:
            return None
        samples = tuple(self._history)
        courses = tuple(replay(samples, start, bits, self._radio, self._window_s) for start in range(len(samples)))
        return Outlook(means.latency_s, means.energy_j, courses)


def replay(samples: Sequence[ChannelSample], start: int, bits: float, radio: Radio, window_s: float) -> Course:
    """Return the course of `bits` sent from sample `start` on, the samples being repeated without end."""
    left, send_s, energy_j = bits, 0.0, 0.0
    for window in range(start, start + _LONGEST):
        sample = samples[window % len(samples)]
        capacity = sample.goodput_bps * window_s
        took_s = left / sample.goodput_bps if left <= capacity and left > 0.0 else window_s
        energy_j += radio.up_w(sample.rate_bps) * took_s
        send_s += took_s
        left -= capacity
        if left <= 0.0:
            return Course(send_s + sample.rtt_s + sample.queue_s, send_s, energy_j)
    return Course(math.inf, send_s, energy_j)
