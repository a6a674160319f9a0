"""The drive that a calibration is made of: slip angles to both sides at a safe speed, full acceleration, full braking.

Each round holds every slip angle of the ladder once, left and right in turn, at a speed at which the turn takes no more
than `lateral_mps2`, from a straight stretch each; then it goes straight at full speed and brakes to rest.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from carla_bridge.calibrate.samples import Sample
from carla_bridge.errors import CalibrationError
from carla_bridge.obstacles import SpawnRule
from carla_bridge.route import Route, Section
from carla_bridge.scenario import Scenario
from carla_bridge.scene.kinds import Placed
from carla_bridge.scene.table import Range
from carla_bridge.world import World
from carla_bridge.worlds.watch import Motion
from shield.guard import Control
from shield.vehicle import Vehicle

_LADDER = (0.15, 0.3, 0.5, 0.7, 0.85, 1.0)
_APPROACH_S, _HOLD_S, _BRAKE_S = 1.5, 1.5, 3.0
_LEAST_MPS = 2.5


class CalibratedWorld(World, Protocol):
    """A world whose true motion can be asked for."""

    @property
    def motion(self) -> Motion:
        """How the vehicle truly moves."""

    @property
    def drums(self) -> "tuple[Placeable, ...]":
        """The obstacles where they truly are."""


class Placeable(Protocol):
    """Something with a place."""

    @property
    def x_m(self) -> float: ...
    @property
    def y_m(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Programme:
    """What is driven.

    Args:
        rounds: How often.
        lateral_mps2: Greatest acceleration across the path [m/s^2].
    """

    rounds: int = 4
    lateral_mps2: float = 4.0

    def controls(self, vehicle: Vehicle) -> Iterator[tuple[Control, float]]:
        """Yield each control and for how long it is held [s]."""
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

    def _speed_mps(self, vehicle: Vehicle, beta_rad: float) -> float:
        curvature = math.sin(abs(beta_rad)) / vehicle.l_r_m
        return max(_LEAST_MPS, min(0.6 * vehicle.v_max_mps, math.sqrt(self.lateral_mps2 / curvature)))


def proving_ground() -> Scenario:
    """Return a plain without edges, with drums that the range sensor can be judged by."""
    drums = tuple(
        Placed(
            "standing",
            {
                "s_m": _fixed(100.0 + 400.0 * i),
                "offset_m": _fixed(60.0),
                "radius_m": _fixed(1.2),
                "height_m": _fixed(1.9),
            },
        )
        for i in range(2)
    )
    return Scenario(
        name="proving_ground",
        route=Route.from_sections([Section(20_000.0, 0.0)]),
        half_width_m=1e5,
        placed=drums,
        spawn=SpawnRule(count=0),
    )


def drive_programme(world: CalibratedWorld, vehicle: Vehicle, programme: Programme) -> list[Sample]:
    """Drive the programme and return a sample for every tick.

    Raises:
        CalibrationError: the world ended the episode before the programme's end.
    """
    found: list[Sample] = []
    for run, (control, hold_s) in enumerate(programme.controls(vehicle)):
        until_s = world.time_s + hold_s
        while world.time_s < until_s - 0.5 * world.tick_s:
            world.apply(control)
            world.tick()
            if world.done:
                last = [f"{event.kind}: {event.detail}" for event in world.events()][-1:]
                raise CalibrationError(f"the world ended the drive at {world.time_s:.1f} s, {', '.join(last)}")
            found.append(_sample(world, run, control))
    return found


def _sample(world: CalibratedWorld, run: int, control: Control) -> Sample:
    state, motion, discs = world.state(), world.motion, world.obstacles()
    drums = world.drums
    errors = tuple(
        math.hypot(disc.x_m - drum.x_m, disc.y_m - drum.y_m)
        for disc, drum in (zip(discs, drums, strict=True) if len(discs) == len(drums) else ())
    )
    return Sample(world.time_s, run, (control.beta_rad, control.speed_mps, control.brake), state, motion, errors)


def _fixed(value: float) -> Range:
    return Range(value, value)
