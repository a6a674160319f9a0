"""How far many vehicles can come in a time, and how soon they can be there: `shield.arc.Reach` for arrays.

With s_max(T) and T(s) as there, the pose after a time of a vehicle that drives as fast as it may is that which
`shield.arc.advance` gives after `farthest_m`; no vehicle that obeys its bounds is farther along its arc by then.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shield.vehicle import Vehicle

Array = NDArray[np.float64]


def starts_mps(vehicle: Vehicle, speed_mps: ArrayLike | None) -> tuple[Array, float]:
    """Return the greatest speeds at the start [m/s] and the acceleration bound [m/s^2] that hold for `vehicle`.

    Args:
        vehicle: Its top speed, acceleration bound and speed error count.
        speed_mps: Measured speeds, any shape [m/s]; None: anywhere from standing to top speed.
    Returns:
        Speeds, shape of `speed_mps`, () for None; without an acceleration bound all are the top speed.
    Raises:
        ValueError: a speed is not a number, infinite or negative.
    """
    if speed_mps is None:
        return np.asarray(vehicle.v_max_mps), 0.0
    speed = np.asarray(speed_mps, np.float64)
    if not ((speed >= 0.0) & (speed < np.inf)).all():
        raise ValueError(f"speeds from {speed.min()} to {speed.max()} m/s: each must be finite and not negative")
    if vehicle.a_max_mps2 is None:
        return np.full(speed.shape, vehicle.v_max_mps), 0.0
    return np.minimum(vehicle.v_max_mps, speed + vehicle.bounds.speed_mps), vehicle.a_max_mps2


def farthest_m(vehicle: Vehicle, speed_mps: ArrayLike | None, time_s: ArrayLike) -> Array:
    """Return s_max(T), the most arc driven in `time_s` [s] from `speed_mps` [m/s or None], broadcast together [m].

    Raises:
        ValueError: see `starts_mps`.
    """
    start, a = starts_mps(vehicle, speed_mps)
    top, time = vehicle.v_max_mps, np.asarray(time_s, np.float64)
    ramp = np.minimum(time, (top - start) / a) if a else np.zeros(np.broadcast_shapes(time.shape, start.shape))
    return np.asarray(ramp * (start + 0.5 * a * ramp) + (time - ramp) * top)


def soonest_s(vehicle: Vehicle, speed_mps: ArrayLike | None, distance_m: ArrayLike) -> Array:
    """Return T(s), the least time to drive `distance_m` [m] from `speed_mps` [m/s or None], broadcast together [s].

    Raises:
        ValueError: see `starts_mps`.
    """
    start, a = starts_mps(vehicle, speed_mps)
    top, distance = vehicle.v_max_mps, np.asarray(distance_m, np.float64)
    if not a:
        return np.asarray(distance / top + 0.0 * start)
    ramp = np.minimum(distance, (top - start) * (top + start) / (2.0 * a))
    speed = start + np.sqrt(start * start + 2.0 * a * ramp)
    rising = np.divide(2.0 * ramp, speed, out=np.zeros(speed.shape), where=speed > 0.0)
    return np.asarray(rising + (distance - ramp) / top)
