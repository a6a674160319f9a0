"""A wireless link declared by its distributions, in virtual time or around real bytes.

Time is cut into windows of tau = 20 ms. In each window the channel is drawn anew: a rate phi, a round-trip time and a
queueing delay. A payload in transit takes, in this order,

    its bits over phi, then RTT/2, the queue, RTT/2,

and whatever is not done at the end of a window rolls over to the next: remaining bits are sent at the next window's
rate. The round-trip and queueing times are those of the window in which the last bit leaves. Lost packets are sent
again: with N packets a window, Binomial(N, loss)/N of the rate is spent on repeats.

The channel of window k depends on the declared model, the seed and k alone, so virtual time and real time see the same
link. `EmulatedLink` computes when the bytes of a transfer have left and how long the radio sent in each window; the
client holds the real bytes back until then.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (wireless model, run-time simulation).
"""

import math
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from offload.errors import LinkError
from offload.radio import MEGABIT

WINDOW_S = 0.02
"""Length of a window [s], as published."""

_BLOCK = 256
_KEPT_BLOCKS = 64
_PACKET_BITS = 12_000
_EDGE = 1e-9  # windows; a time this close to the next window's start belongs to it


class Distribution(Protocol):
    """Draws one quantity of the channel for many windows at once."""

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` independent values."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same value in every window."""

    value: float = 0.0

    def __post_init__(self) -> None:
        _require("value", self.value, self.value >= 0.0, "a number that is not negative")

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` times the value."""
        return np.full(count, self.value)


@dataclass(frozen=True, slots=True)
class Rayleigh:
    """Rayleigh fading: density x/sigma^2 exp(-x^2/(2 sigma^2)), mean sigma sqrt(pi/2). `sigma_bps` in bit/s."""

    sigma_bps: float = 20.0 * MEGABIT

    def __post_init__(self) -> None:
        _require("sigma_bps", self.sigma_bps, self.sigma_bps > 0.0, "a positive rate")

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` rates [bit/s]."""
        return rng.rayleigh(self.sigma_bps, count)


