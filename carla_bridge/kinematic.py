"""The built-in world: a kinematic bicycle at 100 Hz on a scenario's road, with a range sensor and a front camera.

What the vehicle is told is wrong by seeded errors inside the bounds it declares; what happens is judged by the truth.
Position errors of vehicle and obstacle share the declared `position_m`, half each. Steering errors act on the motion.
Everything is a function of the scenario, the seed and the controls: the same three give the same bytes. What comes to a
vehicle at rest strikes it, which is noted and does not end the episode.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from carla_bridge.bicycle import Bicycle
from carla_bridge.camera import Camera, Frame
from carla_bridge.errors import WorldError
from carla_bridge.obstacles import BODY_HALF_WIDTH_M, BODY_RADIUS_M, Obstacle
from carla_bridge.route import Place
from carla_bridge.scenario import Scenario
from carla_bridge.scene.traffic import Mover
from carla_bridge.scenery import draw_scenery
from carla_bridge.world import Event, EventKind, Report
from carla_bridge.worlds.judge import STANDING_MPS, Collision
from carla_bridge.worlds.watch import Motion, Watch
from shield.guard import Command, Control
from shield.state import Disc, State, wrap_angle
from shield.vehicle import Vehicle

TICK_S = 0.01
_FINAL = (EventKind.COLLISION, EventKind.OFF_TRACK, EventKind.FINISHED)


@dataclass(frozen=True, slots=True)
class Start:
    """Where an episode starts.

    Args:
        s_m: Arc length of the route [m].
        offset_m: To the left of the centre line [m].
        heading_error_rad: To the left of the road's direction [rad].
        speed_mps: Speed [m/s].
    """

    s_m: float = 0.0
    offset_m: float = 0.0
    heading_error_rad: float = 0.0
    speed_mps: float = 0.0


@dataclass(slots=True)
class _Tally:
    ticks: int = 0
    driven_m: float = 0.0
    deviation_sum_m: float = 0.0
    deviation_max_m: float = 0.0
    distance_m: float = math.inf
    clearance_m: float = math.inf
    kerb_hits: int = 0
    at_kerb: bool = False


class KinematicWorld:
    """A World without a simulator.

    Args:
        scenario: Road and rule for obstacles.
        vehicle: Parameters and declared bounds.
        seed: Draws obstacles, scenery and errors.
        start: Where the vehicle starts; at rest where the scenario has it start unless given.
        obstacles: Stand in for those of the scenario.
        error_share: Share of each declared bound that errors make use of, 0 (exact sensing) to 1; the scenario's
            unless given.
    Raises:
        ValueError: error_share lies outside [0, 1].
        ScenarioError: the scenario's sensors see too short a way for the vehicle.
    """

    def __init__(
        self,
        scenario: Scenario,
        vehicle: Vehicle,
        seed: int = 0,
        *,
        start: Start | None = None,
        obstacles: tuple[Obstacle, ...] | None = None,
        error_share: float | None = None,
    ) -> None:
        share = scenario.sensors.error_share if error_share is None else error_share
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"error_share = {share!r}: must lie between 0 and 1")
        self.scenario = scenario
        self.vehicle = vehicle = scenario.declare(vehicle)
        self._share = share
        drums, look, self._rng, placed = (np.random.default_rng([seed, stream]) for stream in range(4))
        courses = scenario.courses(placed) if obstacles is None else []
        self._still = scenario.spawn.spawn(scenario.route, drums) if obstacles is None else obstacles
        self._movers = [Mover(course, scenario.route) for course in courses]
        self._drums = (*self._still, *(mover.obstacle for mover in self._movers))
        self._scenery = scenario.weather.over(draw_scenery(look, scenario.route.length_m), float(placed.random()))
        self._camera = Camera(half_width_m=scenario.half_width_m)
        begin = start or _drawn_start(scenario, placed)
        self._body = self._start(begin)
        self._place = scenario.route.locate(self._body.x_m, self._body.y_m, begin.s_m)
        self._watch = Watch(vehicle)
        self._certified = begin.speed_mps <= STANDING_MPS  # the promise is about a start at rest
        self._collisions: list[Collision] = []
        self._touching: set[int] = set()
        self._looked: tuple[float, tuple[Disc, ...]] | None = None
        self._bias_rad = self._error(vehicle.bounds.steering_bias_rad)
        self._control: tuple[float, float, bool] = (0.0, 0.0, True)
        self._tally = _Tally()
        self._events: list[Event] = []
        self._closed = False
        self._judge()
        self._sense()

    @property
    def tick_s(self) -> float:
        return TICK_S

    @property
    def time_s(self) -> float:
        return self._tally.ticks * TICK_S

    @property
    def done(self) -> bool:
        return any(event.kind in _FINAL for event in self._events)

    @property
    def drums(self) -> tuple[Obstacle, ...]:
        """The obstacles where they truly are."""
        return self._drums

    @property
    def collisions(self) -> tuple[Collision, ...]:
        """Every contact, classified by the truth, oldest first."""
        return tuple(self._collisions)

    @property
    def broken(self) -> dict[str, float]:
        """The declared bounds broken so far, each with its worst excess."""
        return dict(self._watch.broken)

    @property
    def place(self) -> Place:
        """Where the vehicle truly is along the route."""
        return self._place

    @property
    def pose(self) -> tuple[float, float, float]:
        """True x, y [m] and heading [rad] of the centre of gravity."""
        return self._body.x_m, self._body.y_m, self._body.heading_rad

    def tick(self) -> None:
        if self._closed:
            raise WorldError("tick() after close(): this world is closed, make a new one for another episode")
        beta_rad, speed_mps, brake = self._control
        beta_rad += self._bias_rad + self._error(self.vehicle.bounds.steering_rad)
        self._tally.driven_m += self._body.step(beta_rad, speed_mps, brake, TICK_S)
        self._tally.ticks += 1
        self._place = self.scenario.route.locate(self._body.x_m, self._body.y_m, self._place.s_m)
        if self._movers:
            moved = (mover.step(self._place.s_m, TICK_S) for mover in self._movers)
            self._drums = (*self._still, *moved)
        self._watch_step()
        self._judge()
        self._sense()

    def state(self) -> State:
        return self._state

    def obstacles(self) -> tuple[Disc, ...]:
        return self._discs

    def frame(self) -> Frame:
        if self._closed:
            raise WorldError("frame() after close(): this world is closed, make a new one for another episode")
        return self._camera.render(
            self.scenario.route,
            self.pose,
            self._drums,
            self._scenery,
            s_m=self._place.s_m,
            time_s=self.time_s,
            number=self._tally.ticks,
        )

    def apply(self, control: Command) -> None:
        if not (math.isfinite(control.beta_rad) and math.isfinite(control.speed_mps)):
            raise WorldError(
                f"control beta_rad = {control.beta_rad!r}, speed_mps = {control.speed_mps!r}: both must be finite"
            )
        self._control = (float(control.beta_rad), float(control.speed_mps), bool(control.brake))

    def events(self) -> tuple[Event, ...]:
        return tuple(self._events)

    def report(self) -> Report:
        tally, route = self._tally, self.scenario.route
        kinds = [event.kind for event in self._events]
        progress_m = max(0.0, min(route.length_m, self._place.s_m))
        return Report(
            time_s=self.time_s,
            progress_m=progress_m,
            progress=progress_m / route.length_m,
            collisions=kinds.count(EventKind.COLLISION),
            kerb_hits=tally.kerb_hits,
            off_track=EventKind.OFF_TRACK in kinds,
            min_distance_m=tally.distance_m if self._drums else None,
            min_clearance_m=tally.clearance_m if self._drums else None,
            deviation_m=self._place.offset_m,
            mean_deviation_m=tally.deviation_sum_m / max(1, tally.ticks),
            max_deviation_m=tally.deviation_max_m,
            mean_speed_mps=tally.driven_m / self.time_s if tally.ticks else 0.0,
            done=self.done,
        )

    def close(self) -> None:
        self._closed = True

    @property
    def _body_radius_m(self) -> float:
        return self.vehicle.radius_m or BODY_RADIUS_M

    def _start(self, start: Start) -> Bicycle:
        x_m, y_m = self.scenario.route.at(start.s_m, start.offset_m)
        heading = wrap_angle(self.scenario.route.heading_at(start.s_m) + start.heading_error_rad)
        return Bicycle(self.vehicle, x_m, y_m, heading, speed_mps=start.speed_mps)

    def _error(self, bound: float) -> float:
        return self._share * bound * float(self._rng.uniform(-1.0, 1.0))

    def _shift(self, bound_m: float) -> tuple[float, float]:
        """Return a random vector no longer than the share of half the bound that is in use [m]."""
        length = 0.5 * self._share * bound_m * math.sqrt(float(self._rng.random()))
        angle = 2.0 * math.pi * float(self._rng.random())
        return length * math.cos(angle), length * math.sin(angle)

    def _sense(self) -> None:
        bounds, body = self.vehicle.bounds, self._body
        dx, dy = self._shift(bounds.position_m)
        self._state = State(
            x_m=body.x_m + dx,
            y_m=body.y_m + dy,
            heading_rad=wrap_angle(body.heading_rad + self._error(bounds.heading_rad)),
            # The slip angle held is the one commanded: what the wheels make of it is what steering errors declare.
            beta_rad=self._held_rad(),
            speed_mps=max(0.0, body.speed_mps + self._error(bounds.speed_mps)),
        )
        self._discs = self._look()

    def _look(self) -> tuple[Disc, ...]:
        """Return what the range sensor says: its last look, what moves grown by how far it may have come since."""
        period_s = self.scenario.sensors.period_s
        if self._looked is None or self.time_s - self._looked[0] >= period_s - 0.5 * TICK_S:
            self._looked = self.time_s, tuple(self._seen(drum) for drum in self._drums if self._in_range(drum))
        age_s = self.time_s - self._looked[0]
        if age_s == 0.0:
            return self._looked[1]
        return tuple(replace(disc, radius_m=disc.radius_m + age_s * disc.speed_max_mps) for disc in self._looked[1])

    def _held_rad(self) -> float:
        if self.vehicle.bounds.slip_rate_radps is not None:
            return self._body.beta_rad
        limit = self.vehicle.beta_max_rad
        return max(-limit, min(limit, self._control[0]))

    def _seen(self, drum: Obstacle) -> Disc:
        dx, dy = self._shift(self.vehicle.bounds.position_m)
        return Disc(drum.x_m + dx, drum.y_m + dy, self._keep_out_m(drum) - self.vehicle.radius_m, drum.speed_max_mps)

    def _keep_out_m(self, drum: Obstacle) -> float:
        """Distance of centres that the shield is asked to keep [m]: r_bar, and never less than touching."""
        touching = drum.radius_m + self._body_radius_m
        return max(touching, self.vehicle.barrier.r_bar_m) if self.vehicle.barrier else touching

    def _in_range(self, drum: Obstacle) -> bool:
        reach = self.scenario.sensors.range_m or self.vehicle.bounds.sensing_range_m
        gap = math.hypot(drum.x_m - self._body.x_m, drum.y_m - self._body.y_m)
        return reach is None or gap - self._keep_out_m(drum) <= reach + self.vehicle.bounds.position_m

    def _judge(self) -> None:
        tally, deviation = self._tally, abs(self._place.offset_m)
        if tally.ticks:
            tally.deviation_sum_m += deviation
            tally.deviation_max_m = max(tally.deviation_max_m, deviation)
        for index, drum in enumerate(self._drums):
            distance = math.hypot(drum.x_m - self._body.x_m, drum.y_m - self._body.y_m)
            clearance = distance - drum.radius_m - self._body_radius_m
            tally.distance_m = min(tally.distance_m, distance)
            tally.clearance_m = min(tally.clearance_m, clearance)
            if clearance < 0.0 and index not in self._touching:
                self._touching.add(index)
                self._touch(index, f"{distance:.2f} m between centres, {clearance:.2f} m of clearance")
            elif clearance >= 0.0:
                self._touching.discard(index)
        at_kerb = deviation > self.scenario.half_width_m - BODY_HALF_WIDTH_M
        aside = f"{self._place.offset_m:+.2f} m off the centre line"
        if at_kerb and not tally.at_kerb:
            tally.kerb_hits += 1
            self._events.append(Event(self.time_s, EventKind.KERB, aside))
        tally.at_kerb = at_kerb
        if deviation > self.scenario.half_width_m:
            self._once(EventKind.OFF_TRACK, aside)
        if self._place.s_m >= self.scenario.route.length_m:
            self._once(EventKind.FINISHED, f"{self.scenario.route.length_m:.1f} m driven")

    def _touch(self, index: int, what: str) -> None:
        """Note a contact; the speeds along the line of centres tell who ran into whom."""
        drum, body = self._drums[index], self._body
        dx, dy = drum.x_m - body.x_m, drum.y_m - body.y_m
        course = body.heading_rad + body.beta_rad
        ours = body.speed_mps * (dx * math.cos(course) + dy * math.sin(course)) / max(math.hypot(dx, dy), 1e-9)
        certified = self._certified and self._tally.ticks > 0
        by = "other" if body.speed_mps <= STANDING_MPS else "ego" if drum.speed_mps <= max(ours, 0.0) else "both"
        broken = tuple(sorted(self._watch.broken))
        found = Collision(self.time_s, f"obstacle {index}", body.speed_mps, drum.speed_mps, by, certified, broken)
        self._collisions.append(found)
        if found.moving or drum.speed_mps == 0.0:
            self._once(EventKind.COLLISION, what)
        else:
            self._events.append(Event(self.time_s, EventKind.STRUCK, f"{what}, at {drum.speed_mps:.2f} m/s"))

    @property
    def motion(self) -> Motion:
        """How the vehicle truly moves."""
        body = self._body
        yaw = body.speed_mps * math.sin(body.beta_rad) / self.vehicle.l_r_m
        return Motion(body.x_m, body.y_m, body.heading_rad, body.speed_mps, body.beta_rad, yaw)

    def _watch_step(self) -> None:
        """Compare the step with the declared bounds, by the truth."""
        beta_rad, speed_mps, brake = self._control
        self._watch.moved(self.time_s, TICK_S, self.motion, Control(beta_rad, speed_mps, brake))
        for mover in self._movers:
            drum = mover.obstacle
            self._watch.obstacle(drum.speed_mps * TICK_S, TICK_S, drum.speed_max_mps)

    def _once(self, kind: EventKind, detail: str) -> None:
        if all(event.kind != kind for event in self._events):
            self._events.append(Event(self.time_s, kind, detail))


def _drawn_start(scenario: Scenario, rng: np.random.Generator) -> Start:
    where = scenario.start
    return Start(where.s_m.draw(rng), where.offset_m.draw(rng), where.heading_error_rad.draw(rng))
