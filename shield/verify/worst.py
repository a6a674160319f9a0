"""Whether a `backup` deadline is sound under every declared bound, proved for one state by interval arithmetic.

Nothing of the code that found the deadline is used, nor its pads: the vehicle's path is enclosed anew from what the
bounds say of it. After x metres in all the slip angle has been within E = e_s + e_b of the one asked for, so that
direction and heading are off by at most E + E x/l and E x/l, and the place by

    pad(x) = E x + E x^2/(2 l).

A manoeuvre asks for the slip angle b at once; where the slip rate w is bounded, the slip angle lags behind by at most
(D - w q/U)+ after q metres, D = |b - beta|, at any speed up to U(s), so that the place is off by another

    lag(q) = A(q) + 1/l integral of A,      A(q) = integral of (D - w q/U)+ dq.

From when it was sensed, an obstacle of top speed v_o has moved by v_o t. The switch has taken effect by
t_0 = age + T + switch time, and the vehicle, while it moves, passes the point q of its braking path no later than
t_0 + t_b + min(sqrt(2 q/d), U/d): seen from later, it was always faster. It stands after L = U^2/(2 d) + U t_b.
With the disc's centre seen at e(s) from the held arc, and p(q) the arc of slip angle b, what is shown, on pieces that
are halved until the enclosure decides, is

    |e(s)| >= R + pad(s) + v_o t_0                                         s in [0, s_max(t_0)]
    |e(s) - p(q)| >= R + pad(s + q) + lag(q) + v_o (t_0 + t_b + min(sqrt(2 q/d), U/d))   q in [0, L]

for every s at which a manoeuvre of the certificate may start, which is `along` before its interval to `along` and the
way of the switch time after it; R holds the vehicle, the position error, drift during the age, and 2 sin(e_psi/2) |o|.
Further: braking paths stay within the sensing range (to `RANGE_SLACK_M`), and within the grip: at their steady slip
angle together with the brakes; while the slip angle still moves, because it has arrived before the brakes are built up.
"""

import math
from collections.abc import Callable

from flint import arb

from shield.deadline import Deadline
from shield.manoeuvre import Manoeuvre, backup_slip_rad, grip_slip_rad
from shield.vehicle import Vehicle
from shield.verify.deadlines import Pace, Seen, reference_radius_m
from shield.verify.everywhere import RANGE_SLACK_M

SMALLEST_SIDE_M = 1e-7
"""Pieces are not halved below this side [m]: what is still undecided then counts as wrong."""

GRIP_SLACK = 1.0 + 1e-8

Place = tuple[float, float]
"""Coordinates of a point [m]."""


def follows(vehicle: Vehicle) -> list[str]:
    """Return the declared bounds that keep this proof from following a vehicle; empty when it follows.

    It follows vehicles that brake and whose every manoeuvre does: a steering error or moving obstacles see to that.
    """
    bounds = vehicle.bounds
    if vehicle.deceleration_mps2 is None:
        return ["deceleration_mps2"]
    left_out = [] if bounds.steering_rad > 0.0 or bounds.obstacle_speed_mps > 0.0 else ["steering_rad"]
    if bounds.field_of_view_rad is not None and bounds.field_of_view_rad < 2.0 * math.pi:
        left_out.append("field_of_view_rad")
    if bounds.lateral_accel_mps2 is not None and not _steers_before_it_brakes(vehicle):
        left_out.append("slip_rate_radps")
    return left_out


def _steers_before_it_brakes(vehicle: Vehicle) -> bool:
    """Whether the slip angle has arrived by the time the brakes are built up, whatever was held before."""
    rate = vehicle.bounds.slip_rate_radps
    if rate is None:
        return True
    turned = grip_slip_rad(vehicle) + abs(backup_slip_rad(vehicle, Manoeuvre.BRAKE_LEFT, 0.0))
    return turned <= rate * vehicle.bounds.brake_build_s


