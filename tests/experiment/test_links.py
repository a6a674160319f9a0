"""Links by name."""

import pytest

from carla_bridge.experiment.links import PUBLISHED_LINKS, link_model
from offload.errors import LinkError
from offload.link import Fixed, GeometricQueue, Rayleigh
from offload.radio import MEGABIT


def test_a_name_tells_rate_and_queue() -> None:
    plain, queued = link_model("20mbps"), link_model("7.5mbps+50ms")
    assert (plain.rate, plain.queue) == (Rayleigh(20 * MEGABIT), GeometricQueue())
    assert (queued.rate, queued.queue) == (Rayleigh(7.5 * MEGABIT), Fixed(0.051))
    assert all(link_model(name) for name in PUBLISHED_LINKS)


@pytest.mark.parametrize("name", ["", "fast", "0mbps", "20", "20mbps+", "20mbps+5", "-3mbps", "20mbps+5ms "])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(LinkError, match="must be a rate such as 20mbps"):
        link_model(name)
