"""The energy account of windows.

A local window costs what the published profile says a full run of the network costs (a Drive PX2 running ResNet-152 at
160x80: 16.211 ms x 7 W = 113.48 mJ). In a column of its own the same run is scaled by the share of the network's
multiply-accumulates up to the exit that answered. A window in which the radio sends costs

    P_up(phi) min(t_tx, tau)

and nothing is charged for waiting. A window may hold both, a local run and the tail of a transmission.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (energy model).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from offload.link import WINDOW_S, Airtime
from offload.radio import Radio


def sending_j(radio: Radio, airtime: Airtime, window_s: float = WINDOW_S) -> float:
    """Return the energy of sending in one window, P_up(phi) min(t_tx, tau) [J]."""
    return radio.up_w(airtime.rate_bps) * min(airtime.duration_s, window_s)


@dataclass(frozen=True, slots=True)
class EnergyTotals:
    """What an account adds up to.

    Args:
        windows, local_windows: How many windows there were, and in how many the network ran here.
        local_j: Local runs at the published full-network energy [J].
        local_exit_scaled_j: The same, each scaled by the share of the network it ran [J].
        radio_j: Energy of sending [J].
        local_energy_j: Energy of one full local run [J].
    """

    windows: int
    local_windows: int
    local_j: float
    local_exit_scaled_j: float
    radio_j: float
    local_energy_j: float

    @property
    def mj_per_window(self) -> float:
        """Published energy of a window, local runs and radio together [mJ]; NaN without windows."""
        return self._per_window(self.local_j)

    @property
    def exit_scaled_mj_per_window(self) -> float:
        """The same with local runs scaled by the share of the network they ran [mJ]; NaN without windows."""
        return self._per_window(self.local_exit_scaled_j)

    @property
    def saved_pct(self) -> float:
        """How much less than a local run in every window [%]; NaN without windows."""
        return 100.0 * (1.0 - self.mj_per_window / (1e3 * self.local_energy_j))

    def _per_window(self, local_j: float) -> float:
        return 1e3 * (local_j + self.radio_j) / self.windows if self.windows else math.nan


class WindowEnergy:
    """Adds up the energy of windows.

    Args:
        local_energy_j: Energy of one full local run [J], from the profile of the declared device.
        radio: Whose power sending is charged at.
        window_s: Length of a window [s]; no more than that of airtime is charged in one window.
    """

    def __init__(self, local_energy_j: float, radio: Radio, window_s: float = WINDOW_S) -> None:
        if not math.isfinite(local_energy_j) or local_energy_j <= 0.0:
            raise ValueError(f"local_energy_j = {local_energy_j!r}: must be a positive number")
        self._local_energy_j = local_energy_j
        self._radio = radio
        self._window_s = window_s
        self._windows = 0
        self._local_windows = 0
        self._local_exit_scaled_j = 0.0
        self._radio_j = 0.0

    def window(self) -> None:
        """Count one window; what happened in it is charged by `local` and `sent`."""
        self._windows += 1

    def local(self, mac_share: float = 1.0) -> None:
        """Charge one local run of which the share `mac_share` of the network ran, in (0, 1]."""
        if not 0.0 < mac_share <= 1.0:
            raise ValueError(f"mac_share = {mac_share!r}: must be above 0 and at most 1")
        self._local_windows += 1
        self._local_exit_scaled_j += mac_share * self._local_energy_j

    def sent(self, airtimes: Iterable[Airtime]) -> None:
        """Charge the time the radio sent."""
        for item in airtimes:
            self._radio_j += sending_j(self._radio, item, self._window_s)

    def totals(self) -> EnergyTotals:
        """Return what was charged so far."""
        return EnergyTotals(
            self._windows,
            self._local_windows,
            self._local_windows * self._local_energy_j,
            self._local_exit_scaled_j,
            self._radio_j,
            self._local_energy_j,
        )
