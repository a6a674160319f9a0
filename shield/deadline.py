"""How long the held control may be kept: three deadlines behind one interface.

    published   the published table's look-up, for comparison
    barrier     until the barrier h falls below zero along the held arc; a guarantee for one static disc
    backup      the largest T such that, wherever the vehicle can be by T, it has hit nothing and some backup manoeuvre
                started there clears every obstacle; the guard certifies with this one

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (tolerable deadline).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle


class Method(StrEnum):
    """Which deadline is asked for."""

    PUBLISHED = "published"
    BARRIER = "barrier"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class Interval:
    """`manoeuvre` may start anywhere between `start_m` and `end_m` [m] of the held arc, the switch time included."""

    start_m: float
    end_m: float
    manoeuvre: Manoeuvre


@dataclass(frozen=True, slots=True)
class Certificate:
    """What proves a deadline: for every place on the held arc a manoeuvre that clears every listed obstacle.

    Args:
        intervals: In order, without a gap from 0 to the certified distance; empty when nothing is certified.
        single: The constant manoeuvre that serves longest from the start of the arc, for when the state is lost.
        single_until_m: Up to where on the arc `single` may start [m].
        single_until_s: The least time in which that place can be reached [s].
        bounds: Fingerprint of the vehicle and its declared bounds.
    """

    intervals: tuple[Interval, ...]
    single: Manoeuvre | None
    single_until_m: float
    single_until_s: float
    bounds: str


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long the held control may be kept, and why no longer.

    Args:
        deadline_s: Tolerable deadline [s], at most the cap asked for.
        distance_m: Arc length that the deadline allows [m].
        limited_by: "obstacle:<index>", "bound:<name>" or "cap".
        manoeuvre: The manoeuvre that is due at the deadline; None when there is none.
        certificate: What proves it.
        guarantee: Whether the deadline is a guarantee for every listed obstacle at once.
    """

    deadline_s: float
    distance_m: float
    limited_by: str
    manoeuvre: Manoeuvre | None
    certificate: Certificate
    guarantee: bool


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
    # Imported when first asked for: these modules build on the types above.
    if method is Method.BACKUP:
        from shield.backup.query import backup_deadline

        return backup_deadline(vehicle, state, obstacles, cap_s, beta_in_flight_rad)
    if method is Method.BARRIER:
        from shield.barrier import barrier_deadline

        return barrier_deadline(vehicle, state, obstacles, cap_s)
    if method is Method.PUBLISHED:
        from shield.published import published_deadline

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
