"""Closed-loop falsification: a guard and an applier drive a simulated vehicle that does its worst.

The vehicle is a kinematic bicycle moved in steps of at most 5 ms along exact arcs. Everything the declared bounds leave
open is drawn by the scenario, at the edge of the bound as often as inside: measurement errors, the age of a state, the
delay of a control, when the vehicle side next looks whether its hold has run out, the speed while no brake is on, the
steering error, the obstacles' motion. On top come what no bound covers and the guard has to survive: proposals that are
missing, late, not numbers or aimed at an obstacle, observations that are missing or not numbers, a guard that falls
silent for seconds or starts anew, decisions that come too late or never.

A scenario is broken when the vehicle touches an obstacle (moving ones: while its own speed is above zero), or when an
instant passes without a certified control.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from shield.guard import Command, Decision, Guard, GuardSettings, Mode, Observation, Proposal, Reason
from shield.state import Disc, State, wrap_angle
from shield.vehicle import Vehicle

STEP_S = 0.005
"""Longest step of the simulation [s]: 6 cm at 12 m/s, and the distance to a disc of 1 m is met to half a millimetre."""

CONTACT_GRAIN_M = 1e-6
"""A disc entered by less than this is touched by rounding alone [m]."""

HARD_MPS2 = 50.0
"""How fast the speed changes where no bound is declared [m/s^2]."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One drawn situation; the same numbers give the same drive.

    Args:
        seed: Of everything drawn while driving.
        duration_s: Length of the drive [s].
        start: Pose at the start, at rest.
        obstacles: Discs at the start.
        careful: Whether proposals come from a controller that steers for the middle of the field without regard to
            obstacles and keeps its speed; else they are drawn, many of them useless.
        faults: How often anything fails, 0 to 1.
    """

    seed: int
    duration_s: float
    start: State
    obstacles: tuple[Disc, ...]
    careful: bool = False
    faults: float = 1.0


@dataclass(slots=True)
class Drive:
    """What happened.

    Args:
        contacts: Times of contact [s].
        uncertified: Instants without a certified control.
        least_clearance_m: Least distance between the vehicle and an obstacle's edge [m].
        way_m: Way driven [m].
        states: Simulated vehicle states.
        ticks, interventions, backups: Ticks of the guard, those that changed the proposal, those in mode BACKUP.
        reasons: How often each reason was given.
    """

    contacts: list[float] = field(default_factory=list)
    uncertified: int = 0
    least_clearance_m: float = math.inf
    way_m: float = 0.0
    states: int = 0
    ticks: int = 0
    interventions: int = 0
    backups: int = 0
    reasons: dict[Reason, int] = field(default_factory=dict)

    @property
    def broken(self) -> bool:
        """Whether the guard's promise was broken."""
        return bool(self.contacts) or self.uncertified > 0


def draw_scenario(vehicle: Vehicle, seed: int, duration_s: float = 10.0, *, moving: bool = True) -> Scenario:
    """Draw a field of obstacles and a start at rest that touches none of them.

    Args:
        vehicle: Sets the scale: the field is as large as a few full-lock circles and braking distances.
        seed: Of the draw.
        duration_s: Length of the drive [s].
        moving: Whether obstacles may move, where the vehicle has the brakes that this asks for.
    """
    rng = random.Random(seed)
    scale = 4.0 * vehicle.rho_m + 2.0 * vehicle.v_max_mps
    moving = moving and vehicle.deceleration_mps2 is not None and rng.random() < 0.3
    discs = []
    for _ in range(rng.choice((0, 1, 1, 2, 3, 4, 6, 10))):
        radius = rng.uniform(0.2, 0.15 * scale)
        speed = rng.uniform(0.1, 0.5) * vehicle.v_max_mps if moving and rng.random() < 0.5 else 0.0
        discs.append(Disc(rng.uniform(-scale, scale), rng.uniform(-scale, scale), radius, speed))
    start = State(0.0, 0.0, rng.uniform(-math.pi, math.pi), 0.0, 0.0)
    apart = vehicle.radius_m + vehicle.bounds.position_m
    clear = tuple(disc for disc in discs if math.hypot(disc.x_m, disc.y_m) > disc.radius_m + apart)
    return Scenario(seed, duration_s, start, clear, careful=rng.random() < 0.4, faults=rng.choice((0.0, 0.3, 1.0)))


class Applied(Protocol):
    """What a vehicle side has in effect at an instant."""

    @property
    def control(self) -> Command: ...
    @property
    def certified(self) -> bool: ...


class VehicleSide(Protocol):
    """What keeps the pair at the vehicle, as `headway.Applier` does."""

    @property
    def applied_id(self) -> int: ...
    @property
    def hold_until_s(self) -> float: ...
    def accept(self, decision: Decision, effect_s: float, /) -> bool: ...
    def control_at(self, time_s: float, /) -> Applied: ...


