"""What a link is declared to be."""

from dataclasses import dataclass, field

from offload.link.distributions import Distribution, Fixed, Rayleigh, require
from offload.link.trace import Trace


@dataclass(frozen=True, slots=True)
class Outage:
    """The link carries nothing in windows that start in [start_s, start_s + duration_s) [s], from its origin on."""

    start_s: float
    duration_s: float

    def __post_init__(self) -> None:
        require("start_s", self.start_s, self.start_s >= 0.0, "a time that is not negative")
        require("duration_s", self.duration_s, self.duration_s >= 0.0, "a time that is not negative")


@dataclass(frozen=True, slots=True)
class LinkModel:
    """What a link is declared to be.

    Args:
        rate: Rate the radio sends at [bit/s], drawn window by window or replayed.
        rtt: Round-trip time [s].
        queue: Delay at the far side before the answer [s].
        loss: Share of packets that must be sent again, in [0, 1).
        outages: Times at which the link carries nothing.
    """

    rate: Distribution | Trace = field(default_factory=Rayleigh)
    rtt: Distribution | Trace = field(default_factory=Fixed)
    queue: Distribution | Trace = field(default_factory=Fixed)
    loss: float = 0.0
    outages: tuple[Outage, ...] = ()

    def __post_init__(self) -> None:
        require("loss", self.loss, 0.0 <= self.loss < 1.0, "in [0, 1)")
