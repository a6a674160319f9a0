"""Whether a deadline that the code gave is sound, proved for one state by interval arithmetic.

Nothing of the code that found the deadline is used: only the arc in closed form, h or the manoeuvres' shapes, and the
claimed hold. Every property is decided on pieces of the arc, halved until the enclosure over the piece decides it: with
m the middle of a piece and w its half width, an obstacle seen from the body moves at most (1 + |k| |e|) w within it.

    barrier   h >= 0 on the whole hold, delay included
    backup    the held arc is clear of the disc, and every place on it lies in an interval of the certificate whose
              manoeuvre, started anywhere up to the switch time later, is clear of the disc

The statement is about one static disc and a speed anywhere in [0, v_max], or within its error of one measured, from
which it grows by no more than the acceleration bound; position and heading errors, delays, grip, deceleration and brake
build-up enter as declared.
"""

import math
from collections.abc import Callable

from flint import arb

from shield.barrier import barrier_of
from shield.deadline import Deadline, Method
from shield.manoeuvre import Manoeuvre, backup_slip_rad
from shield.vehicle import Vehicle

SMALLEST_PIECE_M = 1e-9
"""Pieces of an arc are not halved below this length [m]: what is still undecided then counts as wrong."""

BEYOND = ("steering_rad", "steering_bias_rad", "obstacle_speed_mps", "odometry_drift", "sensing_age_s")
BEYOND_LIMITS = ("sensing_range_m", "field_of_view_rad", "slip_rate_radps")
"""Bounds that the proof does not follow; a vehicle that declares one gets no certificate of its deadlines."""


def unsupported(vehicle: Vehicle) -> list[str]:
    """Return the declared bounds that the proof leaves out."""
    errors = [name for name in BEYOND if getattr(vehicle.bounds, name) > 0.0]
    return errors + [name for name in BEYOND_LIMITS if getattr(vehicle.bounds, name) is not None]


class Pace:
    """How far and how fast the vehicle can have come at most, rounded up.

    From v = min(v_max, measured + error):  s(t) = v t + a t^2/2 until v_max is reached, then v_max per second;
    U(s)^2 = min(v_max^2, v^2 + 2 a s). With nothing measured, or no acceleration bound, v is v_max.
    """

    def __init__(self, vehicle: Vehicle, speed_mps: float | None) -> None:
        self.most, self.gain = vehicle.v_max_mps, vehicle.a_max_mps2 or 0.0
        free = speed_mps is None or vehicle.a_max_mps2 is None
        self.start = self.most if free else min(self.most, (speed_mps or 0.0) + vehicle.bounds.speed_mps)

    def way_m(self, time_s: float) -> float:
        """Return the longest way driven in a time [m]."""
        gaining_s = 0.0 if self.start >= self.most else min(time_s, (self.most - self.start) / self.gain)
        way = gaining_s * (self.start + 0.5 * self.gain * gaining_s) + self.most * (time_s - gaining_s)
        return way * (1.0 + 1e-12)

    def speed_mps(self, way_m: float) -> float:
        """Return the greatest speed after a way [m/s]."""
        return min(self.most, math.sqrt(self.start**2 + 2.0 * self.gain * way_m) * (1.0 + 1e-12))


class Seen:
    """The centre of one disc as seen from the body along a held arc, as balls.

    Args:
        vehicle: For l_r.
        away_m: Vector from the disc's centre to the vehicle in the body frame of the start, exact numbers [m].
        beta_rad: Slip angle held [rad].
    """

    def __init__(self, vehicle: Vehicle, away_m: tuple[float, float], beta_rad: float) -> None:
        self.beta = arb(beta_rad)
        self.curvature = self.beta.sin() / arb(vehicle.l_r_m)
        self.x, self.y = -arb(away_m[0]), -arb(away_m[1])

    def at(self, middle_m: float, half_width_m: float) -> tuple[arb, arb]:
        """Return the body coordinates of the centre [m] anywhere within `half_width_m` of `middle_m` along the arc."""
        s = arb(middle_m)
        half = self.curvature * s / 2
        chord = s * half.sinc()
        x, y = self.x - chord * (self.beta + half).cos(), self.y - chord * (self.beta + half).sin()
        cosine, sine = (2 * half).cos(), (2 * half).sin()
        ahead, aside = cosine * x + sine * y, cosine * y - sine * x
        if half_width_m == 0.0:
            return ahead, aside
        width = arb(half_width_m)
        reach = (_square(ahead) + _square(aside)).sqrt()
        # |e'| <= 1 + |k| |e|, and |e| itself grows by at most the width (turning keeps it)
        spread = (width * (1 + abs(self.curvature) * (reach + width))).upper()
        blur = arb(0, float(spread) * (1.0 + 1e-12))
        return ahead + blur, aside + blur


def reference_radius_m(vehicle: Vehicle) -> float:
    """Return the radius of the disc that deadlines are proved for, vehicle included: r_bar, or 2 m around it [m]."""
    return vehicle.radius_m + 2.0 if vehicle.barrier is None else vehicle.barrier.r_bar_m


