"""What each window of an episode cost, and what it was for."""

from collections import Counter
from dataclasses import dataclass, field

from offload.energy import sending_j
from offload.link import Transmission
from offload.policy import Action
from offload.radio import Radio


@dataclass(slots=True)
class Account:
    """Energy and actions, window by window.

    Args:
        radio: Whose power sending is charged at.
        energy_j: Published energy of each window, local runs and radio together [J].
        exit_scaled_j: The same, each local run scaled by the share of the network that ran [J].
        actions: How many windows were for what; with several models, each model's counts.
    """

    radio: Radio
    energy_j: list[float] = field(default_factory=list)
    exit_scaled_j: list[float] = field(default_factory=list)
    actions: Counter[Action] = field(default_factory=Counter)

    def open_window(self) -> None:
        """Begin the next window at no energy."""
        self.energy_j.append(0.0)
        self.exit_scaled_j.append(0.0)

    def local(self, energy_j: float, mac_share: float) -> None:
        """Charge the window with a full local run of `energy_j` [J], of which `mac_share` was needed."""
        self.energy_j[-1] += energy_j
        self.exit_scaled_j[-1] += mac_share * energy_j

    def sent(self, transmission: Transmission, window: int) -> None:
        """Charge the window, of index `window`, with what the radio sent of `transmission` in it."""
        spent_j = sum(sending_j(self.radio, item) for item in transmission.airtimes if item.window == window)
        self.energy_j[-1] += spent_j
        self.exit_scaled_j[-1] += spent_j
