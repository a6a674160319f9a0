"""The backup manoeuvres: the declared family of controls the vehicle can fall back on.

Each is a curve of fixed shape in the body frame of the moment it starts: a full-lock circle driven for ever, a straight
line, a turn at full lock until the straight line ahead is clear of every obstacle, or an arc or line on which the
vehicle brakes to rest. "Full lock" is the slip angle of `backup_slip_rad`, which respects the declared grip.
"""

import math
from enum import StrEnum

from shield.vehicle import Vehicle


class Manoeuvre(StrEnum):
    """One backup manoeuvre; the value is its name on the wire and in certificates."""

    LEFT = "left"
    RIGHT = "right"
    STRAIGHT = "straight"
    LEFT_THEN_STRAIGHT = "left_then_straight"
    RIGHT_THEN_STRAIGHT = "right_then_straight"
    BRAKE = "brake"
    BRAKE_LEFT = "brake_left"
    BRAKE_RIGHT = "brake_right"
    BRAKE_STRAIGHT = "brake_straight"

    @property
    def constant(self) -> bool:
        """Whether one slip angle is held for ever or until rest, so that no state is needed to carry it out."""
        return self not in (Manoeuvre.LEFT_THEN_STRAIGHT, Manoeuvre.RIGHT_THEN_STRAIGHT)

    @property
    def braking(self) -> bool:
        """Whether the vehicle ends at rest."""
        return self in _BRAKING

    @property
    def side(self) -> int:
        """+1 when it turns left, -1 when it turns right, 0 when it steers straight or holds the arc."""
        return _SIDE.get(self, 0)


_BRAKING = frozenset((Manoeuvre.BRAKE, Manoeuvre.BRAKE_LEFT, Manoeuvre.BRAKE_RIGHT, Manoeuvre.BRAKE_STRAIGHT))
_SIDE = {
    Manoeuvre.LEFT: 1,
    Manoeuvre.LEFT_THEN_STRAIGHT: 1,
    Manoeuvre.BRAKE_LEFT: 1,
    Manoeuvre.RIGHT: -1,
    Manoeuvre.RIGHT_THEN_STRAIGHT: -1,
    Manoeuvre.BRAKE_RIGHT: -1,
}


def grip_slip_rad(vehicle: Vehicle) -> float:
    """Return the largest slip angle the grip allows at top speed, min(beta_max, asin(l a_lat/v_max^2) - e) [rad].

    e is the declared steering error, so that the slip angle really driven stays within the grip too; zero: none.
    """
    grip = vehicle.bounds.lateral_accel_mps2
    return vehicle.beta_max_rad if grip is None else _slip_for_rad(vehicle, grip)


def braking_slip_rad(vehicle: Vehicle) -> float:
    """Return the largest slip angle [rad] on which the declared deceleration stays within the grip at top speed.

    Solves sqrt(d^2 + (v_max^2 sin(beta + e)/l)^2) <= a_lat; zero when no arc allows it.
    """
    grip, deceleration = vehicle.bounds.lateral_accel_mps2, vehicle.deceleration_mps2
    if grip is None or deceleration is None:
        return grip_slip_rad(vehicle)
    return _slip_for_rad(vehicle, math.sqrt(max(grip * grip - deceleration * deceleration, 0.0)))


def backup_slip_rad(vehicle: Vehicle, manoeuvre: Manoeuvre, beta_held_rad: float) -> float:
    """Return the slip angle [rad] that `manoeuvre` steers; for the turns followed by a straight, that of the turn.

    Args:
        vehicle: Vehicle with its declared bounds.
        manoeuvre: Backup manoeuvre.
        beta_held_rad: Slip angle held when it starts [rad]; `BRAKE` keeps it.
    """
    if manoeuvre is Manoeuvre.BRAKE:
        return beta_held_rad
    slip = braking_slip_rad(vehicle) if manoeuvre.braking else grip_slip_rad(vehicle)
    return manoeuvre.side * slip


def _slip_for_rad(vehicle: Vehicle, across_mps2: float) -> float:
    sine = min(1.0, vehicle.l_r_m * across_mps2 / vehicle.v_max_mps**2)
    error = vehicle.bounds.steering_rad + vehicle.bounds.steering_bias_rad
    if sine == 1.0:
        return vehicle.beta_max_rad
    return max(0.0, min(vehicle.beta_max_rad, math.asin(sine) - error))