def sound(
    vehicle: Vehicle,
    method: Method,
    away_m: tuple[float, float],
    beta_rad: float,
    found: Deadline,
    speed_mps: float | None = None,
) -> bool:
    """Decide whether a deadline found for one static disc of the reference radius is sound.

    Args:
        away_m: Vector from the disc's centre to the vehicle, in the body frame [m].
        beta_rad: Slip angle held [rad].
        found: The deadline, with its certificate, that the code gave.
        speed_mps: Measured speed [m/s]; None: any.
    Returns:
        True when proved; False when refuted or undecided at the smallest piece.
    Raises:
        ValueError: the vehicle declares a bound that the proof leaves out, or `method` is not one that it knows.
    """
    if method not in (Method.BARRIER, Method.BACKUP):
        raise ValueError(f"method = {method}: only barrier and backup deadlines are proved")
    if left_out := unsupported(vehicle):
        raise ValueError(f"vehicle {vehicle.name!r} declares {', '.join(left_out)}, which the proof does not follow")
    if found.deadline_s <= 0.0:
        return True
    seen = Seen(vehicle, away_m, beta_rad)
    bounds = vehicle.bounds
    pace = Pace(vehicle, speed_mps)
    hold_m, switched_m = pace.way_m(found.deadline_s), pace.way_m(found.deadline_s + bounds.switch_time_s)
    delay_m = bounds.switch_time_s * vehicle.v_max_mps
    if method is Method.BARRIER:
        return _everywhere(0.0, switched_m, _barrier_holds(vehicle, seen))
    distance = (_square(arb(away_m[0])) + _square(arb(away_m[1]))).sqrt()
    # The disc given to the code had the reference radius less the vehicle's, in floating point: that sum counts.
    disc = arb(reference_radius_m(vehicle) - vehicle.radius_m) + arb(vehicle.radius_m)
    radius = disc + arb(bounds.position_m) + _turned_aside(vehicle) * distance
    if not _everywhere(0.0, switched_m, _apart(seen, radius)):
        return False
    at = 0.0
    for piece in found.certificate.intervals:
        if piece.start_m > at:
            return False
        end = min(piece.end_m, hold_m)
        braking_m = _braking_m(vehicle, pace.speed_mps(end + delay_m)) if piece.manoeuvre.braking else 0.0
        if piece.manoeuvre is Manoeuvre.BRAKE:  # braking on the held arc is the held arc, longer
            clear, until = _apart(seen, radius), end + delay_m + braking_m
        else:
            clear, until = _clear(vehicle, seen, piece.manoeuvre, radius, braking_m), end + delay_m
        if end > at and not _everywhere(at, until, clear):
            return False
        at = max(at, end)
    return at >= hold_m * (1.0 - 1e-11)


def _square(value: arb) -> arb:
    """Return value^2; the power operator gives NaN for a ball around zero, and a product may dip below zero."""
    return (value * value).nonnegative_part()


Predicate = Callable[[float, float], bool]
"""Whether a property is proved within (half width) of (middle) along the arc."""


def _everywhere(start: float, end: float, holds: Predicate) -> bool:
    """Decide a property on [start, end], halving undecided pieces."""
    waiting = [(start, end)]
    while waiting:
        low, high = waiting.pop()
        middle = 0.5 * (low + high)
        half = max(high - middle, middle - low) * (1.0 + 1e-12)
        if holds(middle, half):
            continue
        if high - low <= SMALLEST_PIECE_M:
            return False
        waiting += [(low, middle), (middle, high)]
    return True


def _barrier_holds(vehicle: Vehicle, seen: Seen) -> Predicate:
    """h(r - P, min(pi, |xi| + e_psi + asin(P/r))) >= 0, with P = e_p + 2 sin(e_psi/2) s.

    Along the arc it changes by at most (1 + P')/(r - P)^2 + sigma/(2 r_bar) (1/r + |k| + (P'/r + P/r^2)/cos) per metre.
    """
    barrier, bounds = barrier_of(vehicle), vehicle.bounds
    sigma, r_bar, growth = arb(barrier.sigma), arb(barrier.r_bar_m), _turned_aside(vehicle)

    def holds(middle: float, half: float) -> bool:
        x, y = seen.at(middle, 0.0)
        r, pad = (_square(x) + _square(y)).sqrt(), arb(bounds.position_m) + growth * arb(middle)
        nearest, widest = r - half, pad + growth * half
        if not nearest - widest > 0 or not 2 * widest < nearest:
            return False
        # |xi| is the angle from the heading to the vector from the centre to the vehicle, (-x, -y)
        angle = arb.atan2(abs(y), -x) + arb(bounds.heading_rad) + (pad / r).asin()
        value = (sigma * (angle.min(arb.pi()) / 2).cos() + 1 - sigma) / r_bar - 1 / (r - pad)
        ratio = widest / nearest
        tilt = (growth + ratio) / nearest / (1 - ratio * ratio).sqrt()
        slope = (1 + growth) / _square(nearest - widest)
        slope += sigma / (2 * r_bar) * (1 / nearest + abs(seen.curvature) + tilt)
        return bool(value - slope * half >= 0)

    return holds