class _Bounds:
    """What the bounds come to for one deadline, rounded up; times in s, lengths in m."""

    def __init__(self, vehicle: Vehicle, distance_m: float, deadline_s: float, pace: Pace) -> None:
        bounds = vehicle.bounds
        assert vehicle.deceleration_mps2 is not None
        up = 1.0 + 1e-12
        self.l_r, self.error = vehicle.l_r_m, bounds.steering_rad + bounds.steering_bias_rad
        self.pace, self.deceleration = pace, vehicle.deceleration_mps2
        self.rate = bounds.slip_rate_radps
        self.obstacle, self.build_s = bounds.obstacle_speed_mps, bounds.brake_build_s
        self.switched_s = (bounds.sensing_age_s + deadline_s + bounds.switch_time_s) * up
        v_max = vehicle.v_max_mps
        self.held = pace.way_m(bounds.sensing_age_s + deadline_s)
        self.farthest = pace.way_m(self.switched_s)
        self.delay = v_max * bounds.switch_time_s * up
        self.along = (bounds.position_m + v_max * bounds.sensing_age_s + bounds.odometry_drift * self.held) * up
        self.braking = self.stops_after(self.farthest)
        # The disc given to the code had the reference radius less the vehicle's, in floating point: that sum counts.
        disc = (reference_radius_m(vehicle) - vehicle.radius_m) + vehicle.radius_m
        aside = 2.0 * math.sin(0.5 * min(math.pi, bounds.heading_rad)) * distance_m
        drift = bounds.odometry_drift * v_max * bounds.sensing_age_s
        self.radius = (disc + bounds.position_m + aside + drift) * up

    def pad(self, x: float) -> float:
        return self.error * x * (1.0 + x / (2.0 * self.l_r))

    def stops_after(self, s: float) -> float:
        """Return the longest braking path that starts after a way `s`."""
        speed = self.pace.speed_mps(s)
        return (speed**2 / (2.0 * self.deceleration) + speed * self.build_s) * (1.0 + 1e-12)

    def lag(self, change_rad: float, s: float, q: float) -> float:
        if self.rate is None or change_rad == 0.0:
            return 0.0
        ramp = self.pace.speed_mps(s) * change_rad / self.rate
        if ramp == 0.0:
            return 0.0
        first = min(q, ramp)
        turned = change_rad * (first - first * first / (2.0 * ramp))
        moved = change_rad * (first * first / 2.0 - first**3 / (6.0 * ramp)) + turned * (q - first)
        return turned + moved / self.l_r

    def passed_s(self, s: float, q: float) -> float:
        """Return by when the vehicle, if it still moves, has passed the point `q` of a braking path."""
        braked_s = min(math.sqrt(2.0 * q / self.deceleration), self.pace.speed_mps(s) / self.deceleration)
        return (self.switched_s + self.build_s + braked_s) * (1.0 + 1e-12)


def sound_under_bounds(
    vehicle: Vehicle, away_m: Place, beta_rad: float, found: Deadline, speed_mps: float | None = None
) -> bool:
    """Decide whether a `backup` deadline found for one disc of the reference radius is sound under every bound.

    Args:
        vehicle: One that `follows` finds nothing against.
        away_m: Vector from the disc's centre to the vehicle, in the body frame [m].
        beta_rad: Slip angle held [rad].
        found: The deadline, with its certificate, that the code gave.
        speed_mps: Measured speed [m/s]; None: any.
    Returns:
        True when proved; False when refuted or undecided on the smallest piece.
    Raises:
        ValueError: the vehicle declares a bound that the proof leaves out.
    """
    if left_out := follows(vehicle):
        raise ValueError(f"vehicle {vehicle.name!r} declares {', '.join(left_out)}, which the proof does not follow")
    if found.deadline_s <= 0.0:
        return True
    if not _held_within_grip(vehicle, beta_rad):
        return False
    bounds = _Bounds(vehicle, math.hypot(*away_m) * (1.0 + 1e-12), found.deadline_s, Pace(vehicle, speed_mps))
    seen = Seen(vehicle, away_m, beta_rad)
    if not _held_clear(seen, bounds):
        return False
    at = 0.0
    for start, end, manoeuvre in _merged(found):
        if start > at or not manoeuvre.braking:
            return False
        first = max(0.0, start - bounds.along) if start > 0.0 else 0.0
        last = min(end + bounds.along + bounds.delay, bounds.farthest)
        if not _within_grip(vehicle, manoeuvre, beta_rad, bounds.pace.speed_mps(last)):
            return False
        if not _manoeuvre_clear(vehicle, seen, bounds, manoeuvre, beta_rad, (first, last)):
            return False
        at = max(at, end)
        if at >= bounds.held:
            break
    return at >= bounds.held * (1.0 - 1e-11)


def _merged(found: Deadline) -> list[tuple[float, float, Manoeuvre]]:
    """Return the certificate's intervals, those that follow one another with the same manoeuvre as one."""
    merged: list[tuple[float, float, Manoeuvre]] = []
    for piece in found.certificate.intervals:
        if merged and merged[-1][2] is piece.manoeuvre and piece.start_m <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], piece.end_m), piece.manoeuvre)
        else:
            merged.append((piece.start_m, piece.end_m, piece.manoeuvre))
    return merged


def _across(vehicle: Vehicle, slip_rad: float, speed_mps: float) -> arb:
    """Return the greatest acceleration across the path at a speed, the slip angle off by its errors [m/s^2]."""
    error = vehicle.bounds.steering_rad + vehicle.bounds.steering_bias_rad
    return arb(speed_mps) ** 2 * (arb(abs(slip_rad)) + arb(error)).sin() / arb(vehicle.l_r_m)


