"""What an energy meter is.

Every meter says by its origin whether it measures or repeats a declaration, and every reading how far it may be off by
the meter's own doing: counters that are brought up to date now and then, power that is only sampled. The accuracy of
the sensor itself is its maker's affair and not in it.
"""

from dataclasses import dataclass
from typing import Protocol

from devices.profile.figures import Origin


@dataclass(frozen=True, slots=True)
class Reading:
    """Energy since the meter was opened.

    Args:
        energy_j: The energy [J].
        error_j: How far it may be off, either way, for want of samples [J].
    """

    energy_j: float
    error_j: float = 0.0

    def since(self, earlier: "Reading") -> "Reading":
        """Return the energy between two readings; the uncertainty of each end counts."""
        return Reading(self.energy_j - earlier.energy_j, max(self.error_j, earlier.error_j))


class EnergyMeter(Protocol):
    """Tells the energy that a part of the board has used, whoever used it."""

    @property
    def name(self) -> str:
        """Name of the meter and of what it measures."""
        ...

    @property
    def origin(self) -> Origin:
        """Whether its readings are measured or declared."""
        ...

    def read(self) -> Reading:
        """Return the energy since the meter was opened; never decreases.

        Raises:
            MeterError: The meter is gone, or its readings can't be trusted.
        """
        ...

    def close(self) -> None:
        """Stop sampling and give the meter back."""
        ...
