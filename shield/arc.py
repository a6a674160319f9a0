"""Motion of the kinematic bicycle with its slip angle held: one circular arc, whatever the speed does.

In arc length s, from the pose (x, y, psi) and with curvature kappa = sin(beta)/l_r,

    p(s) = p(0) + s sinc(kappa s/2) (cos(psi + beta + kappa s/2), sin(psi + beta + kappa s/2)),  sinc(z) = sin(z)/z,
    psi(s) = psi + kappa s.

How much arc can be driven in a time follows from the speed and acceleration bounds alone (`Reach`). Every function
takes floats or numpy arrays that broadcast, so that states and obstacles are vectorised alike.

Obstacle-relative polar form: r is the distance from the obstacle's centre to the vehicle and xi the heading relative to
the bearing away from the obstacle, so that the obstacle's centre lies at -r (cos xi, sin xi) in the body frame.

Reference: Odema et al., EnergyShield, arXiv 2302.06572 (vehicle model and polar form).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shield.vehicle import Vehicle

Array = NDArray[np.float64]


def advance(
    x_m: ArrayLike, y_m: ArrayLike, heading_rad: ArrayLike, beta_rad: ArrayLike, l_r_m: float, distance_m: ArrayLike
) -> tuple[Array, Array, Array]:
    """Return the pose after `distance_m` along the arc of a held slip angle.

    Args:
        x_m, y_m: Centre of gravity at the start [m].
        heading_rad: Heading at the start [rad].
        beta_rad: Slip angle held [rad].
        l_r_m: Distance from the centre of gravity to the rear axle [m].
        distance_m: Arc length driven [m].
    Returns:
        x [m], y [m] and heading [rad, not wrapped]; the shape is that of all arguments broadcast together.
    """
    distance = np.asarray(distance_m, dtype=np.float64)
    beta = np.asarray(beta_rad, dtype=np.float64)
    half_turn = 0.5 * np.sin(beta) / l_r_m * distance
    chord = distance * np.sinc(half_turn / np.pi)
    direction = np.asarray(heading_rad, dtype=np.float64) + beta + half_turn
    x, y, heading = np.broadcast_arrays(
        np.asarray(x_m) + chord * np.cos(direction),
        np.asarray(y_m) + chord * np.sin(direction),
        np.asarray(heading_rad) + 2.0 * half_turn,
    )
    return x, y, heading


def to_polar(
    x_m: ArrayLike, y_m: ArrayLike, heading_rad: ArrayLike, obstacle_x_m: ArrayLike, obstacle_y_m: ArrayLike
) -> tuple[Array, Array]:
    """Return (r [m], xi [rad] in [-pi, pi)) of a pose relative to an obstacle's centre."""
    away_x, away_y = np.asarray(x_m) - np.asarray(obstacle_x_m), np.asarray(y_m) - np.asarray(obstacle_y_m)
    turned = np.asarray(heading_rad) - np.arctan2(away_y, away_x)
    # The centre at -r (cos xi, sin xi) in the body frame means xi = bearing away - heading.
    xi = (-turned + np.pi) % (2.0 * np.pi) - np.pi
    return np.hypot(away_x, away_y), xi


def advance_polar(
    r_m: ArrayLike, xi_rad: ArrayLike, beta_rad: ArrayLike, l_r_m: float, distance_m: ArrayLike
) -> tuple[Array, Array]:
    """Return (r [m], xi [rad] in [-pi, pi)) after `distance_m` along the arc of a held slip angle.

    Args:
        r_m: Distance from the obstacle's centre [m].
        xi_rad: Relative heading; the obstacle lies at -r (cos xi, sin xi) in the body frame [rad].
        beta_rad: Slip angle held [rad].
        l_r_m: Distance from the centre of gravity to the rear axle [m].
        distance_m: Arc length driven [m].
    """
    r, xi = np.asarray(r_m, dtype=np.float64), np.asarray(xi_rad, dtype=np.float64)
    x, y, heading = advance(0.0, 0.0, 0.0, beta_rad, l_r_m, distance_m)
    return to_polar(x, y, heading, -r * np.cos(xi), -r * np.sin(xi))


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the vehicle can have come after a time, and how fast it can be there.

    With an acceleration bound a and a start at no more than v,

        s_max(T) = v T + a T^2/2 up to top speed, then v_max per second;  U(s)^2 = min(v_max^2, v^2 + 2 a s).

    Args:
        start_mps: Greatest speed at the start [m/s], at most `v_max_mps`.
        v_max_mps: Top speed [m/s].
        a_max_mps2: Greatest acceleration [m/s^2]; unlimited is expressed by `start_mps` = `v_max_mps`.
    """

    start_mps: float
    v_max_mps: float
    a_max_mps2: float

    @classmethod
    def of(cls, vehicle: Vehicle, speed_mps: float | None) -> "Reach":
        """Return the reach of `vehicle` from a measured speed [m/s]; None means anywhere in [0, v_max]."""
        v_max = vehicle.v_max_mps
        if speed_mps is None or vehicle.a_max_mps2 is None:
            return cls(v_max, v_max, 0.0)
        return cls(min(v_max, speed_mps + vehicle.bounds.speed_mps), v_max, vehicle.a_max_mps2)

    def distance_m(self, time_s: float) -> float:
        """Return s_max(T), the most arc driven in `time_s` [m]."""
        ramp_s = 0.0 if self.start_mps >= self.v_max_mps else (self.v_max_mps - self.start_mps) / self.a_max_mps2
        if time_s <= ramp_s:
            return time_s * (self.start_mps + 0.5 * self.a_max_mps2 * time_s)
        return 0.5 * ramp_s * (self.start_mps + self.v_max_mps) + (time_s - ramp_s) * self.v_max_mps

    def time_s(self, distance_m: float) -> float:
        """Return T(s), the least time in which `distance_m` [m] can be driven [s]; the inverse of `distance_m`."""
        if self.start_mps >= self.v_max_mps:
            return distance_m / self.v_max_mps
        speed, a = self.start_mps, self.a_max_mps2
        ramp_m = (self.v_max_mps - speed) * (self.v_max_mps + speed) / (2.0 * a)
        if distance_m <= ramp_m:
            root = math.sqrt(speed * speed + 2.0 * a * distance_m)
            return 2.0 * distance_m / (speed + root) if distance_m > 0.0 else 0.0
        return (self.v_max_mps - speed) / a + (distance_m - ramp_m) / self.v_max_mps

    def speed_after_m(self, distance_m: float) -> float:
        """Return the greatest speed `distance_m` [m] along the path [m/s]."""
        if self.start_mps >= self.v_max_mps:
            return self.v_max_mps
        return min(self.v_max_mps, math.sqrt(self.start_mps**2 + 2.0 * self.a_max_mps2 * distance_m))

    def speed_after_s(self, time_s: float) -> float:
        """Return the greatest speed after `time_s` [s] [m/s]."""
        if self.start_mps >= self.v_max_mps:
            return self.v_max_mps
        return min(self.v_max_mps, self.start_mps + self.a_max_mps2 * time_s)
