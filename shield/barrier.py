"""The barrier function of one obstacle, and how long a held slip angle keeps it.

    h(r, xi) = (sigma cos(xi/2) + 1 - sigma)/r_bar - 1/r        safe iff h >= 0
    dh/ds = cos(xi - beta)/r^2 + sigma sin(xi/2)/(2 r_bar) (sin(xi - beta)/r + sin(beta)/l_r)
    admissible slip:  dh/ds + K h >= 0,   K = max(1, 1/r_bar) (sigma/(2 r_bar) + 3)

r [m] is the distance from the obstacle's centre to the vehicle's centre of gravity, xi [rad] the angle of that vector
against the heading, in [-pi, pi]: 0 drives straight away, +-pi straight at it. dh/dt = v dh/ds, and the published
condition dh/dt + K v_max h >= 0 at v = v_max is the one above.

Reference: Ferlez et al., ShieldNN, arXiv 2006.09564; Odema et al., EnergyShield, arXiv 2302.06572.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shield.answer import Certificate, Deadline
from shield.arc import Reach
from shield.hold import hold_distance
from shield.manoeuvre import grip_slip_rad
from shield.state import Disc, State, wrap_angle
from shield.vehicle import Barrier, Vehicle

Array = npt.NDArray[np.float64]

CAP = "cap"
"""`limited_by` of a deadline that nothing but the caller's cap ends."""


@dataclass(frozen=True, slots=True)
class Polar:
    """A vehicle as one obstacle sees it: distance `r_m` [m] and angle `xi_rad` [rad] in [-pi, pi]."""

    r_m: float
    xi_rad: float


def polar_of(state: State, disc: Disc) -> Polar:
    """Return the obstacle-relative coordinates of `state` about the centre of `disc`.

    r = |p - o|, xi = angle(p - o) - heading.
    """
    dx, dy = state.x_m - disc.x_m, state.y_m - disc.y_m
    return Polar(math.hypot(dx, dy), wrap_angle(math.atan2(dy, dx) - state.heading_rad))


def barrier_value(barrier: Barrier, r_m: npt.ArrayLike, xi_rad: npt.ArrayLike) -> Array:
    """Return h(r, xi) = (sigma cos(xi/2) + 1 - sigma)/r_bar - 1/r.

    Args:
        r_m, xi_rad: Distance [m] and angle [rad], any shapes that broadcast.
    Returns:
        h [1/m], shape of the broadcast.
    """
    r, xi = np.asarray(r_m, dtype=np.float64), np.asarray(xi_rad, dtype=np.float64)
    return np.asarray((barrier.sigma * np.cos(0.5 * xi) + 1.0 - barrier.sigma) / barrier.r_bar_m - 1.0 / r)


def least_distance(barrier: Barrier, xi_rad: npt.ArrayLike) -> Array:
    """Return r_min(xi) = r_bar/(sigma cos(xi/2) + 1 - sigma) [m], where h = 0; shape of `xi_rad` [rad]."""
    xi = np.asarray(xi_rad, dtype=np.float64)
    return np.asarray(barrier.r_bar_m / (barrier.sigma * np.cos(0.5 * xi) + 1.0 - barrier.sigma))


def barrier_slope(vehicle: Vehicle, r_m: npt.ArrayLike, xi_rad: npt.ArrayLike, beta_rad: npt.ArrayLike) -> Array:
    """Return dh/ds along the path; dh/dt is v times that.

    dh/ds = cos(xi - beta)/r^2 + sigma sin(xi/2)/(2 r_bar) (sin(xi - beta)/r + sin(beta)/l_r)

    Args:
        r_m, xi_rad, beta_rad: Distance [m], angle and slip angle [rad], any shapes that broadcast.
    Returns:
        dh/ds [1/m^2]; at xi = +-pi that of the side whose sign is given.
    Raises:
        ValueError: the vehicle has no barrier.
    """
    barrier = barrier_of(vehicle)
    r, xi = np.asarray(r_m, dtype=np.float64), np.asarray(xi_rad, dtype=np.float64)
    beta = np.asarray(beta_rad, dtype=np.float64)
    turn = barrier.sigma * np.sin(0.5 * xi) / (2.0 * barrier.r_bar_m)
    return np.asarray(np.cos(xi - beta) / r**2 + turn * (np.sin(xi - beta) / r + np.sin(beta) / vehicle.l_r_m))


def class_k_gain(barrier: Barrier) -> float:
    """Return K = max(1, 1/r_bar) (sigma/(2 r_bar) + 3) [1/m], the gain of the published condition."""
    return max(1.0, 1.0 / barrier.r_bar_m) * (barrier.sigma / (2.0 * barrier.r_bar_m) + 3.0)


def barrier_of(vehicle: Vehicle) -> Barrier:
    """Return the vehicle's barrier; a vehicle without one is a ValueError."""
    if vehicle.barrier is None:
        raise ValueError(
            f"vehicle {vehicle.name!r} declares no [barrier]: give r_bar_m and sigma, or use method backup"
        )
    return vehicle.barrier


def covered(vehicle: Vehicle, disc: Disc) -> bool:
    """Whether the barrier's disc holds the obstacle's and the vehicle's together: radius + radius_m <= r_bar."""
    return disc.radius_m + vehicle.radius_m <= barrier_of(vehicle).r_bar_m * (1.0 + 1e-12)


