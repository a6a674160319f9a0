"""The kinematic bicycle about its centre of gravity, moved on by exact arcs.

    x' = v cos(psi + beta)   y' = v sin(psi + beta)   psi' = v sin(beta) / l_r

With the slip angle held over a step of length ds, the path is the arc of curvature k = sin(beta) / l_r:

    x += ds sinc(k ds / 2) cos(psi + beta + k ds / 2),   y likewise with sin,   psi += k ds,   sinc(a) = sin(a) / a
"""

import math
from dataclasses import dataclass

from shield.state import wrap_angle
from shield.vehicle import Vehicle

SERVICE_ACCEL_MPS2 = 4.0
SERVICE_DECEL_MPS2 = 6.0


@dataclass(slots=True)
class Bicycle:
    """A vehicle's true motion.

    Speed follows the speed asked for at `a_max_mps2`, and down at `deceleration_mps2`, or at 4 and 6 m/s^2 where the
    vehicle declares none. The slip angle follows at once, or at the declared slip rate. A brake builds up linearly over
    the declared time.

    Args:
        vehicle: Its parameters and bounds.
        x_m, y_m, heading_rad: Pose of the centre of gravity [m, rad].
        beta_rad: Slip angle [rad].
        speed_mps: Speed [m/s].
    """

    vehicle: Vehicle
    x_m: float
    y_m: float
    heading_rad: float
    beta_rad: float = 0.0
    speed_mps: float = 0.0
    _braked_s: float = 0.0

    def step(self, beta_rad: float, speed_mps: float, brake: bool, dt_s: float) -> float:
        """Move on by `dt_s` [s] under one control and return the way driven [m]."""
        self._steer(beta_rad, dt_s)
        way_m = self._change_speed(0.0 if brake else speed_mps, brake, dt_s)
        curvature = math.sin(self.beta_rad) / self.vehicle.l_r_m
        turn = curvature * way_m
        half = 0.5 * turn
        chord = way_m * (math.sin(half) / half if abs(half) > 1e-8 else 1.0)
        direction = self.heading_rad + self.beta_rad + half
        self.x_m += chord * math.cos(direction)
        self.y_m += chord * math.sin(direction)
        self.heading_rad = wrap_angle(self.heading_rad + turn)
        return way_m

    def _steer(self, beta_rad: float, dt_s: float) -> None:
        limit = self.vehicle.beta_max_rad
        target = max(-limit, min(limit, beta_rad))
        rate = self.vehicle.bounds.slip_rate_radps
        if rate is not None:
            target = max(self.beta_rad - rate * dt_s, min(self.beta_rad + rate * dt_s, target))
        self.beta_rad = target

    def _change_speed(self, target_mps: float, brake: bool, dt_s: float) -> float:
        target = max(0.0, min(self.vehicle.v_max_mps, target_mps))
        change = target - self.speed_mps
        rate = self._deceleration(brake, dt_s) if change < 0.0 else (self.vehicle.a_max_mps2 or SERVICE_ACCEL_MPS2)
        self._braked_s = self._braked_s + dt_s if brake else 0.0
        reached_s = abs(change) / rate if rate > 0.0 else math.inf
        if reached_s <= dt_s:
            way_m = 0.5 * (self.speed_mps + target) * reached_s + target * (dt_s - reached_s)
            self.speed_mps = target
            return way_m
        after = self.speed_mps + math.copysign(rate * dt_s, change)
        way_m = 0.5 * (self.speed_mps + after) * dt_s
        self.speed_mps = after
        return way_m

    def _deceleration(self, brake: bool, dt_s: float) -> float:
        full = self.vehicle.deceleration_mps2 or SERVICE_DECEL_MPS2
        build_s = self.vehicle.bounds.brake_build_s
        if not brake or build_s <= 0.0:
            return full
        return full * min(1.0, (self._braked_s + 0.5 * dt_s) / build_s)
