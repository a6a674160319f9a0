"""Power a radio draws while it sends or receives.

    P_up(phi) = a_up phi + b_up,   P_down(phi) = a_down phi + b_down      [mW], phi in Mbps, 1 Mbit = 2^20 bit

The published figures for WiFi, LTE and 3G stand in ``profiles/radio.toml`` with their source.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (wireless energy model).
"""

import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files

from offload.errors import LinkError

MEGABIT = 2**20
"""Bits in one Mbit, as the published payloads and rates count them."""


@dataclass(frozen=True, slots=True)
class Radio:
    """A radio's power, linear in the rate it works at.

    Args:
        up_mw_per_mbps, up_base_mw: Slope [mW/Mbps] and base [mW] while sending.
        down_mw_per_mbps, down_base_mw: The same while receiving.
    """

    name: str
    up_mw_per_mbps: float
    up_base_mw: float
    down_mw_per_mbps: float
    down_base_mw: float

    def up_w(self, rate_bps: float) -> float:
        """Return the power while sending at `rate_bps` [bit/s], in W."""
        return (self.up_mw_per_mbps * rate_bps / MEGABIT + self.up_base_mw) / 1e3

    def down_w(self, rate_bps: float) -> float:
        """Return the power while receiving at `rate_bps` [bit/s], in W."""
        return (self.down_mw_per_mbps * rate_bps / MEGABIT + self.down_base_mw) / 1e3


def load_radio(name: str) -> Radio:
    """Return a published radio by its name: "wifi", "lte" or "3g".

    Raises:
        LinkError: no such radio.
    """
    table = tomllib.loads((files("offload") / "profiles" / "radio.toml").read_text())
    radios = {key: value for key, value in table.items() if isinstance(value, dict)}
    if name not in radios:
        raise LinkError(f"no published radio is called {name!r}: there are {', '.join(radios)}")
    return Radio(name, **{item.name: radios[name][item.name] for item in fields(Radio) if item.name != "name"})
