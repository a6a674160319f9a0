"""Whether the vehicle keeps to the bounds its file declares, as far as its observations show, and what follows if not.

Two observations t seconds apart are compared with what the declared bounds allow between them; what the sensors may be
wrong by counts twice, once at each end, and t is lengthened by the declared sensing age and jitter to T:

    speed          v <= v_max + e_v
    acceleration   v_2 - v_1 <= a T + 2 e_v
    deceleration   while the backup brakes: v <= v_0 - d max(0, t - late) + 2 e_v
    slip rate      |beta_2 - beta_1| <= w T + 2 (e_s + e_b)
    position       |p_2 - p_1| <= V T + 2 e_p,   V = min(v_max, max(v_1, v_2) + e_v + a T)
    turn           |psi_2 - psi_1| <= V T sin(beta_max)/l_r + 2 e_psi

An undeclared (unlimited) bound is not compared. What is exceeded voids the certificate that rests on it, so it latches
the conservative setting: no time for any answer (deadline 0), and the vehicle slows down on its arc, each control still
certified, or backs up. It is cleared once the vehicle stands and `CLEAR_LOOKS` observations over `CLEAR_S` in a row
were within the bounds.
"""

import math
from collections import Counter
from dataclasses import dataclass

from shield.guard import Decision, GuardSettings, Mode, Observation
from shield.guard.machine import STANDING_MPS
from shield.state import wrap_angle
from shield.vehicle import Vehicle

CLEAR_S, CLEAR_LOOKS = 1.0, 10
"""How long, and for how many observations, everything must be within the bounds again."""

GRAIN_M, GRAIN = 0.01, 1e-6
"""Rounding that a position, and anything else, may carry."""

