"""The channel of a link in each window of tau = 20 ms: a pure function of model, seed and window."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offload.link.distributions import Distribution, require
from offload.link.model import LinkModel
from offload.link.trace import Trace

WINDOW_S = 0.02
"""Length of a window [s], as published."""

EDGE = 1e-9
"""Windows; a time this close to the next window's start belongs to it."""

_BLOCK = 256
_KEPT_BLOCKS = 8
_PACKET_BITS = 12_000


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
        require("window_s", window_s, window_s > 0.0, "a positive time")
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
        starts_s = (np.arange(_BLOCK) + block * _BLOCK) * self._window_s
        rate = _values(model.rate, rng, starts_s)
        rtt = _values(model.rtt, rng, starts_s)
        queue = _values(model.queue, rng, starts_s)
        for outage in model.outages:
            inside = (starts_s >= outage.start_s - EDGE) & (starts_s < outage.start_s + outage.duration_s - EDGE)
            rate[inside] = 0.0
        packets = np.maximum(1, np.ceil(rate * self._window_s / _PACKET_BITS)).astype(np.int64)
        repeated = rng.binomial(packets, model.loss) / packets
        return np.stack([rate, rate * (1.0 - repeated), rtt, queue], axis=1)


def _values(quantity: Distribution | Trace, rng: np.random.Generator, starts_s: NDArray[Any]) -> NDArray[np.float64]:
    if isinstance(quantity, Trace):
        return quantity.at(starts_s + EDGE)
    return quantity.draw(rng, len(starts_s))