def _held_within_grip(vehicle: Vehicle, beta_rad: float) -> bool:
    grip = vehicle.bounds.lateral_accel_mps2
    # a held slip angle may be that of the grip itself written in decimals, 1e-9 rad too large
    least = max(0.0, abs(beta_rad) - 2e-9)
    return grip is None or bool(_across(vehicle, least, vehicle.v_max_mps) <= grip * GRIP_SLACK)


def _within_grip(vehicle: Vehicle, manoeuvre: Manoeuvre, beta_rad: float, speed_mps: float) -> bool:
    grip = vehicle.bounds.lateral_accel_mps2
    if grip is None:
        return True
    assert vehicle.deceleration_mps2 is not None
    across = _across(vehicle, backup_slip_rad(vehicle, manoeuvre, beta_rad), speed_mps)
    return bool((across * across + arb(vehicle.deceleration_mps2) ** 2).sqrt() <= grip * GRIP_SLACK)


def _held_clear(seen: Seen, bounds: _Bounds) -> bool:
    moved = bounds.obstacle * bounds.switched_s

    def holds(s: float, ds: float, _q: float, _dq: float) -> bool:
        x, y = seen.at(s, ds)
        return _at_least(x, y, bounds.radius + moved + bounds.pad(s + ds))

    return _everywhere((0.0, bounds.farthest), (0.0, 0.0), holds)


def _manoeuvre_clear(
    vehicle: Vehicle, seen: Seen, bounds: _Bounds, manoeuvre: Manoeuvre, beta_rad: float, starts: tuple[float, float]
) -> bool:
    slip = backup_slip_rad(vehicle, manoeuvre, beta_rad)
    change = abs(slip - beta_rad)
    own = vehicle.bounds
    room = math.inf
    if own.sensing_range_m is not None:
        room = own.sensing_range_m - vehicle.radius_m - own.position_m + RANGE_SLACK_M
    ahead = Seen(vehicle, (0.0, 0.0), slip)
    origin = Seen(vehicle, (0.0, 0.0), beta_rad)

    def holds(s: float, ds: float, q: float, dq: float) -> bool:
        if q - dq > bounds.stops_after(s + ds):
            return True  # no braking path that starts so early is that long
        px, py = _carried(ahead, q, dq)
        stray = bounds.pad(s + ds + q + dq) + bounds.lag(change, s + ds, q + dq)
        x, y = seen.at(s, ds)
        if not _at_least(x - px, y - py, bounds.radius + stray + bounds.obstacle * bounds.passed_s(s + ds, q + dq)):
            return False
        if s + ds + q + dq + stray <= room:  # no path leads farther than it is long
            return True
        x0, y0 = origin.at(s, ds)
        return bool(_norm(px - x0, py - y0).upper() + stray <= room)

    return _everywhere(starts, (0.0, bounds.braking), holds)


def _carried(path: Seen, q: float, dq: float) -> tuple[arb, arb]:
    """Return where an arc from the body's origin is after `q` metres, give or take `dq`, in the frame of its start."""
    half = path.curvature * arb(q) / 2
    chord = arb(q) * half.sinc()
    blur = arb(0, dq * (1.0 + 1e-12))
    return chord * (path.beta + half).cos() + blur, chord * (path.beta + half).sin() + blur


def _norm(x: arb, y: arb) -> arb:
    return ((x * x).nonnegative_part() + (y * y).nonnegative_part()).sqrt()


def _at_least(x: arb, y: arb, radius: float) -> bool:
    return bool(_norm(x, y) >= radius * (1.0 + 1e-12))


Predicate = Callable[[float, float, float, float], bool]
"""Whether a property is proved on a piece: (middle, half width) of s, then of q."""


def _everywhere(s_range: tuple[float, float], q_range: tuple[float, float], holds: Predicate) -> bool:
    """Decide a property on a rectangle of (s, q), halving the longer side of undecided pieces."""
    waiting = [(*s_range, *q_range)]
    while waiting:
        s0, s1, q0, q1 = waiting.pop()
        s, q = 0.5 * (s0 + s1), 0.5 * (q0 + q1)
        ds, dq = max(s1 - s, s - s0) * (1.0 + 1e-12), max(q1 - q, q - q0) * (1.0 + 1e-12)
        if holds(s, ds, q, dq):
            continue
        if max(ds, dq) <= SMALLEST_SIDE_M:
            return False
        if ds >= dq:
            waiting += [(s0, s, q0, q1), (s, s1, q0, q1)]
        else:
            waiting += [(s0, s1, q0, q), (s0, s1, q, q1)]
    return True
