"""The vehicle side of the guard: keeps one certified pair and switches to its backup by itself.

The applier holds (control, hold-until, backup) of the last decision it accepted. Before `hold_until_s` the control is
the one held, from then on the backup, whether the guard answers or not. It has no clock of its own: every time is
passed in, and is the time at which the control takes effect at the vehicle.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from shield.guard.messages import AT_REST, CLOCK_GRAIN_S, Control, Decision, Mode
from shield.vehicle import Vehicle


class Source(StrEnum):
    """Which part of the stored pair a control is."""

    HELD = "held"
    BACKUP = "backup"
    NONE = "none"  # nothing has been stored yet


@dataclass(frozen=True, slots=True)
class Applied:
    """The control in effect at an instant.

    Args:
        control: Control to apply.
        source: Which part of the stored pair it is.
        certified: Whether it is certified for this instant; an instant without is a *late control*.
        decision_id: Decision it comes from; 0: none.
    """

    control: Control
    source: Source
    certified: bool
    decision_id: int


class Applier:
    """Keeps the last accepted decision and answers which control is in effect.

    Args:
        vehicle: Vehicle with its declared bounds.
        at_rest: Whether the vehicle is known to stand until the first decision; standing needs no certificate.
    """

    def __init__(self, vehicle: Vehicle, *, at_rest: bool = True) -> None:
        self._vehicle = vehicle
        self._at_rest = at_rest
        self._id = 0
        self._control: Control | None = None
        self._backup = AT_REST
        self._hold_until_s = math.inf
        self._switched = False
        self._overdue = False

    @property
    def applied_id(self) -> int:
        """Id of the decision in effect, for the next observation; 0: none."""
        return self._id

    @property
    def hold_until_s(self) -> float:
        """When the stored backup takes over, or took over [s]; infinite while nothing is stored."""
        return self._hold_until_s

    def accept(self, decision: Decision, now_s: float) -> bool:
        """Store `decision` if it may still take effect at `now_s`; else keep what is stored.

        Refused are: one that comes after its `apply_by_s`; one not newer than the last accepted; one with a value that
        is not a number or beyond the vehicle's limits. A decision in mode BACKUP starts the stored backup, whatever
        backup it names, because only that one fits the arc the vehicle is on.
        """
        in_time = now_s <= decision.apply_by_s + CLOCK_GRAIN_S
        if not in_time or not math.isfinite(now_s) or decision.id <= self._id:
            return False
        if decision.mode is Mode.BACKUP:
            self._id = decision.id
            self._hold_until_s = min(self._hold_until_s, now_s)
            return True
        backup = decision.backup
        if backup is None or math.isnan(decision.hold_until_s):
            return False
        if not (decision.control.possible_for(self._vehicle) and backup.possible_for(self._vehicle)):
            return False
        self._id = decision.id
        self._control, self._backup = decision.control, backup
        self._hold_until_s = decision.hold_until_s
        self._switched = self._overdue = False
        return True

    def control_at(self, time_s: float) -> Applied:
        """Return the control in effect at `time_s` [s]; ask in the order of time, once for each control applied.

        The backup is certified to start no later than the declared switch time after `hold_until_s`. Where the first
        question after that comes later still, the vehicle side itself was stalled with the old control in effect, and
        what follows is not certified until the next decision.
        """
        if self._control is None:
            return Applied(AT_REST, Source.NONE, self._at_rest, self._id)
        if time_s < self._hold_until_s:
            return Applied(self._control, Source.HELD, not self._overdue, self._id)
        if not self._switched:
            latest_s = self._hold_until_s + self._vehicle.bounds.switch_time_s + CLOCK_GRAIN_S
            self._switched, self._overdue = True, not time_s <= latest_s
        return Applied(self._backup, Source.BACKUP, not self._overdue, self._id)
