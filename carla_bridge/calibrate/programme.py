"""The drive that a calibration is made of: held slip angles, full acceleration, full braking, then whatever may come.

Each round holds every slip angle of the ladder once, left and right in turn, at a speed at which the turn takes no more
than `lateral_mps2`, from a straight stretch each; then it goes straight at full speed and brakes to rest. After the
rounds come drawn controls, each held for 0.1 to 1.2 s: steps and reversals of the slip angle at all speeds within the
declared grip, changes of speed, braking in a turn. Held angles give the steering curve, drawn ones the rest.
"""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from carla_bridge.calibrate.samples import Sample
from carla_bridge.errors import CalibrationError
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.obstacles import SpawnRule
from carla_bridge.route import Route, Section
from carla_bridge.scenario import Scenario
from carla_bridge.world import World
from carla_bridge.worlds.watch import Motion
from shield.guard import Command, Control
from shield.vehicle import Vehicle

_LADDER = (0.15, 0.3, 0.5, 0.7, 0.85, 1.0)
_APPROACH_S, _HOLD_S, _BRAKE_S = 1.5, 1.5, 3.0
_LEAST_MPS = 2.5
_SAME_M = 2.0


class CalibratedWorld(World, Protocol):
    """A world whose true motion can be asked for."""

    @property
    def motion(self) -> Motion:
        """How the vehicle truly moves."""

    @property
    def drums(self) -> "tuple[Placeable, ...]":
        """The obstacles where they truly are."""


class Placeable(Protocol):
    """Something round with a place."""

    @property
    def x_m(self) -> float: ...
    @property
    def y_m(self) -> float: ...
    @property
    def radius_m(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Programme:
    """What is driven.

    Args:
        rounds: How often.
        lateral_mps2: Greatest acceleration across the path while a slip angle is held [m/s^2]; drawn controls go up to
            the declared grip where there is one.
        steps: Number of drawn controls for each round.
        seed: Draws them.
    """

    rounds: int = 4
    lateral_mps2: float = 4.0
    steps: int = 200
    seed: int = 0

    def controls(self, vehicle: Vehicle) -> Iterator[tuple[Control, float]]:
        """Yield each control of the rounds and for how long it is held [s]."""
        for number in range(self.rounds):
            for share in _LADDER:
                for side in (1.0, -1.0) if number % 2 == 0 else (-1.0, 1.0):
                    beta = side * share * vehicle.beta_max_rad
                    speed = self._speed_mps(vehicle, beta)
                    yield Control(0.0, speed), _APPROACH_S
                    yield Control(beta, speed), _HOLD_S
            yield Control(0.0, 0.0, brake=True), _BRAKE_S
            yield Control(0.0, vehicle.v_max_mps), 2.0 + vehicle.v_max_mps / (vehicle.a_max_mps2 or 4.0)
            yield Control(0.0, 0.0, brake=True), _BRAKE_S

    def drawn(self, vehicle: Vehicle) -> Iterator[tuple[Control, float]]:
        """Yield each drawn control and for how long it is held [s]."""
        rng = random.Random(self.seed)
        grip_mps2 = vehicle.bounds.lateral_accel_mps2 or self.lateral_mps2
        before_mps, side = 0.0, 1.0
        for _ in range(self.rounds * self.steps):
            asked_mps = rng.uniform(0.0, vehicle.v_max_mps)
            fastest_mps = max(before_mps, asked_mps, _LEAST_MPS)  # it may not have slowed down yet
            most = min(vehicle.beta_max_rad, math.asin(min(1.0, vehicle.l_r_m * grip_mps2 / fastest_mps**2)))
            side = -side if rng.random() < 0.7 else side
            brake, before_mps = rng.random() < 0.25, asked_mps
            yield Control(side * most * math.sqrt(rng.random()), asked_mps, brake), rng.uniform(0.1, 1.2)
        yield Control(0.0, 0.0, brake=True), _BRAKE_S

    def _speed_mps(self, vehicle: Vehicle, beta_rad: float) -> float:
        curvature = math.sin(abs(beta_rad)) / vehicle.l_r_m
        return max(_LEAST_MPS, min(0.6 * vehicle.v_max_mps, math.sqrt(self.lateral_mps2 / curvature)))


def proving_ground() -> Scenario:
    """Return a plain without edges and without obstacles, as nothing on it must get in the way."""
    return Scenario(
        name="proving_ground",
        route=Route.from_sections([Section(20_000.0, 0.0)]),
        half_width_m=1e5,
        spawn=SpawnRule(count=0),
    )


def drive_controls(world: CalibratedWorld, controls: Iterable[tuple[Control, float]]) -> list[Sample]:
    """Drive some controls, each for its time [s], and return a sample for every tick.

    Raises:
        CalibrationError: the world ended the episode before the programme's end.
    """
    found: list[Sample] = []
    for run, (control, hold_s) in enumerate(controls):
        until_s = world.time_s + hold_s
        while world.time_s < until_s - 0.5 * world.tick_s:
            world.apply(control)
            world.tick()
            if world.done:
                last = [f"{event.kind}: {event.detail}" for event in world.events()][-1:]
                raise CalibrationError(f"the world ended the drive at {world.time_s:.1f} s, {', '.join(last)}")
            found.append(sample_of(world, run, control))
    return found


def sample_of(world: CalibratedWorld, run: int, control: Command) -> Sample:
    """Return what the world is like now, `control` having been in force until now."""
    asked = (control.beta_rad, control.speed_mps, control.brake)
    return Sample(world.time_s, run, asked, world.state(), world.motion, tuple(_strays(world)))


def _strays(world: CalibratedWorld) -> Iterator[float]:
    """Yield by how much each drum reaches beyond the nearest disc that is told of it [m].

    The built-in world tells discs as wide as is to be kept clear of: there it is by how much their middles are apart.
    """
    discs, keeps_clear = world.obstacles(), isinstance(world, KinematicWorld)
    for drum in world.drums:
        apart = [(math.hypot(disc.x_m - drum.x_m, disc.y_m - drum.y_m), disc.radius_m) for disc in discs]
        gaps = [
            off_m if keeps_clear else max(0.0, off_m + drum.radius_m - radius_m)
            for off_m, radius_m in apart
            if off_m <= _SAME_M
        ]
        if gaps:
            yield min(gaps)
