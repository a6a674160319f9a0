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

from offload.link.channel import WINDOW_S, Channel, ChannelSample
from offload.link.distributions import Distribution, Fixed, Gamma, GeometricQueue, Rayleigh
from offload.link.emulated import Airtime, EmulatedLink, Passage, Transmission
from offload.link.model import LinkModel, Outage
from offload.link.trace import Trace, read_trace

__all__ = [
    "WINDOW_S",
    "Airtime",
    "Channel",
    "ChannelSample",
    "Distribution",
    "EmulatedLink",
    "Fixed",
    "Gamma",
    "GeometricQueue",
    "LinkModel",
    "Outage",
    "Passage",
    "Rayleigh",
    "Trace",
    "Transmission",
    "read_trace",
]