_APART_S = 1.0  # observations further apart are not compared: the vehicle may have been set down elsewhere


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A declared bound that an observation shows to be exceeded.

    Args:
        bound: Its name.
        value: What was observed, in `unit`.
        limit: The most that the bounds allow.
    """

    bound: str
    value: float
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"{self.bound}: {self.value:.3f} {self.unit}, at most {self.limit:.3f}"


class BoundWatch:
    """Compares the observations of one vehicle with its declared bounds.

    Args:
        vehicle: Vehicle with its declared bounds.
        settings: The guard's.
    """

    def __init__(self, vehicle: Vehicle, settings: GuardSettings) -> None:
        self._vehicle = vehicle
        bounds = vehicle.bounds
        self._slack_s = bounds.sensing_age_s + bounds.jitter_s
        # A vehicle that missed the message that tells it to back up holds its last pair until this has passed.
        self._unheard_s = settings.state_max_age_s + bounds.switch_time_s + bounds.sensing_age_s
        self._late_s = bounds.actuation_delay_s + bounds.brake_build_s
        self._last: Observation | None = None
        self._backing_s: float | None = None
        self._braking: tuple[float, float] | None = None
        self._clean: tuple[float, int] = (0.0, 0)
        self.latched: Exceeded | None = None
        self.counts: Counter[str] = Counter()
        """How many observations exceeded each bound."""

    def look(self, observation: Observation, decision: Decision | None) -> tuple[Exceeded, ...]:
        """Compare an observation with the one before and return what it exceeds.

        Args:
            observation: The newest.
            decision: The guard's last decision, which this observation was made under.
        """
        state = observation.state
        numbers = (observation.stamp_s, state.x_m, state.y_m, state.heading_rad, state.beta_rad, state.speed_mps or 0.0)
        if not all(map(math.isfinite, numbers)):
            return ()  # the guard itself refuses it
        before = self._last
        if before is not None and observation.stamp_s <= before.stamp_s:
            return ()
        apart_s = math.inf if before is None else observation.stamp_s - before.stamp_s
        fresh = before is None or observation.applied_id == 0 or apart_s > _APART_S
        self._last = observation
        found = [*self._of_speed(observation), *self._of_braking(observation, decision)]
        if before is not None and not fresh:
            found += self._between(before, observation, apart_s)
        over = tuple(item for item in found if item.value > item.limit + GRAIN)
        self._latch(observation, over)
        return over

    def forget(self) -> None:
        """Another vehicle reports from now on: what was seen of the last one says nothing about it."""
        self._last, self._backing_s, self._braking = None, None, None

    def _latch(self, observation: Observation, over: tuple[Exceeded, ...]) -> None:
        self.counts.update(item.bound for item in over)
        if over:
            self.latched = self.latched or over[0]
            self._clean = (observation.stamp_s, 0)
            return
        since_s, looks = self._clean
        self._clean = (since_s, looks + 1)
        speed = observation.state.speed_mps
        stands = speed is None or speed <= self._vehicle.bounds.speed_mps + STANDING_MPS
        if stands and looks + 1 >= CLEAR_LOOKS and observation.stamp_s - since_s >= CLEAR_S:
            self.latched = None

    def _of_speed(self, observation: Observation) -> list[Exceeded]:
        speed = observation.state.speed_mps
        if speed is None:
            return []
        return [Exceeded("speed", speed, self._vehicle.v_max_mps + self._vehicle.bounds.speed_mps, "m/s")]

    def _of_braking(self, observation: Observation, decision: Decision | None) -> list[Exceeded]:
        """Return the speed against the slowest braking declared, once the vehicle must have been braking for long."""
        speed, full = observation.state.speed_mps, self._vehicle.deceleration_mps2
        now_s = observation.stamp_s
        if speed is None or full is None or decision is None or decision.mode is not Mode.BACKUP:
            self._backing_s, self._braking = None, None
            return []
        if not decision.control.brake:
            return []
        self._backing_s = now_s if self._backing_s is None else self._backing_s
        if now_s < self._backing_s + self._unheard_s:
            return []
        if self._braking is None:
            self._braking = (now_s, speed)
        start_s, at_mps = self._braking
        left = max(0.0, at_mps - full * max(0.0, now_s - start_s - self._late_s - self._slack_s))
        return [Exceeded("deceleration", speed, left + 2.0 * self._vehicle.bounds.speed_mps, "m/s")]

    def _between(self, before: Observation, after: Observation, apart_s: float) -> list[Exceeded]:
        vehicle, bounds = self._vehicle, self._vehicle.bounds
        first, second = before.state, after.state
        time_s = apart_s + self._slack_s
        way_m = self._most_mps(first.speed_mps, second.speed_mps, time_s) * time_s
        moved_m = math.hypot(second.x_m - first.x_m, second.y_m - first.y_m)
        found = [Exceeded("position", moved_m, way_m + 2.0 * bounds.position_m + GRAIN_M, "m")]
        slip_rad = min(0.5 * math.pi, vehicle.beta_max_rad + bounds.steering_rad + bounds.steering_bias_rad)
        turned_rad = abs(wrap_angle(second.heading_rad - first.heading_rad))
        most_rad = way_m * math.sin(slip_rad) / vehicle.l_r_m + 2.0 * bounds.heading_rad
        found.append(Exceeded("turn", turned_rad, most_rad, "rad"))
        if vehicle.a_max_mps2 is not None and first.speed_mps is not None and second.speed_mps is not None:
            gain = vehicle.a_max_mps2 * time_s + 2.0 * bounds.speed_mps
            found.append(Exceeded("acceleration", second.speed_mps - first.speed_mps, gain, "m/s"))
        if bounds.slip_rate_radps is not None:
            error = 2.0 * (bounds.steering_rad + bounds.steering_bias_rad)
            most_rad = bounds.slip_rate_radps * time_s + error
            found.append(Exceeded("slip_rate", abs(second.beta_rad - first.beta_rad), most_rad, "rad"))
        return found

    def _most_mps(self, first: float | None, second: float | None, time_s: float) -> float:
        vehicle = self._vehicle
        if first is None or second is None or vehicle.a_max_mps2 is None:
            return vehicle.v_max_mps
        fastest = max(first, second) + vehicle.bounds.speed_mps + vehicle.a_max_mps2 * time_s
        return min(vehicle.v_max_mps, fastest)
