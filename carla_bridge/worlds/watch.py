"""Whether a vehicle and what is around it stay inside the declared bounds: by the truth, at every step of a world.

The shield's promise rests on the bounds of the vehicle file. Where one is broken, what happens after is not its fault,
and where none is, it is. Compared are

    speed            v <= v_max
    acceleration     v' <= a_max
    braking          way since a brake began <= v_0 (delay + build-up) + v_0^2/(2 d), and v falls at d at least
    steering         the slip angle, and the one that the path's curvature tells, lies between the angles that were
                     asked for within the last `actuation_delay_s`, followed at the declared slip rate or at once,
                     give or take the declared error
    lateral          v^2 |curvature| <= the declared grip
    obstacle_speed   way of an obstacle in a step <= its declared top speed times the step
    listed           no obstacle appears within the declared sensing range
    sensing          the position, heading and speed told are no more wrong than declared
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from shield.guard import Command
from shield.state import State, wrap_angle
from shield.vehicle import Vehicle

SLOW_MPS = 2.0
"""Below this the steering is not looked at: springs coming to rest turn the course of a slow body [m/s]."""

STOPPED_MPS = 0.05
"""Up to this a braking vehicle has stopped [m/s]."""

GRAIN = 1e-6
"""Rounding, in the unit of whatever is compared."""


@dataclass(frozen=True, slots=True)
class Motion:
    """How a vehicle truly moves at one instant.

    Args:
        x_m, y_m, heading_rad: Pose of the point that the vehicle file is about [m, rad].
        speed_mps: Speed of that point [m/s].
        slip_rad: Direction of its velocity from the heading [rad].
        yaw_rate_radps: Turn of the body [rad/s].
    """

    x_m: float
    y_m: float
    heading_rad: float
    speed_mps: float
    slip_rad: float
    yaw_rate_radps: float


@dataclass(slots=True)
class Watch:
    """Compares what happens with a vehicle file and keeps the names of the bounds that were broken.

    Args:
        vehicle: Parameters and declared bounds.
        broken: Names of the bounds broken so far, each with the worst excess in its own unit.
    """

    vehicle: Vehicle
    broken: dict[str, float] = field(default_factory=dict)
    _before: Motion | None = None
    _asked: deque[tuple[float, float]] = field(default_factory=deque)
    _slips: tuple[float, float] = (0.0, 0.0)
    _brake: tuple[float, float, float] | None = None

    def moved(self, time_s: float, dt_s: float, motion: Motion, control: Command) -> None:
        """Compare a step that ended at `time_s` [s], `dt_s` long [s], driven under `control`."""
        vehicle, before, self._before = self.vehicle, self._before, motion
        self._over("speed", motion.speed_mps, vehicle.v_max_mps)
        if before is not None and vehicle.a_max_mps2 is not None:
            self._over("acceleration", (motion.speed_mps - before.speed_mps) / dt_s, vehicle.a_max_mps2)
        self._braking(time_s, dt_s, motion, control)
        self._steering(time_s, dt_s, motion, control)
        if vehicle.bounds.lateral_accel_mps2 is not None:
            across = abs(motion.speed_mps * motion.yaw_rate_radps)
            self._over("lateral", across, vehicle.bounds.lateral_accel_mps2)

    def obstacle(self, way_m: float, dt_s: float, speed_max_mps: float) -> None:
        """Compare an obstacle's way in a step of `dt_s` [s] with its declared top speed [m/s]."""
        self._over("obstacle_speed", way_m / dt_s, max(speed_max_mps, self.vehicle.bounds.obstacle_speed_mps))

    def appeared(self, distance_m: float) -> None:
        """Note an obstacle that was not there before, `distance_m` [m] away: within the declared range it was to be."""
        reach_m = self.vehicle.bounds.sensing_range_m
        if reach_m is None or distance_m < reach_m:
            self.broken.setdefault("listed", distance_m)

    def told(self, state: State, motion: Motion, offs_m: Iterable[float]) -> None:
        """Compare what the sensors say with the truth.

        Args:
            state: What they say of the vehicle.
            motion: The truth.
            offs_m: By how much each obstacle's place relative to the vehicle is wrong, or what was told of it does
                not cover it [m].
        """
        bounds = self.vehicle.bounds
        self._over("heading", abs(wrap_angle(state.heading_rad - motion.heading_rad)), bounds.heading_rad)
        if state.speed_mps is not None:
            # A measured speed that is too high errs on the safe side; one that is too low does not.
            self._over("speed_sensor", motion.speed_mps - state.speed_mps, bounds.speed_mps)
        for off_m in offs_m:
            self._over("position", off_m, bounds.position_m)

    def _over(self, name: str, value: float, bound: float) -> None:
        if value > bound + GRAIN:
            self.broken[name] = max(self.broken.get(name, 0.0), value - bound)

    def _braking(self, time_s: float, dt_s: float, motion: Motion, control: Command) -> None:
        full = self.vehicle.deceleration_mps2
        if full is None or not control.brake:
            self._brake = None
            return
        bounds = self.vehicle.bounds
        if self._brake is None:
            self._brake = (time_s - dt_s, motion.speed_mps, 0.0)
        start_s, at_mps, way_m = self._brake
        late_s = bounds.actuation_delay_s + bounds.brake_build_s
        way_m += motion.speed_mps * dt_s
        self._brake = (start_s, at_mps, way_m)
        # While the delay runs, the vehicle may still speed up.
        most = min(self.vehicle.v_max_mps, at_mps + (self.vehicle.a_max_mps2 or 0.0) * bounds.actuation_delay_s)
        self._over("braking", way_m, most * (late_s + dt_s) + most * most / (2.0 * full))
        slowed = most - full * max(0.0, time_s - start_s - late_s)
        self._over("deceleration", motion.speed_mps, max(STOPPED_MPS, slowed))

    def _steering(self, time_s: float, dt_s: float, motion: Motion, control: Command) -> None:
        bounds, limit = self.vehicle.bounds, self.vehicle.beta_max_rad
        self._asked.append((time_s, max(-limit, min(limit, control.beta_rad))))
        while len(self._asked) > 1 and self._asked[1][0] <= time_s - bounds.actuation_delay_s - dt_s:
            self._asked.popleft()
        angles = [angle for _, angle in self._asked]
        low, high = self._slips
        step = math.inf if bounds.slip_rate_radps is None else bounds.slip_rate_radps * dt_s
        # The angle follows at once or as slowly as declared: it lies between the two.
        low = min(angles) if low > min(angles) else min(min(angles), low + step)
        high = max(angles) if high < max(angles) else max(max(angles), high - step)
        self._slips = (low, high)
        if motion.speed_mps < SLOW_MPS:
            return
        error = bounds.steering_rad + bounds.steering_bias_rad
        curved = math.asin(max(-1.0, min(1.0, motion.yaw_rate_radps / motion.speed_mps * self.vehicle.l_r_m)))
        for slip in (motion.slip_rad, curved):
            self._over("steering", max(low - slip, slip - high), error)
