"""The control filter: the admissible slip angle nearest to the one asked for.

    min |beta - beta_nominal|   s.t.   A_i cos(beta) + B_i sin(beta) + C_i >= 0 for every obstacle i, |beta| <= beta_max

with, from dh/ds + K h >= 0 (`shield.barrier`) and g = sigma sin(xi/2)/(2 r_bar),

    A = cos(xi)/r^2 + g sin(xi)/r,   B = sin(xi)/r^2 - g cos(xi)/r + g/l_r,   C = K h.

Each condition leaves at most two intervals with closed-form ends; the filter intersects them and takes the nearest
point. Declared errors enter so that the condition holds in every state they allow: C loses the errors of r and xi times
bounds of the slopes, and the intervals lose the steering error at both ends. At xi = +-pi, where h is the larger of two
smooth branches, keeping either is enough, and both are offered.

In sampled time that is not enough: the edge of the admissible set held for 20 ms can leave h >= 0. So a slip angle is
admitted only if, held, it keeps h >= 0 until the next one can take effect (tick, jitter, delay). Anything else fails
closed: no slip angle, and the caller's stored backup is due.

Reference: Ferlez et al., ShieldNN, arXiv 2006.09564 (control filter), whose networks approximate these intervals.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from shield.barrier import Polar, barrier_of, class_k_gain, hold_time, polar_of, refusal
from shield.hold import VALUE_MARGIN
from shield.manoeuvre import grip_slip_rad
from shield.state import Disc, State
from shield.vehicle import Vehicle

Intervals = tuple[tuple[float, float], ...]
"""Disjoint intervals of slip angles [rad], in ascending order."""

SLIP_MARGIN_RAD = 1e-9
"""Taken off both ends of an admissible interval [rad]: above the rounding error of its ends."""


class Status(StrEnum):
    """What the filter did; only the first two carry a slip angle."""

    NOMINAL = "nominal"
    FILTERED = "filtered"
    INFEASIBLE = "infeasible"
    OUTSIDE = "outside"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Admission:
    """Answer of the filter.

    Args:
        status: NOMINAL (what was asked for), FILTERED (the nearest admissible), INFEASIBLE (no slip angle is admissible
            and lasts until the next), OUTSIDE (h < 0 already, or the barrier does not cover what is there), INVALID
            (a number is not finite or out of range).
        beta_rad: Slip angle to apply [rad]; None unless NOMINAL or FILTERED: the stored backup is due.
        intervals: The admissible slip angles, before the check that one lasts.
        limited_by: "obstacle:<index>", "bound:<name>", "input", or "" when nothing limits.
    """

    status: Status
    beta_rad: float | None
    intervals: Intervals
    limited_by: str


def admissible_slip(vehicle: Vehicle, polar: Polar) -> Intervals:
    """Return the slip angles with dh/ds + K h >= 0 towards one obstacle, in every state the declared errors allow.

    Args:
        polar: Distance [m], above zero, and angle [rad] in [-pi, pi].
    Returns:
        None, one or two intervals [rad] within full lock (or the grip); empty also where h < 0 is possible.
    Raises:
        ValueError: the vehicle has no barrier.
    """
    bounds = vehicle.bounds
    ratio = bounds.position_m / polar.r_m
    if ratio >= 0.5:
        return ()
    tilt = bounds.heading_rad + math.asin(ratio)
    found = _branch(vehicle, polar.r_m, polar.xi_rad, tilt)
    if abs(polar.xi_rad) + tilt < math.pi:
        return found
    return _unite(found, _branch(vehicle, polar.r_m, polar.xi_rad - math.copysign(2.0 * math.pi, polar.xi_rad), tilt))


def filter_slip(
    vehicle: Vehicle, state: State, obstacles: Sequence[Disc], beta_nominal_rad: float, hold_s: float = 0.0
) -> Admission:
    """Return the admissible slip angle nearest to `beta_nominal_rad` that, held, lasts until the next can act.

    Args:
        state: Pose and optional speed; the slip angle in it does not matter.
        obstacles: Discs; static, and no larger than the barrier's.
        beta_nominal_rad: Slip angle asked for [rad].
        hold_s: Time beyond tick, jitter, delay and fail-safe for which the slip angle must last [s].
    Returns:
        Admission. Never raises for a number: NaN, infinities and negative radii give INVALID.
    Raises:
        ValueError: the vehicle has no barrier.
    """
    barrier_of(vehicle)
    if not _valid(state, obstacles, beta_nominal_rad, hold_s):
        return Admission(Status.INVALID, None, (), "input")
    refused = refusal(vehicle, replace(state, beta_rad=0.0), obstacles)
    if refused is not None:
        return Admission(Status.OUTSIDE, None, (), refused)
    limit = grip_slip_rad(vehicle)
    intervals: Intervals = ((-limit, limit),)
    limited_by = ""
    for index, disc in enumerate(obstacles):
        polar = polar_of(state, disc)
        if not _inside(vehicle, polar):
            return Admission(Status.OUTSIDE, None, (), f"obstacle:{index}")
        narrowed = _intersect(intervals, admissible_slip(vehicle, polar))
        if narrowed != intervals:
            intervals, limited_by = narrowed, f"obstacle:{index}"
    needed_s = hold_s + vehicle.bounds.switch_time_s + vehicle.bounds.sensing_age_s
    beta = _lasting(vehicle, state, obstacles, intervals, beta_nominal_rad, needed_s)
    if beta is None:
        return Admission(Status.INFEASIBLE, None, intervals, limited_by or "bound:tick_s")
    if beta == beta_nominal_rad:
        return Admission(Status.NOMINAL, beta, intervals, "")
    return Admission(Status.FILTERED, beta, intervals, limited_by or "bound:tick_s")


def _branch(vehicle: Vehicle, r: float, xi: float, tilt: float) -> Intervals:
    """Return the admissible intervals of the smooth branch of h through xi, which may lie beyond +-pi."""
    barrier, bounds, l_r = barrier_of(vehicle), vehicle.bounds, vehicle.l_r_m
    gain, limit = 0.5 * barrier.sigma / barrier.r_bar_m, grip_slip_rad(vehicle)
    closer, pad = r - bounds.position_m, bounds.position_m
    farthest = min(abs(xi) + tilt, 2.0 * math.pi)
    value = (barrier.sigma * math.cos(0.5 * farthest) + 1.0 - barrier.sigma) / barrier.r_bar_m - 1.0 / closer
    if not value >= VALUE_MARGIN:
        return ()
    g = gain * math.sin(0.5 * xi)
    a = math.cos(xi) / r**2 + g * math.sin(xi) / r
    b = math.sin(xi) / r**2 - g * math.cos(xi) / r + g / l_r
    # |d/dr| and |d/dxi| of dh/ds over every xi, beta and every distance the errors allow
    inverse = 1.0 / closer
    by_r = 2.0 * inverse**3 + gain * inverse**2
    by_xi = inverse**2 + gain * (1.5 * inverse + 0.5 * math.sin(limit) / l_r)
    c = class_k_gain(barrier) * value - by_r * pad - by_xi * tilt
    steering = bounds.steering_rad + bounds.steering_bias_rad
    return _solve(a, b, c, limit, steering + SLIP_MARGIN_RAD)


def _solve(a: float, b: float, c: float, limit: float, erosion: float) -> Intervals:
    """Return {|beta| <= limit: a cos + b sin + c >= 0 within `erosion` of beta} as intervals."""
    size, peak = math.hypot(a, b), math.atan2(b, a)
    if c >= size:
        return ((-limit, limit),)
    if -c > size:
        return ()
    half = math.acos(-c / size) - erosion
    if half < 0.0:
        return ()
    found = ((peak + turn - half, peak + turn + half) for turn in (-2.0 * math.pi, 0.0, 2.0 * math.pi))
    return _intersect(((-limit, limit),), tuple(found))


def _intersect(left: Intervals, right: Intervals) -> Intervals:
    pairs = ((max(a, c), min(b, d)) for a, b in left for c, d in right)
    return tuple(sorted((low, high) for low, high in pairs if low <= high))


def _unite(left: Intervals, right: Intervals) -> Intervals:
    united: list[tuple[float, float]] = []
    for low, high in sorted(left + right):
        if united and low <= united[-1][1]:
            united[-1] = (united[-1][0], max(high, united[-1][1]))
        else:
            united.append((low, high))
    return tuple(united)


def _inside(vehicle: Vehicle, polar: Polar) -> bool:
    """Whether the branch of h through xi is >= 0 in every state the declared errors allow."""
    barrier, pad = barrier_of(vehicle), vehicle.bounds.position_m
    if 2.0 * pad >= polar.r_m:
        return False
    xi = min(2.0 * math.pi, abs(polar.xi_rad) + vehicle.bounds.heading_rad + math.asin(pad / polar.r_m))
    value = (barrier.sigma * math.cos(0.5 * xi) + 1.0 - barrier.sigma) / barrier.r_bar_m
    return value - 1.0 / (polar.r_m - pad) >= VALUE_MARGIN


def _lasting(
    vehicle: Vehicle, state: State, obstacles: Sequence[Disc], intervals: Intervals, nominal: float, needed_s: float
) -> float | None:
    """Return a slip angle near `nominal` that lasts `needed_s`, searched inwards from the nearest admissible one."""

    def lasts(beta: float) -> bool:
        return hold_time(vehicle, replace(state, beta_rad=beta), obstacles, needed_s) >= needed_s

    for low, high in sorted(intervals, key=lambda ends: abs(_clip(nominal, ends) - nominal)):
        start = _clip(nominal, (low, high))
        if lasts(start):
            return start
        inward = [beta for end in (low, high) if (beta := _first_lasting(lasts, start, end)) is not None]
        if inward:
            return min(inward, key=lambda beta: abs(beta - nominal))
    return None


def _first_lasting(lasts: Callable[[float], bool], start: float, end: float) -> float | None:
    """Return a slip angle that lasts between `start`, which does not, and `end`: doubling steps, then bisection."""
    width, share, failed = end - start, 2.0**-8, 0.0
    if width == 0.0:
        return None
    while not lasts(start + share * width):
        if share >= 1.0:
            return None
        failed, share = share, 2.0 * share
    for _ in range(8):
        middle = 0.5 * (failed + share)
        if lasts(start + middle * width):
            share = middle
        else:
            failed = middle
    return start + share * width


def _clip(beta: float, ends: tuple[float, float]) -> float:
    return min(max(beta, ends[0]), ends[1])


def _valid(state: State, obstacles: Sequence[Disc], beta: float, hold_s: float) -> bool:
    numbers = [state.x_m, state.y_m, state.heading_rad, beta, hold_s, state.speed_mps or 0.0]
    lengths = [value for disc in obstacles for value in (disc.radius_m, disc.speed_max_mps)]
    centres = [value for disc in obstacles for value in (disc.x_m, disc.y_m)]
    speed_known = state.speed_mps is None or state.speed_mps >= 0.0
    return all(map(math.isfinite, numbers + lengths + centres)) and speed_known and min([hold_s, *lengths]) >= 0.0
