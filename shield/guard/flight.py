"""Where the vehicle can be when a new control takes effect: the commands in flight.

A control decided on an observation taken at t_0 takes effect at some t_e in [t_0, t_0 + A], A = sensing age + actuation
delay. Until then one of the controls in flight is held; call any of their slip angles b_1, the new one b_2, the ways
driven u <= S = s_max(A), and let kappa = sin(b)/l_r. Compare the true path (b_1 for a way u, then b_2) with b_2 held
from t_0 on, both at equal arc length. Their directions differ by at most |b_1 - b_2| + |kappa_1 - kappa_2| u, so that
when b_2 takes effect

    |position difference| <= S 2 sin((|b_1 - b_2| + |kappa_1 - kappa_2| S / 2) / 2),
    |heading difference|  <= |kappa_1 - kappa_2| S,

and both stay as they are from there on. A turn by e about a point moves an obstacle at distance r from it by
2 r sin(e/2): growing every disc by the first plus that, r <= distance now + S, makes "b_2 from t_0 on" stand for every
true path, and t_0 the instant its deadline counts from.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shield.arc import Reach
from shield.state import Disc, State
from shield.vehicle import Vehicle

REMEMBERED = 64
"""Decisions kept; older ones than the vehicle's answer can name are forgotten first."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A decision as the vehicle may hold it: slip angles before `hold_until_s`, slip angles of its backup after."""

    id: int
    held_rad: tuple[float, ...]
    backup_rad: tuple[float, ...]
    hold_until_s: float
    apply_by_s: float


@dataclass(slots=True)
class CommandLog:
    """Decisions that are or may come to be in effect at the vehicle, in the order of their ids."""

    vehicle: Vehicle
    _issued: list[Issued] = field(default_factory=list)

    def add(self, issued: Issued) -> None:
        """Append the newest decision."""
        self._issued.append(issued)
        del self._issued[:-REMEMBERED]

    def forget(self, applied_id: int, start_s: float) -> None:
        """Drop what came before the decision in effect at `start_s`, and what came too late to replace it."""
        self._issued = self._candidates(applied_id, start_s)

    def possible_slips(self, applied_id: int, start_s: float, end_s: float) -> tuple[float, ...]:
        """Return every slip angle that may be in effect during [start_s, end_s].

        Args:
            applied_id: Decision in effect at `start_s`; 0: none, and the vehicle at rest. One that the log does not
                know (a restarted guard) allows every slip angle.
        Returns:
            Slip angles [rad]; the truth lies among them or, for an unknown decision or a limited slip rate, between.
        """
        slips: list[float] = []
        for item in self._candidates(applied_id, start_s):
            if item.hold_until_s > start_s:
                slips += item.held_rad
            if item.hold_until_s <= end_s:
                slips += item.backup_rad
        return self._distinct(applied_id, slips)

    def possible_backups(self, applied_id: int, start_s: float) -> tuple[float, ...]:
        """Return the slip angle [rad] of every backup that may be stored at the vehicle from `start_s` on."""
        slips = [slip for item in self._candidates(applied_id, start_s) for slip in item.backup_rad]
        return self._distinct(applied_id, slips)

    def _candidates(self, applied_id: int, start_s: float) -> list[Issued]:
        return [
            item
            for item in self._issued
            if item.id == applied_id or (item.id > applied_id and item.apply_by_s >= start_s)
        ]

    def _distinct(self, applied_id: int, slips: list[float]) -> tuple[float, ...]:
        if applied_id != 0 and not any(item.id == applied_id for item in self._issued):
            return (-self.vehicle.beta_max_rad, self.vehicle.beta_max_rad)
        return tuple(dict.fromkeys(slips))


def grow_for_flight(
    vehicle: Vehicle,
    state: State,
    obstacles: Sequence[Disc],
    beta_rad: float,
    slips_in_flight_rad: Iterable[float],
    flight_s: float,
) -> tuple[Disc, ...]:
    """Return the obstacles grown so that `beta_rad` held from the observation on stands for every true path.

    Args:
        state: Pose at the observation.
        obstacles: Discs at the observation, in the frame of `state`.
        beta_rad: The new slip angle [rad].
        slips_in_flight_rad: Every slip angle that may be in effect before the new one is [rad].
        flight_s: The longest time from the observation to the new control's effect [s].
    """
    bounds = vehicle.bounds
    error = bounds.steering_rad + bounds.steering_bias_rad
    turn = bend = 0.0
    for slip in slips_in_flight_rad:
        difference = abs(slip - beta_rad)
        # |sin b_1 - sin b_2|, whatever the declared steering error adds to both
        closest = max(0.0, 0.5 * abs(slip + beta_rad) - error)
        turn = max(turn, difference)
        bend = max(bend, 2.0 * math.sin(0.5 * difference) * math.cos(closest) / vehicle.l_r_m)
    if turn == 0.0:
        return tuple(obstacles)
    reach = Reach.of(vehicle, state.speed_mps)
    way = reach.distance_m(flight_s)
    heading = bend * way
    shift = way * 2.0 * math.sin(0.5 * min(math.pi, turn + 0.5 * heading))
    if bounds.slip_rate_radps is not None:
        # The new angle is reached on a ramp; its difference falls to zero, so that half of the way there counts.
        ramp = reach.distance_m(flight_s + turn / bounds.slip_rate_radps) - way
        heading += 0.5 * ramp * turn / vehicle.l_r_m
        shift += ramp * (0.5 * turn + heading)
        way += ramp
    swing = 2.0 * math.sin(0.5 * min(math.pi, heading))
    return tuple(
        Disc(
            disc.x_m,
            disc.y_m,
            disc.radius_m + shift + swing * (math.hypot(disc.x_m - state.x_m, disc.y_m - state.y_m) + way),
            disc.speed_max_mps,
        )
        for disc in obstacles
    )
