"""How far a held slip angle keeps the barrier: certified marching along its arc.

Along the arc the true distance and angle differ from the computed r(s), xi(s) by at most P(s) and Q(s) (`Errors`), so
that h is at least

    g(s) = h(r - P, min(pi, |xi| + Q + asin(P/r))).

From a point where g > 0, with slope g' and with g'' >= -M on the next D metres, g stays positive for
(g' + sqrt(g'^2 + 2 M g))/M metres, no more than D. Repeating that walks to the first zero, quadratically fast, and can
never step over one. The kinks of g are harmless: at xi = 0 it is the smaller of two smooth branches and both are
followed; at |xi| + Q = pi it is the larger of two, and either is a lower bound.

Reference: the motion is the kinematic bicycle of arXiv 2302.06572 with the slip angle held.
"""

import math
from dataclasses import dataclass

from shield.vehicle import Barrier, Vehicle

VALUE_MARGIN = 1e-9
"""h [1/m] below which the barrier counts as left: above the rounding error of h wherever `headway verify` looked."""

DISTANCE_MARGIN_M = 1e-7
"""Taken off every distance found [m]: above the rounding error of the sum of the steps."""

_MAX_STEPS = 10_000  # a walk takes 5 to 60 steps; stopping early would only shorten the answer


@dataclass(frozen=True, slots=True)
class Errors:
    """How far the computed distance and angle may be off after s metres of a held slip angle.

        P(s) = p0 + p1 s + p2 s^2 [m],    Q(s) = q0 + q1 s [rad]

    p0 is the position error. p1 holds the odometry drift, the heading error e (the path turns about its start: at most
    2 sin(e/2) s) and the steering error e, which pads the path by e s + e s^2/(2 l_r) and turns the body by e s/l_r.
    """

    p0_m: float = 0.0
    p1: float = 0.0
    p2_pm: float = 0.0
    q0_rad: float = 0.0
    q1_pm: float = 0.0

    @classmethod
    def of(cls, vehicle: Vehicle) -> "Errors":
        """Return the errors that the vehicle's bounds allow."""
        bounds = vehicle.bounds
        steering = bounds.steering_rad + bounds.steering_bias_rad
        turn = 2.0 * math.sin(0.5 * min(bounds.heading_rad, math.pi))
        return cls(
            p0_m=bounds.position_m,
            p1=bounds.odometry_drift + turn + steering,
            p2_pm=0.5 * steering / vehicle.l_r_m,
            q0_rad=bounds.heading_rad,
            q1_pm=steering / vehicle.l_r_m,
        )

    @property
    def none(self) -> bool:
        """Whether nothing is off."""
        return self == Errors()


def hold_distance(
    vehicle: Vehicle, barrier: Barrier, r_m: float, xi_rad: float, beta_rad: float, within_m: float
) -> float:
    """Return the arc length over which a held slip angle is sure to keep h >= 0 towards one obstacle.

    Args:
        vehicle: For l_r and the declared errors.
        barrier: Barrier of the obstacle.
        r_m, xi_rad: Distance [m] and angle [rad] at the start.
        beta_rad: Slip angle held [rad].
        within_m: Distance beyond which the answer does not matter [m].
    Returns:
        Distance [m]: `within_m` when h >= 0 up to there, 0 when h < 0 at the start.
    """
    walk = _Walk(vehicle, barrier, r_m, xi_rad, beta_rad)
    s = 0.0
    for _ in range(_MAX_STEPS):
        step = walk.step(s)
        s += step
        if s >= within_m + DISTANCE_MARGIN_M:
            return within_m
        if step < 0.1 * DISTANCE_MARGIN_M:
            break
    return max(0.0, s - DISTANCE_MARGIN_M)


