"""How long the held control may be kept: three deadlines behind one interface.

    published   the published table's look-up, for comparison
    barrier     until the barrier h falls below zero along the held arc; a guarantee for one static disc
    backup      the largest T such that, wherever the vehicle can be by T, it has hit nothing and some backup manoeuvre
                started there clears every obstacle; the guard certifies with this one

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (tolerable deadline).
"""

import math
from collections.abc import Sequence
from enum import StrEnum

from shield.answer import Certificate, Deadline, Interval
from shield.backup.query import backup_deadline
from shield.barrier import barrier_deadline
from shield.published import published_deadline
from shield.state import Disc, State
from shield.vehicle import Vehicle

__all__ = ["Certificate", "Deadline", "Interval", "Method", "tolerable_deadline"]


class Method(StrEnum):
    """Which deadline is asked for."""

    PUBLISHED = "published"
    BARRIER = "barrier"
    BACKUP = "backup"


def tolerable_deadline(
    method: Method,
    vehicle: Vehicle,
    state: State,
    obstacles: Sequence[Disc],
    cap_s: float = 10.0,
    *,
    beta_in_flight_rad: float | None = None,
) -> Deadline:
    """Return how long `state.beta_rad` may be held.

    Args:
        method: Which deadline; `BACKUP` is the one that covers many and moving obstacles and every declared bound.
        vehicle: Vehicle with its declared bounds.
        state: Pose, the slip angle held from here on, and the measured speed if there is one. It is `sensing_age_s` old
            at most, the slip angle having been held since; roll it forward through the commands when it was not.
        obstacles: Every obstacle that may matter.
        cap_s: Longest deadline asked about [s].
        beta_in_flight_rad: `BACKUP` only: the slip angle [rad] that stays in effect until the actuation delay has
            passed, when `state.beta_rad` is a new one. None: `state.beta_rad` is in effect already.
    Raises:
        ValueError: an input is not finite, a radius or a speed is negative, the slip angle is beyond full lock, the
            cap is not positive, or `method` is unknown.
    """
    _check(vehicle, state, obstacles, cap_s, beta_in_flight_rad)
    if method is Method.BACKUP:
        return backup_deadline(vehicle, state, obstacles, cap_s, beta_in_flight_rad)
    if method is Method.BARRIER:
        return barrier_deadline(vehicle, state, obstacles, cap_s)
    if method is Method.PUBLISHED:
        return published_deadline(vehicle, state, obstacles, cap_s)
    raise ValueError(f"method = {method!r}: must be one of {', '.join(map(str, Method))}")


SLIP_GRAIN_RAD = 1e-9
"""A slip angle beyond full lock by less than this is full lock written in decimals."""


def _check(
    vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float, beta_in_flight_rad: float | None
) -> None:
    isfinite = math.isfinite
    # The sum of finite numbers of sane size is finite, so one test covers the common case.
    if not isfinite(state.x_m + state.y_m + state.heading_rad):
        raise ValueError(f"pose ({state.x_m}, {state.y_m}, {state.heading_rad}): every part must be a finite number")
    for name, beta in (("beta_rad", state.beta_rad), ("beta_in_flight_rad", beta_in_flight_rad)):
        if beta is not None and not abs(beta) <= vehicle.beta_max_rad + SLIP_GRAIN_RAD:
            raise ValueError(f"{name} = {beta}: must lie within full lock, {vehicle.beta_max_rad:g} rad either way")
    speed = state.speed_mps
    if speed is not None and not 0.0 <= speed < math.inf:
        raise ValueError(f"speed_mps = {speed}: must be a finite number that is not negative")
    if not 0.0 < cap_s < math.inf:
        raise ValueError(f"cap_s = {cap_s}: must be a finite number above zero")
    for index, disc in enumerate(obstacles):
        if not isfinite(disc.x_m + disc.y_m):
            raise ValueError(f"obstacle {index} at ({disc.x_m}, {disc.y_m}): both must be finite numbers")
        if not (0.0 <= disc.radius_m < math.inf and 0.0 <= disc.speed_max_mps < math.inf):
            raise ValueError(
                f"obstacle {index}: radius_m = {disc.radius_m}, speed_max_mps = {disc.speed_max_mps}: "
                "both must be finite numbers that are not negative"
            )
