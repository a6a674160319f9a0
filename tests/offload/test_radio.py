"""The published radio figures."""

import pytest

from offload.errors import LinkError
from offload.radio import MEGABIT, load_radio


@pytest.mark.parametrize(
    ("name", "up_mw", "down_mw"),
    [
        ("wifi", 283.17 * 10 + 132.86, 137.01 * 10 + 132.86),
        ("lte", 438.39 * 10 + 1288.04, 51.97 * 10 + 1288.04),
        ("3g", 868.98 * 10 + 817.88, 122.12 * 10 + 817.88),
    ],
)
def test_power_at_ten_mbps_is_the_published(name: str, up_mw: float, down_mw: float) -> None:
    radio = load_radio(name)
    assert 1e3 * radio.up_w(10 * MEGABIT) == pytest.approx(up_mw)
    assert 1e3 * radio.down_w(10 * MEGABIT) == pytest.approx(down_mw)


def test_an_unknown_radio_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LinkError, match="'5g': there are wifi, lte, 3g"):
        load_radio("5g")
