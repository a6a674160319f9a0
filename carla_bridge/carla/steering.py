"""From slip angle and speed asked for to CARLA's pedals and wheel, through the vehicle's own measurements.

With wheelbase L and distance l_r from the rear axle to the point whose slip angle beta is meant, front wheels at angle
delta give

    tan(beta) = (l_r / L) tan(delta),      delta = -steer * full_lock * curve(v)

CARLA's steer is positive to the right; its steering curve takes away from full lock as speed v [km/h] grows.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from carla_bridge.errors import SimulatorError

_GAIN_PER_MPS = 0.5


@dataclass(frozen=True, slots=True)
class Steering:
    """A vehicle's geometry as its simulator tells it.

    Args:
        wheelbase_m: Between the axles [m].
        l_r_m: From the rear axle to the vehicle's origin [m].
        lock_rad: Angle of the front wheels at full lock, standing [rad].
        speeds_kmph, shares: The steering curve: share of full lock by speed.
    """

    wheelbase_m: float
    l_r_m: float
    lock_rad: float
    speeds_kmph: tuple[float, ...]
    shares: tuple[float, ...]

    def steer(self, beta_rad: float, speed_mps: float) -> float:
        """Return the steer in [-1, 1] whose slip angle is `beta_rad`, or the nearest there is."""
        delta_rad = math.atan(self.wheelbase_m / self.l_r_m * math.tan(beta_rad))
        return max(-1.0, min(1.0, -delta_rad / self._lock_at(speed_mps)))

    def slip_rad(self, steer: float, speed_mps: float) -> float:
        """Return the slip angle that `steer` gives at `speed_mps` [rad]."""
        delta_rad = -steer * self._lock_at(speed_mps)
        return math.atan(self.l_r_m / self.wheelbase_m * math.tan(delta_rad))

    def _lock_at(self, speed_mps: float) -> float:
        return self.lock_rad * float(np.interp(3.6 * speed_mps, self.speeds_kmph, self.shares))


def measure(vehicle: Any) -> Steering:
    """Return the geometry of a spawned carla.Vehicle.

    Wheel positions come in centimetres and in the world's axes: they are taken along the vehicle's heading.

    Raises:
        SimulatorError: it does not have steered wheels ahead of unsteered ones.
    """
    physics = vehicle.get_physics_control()
    place = vehicle.get_transform()
    yaw = math.radians(place.rotation.yaw)

    def along_m(wheel: Any) -> float:
        dx, dy = 0.01 * wheel.position.x - place.location.x, 0.01 * wheel.position.y - place.location.y
        return float(dx * math.cos(yaw) + dy * math.sin(yaw))

    front = [wheel for wheel in physics.wheels if wheel.max_steer_angle > 0.0]
    rear = [wheel for wheel in physics.wheels if wheel.max_steer_angle <= 0.0]
    ahead_m = float(np.mean([along_m(wheel) for wheel in front])) if front else 0.0
    behind_m = -float(np.mean([along_m(wheel) for wheel in rear])) if rear else 0.0
    if ahead_m + behind_m <= 0.0 or behind_m <= 0.0:
        raise SimulatorError(
            f"{vehicle.type_id}: {len(front)} steered wheels {ahead_m:.2f} m ahead and {len(rear)} unsteered "
            f"{behind_m:.2f} m behind its origin: a car with front steering is needed, such as vehicle.tesla.model3"
        )
    lock_rad = math.radians(min(float(wheel.max_steer_angle) for wheel in front))
    curve = sorted((float(point.x), float(point.y)) for point in physics.steering_curve) or [(0.0, 1.0)]
    speeds, shares = zip(*curve, strict=True)
    return Steering(ahead_m + behind_m, behind_m, lock_rad, speeds, shares)


def pedals(speed_mps: float, asked_mps: float, brake: bool) -> tuple[float, float]:
    """Return throttle and brake, each in [0, 1], that hold the speed asked for; a brake asked for is full."""
    if brake:
        return 0.0, 1.0
    push = _GAIN_PER_MPS * (asked_mps - speed_mps)
    return max(0.0, min(1.0, push)), max(0.0, min(1.0, -push))