def barrier_deadline(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float = 10.0) -> Deadline:
    """Return how long the held slip angle keeps h >= 0 towards every obstacle, at any speed the vehicle can have.

    With s_exit the first s with h < 0 along the held arc, errors included, and T(s) the least time to drive s:
    deadline = T(s_exit) - (actuation delay + tick + jitter + fail-safe + sensing age).

    The answer is a guarantee for one static disc: from every state reachable by then some slip-angle signal keeps
    h >= 0 for ever, as `headway verify` proves. With several discs it is the minimum, and no guarantee.

    Args:
        state: Pose, held slip angle, optional speed; `tolerable_deadline` has checked every number.
        obstacles: Discs; one that may move, or is larger than the barrier's, has the deadline 0.
        cap_s: Longest deadline of interest [s].
    Returns:
        Deadline without a manoeuvre: what follows is the filter (`shield.filter`), not a manoeuvre.
    Raises:
        ValueError: the vehicle has no barrier.
    """
    refused = refusal(vehicle, state, obstacles)
    if refused is not None:
        return _answer(vehicle, 0.0, 0.0, refused, guarantee=False)
    reach = Reach.of(vehicle, state.speed_mps)
    lost_s = vehicle.bounds.switch_time_s + vehicle.bounds.sensing_age_s
    exit_m, limited_by = _first_exit(vehicle, state, obstacles, reach.distance_m(cap_s + lost_s))
    deadline_s = cap_s if limited_by == CAP else min(cap_s, reach.time_s(exit_m) - lost_s)
    if deadline_s <= 0.0:
        return _answer(vehicle, 0.0, 0.0, limited_by if exit_m <= 0.0 else _longest_delay(vehicle), guarantee=False)
    guarantee = len(obstacles) <= 1 and not _beyond_the_proof(vehicle)
    return _answer(vehicle, deadline_s, reach.distance_m(deadline_s), limited_by, guarantee=guarantee)


def hold_time(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], within_s: float) -> float:
    """Return for how long, at most `within_s` [s], the held slip angle keeps every h >= 0; no delay is taken off."""
    if refusal(vehicle, state, obstacles) is not None:
        return 0.0
    reach = Reach.of(vehicle, state.speed_mps)
    exit_m, limited_by = _first_exit(vehicle, state, obstacles, reach.distance_m(within_s))
    return within_s if limited_by == CAP else min(within_s, reach.time_s(exit_m))


def _first_exit(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], within_m: float) -> tuple[float, str]:
    """Return the first s at which some h may be negative, at most `within_m`, and what stands there."""
    barrier = barrier_of(vehicle)
    exit_m, limited_by = within_m, CAP
    seen_m = vehicle.bounds.sensing_range_m
    if seen_m is not None:
        # Beyond the range an obstacle may stand straight ahead, where h = 0 at r_bar/(1 - sigma).
        clear_m = max(0.0, seen_m - vehicle.bounds.position_m - barrier.r_bar_m / (1.0 - barrier.sigma))
        if clear_m < exit_m:
            exit_m, limited_by = clear_m, "bound:sensing_range_m"
    for index, disc in enumerate(obstacles):
        polar = polar_of(state, disc)
        found_m = hold_distance(vehicle, barrier, polar.r_m, polar.xi_rad, state.beta_rad, exit_m)
        if found_m < exit_m:
            exit_m, limited_by = found_m, f"obstacle:{index}"
    return exit_m, limited_by


def refusal(vehicle: Vehicle, state: State, obstacles: Sequence[Disc]) -> str | None:
    """Return what makes the barrier say nothing about this question, or None."""
    if abs(state.beta_rad) > grip_slip_rad(vehicle):
        return "bound:lateral_accel_mps2"
    view = vehicle.bounds.field_of_view_rad
    if view is not None and view < 2.0 * math.pi:
        return "bound:field_of_view_rad"
    if vehicle.bounds.obstacle_speed_mps > 0.0:
        return "bound:obstacle_speed_mps"
    for index, disc in enumerate(obstacles):
        if disc.speed_max_mps > 0.0 or not covered(vehicle, disc):
            return f"obstacle:{index}"
    return None


def _beyond_the_proof(vehicle: Vehicle) -> bool:
    """Whether the vehicle declares what the proof (exact slip, at once, up to full lock) leaves out."""
    bounds = vehicle.bounds
    inexact = bounds.steering_rad > 0.0 or bounds.steering_bias_rad > 0.0
    return inexact or bounds.slip_rate_radps is not None or grip_slip_rad(vehicle) < vehicle.beta_max_rad


def _answer(vehicle: Vehicle, deadline_s: float, distance_m: float, limited_by: str, *, guarantee: bool) -> Deadline:
    certificate = Certificate((), None, 0.0, 0.0, vehicle.fingerprint())
    return Deadline(deadline_s, distance_m, limited_by, None, certificate, guarantee)


def _longest_delay(vehicle: Vehicle) -> str:
    delays = ("actuation_delay_s", "tick_s", "jitter_s", "fail_safe_s", "sensing_age_s")
    return "bound:" + max(delays, key=lambda name: float(getattr(vehicle.bounds, name)))
