"""What the further worlds have in common: sensing within declared bounds, judging by the truth, the camera.

A world of this kind says how its vehicle truly moves and what is on its road; everything told is derived here. The
picture is the built-in camera's, each thing on the road a drum in it: the shipped network was made for that picture.
Sensors are wrong by seeded errors that make use of a share of each declared bound.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from carla_bridge.camera import Camera, Frame
from carla_bridge.errors import SimulatorError, WorldError
from carla_bridge.obstacles import Obstacle
from carla_bridge.scenario import Scenario
from carla_bridge.scenery import draw_scenery
from carla_bridge.world import Event, Report
from carla_bridge.worlds.bodies import Body, Box, Drum, discs_of, greatest_way_m
from carla_bridge.worlds.judge import STANDING_MPS, Collision, Judge, Thing
from carla_bridge.worlds.watch import Motion, Watch
from shield.guard import AT_REST, Command, Control
from shield.state import Disc, State, wrap_angle
from shield.vehicle import Vehicle

_DRUM_M = 1.2
_SEEN_M = 120.0


class TrueWorld(ABC):
    """A world judged by the truth.

    Args:
        vehicle: Parameters and declared bounds that the shield goes by.
        scenario: Road, and speed asked for.
        seed: Draws scenery and sensor errors.
        body: Length and width of our vehicle, and how far its middle lies ahead of the centre of gravity [m].
        error_share: Share of each declared bound that sensor errors make use of, 0 to 1.
    """

    def __init__(
        self,
        vehicle: Vehicle,
        scenario: Scenario,
        seed: int,
        body: tuple[float, float, float],
        error_share: float = 0.8,
    ) -> None:
        length_m, width_m, ahead_m = body
        reach_m = math.hypot(0.5 * length_m + abs(ahead_m), 0.5 * width_m)
        if vehicle.radius_m < reach_m - 1e-9:
            raise WorldError(
                f"vehicle {vehicle.name!r}: radius_m = {vehicle.radius_m} does not hold the body of this world, "
                f"{length_m} m by {width_m} m: it must be at least {reach_m:.2f}"
            )
        self.vehicle, self.scenario = vehicle, scenario
        self._length_m, self._width_m, self._ahead_m = body
        self._share = error_share
        look, self._rng = (np.random.default_rng([seed, stream]) for stream in (1, 2))
        self._scenery = draw_scenery(look, scenario.route.length_m)
        self._camera = Camera(half_width_m=scenario.half_width_m)
        self._watch = Watch(vehicle)
        self._control: Command = AT_REST
        self._ticks = 0
        self._closed = False
        self._last: dict[str, Body] = {}

    @property
    @abstractmethod
    def tick_s(self) -> float:
        """Step of the world's clock [s]."""

    @abstractmethod
    def _advance(self, control: Command) -> None:
        """Move the simulator on by `tick_s` under `control`."""

    @abstractmethod
    def _motion(self) -> Motion:
        """Return how our vehicle truly moves."""

    @abstractmethod
    def _things(self) -> Sequence[Thing]:
        """Return what is on the road, as it truly is."""

    @abstractmethod
    def _top_speed_mps(self, thing: Thing) -> float:
        """Return the declared top speed of something on the road [m/s]."""

    @property
    def time_s(self) -> float:
        """The world's clock [s]."""
        return self._ticks * self.tick_s

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self._judge.done

    @property
    def pose(self) -> tuple[float, float, float]:
        """True x, y [m] and heading [rad] of the centre of gravity."""
        return self._moving.x_m, self._moving.y_m, self._moving.heading_rad

    @property
    def motion(self) -> Motion:
        """How our vehicle truly moves."""
        return self._moving

    @property
    def drums(self) -> tuple[Obstacle, ...]:
        """What is on the road, each thing as the drum that the camera draws."""
        return tuple(
            Obstacle(thing.body.x_m, thing.body.y_m, _DRUM_M, tint=(index % 7) / 7.0)
            for index, thing in enumerate(self._seen_things)
        )

    @property
    def collisions(self) -> tuple[Collision, ...]:
        """Every contact, classified, oldest first."""
        return tuple(self._judge.collisions)

    def certify(self) -> None:
        """Note that a certified control is in force: from here on the shield's promise counts."""
        self._judge.certified = True

    @property
    def broken(self) -> dict[str, float]:
        """The declared bounds broken so far, each with its worst excess."""
        return dict(self._watch.broken)

    @property
    def clearance_moving_m(self) -> float | None:
        """Least gap to anything while our vehicle was moving [m]; None: it never moved near anything."""
        gap_m = self._judge.clearance_moving_m
        return gap_m if math.isfinite(gap_m) else None

    @property
    def standing_s(self) -> float:
        """Time that our vehicle has stood [s]."""
        return self._judge.standing_s

    def tick(self) -> None:
        """Move the world on by `tick_s`."""
        self._open("tick()")
        self._advance(self._control)
        self._ticks += 1
        self._look(self._motion(), list(self._things()))

    def state(self) -> State:
        """Return what the sensors say of the vehicle."""
        return self._state

    def obstacles(self) -> tuple[Disc, ...]:
        """Return what the range sensor says."""
        return self._discs

    def frame(self) -> Frame:
        """Return what the front camera sees."""
        self._open("frame()")
        x_m, y_m, _ = self.pose
        near = [drum for drum in self.drums if math.hypot(drum.x_m - x_m, drum.y_m - y_m) < _SEEN_M]
        return self._camera.render(
            self.scenario.route,
            self.pose,
            near,
            self._scenery,
            s_m=self._judge.place.s_m,
            time_s=self.time_s,
            number=self._ticks,
        )

    def apply(self, control: Command) -> None:
        """Set the control that holds from now on."""
        if not (math.isfinite(control.beta_rad) and math.isfinite(control.speed_mps)):
            raise WorldError(
                f"control beta_rad = {control.beta_rad!r}, speed_mps = {control.speed_mps!r}: both must be finite"
            )
        self._control = Control(float(control.beta_rad), float(control.speed_mps), bool(control.brake))

    def events(self) -> tuple[Event, ...]:
        """Return what happened so far, oldest first."""
        return self._judge.events

    def report(self) -> Report:
        """Return the episode so far in numbers."""
        return self._judge.report()

    def close(self) -> None:
        """End the episode; closing twice is harmless."""
        self._closed = True

    def _begin(self) -> None:
        """Look for the first time; every world calls it when it is ready."""
        moving = self._motion()
        route = self.scenario.route
        place = route.locate(moving.x_m, moving.y_m)
        self._judge = Judge(route, self.scenario.half_width_m, place, lambda: tuple(sorted(self._watch.broken)))
        self._look(moving, list(self._things()))

    def _look(self, moving: Motion, things: list[Thing]) -> None:
        self._moving, self._seen_things = moving, things
        if not all(map(math.isfinite, (moving.x_m, moving.y_m, moving.heading_rad, moving.speed_mps))):
            raise SimulatorError(f"{type(self).__name__}: the simulator gave a pose that is not finite: {moving}")
        box, velocity = self.box_at(moving), velocity_of(moving)
        if self._ticks:
            self._watch.moved(self.time_s, self.tick_s, moving, self._control)
            self._watch_things(things)
            self._judge.step(self.tick_s, box, velocity, (moving.x_m, moving.y_m))
        elif moving.speed_mps > STANDING_MPS:
            self._judge.certified = False  # the shield's promise needs a start at rest or with a certified pair
        self._judge.certified |= moving.speed_mps <= STANDING_MPS
        self._last = {thing.name: thing.body for thing in things}
        self._sense(moving, things)
        self._judge.look(box, velocity, things)

    def box_at(self, moving: Motion) -> Box:
        """Return our body at a pose."""
        cos, sin = math.cos(moving.heading_rad), math.sin(moving.heading_rad)
        x_m, y_m = moving.x_m + self._ahead_m * cos, moving.y_m + self._ahead_m * sin
        return Box(x_m, y_m, moving.heading_rad, self._length_m, self._width_m)

    def _watch_things(self, things: Sequence[Thing]) -> None:
        for thing in things:
            before = self._last.get(thing.name)
            if before is None:
                self._watch.appeared(math.hypot(thing.body.x_m - self._moving.x_m, thing.body.y_m - self._moving.y_m))
            else:
                self._watch.obstacle(greatest_way_m(before, thing.body), self.tick_s, self._top_speed_mps(thing))

    def _sense(self, moving: Motion, things: Sequence[Thing]) -> None:
        bounds = self.vehicle.bounds
        dx, dy = self._shift(bounds.position_m)
        self._state = State(
            moving.x_m + dx,
            moving.y_m + dy,
            wrap_angle(moving.heading_rad + self._error(bounds.heading_rad)),
            self._held_rad(moving),
            min(self.vehicle.v_max_mps + bounds.speed_mps, max(0.0, moving.speed_mps + self._error(bounds.speed_mps))),
        )
        self._discs = tuple(self._moved(disc) for thing in things for disc in self._discs_of(thing, moving))

    def _held_rad(self, moving: Motion) -> float:
        """Return the slip angle held: the measured one where it follows slowly, else the one asked for."""
        limit = self.vehicle.beta_max_rad
        slow = self.vehicle.bounds.slip_rate_radps is not None
        return max(-limit, min(limit, moving.slip_rad if slow else self._control.beta_rad))

    def _discs_of(self, thing: Thing, moving: Motion) -> Sequence[Disc]:
        top_mps = self._top_speed_mps(thing)
        if isinstance(thing.body, Drum):
            return (Disc(thing.body.x_m, thing.body.y_m, thing.body.radius_m, top_mps),)
        return discs_of(thing.body, top_mps, (moving.x_m, moving.y_m))

    def _moved(self, disc: Disc) -> Disc:
        dx, dy = self._shift(self.vehicle.bounds.position_m)
        return Disc(disc.x_m + dx, disc.y_m + dy, disc.radius_m, disc.speed_max_mps)

    def _error(self, bound: float) -> float:
        return self._share * bound * float(self._rng.uniform(-1.0, 1.0))

    def _shift(self, bound_m: float) -> tuple[float, float]:
        """Return a random vector no longer than the share of half the bound that is in use [m]."""
        if bound_m == 0.0:
            return 0.0, 0.0
        length = 0.5 * self._share * bound_m * math.sqrt(float(self._rng.random()))
        angle = 2.0 * math.pi * float(self._rng.random())
        return length * math.cos(angle), length * math.sin(angle)

    def _open(self, what: str) -> None:
        if self._closed:
            raise WorldError(f"{what} after close(): this world is closed, make a new one for another episode")


def velocity_of(moving: Motion) -> tuple[float, float]:
    """Return the velocity of a motion, x and y [m/s]."""
    course = moving.heading_rad + moving.slip_rad
    return moving.speed_mps * math.cos(course), moving.speed_mps * math.sin(course)