@dataclass(frozen=True, slots=True)
class Gamma:
    """A shifted gamma distribution of times; `scale_s` and `shift_s` in s."""

    shape: float
    scale_s: float
    shift_s: float = 0.0

    def __post_init__(self) -> None:
        _require("shape", self.shape, self.shape > 0.0, "positive")
        _require("scale_s", self.scale_s, self.scale_s > 0.0, "a positive time")
        _require("shift_s", self.shift_s, self.shift_s >= 0.0, "a time that is not negative")

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` times [s]."""
        return self.shift_s + rng.gamma(self.shape, self.scale_s, count)


@dataclass(frozen=True, slots=True)
class GeometricQueue:
    """The published queue: k in [0, count) with probability proportional to ratio^k, delay k `step_s`."""

    ratio: float = 0.97
    count: int = 4000
    step_s: float = 1e-6

    def __post_init__(self) -> None:
        _require("ratio", self.ratio, 0.0 < self.ratio < 1.0, "between 0 and 1, ends excluded")
        _require("count", self.count, self.count >= 1, "at least 1")
        _require("step_s", self.step_s, self.step_s >= 0.0, "a time that is not negative")

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` delays [s], by inversion of the truncated geometric distribution."""
        share = rng.random(count) * (1.0 - self.ratio**self.count)
        steps = np.floor(np.log1p(-share) / math.log(self.ratio))
        return np.minimum(steps, self.count - 1) * self.step_s


@dataclass(frozen=True, slots=True)
class Outage:
    """The link carries nothing in windows that start in [start_s, start_s + duration_s) [s], from its origin on."""

    start_s: float
    duration_s: float

    def __post_init__(self) -> None:
        _require("start_s", self.start_s, self.start_s >= 0.0, "a time that is not negative")
        _require("duration_s", self.duration_s, self.duration_s >= 0.0, "a time that is not negative")


@dataclass(frozen=True, slots=True)
class LinkModel:
    """What a link is declared to be.

    Args:
        rate: Rate the radio sends at [bit/s].
        rtt: Round-trip time [s].
        queue: Delay at the far side before the answer [s].
        loss: Share of packets that must be sent again, in [0, 1).
        outages: Times at which the link carries nothing.
    """

    rate: Distribution = field(default_factory=Rayleigh)
    rtt: Distribution = field(default_factory=Fixed)
    queue: Distribution = field(default_factory=Fixed)
    loss: float = 0.0
    outages: tuple[Outage, ...] = ()

    def __post_init__(self) -> None:
        _require("loss", self.loss, 0.0 <= self.loss < 1.0, "in [0, 1)")


@dataclass(frozen=True, slots=True)
class ChannelSample:
    """The channel in one window.

    Args:
        rate_bps: Rate the radio sends at [bit/s].
        goodput_bps: What of it carries the payload for the first time [bit/s].
        rtt_s, queue_s: Round-trip time and queueing delay of what leaves in this window [s].
    """

    window: int
    rate_bps: float
    goodput_bps: float
    rtt_s: float
    queue_s: float


class Channel:
    """The channel of every window; a pure function of the model, the seed and the window."""

    def __init__(self, model: LinkModel, seed: int = 0, window_s: float = WINDOW_S) -> None:
        _require("window_s", window_s, window_s > 0.0, "a positive time")
        self._model = model
        self._seed = seed
        self._window_s = window_s
        self._blocks: dict[int, NDArray[np.float64]] = {}

    def sample(self, window: int) -> ChannelSample:
        """Return the channel in `window`, counted from 0."""
        if window < 0:
            raise ValueError(f"window = {window}: windows are counted from 0")
        block, row = divmod(window, _BLOCK)
        if block not in self._blocks:
            if len(self._blocks) >= _KEPT_BLOCKS:
                del self._blocks[min(self._blocks)]
            self._blocks[block] = self._draw(block)
        rate, goodput, rtt, queue = self._blocks[block][row].tolist()
        return ChannelSample(window, rate, goodput, rtt, queue)

    def _draw(self, block: int) -> NDArray[np.float64]:
        rng = np.random.default_rng([self._seed, block])
        model = self._model
        rate = model.rate.draw(rng, _BLOCK)
        rtt = model.rtt.draw(rng, _BLOCK)
        queue = model.queue.draw(rng, _BLOCK)
        starts_s = (np.arange(_BLOCK) + block * _BLOCK) * self._window_s
        for outage in model.outages:
            inside = (starts_s >= outage.start_s - _EDGE) & (starts_s < outage.start_s + outage.duration_s - _EDGE)
            rate[inside] = 0.0
        packets = np.maximum(1, np.ceil(rate * self._window_s / _PACKET_BITS)).astype(np.int64)
        repeated = rng.binomial(packets, model.loss) / packets
        return np.stack([rate, rate * (1.0 - repeated), rtt, queue], axis=1)


@dataclass(frozen=True, slots=True)
class Airtime:
    """The radio sent from `start_s` for `duration_s` [s] at `rate_bps` [bit/s]; all of it lies in `window`."""

    window: int
    start_s: float
    duration_s: float
    rate_bps: float


@dataclass(frozen=True, slots=True)
class Transmission:
    """One payload's way up the link.

    Args:
        bits: Size of the payload.
        start_s: When its first bit is sent: the uplink carries one payload at a time [s].
        sent_s: When its last bit has left [s]; infinite where the link did not carry it within its horizon.
        airtimes: How long the radio sent, window by window.
        rtt_s, queue_s: Round-trip time and queueing delay it meets [s].
    """

    bits: float
    start_s: float
    sent_s: float
    airtimes: tuple[Airtime, ...]
    rtt_s: float
    queue_s: float

    @property
    def arrival_s(self) -> float:
        """When the payload is at the far side [s]."""
        return self.sent_s + self.rtt_s / 2.0

    @property
    def reply_delay_s(self) -> float:
        """Time from the far side's answer to its arrival here [s]."""
        return self.queue_s + self.rtt_s / 2.0

    @property
    def reply_s(self) -> float:
        """When the answer is here if the far side answers at once [s]."""
        return self.arrival_s + self.reply_delay_s

    def until(self, time_s: float) -> "Transmission":
        """Return what is left of the transmission when it is given up at `time_s` [s]."""
        if time_s >= self.sent_s:
            return self
        kept = tuple(
            replace(item, duration_s=min(item.duration_s, time_s - item.start_s))
            for item in self.airtimes
            if item.start_s < time_s
        )
        return replace(self, sent_s=math.inf, airtimes=kept)


