"""What goes into the guard and what comes out of it.

All times are seconds of one host's monotonic clock. Angles are slip angles [rad], positive to the left.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle


class Mode(StrEnum):
    """What the vehicle is told to do."""

    HOLD = "hold"  # keep to what was asked for earlier, certified anew or stored and still valid
    ADMIT = "admit"  # a new proposal, or the nearest slip angle that can be certified
    BACKUP = "backup"  # run the stored backup manoeuvre now


class Reason(StrEnum):
    """Why the guard decided as it did. The codes are stable."""

    START_AT_REST = "start_at_rest"
    PROPOSAL_CERTIFIED = "proposal_certified"
    PROPOSAL_FILTERED = "proposal_filtered"
    OBSERVATION_MISSING = "observation_missing"
    OBSERVATION_STALE = "observation_stale"
    OBSERVATION_INVALID = "observation_invalid"
    OBSERVATION_OUT_OF_ORDER = "observation_out_of_order"
    PROPOSAL_MISSING = "proposal_missing"
    PROPOSAL_STALE = "proposal_stale"
    PROPOSAL_INVALID = "proposal_invalid"
    NOTHING_CERTIFIED = "nothing_certified"
    CLOCK_INVALID = "clock_invalid"
    CERTIFIER_FAILED = "certifier_failed"


class Command(Protocol):
    """A control as whoever follows it sees it: slip angle [rad], speed asked for [m/s], brake.

    `Control` is one, and so is the client's `headway.Control`.
    """

    @property
    def beta_rad(self) -> float: ...
    @property
    def speed_mps(self) -> float: ...
    @property
    def brake(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Control:
    """A control held until the next one.

    Args:
        beta_rad: Slip angle [rad].
        speed_mps: Speed asked for [m/s].
        brake: Decelerate at the declared rate until rest instead, the slip angle held.
    """

    beta_rad: float
    speed_mps: float
    brake: bool = False

    def possible_for(self, vehicle: Vehicle) -> bool:
        """Return whether every value is finite and within the vehicle's limits; a NaN is not."""
        steerable = abs(self.beta_rad) <= vehicle.beta_max_rad + ANGLE_GRAIN_RAD
        return steerable and 0.0 <= self.speed_mps <= vehicle.v_max_mps


AT_REST = Control(0.0, 0.0, brake=True)
"""The control of a vehicle that stands."""

CLOCK_GRAIN_S = 1e-6
"""Times closer than this are one time; what is certified covers it."""

ANGLE_GRAIN_RAD = 1e-9
"""Slip angles closer than this are one angle."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the vehicle side measured at one instant.

    Args:
        stamp_s: When it was measured [s].
        state: Pose, held slip angle and speed.
        obstacles: Every obstacle within the declared sensing range.
        applied_id: The decision in effect at the vehicle at that instant; 0: none yet, and the vehicle at rest.
    """

    stamp_s: float
    state: State
    obstacles: tuple[Disc, ...]
    applied_id: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A control asked for from outside, computed from the state at `stamp_s` [s]."""

    stamp_s: float
    beta_rad: float
    speed_mps: float


@dataclass(frozen=True, slots=True)
class Decision:
    """One tick's answer: the pair (control until a time, then a backup) and how it came about.

    Args:
        id: Rises with every new decision; a repeat of a decision still in force carries the same id.
        stamp_s: The instant of the observation that it rests on; deadlines count from here [s].
        control: The control to hold. In mode BACKUP what the guard believes the vehicle's stored backup to be.
        apply_by_s: The latest instant at which it may take effect [s].
        hold_until_s: When the backup takes over by itself [s].
        backup: The control that takes over.
        backup_manoeuvre: Its manoeuvre.
        deadline_s: How long the held control may go on while some manoeuvre still rescues [s]: the tolerable deadline.
        barrier_deadline_s: The same by the barrier; None without one or where nothing was certified [s].
        limited_by: What limits `deadline_s`.
        intervened: The control is not the one proposed.
        proposed_beta_rad: The slip angle asked for; None: nothing usable was.
        shortfall_s: By how much the proposal's own hold fell short of what a tick needs [s]; 0 when it did not.
        switch_time_s: How long after `hold_until_s` the backup may begin at the latest [s].
    """

    id: int
    stamp_s: float
    mode: Mode
    reason: Reason
    control: Control
    apply_by_s: float
    hold_until_s: float
    backup: Control | None
    backup_manoeuvre: Manoeuvre | None
    deadline_s: float
    barrier_deadline_s: float | None
    limited_by: str
    intervened: bool
    proposed_beta_rad: float | None
    shortfall_s: float
    switch_time_s: float


def flaw_of_observation(observation: Observation, vehicle: Vehicle) -> bool:
    """Return whether a value is not finite, impossible, or outside what the vehicle's declared bounds allow."""
    state = observation.state
    numbers = [observation.stamp_s, state.x_m, state.y_m, state.heading_rad]
    for disc in observation.obstacles:
        numbers += (disc.x_m, disc.y_m, disc.radius_m, disc.speed_max_mps)
        if not (disc.radius_m >= 0.0 and disc.speed_max_mps >= 0.0):
            return True
    if not all(map(math.isfinite, numbers)) or observation.applied_id < 0:
        return True
    bounds = vehicle.bounds
    steering = bounds.steering_rad + bounds.steering_bias_rad + ANGLE_GRAIN_RAD
    if not abs(state.beta_rad) <= vehicle.beta_max_rad + steering:
        return True
    speed = state.speed_mps
    slack = bounds.speed_mps + 1e-6
    return speed is not None and not -slack <= speed <= vehicle.v_max_mps + slack
