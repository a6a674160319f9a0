"""What each backup manoeuvre sweeps, with every declared bound in it.

A manoeuvre is a fixed curve in the body frame of its start, dilated by the obstacle's radius plus a pad. The pad holds
what makes the vehicle leave the nominal curve:

    steering error e that varies     e x + e x^2/(2 l) after x metres; only manoeuvres that end at rest count
    constant steering bias e         the same on the held arc; a circle's pad grows by 2 l (cot(b - e) - cot b) on
                                     top of what the held arc turned and moved it; a straight is never bounded
    slip rate w                      a circle's centre moves by at most D = v (1 - cos(b - g beta_0))/(w sin b); a
                                     straight starts with its heading uncertain by v (1 - cos beta_0)/(w l)
    commands in flight               S1 (2 sin(|b1 - b2|/2) + |k1 - k2| x)

Pads and braking lengths grow with the distance already driven, which is why a family belongs to one distance.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

from shield.arc import Reach
from shield.manoeuvre import Manoeuvre, braking_slip_rad, grip_slip_rad
from shield.vehicle import Vehicle


class Kind(IntEnum):
    """Shape of the curve a manoeuvre drives."""

    CIRCLE = 0
    LINE = 1
    TURN = 2
    HELD = 3
    ARC = 4
    SEGMENT = 5


@dataclass(frozen=True, slots=True)
class Sweep:
    """One manoeuvre's curve in the body frame of its start, and how far the vehicle may stray from it.

    Args:
        manoeuvre: Which one.
        kind: Shape of the curve.
        pad_m: Growth of every obstacle's radius [m].
        side: +1 left, -1 right.
        rho_m: CIRCLE, ARC, TURN: radius of the centre of gravity's circle [m].
        centre_y_m: CIRCLE, ARC, TURN: the turn centre is (-l_r, centre_y) [m].
        length_m: HELD, ARC, SEGMENT: braking distance [m].
        start_rad, end_rad: ARC: turn angles it covers, counted from the start in the direction of the turn [rad].
        lag_rad: ARC: how far the turn can be behind that of an instant change of the slip angle [rad].
        wedge_rad: LINE: uncertainty of its heading, either way [rad].
        slip_rad: CIRCLE, ARC, TURN: slip angle steered, without its sign [rad].
    """

    manoeuvre: Manoeuvre
    kind: Kind
    pad_m: float = 0.0
    side: int = 0
    rho_m: float = 0.0
    centre_y_m: float = 0.0
    length_m: float = 0.0
    start_rad: float = 0.0
    end_rad: float = 0.0
    lag_rad: float = 0.0
    wedge_rad: float = 0.0
    slip_rad: float = 0.0


@dataclass(frozen=True, slots=True)
class Family:
    """Every manoeuvre that counts after a distance, and the pad of the held arc up to there.

    Args:
        held_pad_m: Growth of every obstacle's radius along the held arc [m].
        sweeps: In the order of preference: those that end at rest first.
        turns: The turns that end in a straight line; dearer to evaluate, and asked last.
        missing: When `sweeps` is empty, the bound that leaves nothing.
        l_r_m: Distance from the centre of gravity to the rear axle [m].
        delay_m: Way driven within the switch time at most, delta [m].
        speed_mps: Greatest speed at the start of a manoeuvre [m/s].
    """

    held_pad_m: float
    sweeps: tuple[Sweep, ...]
    turns: tuple[Sweep, ...]
    missing: str
    l_r_m: float
    delay_m: float
    speed_mps: float


PLAIN_AT_MOST = 64

_plain: dict[int, tuple[Vehicle, Family]] = {}
"""Families that depend on the vehicle alone, by its identity; a query of one obstacle costs little more than this."""


class FamilyOf:
    """The manoeuvres of a vehicle that holds a slip angle, as a function of the distance driven.

    Args:
        vehicle: Vehicle with its declared bounds.
        beta_rad: Slip angle held [rad].
        reach: Speeds that are possible along the path.
        beta_in_flight_rad: Slip angle in effect until the actuation delay has passed [rad]; None: `beta_rad`.
        moving: Only manoeuvres that end at rest count (an obstacle moves).
    """

    def __init__(
        self,
        vehicle: Vehicle,
        beta_rad: float,
        reach: Reach,
        beta_in_flight_rad: float | None = None,
        moving: bool = False,
    ) -> None:
        bounds = vehicle.bounds
        self._vehicle, self._bounds, self._reach, self._beta = vehicle, bounds, reach, beta_rad
        self._moving = moving
        self._l = vehicle.l_r_m
        self._error = bounds.steering_rad + bounds.steering_bias_rad
        self._grip_slip = grip_slip_rad(vehicle)
        self._brake_slip = braking_slip_rad(vehicle) if vehicle.deceleration_mps2 is not None else 0.0
        flight = 0.0 if beta_in_flight_rad is None else vehicle.v_max_mps * bounds.actuation_delay_s
        other = beta_rad if beta_in_flight_rad is None else beta_in_flight_rad
        self._flight_m = flight
        self._flight_shift = flight * 2.0 * math.sin(0.5 * abs(other - beta_rad))
        self._flight_turn = flight * abs(math.sin(other) - math.sin(beta_rad)) / self._l
        self.delay_m = vehicle.v_max_mps * bounds.switch_time_s
        speed_varies = vehicle.deceleration_mps2 is not None and reach.start_mps < reach.v_max_mps
        self.grows = self._error > 0.0 or bounds.odometry_drift > 0.0 or self._flight_turn > 0.0 or speed_varies
        held_matters = bounds.slip_rate_radps is not None or (
            bounds.lateral_accel_mps2 is not None and vehicle.deceleration_mps2 is not None
        )
        self._plain = not (self.grows or held_matters or self._flight_shift > 0.0 or moving)

    @property
    def refused(self) -> str:
        """The bound that forbids the held slip angle itself; empty when none does."""
        if self._bounds.lateral_accel_mps2 is None or abs(self._beta) <= self._grip_slip + 1e-9:
            return ""
        return "lateral_accel_mps2"

    def after(self, distance_m: float) -> Family:
        """Return the manoeuvres that may start anywhere up to `distance_m` [m], and up to the switch time later."""
        if not self._plain:
            return self._after(distance_m)
        known = _plain.get(id(self._vehicle))
        if known is None or known[0] is not self._vehicle:
            if len(_plain) >= PLAIN_AT_MOST:
                _plain.clear()
            known = _plain[id(self._vehicle)] = (self._vehicle, self._after(distance_m))
        return known[1]

    def _after(self, distance_m: float) -> Family:
        driven = distance_m + self.delay_m
        speed = self._reach.speed_after_m(driven + self._flight_m)
        sweeps: list[Sweep] = []
        turns: list[Sweep] = []
        if self._vehicle.deceleration_mps2 is not None:
            self._add_braking(sweeps, driven, speed)
        if not self._moving and self._bounds.steering_rad == 0.0:
            self._add_endless(sweeps, turns, driven)
        missing = "" if sweeps else self._missing()
        pad = self._path_pad_m(driven)
        return Family(pad, tuple(sweeps), tuple(turns), missing, self._l, self.delay_m, speed)

    def _missing(self) -> str:
        if self._vehicle.deceleration_mps2 is None:
            return "deceleration_mps2" if self._moving or self._bounds.steering_rad > 0.0 else "steering_bias_rad"
        return "lateral_accel_mps2"

    def _path_pad_m(self, length_m: float) -> float:
        error = self._error
        pad = error * length_m * (1.0 + length_m / (2.0 * self._l)) if error > 0.0 else 0.0
        return pad + self._flight_shift + self._flight_turn * length_m

    def _shift_of_centre_m(self, side: int, slip: float, speed: float) -> float:
        rate = self._bounds.slip_rate_radps
        if rate is None:
            return 0.0
        change = min(math.pi, abs(slip - side * self._beta) + self._bounds.steering_bias_rad)
        return speed * (1.0 - math.cos(change)) / (rate * math.sin(slip))

    def _add_endless(self, sweeps: list[Sweep], turns: list[Sweep], driven: float) -> None:
        bounds, length, v_max = self._bounds, self._l, self._vehicle.v_max_mps
        bias, rate, slip = bounds.steering_bias_rad, bounds.slip_rate_radps, self._grip_slip
        if slip > bias:
            rho, rho_rear = length / math.sin(slip), length / math.tan(slip)
            fixed = self._flight_shift + self._flight_turn * (driven + rho)
            if bias > 0.0:
                fixed += 2.0 * length * (1.0 / math.tan(slip - bias) - 1.0 / math.tan(slip))
                fixed += bias * driven * (1.0 + driven / (2.0 * length)) + rho * bias * driven / length
            for manoeuvre in (Manoeuvre.LEFT, Manoeuvre.RIGHT):
                side = manoeuvre.side
                pad = fixed + self._shift_of_centre_m(side, slip, v_max)
                sweeps.append(Sweep(manoeuvre, Kind.CIRCLE, pad, side, rho, side * rho_rear, slip_rad=slip))
        if bias > 0.0 or bounds.sensing_range_m is not None or bounds.field_of_view_rad is not None:
            return
        wedge, pad = self._flight_turn, self._flight_shift + self._flight_turn * driven
        if rate is not None:
            ramp = v_max * (1.0 - math.cos(self._beta)) / (rate * length)
            pad += v_max * abs(self._beta) / rate * _spread(ramp + abs(self._beta))
            wedge += ramp
        if wedge < 0.5 * math.pi:
            sweeps.append(Sweep(Manoeuvre.STRAIGHT, Kind.LINE, pad, wedge_rad=wedge))
        if rate is None and self._flight_shift == 0.0 and self._flight_turn == 0.0 and slip > 0.0:
            rho, rho_rear = length / math.sin(slip), length / math.tan(slip)
            for manoeuvre in (Manoeuvre.LEFT_THEN_STRAIGHT, Manoeuvre.RIGHT_THEN_STRAIGHT):
                side = manoeuvre.side
                turns.append(Sweep(manoeuvre, Kind.TURN, 0.0, side, rho, side * rho_rear, slip_rad=slip))

    def _add_braking(self, sweeps: list[Sweep], driven: float, speed: float) -> None:
        bounds, l_r, beta = self._bounds, self._l, self._beta
        deceleration = self._vehicle.deceleration_mps2
        assert deceleration is not None
        rate, slip = bounds.slip_rate_radps, self._brake_slip
        length = speed * speed / (2.0 * deceleration) + speed * bounds.brake_build_s
        pad = self._path_pad_m(driven + length)
        if self._within_grip(speed, deceleration):
            sweeps.append(Sweep(Manoeuvre.BRAKE, Kind.HELD, pad, length_m=length))
        if slip > 0.0:
            rho, rho_rear = l_r / math.sin(slip), l_r / math.tan(slip)
            for manoeuvre in (Manoeuvre.BRAKE_LEFT, Manoeuvre.BRAKE_RIGHT):
                side = manoeuvre.side
                start, end, lag = 0.0, length / rho, 0.0
                if rate is not None:
                    start, ahead, lag = self._ramp_turns(side * beta, slip, speed / (rate * l_r))
                    end += ahead
                shift = self._shift_of_centre_m(side, slip, speed)
                kind = Kind.CIRCLE if start + end >= 2.0 * math.pi else Kind.ARC
                sweeps.append(
                    Sweep(manoeuvre, kind, pad + shift, side, rho, side * rho_rear, length, -start, end, lag, 0.0, slip)
                )
        if rate is not None:
            ramp = speed * (1.0 - math.cos(beta)) / (rate * l_r)
            pad += _spread(ramp + abs(beta)) * min(length, speed * abs(beta) / rate) + _spread(ramp) * length
        sweeps.append(Sweep(Manoeuvre.BRAKE_STRAIGHT, Kind.SEGMENT, pad, length_m=length))

    @staticmethod
    def _ramp_turns(held: float, slip: float, scale: float) -> tuple[float, float, float]:
        """Return how far the slip ramp turns the wrong way, ahead of, and behind an instant change at most [rad].

        `held` is the slip angle held, counted towards the turn; `scale` is v/(w l): the ramp turns by
        scale * integral of sin(b) db, which an instant change would turn by scale * sin(slip) |slip - held|.
        """
        wrong_way = scale * (1.0 - math.cos(held)) if held < 0.0 else 0.0
        turned = scale * (math.cos(held) - math.cos(slip))
        instant = scale * math.sin(slip) * (slip - held)
        # For held <= slip the ramp turns by `turned` (less than `instant`), for held > slip by -turned (more).
        return wrong_way, max(0.0, instant - turned) if held > slip else 0.0, max(0.0, instant - turned)

    def _within_grip(self, speed: float, deceleration: float) -> bool:
        grip = self._bounds.lateral_accel_mps2
        if grip is None:
            return True
        across = speed * speed * math.sin(min(0.5 * math.pi, abs(self._beta) + self._error)) / self._l
        return math.hypot(deceleration, across) <= grip * (1.0 + 1e-9)


def _spread(angle_rad: float) -> float:
    """Return how far two unit steps whose directions differ by at most the angle can be apart."""
    return 2.0 * math.sin(0.5 * min(math.pi, angle_rad))