def _turned_aside(vehicle: Vehicle) -> arb:
    """Return 2 sin(e/2), how far a heading error e puts the path aside per metre, at most."""
    return 2 * (arb(min(math.pi, vehicle.bounds.heading_rad)) / 2).sin()


def _apart(seen: Seen, radius: arb) -> Predicate:
    """The held arc itself stays `radius` from the centre."""

    def holds(middle: float, half: float) -> bool:
        x, y = seen.at(middle, half)
        return bool(_square(x) + _square(y) >= radius * radius)

    return holds


def _clear(vehicle: Vehicle, seen: Seen, manoeuvre: Manoeuvre, radius: arb, braking_m: float) -> Predicate:
    """The manoeuvre, started within the piece, stays `radius` from the centre for ever or until rest."""
    slip = arb(abs(backup_slip_rad(vehicle, manoeuvre, 0.0)))
    side, l_r = manoeuvre.side, arb(vehicle.l_r_m)
    if manoeuvre is Manoeuvre.BRAKE_STRAIGHT:
        return _segment_clear(seen, radius, braking_m)
    if manoeuvre.braking:
        return _arc_clear(vehicle, seen, manoeuvre, radius, braking_m)

    def circle(x: arb, y: arb) -> bool:
        rho, rear = l_r / slip.sin(), l_r / slip.tan()
        away = (_square(x + l_r) + _square(y - side * rear)).sqrt() - rho
        return bool(abs(away) >= radius)

    def straight(x: arb, y: arb) -> bool:
        apart = bool(_square(x) + _square(y) >= radius * radius)
        return bool(abs(y) >= radius) or (apart and bool(x <= 0))

    def holds(middle: float, half: float) -> bool:
        x, y = seen.at(middle, half)
        if manoeuvre is Manoeuvre.STRAIGHT:
            return straight(x, y)
        if manoeuvre in (Manoeuvre.LEFT, Manoeuvre.RIGHT):
            return circle(x, y)
        behind = bool(x * slip.cos() + side * y * slip.sin() <= 0) and bool(_square(x) + _square(y) >= radius * radius)
        return behind or circle(x, y) or straight(x, y)

    return holds


def _braking_m(vehicle: Vehicle, speed_mps: float) -> float:
    """Return U^2/(2 d) + U t_build, rounded up [m]."""
    if vehicle.deceleration_mps2 is None:
        raise ValueError(f"vehicle {vehicle.name!r} declares no deceleration_mps2, which a braking manoeuvre needs")
    braked_m = speed_mps**2 / (2.0 * vehicle.deceleration_mps2)
    return (braked_m + speed_mps * vehicle.bounds.brake_build_s) * (1.0 + 1e-12)


def _segment_clear(seen: Seen, radius: arb, braking_m: float) -> Predicate:
    """Braking straight ahead: the centre stays `radius` from the segment [0, L] of the body's x axis."""
    length = arb(braking_m)

    def holds(middle: float, half: float) -> bool:
        x, y = seen.at(middle, half)
        beyond = (-x).nonnegative_part() + (x - length).nonnegative_part()
        return bool(_square(beyond) + _square(y) >= radius * radius)

    return holds


def _arc_clear(vehicle: Vehicle, seen: Seen, manoeuvre: Manoeuvre, radius: arb, braking_m: float) -> Predicate:
    """Braking on a turn: within the arc's angles the circle must be clear, beyond them its two ends."""
    slip, l_r, side = arb(abs(backup_slip_rad(vehicle, manoeuvre, 0.0))), arb(vehicle.l_r_m), manoeuvre.side
    rho, rear = l_r / slip.sin(), l_r / slip.tan()
    turned = arb(braking_m) / rho
    start = (l_r, -side * rear)
    cosine, sine = turned.cos(), side * turned.sin()
    end = (start[0] * cosine - start[1] * sine, start[0] * sine + start[1] * cosine)

    def cross(a: tuple[arb, arb], b: tuple[arb, arb]) -> arb:
        return side * (a[0] * b[1] - a[1] * b[0])

    def apart(a: tuple[arb, arb], b: tuple[arb, arb]) -> bool:
        return bool(_square(a[0] - b[0]) + _square(a[1] - b[1]) >= radius * radius)

    def holds(middle: float, half: float) -> bool:
        x, y = seen.at(middle, half)
        seen_from_centre = (x + l_r, y - side * rear)
        after_start, before_end = cross(start, seen_from_centre), cross(seen_from_centre, end)
        if turned < arb.pi():
            within = bool(after_start >= 0) and bool(before_end >= 0)
            beyond = bool(after_start < 0) or bool(before_end < 0)
        else:
            within = bool(after_start >= 0) or bool(before_end >= 0)
            beyond = bool(after_start < 0) and bool(before_end < 0)
        around = (_square(seen_from_centre[0]) + _square(seen_from_centre[1])).sqrt() - rho
        circle_clear = bool(abs(around) >= radius)
        if circle_clear or within or turned >= 2 * arb.pi():
            return circle_clear
        return beyond and apart(seen_from_centre, start) and apart(seen_from_centre, end)

    return holds
