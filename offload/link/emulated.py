"""When payloads sent over a declared link would have left and arrived, in virtual time or around real bytes."""

import math
from dataclasses import dataclass, replace

from offload.link.channel import EDGE, WINDOW_S, Channel
from offload.link.distributions import require
from offload.link.model import LinkModel


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


@dataclass(frozen=True, slots=True)
class Passage:
    """The way of a control message: when it is at the far side, and how long its answer then takes [s]."""

    arrival_s: float
    reply_delay_s: float


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
        require("origin_s", origin_s, True, "a time")
        require("horizon_s", horizon_s, horizon_s > 0.0, "a positive time")
        self.channel = Channel(model, seed, window_s)
        self._origin_s = origin_s
        self._window_s = window_s
        self._horizon_s = horizon_s
        self._free_s = -math.inf
        self._last_control_s = -math.inf

    def window(self, time_s: float) -> int:
        """Return the window that holds `time_s` [s]."""
        return math.floor((time_s - self._origin_s) / self._window_s + EDGE)

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

    def pass_control(self, bits: float, now_s: float) -> Passage:
        """Send a control message, such as a ping or a cancel, at `now_s` [s]; charges no airtime.

        It overtakes payloads, as traffic marked for it does, waits out an outage, and no other control message.

        Raises:
            ValueError: as `send`.
        """
        free_s, self._free_s = self._free_s, -math.inf
        try:
            sent = self.send(bits, now_s)
        finally:
            self._free_s = free_s
        arrival_s = max(sent.arrival_s, self._last_control_s)
        if arrival_s < math.inf:
            self._last_control_s = arrival_s
        return Passage(arrival_s, sent.reply_delay_s)

    def open_s(self, time_s: float) -> float:
        """Return when something that is due here at `time_s` [s] gets here: then, or when the outage is over."""
        window = self.window(time_s)
        start = window
        while self.channel.sample(max(0, window)).rate_bps <= 0.0:
            window += 1
            if (window - start) * self._window_s > self._horizon_s:
                return math.inf
        return time_s if window == start else self._origin_s + window * self._window_s

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