class _Walk:
    """The arc of one held slip angle as one obstacle sees it, in the body frame of its start."""

    def __init__(self, vehicle: Vehicle, barrier: Barrier, r_m: float, xi_rad: float, beta_rad: float) -> None:
        self.errors = Errors.of(vehicle)
        self.exact = self.errors.none
        self.beta = beta_rad
        self.curvature = math.sin(beta_rad) / vehicle.l_r_m
        self.away_x, self.away_y = r_m * math.cos(xi_rad), r_m * math.sin(xi_rad)
        self.r_bar = barrier.r_bar_m
        self.level = (1.0 - barrier.sigma) / barrier.r_bar_m
        self.gain = barrier.sigma / barrier.r_bar_m

    def polar(self, s_m: float) -> tuple[float, float]:
        """Return r [m] and xi [rad] after `s_m` [m]."""
        half = 0.5 * self.curvature * s_m
        chord = s_m * math.sin(half) / half if abs(half) > 1e-9 else s_m
        x = self.away_x + chord * math.cos(self.beta + half)
        y = self.away_y + chord * math.sin(self.beta + half)
        xi = math.atan2(y, x) - 2.0 * half
        return math.hypot(x, y), (xi + math.pi) % (2.0 * math.pi) - math.pi

    def step(self, s_m: float) -> float:
        """Return over how many further metres g is sure to be positive."""
        r, xi = self.polar(s_m)
        return self._exact_step(r, xi) if self.exact else self._padded_step(s_m, r, xi)

    def _exact_step(self, r: float, xi: float) -> float:
        if not r > self.r_bar:
            return 0.0
        outward = math.cos(xi - self.beta)
        base, base_slope = self.level - 1.0 / r - VALUE_MARGIN, outward / (r * r)
        xi_slope = -math.sin(xi - self.beta) / r - self.curvature
        value = base + self.gain * math.cos(0.5 * xi)
        slope = base_slope - 0.5 * self.gain * math.sin(0.5 * xi) * xi_slope
        # g > 0 needs r > r_bar, so the bounds at r_bar hold up to the first zero; at most r/2 is walked at once.
        inverse = 1.0 / max(self.r_bar, 0.5 * r)
        k = abs(self.curvature)
        turn = inverse + k
        base_bend = inverse * inverse * (2.0 * inverse + k)
        bend = base_bend + self.gain * (0.25 * turn * turn + 0.5 * inverse * turn)
        # xi turns by less than a full turn in a step along its branch, so that the branch cannot come round again
        along = min(math.pi / turn, _positive_for(value, slope, bend))
        return min(0.5 * r, max(along, _positive_for(base, base_slope, base_bend)))

    def _padded_step(self, s_m: float, r: float, xi: float) -> float:
        e = self.errors
        pad, pad_slope = e.p0_m + s_m * (e.p1 + s_m * e.p2_pm), e.p1 + 2.0 * s_m * e.p2_pm
        closer = r - pad
        if not (2.0 * pad < r and closer > self.r_bar):  # an error of half the distance: nothing can be said
            return 0.0
        span, inverse, pad_slope_end, ratio_end = self._span(s_m, r, closer)
        outward, ratio = math.cos(xi - self.beta), pad / r
        cosine = math.sqrt(1.0 - ratio * ratio)
        base = self.level - 1.0 / closer - VALUE_MARGIN
        base_slope = (outward - pad_slope) / (closer * closer)
        tilt = e.q0_rad + e.q1_pm * s_m + math.asin(ratio)
        tilt_slope = e.q1_pm + (pad_slope - ratio * outward) / (r * cosine)
        xi_slope = -math.sin(xi - self.beta) / r - self.curvature
        base_bend, bend = self._bends(inverse, pad_slope_end, ratio_end)
        # xi turns by less than a full turn in a step along its branches, so that none can come round again
        both = math.pi / (inverse + abs(self.curvature))
        for side in (1.0, -1.0):
            half_angle = 0.5 * (side * xi + tilt)
            value = base + self.gain * math.cos(half_angle)
            slope = base_slope - 0.5 * self.gain * math.sin(half_angle) * (side * xi_slope + tilt_slope)
            both = min(both, _positive_for(value, slope, bend))
        return min(span, max(both, _positive_for(base, base_slope, base_bend)))

    def _span(self, s_m: float, r: float, closer: float) -> tuple[float, float, float, float]:
        """Return (D, largest 1/(r - P), largest dP/ds, largest P/r) for a step of at most D metres."""
        e = self.errors
        span = 0.5 * closer
        while True:
            end = s_m + span
            pad_slope = e.p1 + 2.0 * end * e.p2_pm
            ratio = (e.p0_m + end * (e.p1 + end * e.p2_pm)) / (r - span)
            if ratio <= 0.75:
                inverse = 1.0 / max(self.r_bar, closer - (1.0 + pad_slope) * span)
                return span, inverse, pad_slope, ratio
            span *= 0.25

    def _bends(self, inverse: float, pad_slope: float, ratio: float) -> tuple[float, float]:
        """Return the bounds M of -1/(r - P) alone and of the whole g.

        With i = 1/(r - P) >= 1/r and k the curvature: |r'| <= 1, r'' >= -k, |r''| <= i + k, |xi'| <= i + k,
        |xi''| <= i^2 + k i; asin(P/r) follows by the chain rule.
        """
        e, k = self.errors, abs(self.curvature)
        pad_bend = 2.0 * e.p2_pm
        base = inverse * inverse * (2.0 * (1.0 + pad_slope) ** 2 * inverse + k + pad_bend)
        secant = 1.0 / math.sqrt(1.0 - ratio * ratio)
        ratio_slope = inverse * (pad_slope + ratio)
        ratio_bend = inverse * (pad_bend + 2.0 * pad_slope * inverse + ratio * (3.0 * inverse + k))
        turn = inverse + k + e.q1_pm + secant * ratio_slope
        turn_bend = inverse * (inverse + k) + secant * ratio_bend + ratio * secant**3 * ratio_slope**2
        return base, base + self.gain * (0.25 * turn * turn + 0.5 * turn_bend)


def _positive_for(value: float, slope: float, bend: float) -> float:
    """Return the positive root of value + slope s - bend s^2/2, without cancellation; 0 unless value > 0."""
    if not value > 0.0:  # NaN included
        return 0.0
    root = math.sqrt(slope * slope + 2.0 * bend * value)
    return 2.0 * value / (root - slope) if slope < 0.0 else (slope + root) / bend