class Simulation:
    """One scenario with its guard, its applier and its vehicle.

    Args:
        vehicle: Vehicle with its declared bounds; the simulated one stays within them.
        scenario: What happens.
        applier: The vehicle side under test, at rest.
        settings: The guard's.
        guard: Builds the guard; a faulty one is built here by tests.
    """

    def __init__(
        self,
        vehicle: Vehicle,
        scenario: Scenario,
        applier: VehicleSide,
        settings: GuardSettings | None = None,
        guard: Callable[[Vehicle, GuardSettings], Guard] = Guard,
    ) -> None:
        self.vehicle, self.scenario = vehicle, scenario
        self.settings = settings or GuardSettings()
        self._build = guard
        self.guard = guard(vehicle, self.settings)
        self.applier = applier
        self.rng = random.Random(scenario.seed + 1)
        start = scenario.start
        self.x, self.y, self.heading, self.beta, self.speed = start.x_m, start.y_m, start.heading_rad, 0.0, 0.0
        self.discs = list(scenario.obstacles)
        self.time_s = 0.0
        self.control = self.applier.control_at(0.0).control
        self.braking_s = 0.0
        self.drive = Drive()
        self.aim, self.ask_mps = (0.0, 0.0), vehicle.v_max_mps
        self._pending: list[tuple[float, Decision]] = []
        self._seen: list[Observation] = []
        self._proposal: Proposal | None = None
        self._asked_rad = 0.0
        self._silent_until_s = 0.0
        self._error = 0.0
        self._bias = self.rng.choice((-1.0, 0.0, 1.0))
        self._gain = 1.0

    def run(self) -> Drive:
        """Drive the scenario to its end or to the first contact."""
        bounds = self.vehicle.bounds
        next_tick_s = 0.0
        switch_s = math.inf
        while self.time_s < self.scenario.duration_s and not self.drive.contacts:
            if self.time_s >= next_tick_s:
                self._tick()
                next_tick_s = self.time_s + max(self.settings.tick_s, bounds.tick_s) + self._drawn(bounds.jitter_s)
            if self._deliver():
                self._look()
                switch_s = max(self.time_s, self.applier.hold_until_s) + self._drawn(bounds.switch_time_s)
            elif self.time_s >= switch_s:
                self._look()
                switch_s = math.inf
            due_s = [due_s for due_s, _ in self._pending]
            self._move(min(next_tick_s, switch_s, *due_s, self.time_s + STEP_S, self.scenario.duration_s))
        return self.drive

    def _drawn(self, most: float) -> float:
        """Draw from [0, most], both ends often."""
        return most * self.rng.choice((0.0, 1.0, self.rng.random()))

    def _fails(self, chance: float) -> bool:
        return self.rng.random() < chance * self.scenario.faults

    def _look(self) -> None:
        applied = self.applier.control_at(self.time_s)
        if not applied.certified:
            self.drive.uncertified += 1
        if applied.control.brake and not self.control.brake:
            self.braking_s = 0.0
        self.control = applied.control

    def _deliver(self) -> bool:
        """Hand over every decision that is due; say whether one was taken."""
        due = [decision for due_s, decision in self._pending if due_s <= self.time_s]
        self._pending = [item for item in self._pending if item[0] > self.time_s]
        taken = [self.applier.accept(decision, self.time_s) for decision in due]
        return any(taken)

    def _tick(self) -> None:
        if self.time_s < self._silent_until_s:
            return
        if self._fails(0.004):
            self._silent_until_s = self.time_s + self.rng.uniform(0.02, 2.0)
            return
        if self._fails(0.002):
            self.guard = self._build(self.vehicle, self.settings)
        self._seen.append(self._observe())
        observation = None if self._fails(0.02) else self._aged_observation()
        decision = self.guard.tick(self.time_s, observation, self._propose())
        self._count(decision)
        delay_s = self._drawn(self.vehicle.bounds.actuation_delay_s)
        if self._fails(0.02):
            delay_s += self.rng.uniform(0.0, 0.2)
        if not self._fails(0.02):
            self._pending.append((self.time_s + delay_s, decision))

    def _aged_observation(self) -> Observation:
        """Return an observation as old as the bound allows, or newer, but newer than the last one used."""
        oldest_s = self.time_s - self._drawn(self.vehicle.bounds.sensing_age_s)
        self._seen = [seen for seen in self._seen if seen.stamp_s >= oldest_s]
        return self._seen.pop(0)

    def _count(self, decision: Decision) -> None:
        drive = self.drive
        drive.ticks += 1
        drive.backups += decision.mode is Mode.BACKUP
        drive.interventions += decision.intervened and decision.mode is not Mode.BACKUP
        drive.reasons[decision.reason] = drive.reasons.get(decision.reason, 0) + 1

    def _observe(self) -> Observation:
        bounds = self.vehicle.bounds
        discs = []
        for disc in self.discs:
            error, bearing = self._drawn(bounds.position_m), self.rng.uniform(-math.pi, math.pi)
            x, y = disc.x_m + error * math.cos(bearing), disc.y_m + error * math.sin(bearing)
            discs.append(replace(disc, x_m=x, y_m=y))
        speed = self.speed + self.rng.choice((-1.0, 1.0)) * self._drawn(bounds.speed_mps)
        heading = self.heading + self.rng.choice((-1.0, 1.0)) * self._drawn(bounds.heading_rad)
        if self._fails(0.01):
            heading = math.nan
        limit = self.vehicle.beta_max_rad
        beta = min(max(self.beta, -limit), limit)
        state = State(self.x, self.y, heading, beta, min(max(0.0, speed), self.vehicle.v_max_mps))
        return Observation(self.time_s, state, tuple(discs), self.applier.applied_id)

    def _propose(self) -> Proposal | None:
        rng, limit = self.rng, self.vehicle.beta_max_rad
        if self.scenario.careful:
            away_x, away_y = self.aim[0] - self.x, self.aim[1] - self.y
            bearing = math.atan2(away_y, away_x) if math.hypot(away_x, away_y) > 5.0 else self.heading
            turn = 0.5 * wrap_angle(bearing - self.heading)
            return Proposal(self.time_s, min(max(turn, -limit), limit), self.ask_mps)
        if rng.random() < 0.1:
            self._asked_rad = rng.choice((0.0, limit, -limit, rng.uniform(-limit, limit), self._at_an_obstacle()))
        if self._fails(0.02):
            return Proposal(self.time_s, math.nan, 1.0)
        if self._fails(0.3):
            return self._proposal
        age_s = rng.uniform(0.0, 0.7) if self._fails(0.3) else 0.0
        self._proposal = Proposal(self.time_s - age_s, self._asked_rad, rng.uniform(0.0, self.vehicle.v_max_mps))
        return self._proposal

    def _at_an_obstacle(self) -> float:
        if not self.discs:
            return 0.0
        disc = min(self.discs, key=lambda item: math.hypot(item.x_m - self.x, item.y_m - self.y))
        turn = wrap_angle(math.atan2(disc.y_m - self.y, disc.x_m - self.x) - self.heading)
        return min(max(turn, -self.vehicle.beta_max_rad), self.vehicle.beta_max_rad)

    def _move(self, until_s: float) -> None:
        vehicle, bounds = self.vehicle, self.vehicle.bounds
        time_s = until_s - self.time_s
        before = self.speed
        self.speed = self._next_speed(time_s)
        way = 0.5 * (before + self.speed) * time_s
        if self.rng.random() < 0.02:
            self._error = self.rng.uniform(-1.0, 1.0) if self.rng.random() < 0.5 else self.rng.choice((-1.0, 1.0))
        wanted = self.control.beta_rad
        if bounds.slip_rate_radps is not None:
            most = bounds.slip_rate_radps * time_s
            self.beta += min(max(wanted - self.beta, -most), most)
        else:
            self.beta = wanted
        beta = self.beta + self._error * bounds.steering_rad + self._bias * bounds.steering_bias_rad
        turn = math.sin(beta) / vehicle.l_r_m * way
        direction = self.heading + beta + 0.5 * turn
        chord = way * (math.sin(0.5 * turn) / (0.5 * turn) if abs(turn) > 1e-12 else 1.0)
        self.x += chord * math.cos(direction)
        self.y += chord * math.sin(direction)
        self.heading = wrap_angle(self.heading + turn)
        self.time_s = until_s
        self._move_obstacles(time_s)
        self.drive.way_m += way
        self.drive.states += 1
        self._check()

    def _next_speed(self, time_s: float) -> float:
        vehicle = self.vehicle
        if self.control.brake:
            slowing = vehicle.deceleration_mps2 or 0.0
            late_s = max(0.0, self.braking_s + time_s - vehicle.bounds.brake_build_s)
            self.braking_s += time_s
            return max(0.0, self.speed - slowing * min(time_s, late_s))
        gain = HARD_MPS2 if vehicle.a_max_mps2 is None else vehicle.a_max_mps2
        if self.scenario.careful:
            wanted = self.control.speed_mps
        else:
            # Whatever speed was asked for, any that the bounds allow may come.
            if self.rng.random() < 0.02:
                self._gain = self.rng.choice((1.0, 1.0, 0.0, 0.1, self.rng.random()))
            wanted = self._gain * vehicle.v_max_mps
        return min(
            vehicle.v_max_mps, max(0.0, self.speed + min(max(wanted - self.speed, -8.0 * time_s), gain * time_s))
        )

    def _move_obstacles(self, time_s: float) -> None:
        for index, disc in enumerate(self.discs):
            if disc.speed_max_mps > 0.0:
                aim = math.atan2(self.y - disc.y_m, self.x - disc.x_m)
                way = disc.speed_max_mps * time_s * (1.0 if (self.scenario.seed + index) % 3 else math.cos(self.time_s))
                moved = (disc.x_m + way * math.cos(aim), disc.y_m + way * math.sin(aim))
                self.discs[index] = replace(disc, x_m=moved[0], y_m=moved[1])

    def _check(self) -> None:
        least = math.inf
        for disc in self.discs:
            gap = math.hypot(disc.x_m - self.x, disc.y_m - self.y) - disc.radius_m - self.vehicle.radius_m
            if disc.speed_max_mps == 0.0 or self.speed > 0.0:
                least = min(least, gap)
        self.drive.least_clearance_m = min(self.drive.least_clearance_m, least)
        if least < -CONTACT_GRAIN_M:
            self.drive.contacts.append(self.time_s)
