"""Whether a vehicle file fits the vehicle that the simulator drives.

The shield reckons with arcs of curvature sin(beta) / l_r of the file. The simulator's vehicle, steered to the same slip
angle, drives sin(beta) / l_r' instead, or less where full lock at that speed does not reach beta. Either is the same as
an error of the slip angle, asin(sin(beta') l_r / l_r') - beta, which the file's declared steering errors must hold.
"""

import math

import numpy as np

from carla_bridge.carla.steering import Steering
from shield.vehicle import Vehicle

_L_R_SHARE = 0.02
_ROUNDING_RAD = 1e-3


def worst_slip_error(vehicle: Vehicle, steering: Steering) -> tuple[float, float, float]:
    """Return the greatest error of the slip angle [rad], and the slip angle [rad] and speed [m/s] it is reached at."""
    worst = (0.0, 0.0, 0.0)
    for speed_mps in np.linspace(0.0, vehicle.v_max_mps, 25).tolist():
        for beta_rad in np.linspace(0.0, vehicle.beta_max_rad, 41).tolist():
            driven_rad = steering.slip_rad(steering.steer(beta_rad, speed_mps), speed_mps)
            sine = math.sin(driven_rad) * vehicle.l_r_m / steering.l_r_m
            error_rad = abs(math.asin(min(1.0, sine)) - beta_rad)
            worst = max(worst, (error_rad, beta_rad, speed_mps))
    return worst


def mismatches(vehicle: Vehicle, steering: Steering, body_radius_m: float, tick_s: float) -> tuple[str, ...]:
    """Return in a sentence each what of the vehicle file does not hold in the simulator; empty: it fits.

    Args:
        vehicle: What the shield goes by.
        steering: What the simulator tells of its vehicle.
        body_radius_m: Radius about the vehicle's origin that holds its body, as the simulator tells [m].
        tick_s: Step of the simulator's clock [s].
    """
    bounds, found = vehicle.bounds, []
    if abs(vehicle.l_r_m - steering.l_r_m) > _L_R_SHARE * steering.l_r_m:
        found.append(f"l_r_m = {vehicle.l_r_m:g}: the simulator's rear axle is {steering.l_r_m:.3f} m behind it")
    error_rad, beta_rad, speed_mps = worst_slip_error(vehicle, steering)
    declared_rad = bounds.steering_rad + bounds.steering_bias_rad
    if error_rad > declared_rad + _ROUNDING_RAD:
        found.append(
            f"steering errors of {declared_rad:g} rad are declared: at {speed_mps:.1f} m/s a slip angle of "
            f"{beta_rad:.3f} rad is {error_rad:.3f} rad off; declare more, or a smaller beta_max_rad than "
            f"{vehicle.beta_max_rad:g}"
        )
    if 0.0 < vehicle.radius_m < body_radius_m:
        found.append(f"radius_m = {vehicle.radius_m:g}: the simulator's body needs {body_radius_m:.2f} m")
    for name, value in (("tick_s", bounds.tick_s), ("actuation_delay_s", bounds.actuation_delay_s)):
        if value < tick_s:
            found.append(f"bounds.{name} = {value:g}: the simulator's step is {tick_s:g} s")
    return tuple(found)