class EmulatedLink:
    """The uplink of one vehicle: when would this payload have left, and how long did the radio send for it?

    Args:
        model: What the link is declared to be.
        seed: Of the channel.
        origin_s: Start of window 0 on the caller's clock [s].
        horizon_s: A payload that has not left this long after its start counts as lost [s].
    """

    def __init__(
        self,
        model: LinkModel,
        seed: int = 0,
        origin_s: float = 0.0,
        window_s: float = WINDOW_S,
        horizon_s: float = 30.0,
    ) -> None:
        _require("origin_s", origin_s, True, "a time")
        _require("horizon_s", horizon_s, horizon_s > 0.0, "a positive time")
        self.channel = Channel(model, seed, window_s)
        self._origin_s = origin_s
        self._window_s = window_s
        self._horizon_s = horizon_s
        self._free_s = -math.inf

    def window(self, time_s: float) -> int:
        """Return the window that holds `time_s` [s]."""
        return math.floor((time_s - self._origin_s) / self._window_s + _EDGE)

    def send(self, bits: float, now_s: float) -> Transmission:
        """Send a payload of `bits` from `now_s` [s] on, after those still being sent.

        Raises:
            ValueError: `bits` is negative or not finite, or `now_s` lies before the link's origin.
        """
        if not math.isfinite(bits) or bits < 0.0:
            raise ValueError(f"bits = {bits!r}: must be a number that is not negative")
        if self.window(now_s) < 0:
            raise ValueError(f"now_s = {now_s!r}: the link's time starts at {self._origin_s!r} s")
        transmission = self._transmit(bits, max(now_s, self._free_s))
        self._free_s = min(transmission.sent_s, transmission.start_s + self._horizon_s)
        return transmission

    def cancel(self, transmission: Transmission, now_s: float) -> Transmission:
        """Stop sending at `now_s` [s] and return what was sent; the last payload's uplink is free again."""
        if self._free_s in (transmission.sent_s, transmission.start_s + self._horizon_s):
            self._free_s = min(self._free_s, max(now_s, transmission.start_s))
        return transmission.until(now_s)

    def _transmit(self, bits: float, start_s: float) -> Transmission:
        airtimes = []
        left = bits
        at_s = start_s
        window = self.window(start_s)
        while True:
            sample = self.channel.sample(window)
            end_s = self._origin_s + (window + 1) * self._window_s
            capacity = sample.goodput_bps * (end_s - at_s)
            if left <= capacity:
                duration_s = left / sample.goodput_bps if left > 0.0 else 0.0
                airtimes.append(Airtime(window, at_s, duration_s, sample.rate_bps))
                return Transmission(bits, start_s, at_s + duration_s, tuple(airtimes), sample.rtt_s, sample.queue_s)
            airtimes.append(Airtime(window, at_s, end_s - at_s, sample.rate_bps))
            left -= capacity
            at_s = end_s
            window += 1
            if at_s - start_s > self._horizon_s:
                return Transmission(bits, start_s, math.inf, tuple(airtimes), sample.rtt_s, sample.queue_s)


def _require(name: str, value: float, holds: bool, right: str) -> None:
    if not math.isfinite(value) or not holds:
        raise LinkError(f"{name} = {value!r}: must be {right}")
