"""A vehicle touching an obstacle, and whose doing it was: the same four causes in every world.

What the shield promises is that the vehicle does not touch a listed obstacle while its own speed is above zero and the
declared bounds hold. A contact outside that promise is told apart by its cause, from the ground truth.
"""

from dataclasses import dataclass
from enum import StrEnum

STANDING_MPS = 1e-6
"""A true speed up to this is rest [m/s]."""


class Cause(StrEnum):
    """Why a contact came about."""

    EGO_MOVING = "ego_moving_bounds_held"
    """The vehicle moved and every declared bound held: with the shield on, a fault of the shield or of the loop."""

    STRUCK_AT_REST = "struck_at_rest"
    """The vehicle stood, and the obstacle came to it."""

    BOUND_BROKEN = "bound_broken"
    """Something was worse than declared; the contact names what."""

    TOUCHING_AT_START = "touching_at_start"
    """They touched before the first tick."""


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact, from the ground truth.

    Args:
        time_s: The world's clock [s].
        ego_speed_mps: The vehicle's speed then [m/s].
        obstacle_speed_mps: The obstacle's speed then [m/s].
        clearance_m: Gap between body and obstacle, not positive [m].
        bounds_broken: What was worse than declared until then, each with value and bound; empty: nothing.
        touching_at_start: Whether they touched before the first tick.
    """

    time_s: float
    ego_speed_mps: float
    obstacle_speed_mps: float
    clearance_m: float
    bounds_broken: tuple[str, ...] = ()
    touching_at_start: bool = False

    @property
    def cause(self) -> Cause:
        """The cause that it counts under; what was outside the promise from the beginning comes first."""
        if self.touching_at_start:
            return Cause.TOUCHING_AT_START
        if self.ego_speed_mps <= STANDING_MPS:
            return Cause.STRUCK_AT_REST
        return Cause.BOUND_BROKEN if self.bounds_broken else Cause.EGO_MOVING
