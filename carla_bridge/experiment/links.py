"""Links by name: "20mbps", "5mbps", "10mbps+50ms"; the rate's Rayleigh scale, and a constant queue at the edge.

As published, a link without a queue of its own has the geometric one (mean 32 us), a queue of s ms delays by s + 1 ms,
and the round-trip time is 0.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (wireless model).
"""

import re

from offload.errors import LinkError
from offload.link import Fixed, GeometricQueue, LinkModel, Rayleigh
from offload.radio import MEGABIT

PUBLISHED_LINKS = ("20mbps", "10mbps", "5mbps", "10mbps+10ms", "10mbps+20ms", "10mbps+50ms")
"""Those of the published wireless figure, in its order."""

_NAME = re.compile(r"(\d+(?:\.\d+)?)mbps(?:\+(\d+(?:\.\d+)?)ms)?")


def link_model(name: str) -> LinkModel:
    """Return the link called `name`.

    Raises:
        LinkError: the name is not of that form, or the rate is 0.
    """
    found = _NAME.fullmatch(name)
    if found is None or float(found[1]) == 0.0:
        raise LinkError(f"link {name!r}: must be a rate such as 20mbps, or a rate and a queue such as 10mbps+50ms")
    queue = GeometricQueue() if found[2] is None else Fixed((float(found[2]) + 1.0) / 1e3)
    return LinkModel(rate=Rayleigh(float(found[1]) * MEGABIT), queue=queue)
