"""A CARLA server as a World: synchronous mode, one vehicle with camera and event sensors, obstacles on its lane.

This process ticks; the simulator's time stands still between ticks, so that a slow answer is never a late one. A call
that fails or takes too long raises SimulatorError: the simulator's fault, not the agent's. `close` removes every actor
and gives the server its settings back; what a killed process left is removed by the next one, by its role name.
"""

import math
import queue
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from carla_bridge.camera import Frame
from carla_bridge.carla.agreement import mismatches
from carla_bridge.carla.client import ROLE, connect, give_up, load_carla, remove_ours
from carla_bridge.carla.lidar import LidarSettings, cover
from carla_bridge.carla.sensors import Sensors
from carla_bridge.carla.steering import Steering, measure, pedals
from carla_bridge.carla.traffic import TopSpeeds, Traffic
from carla_bridge.errors import SilentSimulatorError, SimulatorError, WorldError
from carla_bridge.obstacles import Obstacle, SpawnRule
from carla_bridge.opendrive import follow
from carla_bridge.route import Place
from carla_bridge.scenario import Scenario
from carla_bridge.world import Event, EventKind, Report
from runtime.errors import ConfigurationError
from shield.guard import Command
from shield.state import Disc, State, wrap_angle
from shield.vehicle import Vehicle

_FINAL = (EventKind.COLLISION, EventKind.OFF_TRACK, EventKind.FINISHED)
_GONE_TIMEOUT_S = 0.5
_STANDING_MPS = 0.05


@dataclass(frozen=True, slots=True)
class CarlaSettings:
    """Which server, and what is wanted of it.

    Args:
        host, port: Where it listens.
        tick_s: Step of the simulator's clock [s].
        timeout_s: Longest time any one call may take [s].
        map_name: The map that must be loaded, by its last name; None: whichever is.
        vehicle_type, obstacle_type: Blueprints.
        spawn_point: Number of the map's spawn point.
        length_m: How far the lane is followed [m].
        target_speed_mps: Speed asked for [m/s].
        obstacles: Rule that sets them along the lane.
        weather: Name of a carla.WeatherParameters preset; None: as it is.
        spectator: Whether the server's view follows the vehicle.
        camera_s: Time between two of the camera's pictures [s]; 0: one a tick.
        traffic: Declared top speeds of vehicles and walkers that other people spawned.
        lidar: Where obstacles come from; None: from the simulator, as they truly are.
    """

    host: str = "127.0.0.1"
    port: int = 2000
    tick_s: float = 0.02
    timeout_s: float = 10.0
    map_name: str | None = None
    vehicle_type: str = "vehicle.tesla.model3"
    obstacle_type: str = "static.prop.barrel"
    spawn_point: int = 0
    length_m: float = 200.0
    target_speed_mps: float = 40.0 / 3.6
    obstacles: SpawnRule = field(default_factory=SpawnRule)
    weather: str | None = None
    spectator: bool = True
    camera_s: float = 0.0
    traffic: TopSpeeds = field(default_factory=TopSpeeds)
    lidar: LidarSettings | None = None


class CarlaWorld:
    """A World in CARLA.

    Args:
        settings: Which server, and what is wanted of it.
        vehicle: Parameters and declared bounds that the shield goes by.
        seed: Draws the obstacles.
    Raises:
        SimulatorError: no server, another version or map, or something cannot be spawned.
        ConfigurationError: a lidar is asked for that sees less far than the vehicle file declares.
    """

    def __init__(self, settings: CarlaSettings, vehicle: Vehicle, seed: int = 0) -> None:
        self.settings, self.vehicle = settings, vehicle
        _check_reach(settings, vehicle)
        self._carla = load_carla()
        self._events: list[Event] = []
        self._sensors: Sensors | None = None
        self._ours: set[int] = set()
        self._control: tuple[float, float, bool] = (0.0, 0.0, True)
        self._ticks, self._driven_m, self._deviation_sum_m, self._deviation_max_m = 0, 0.0, 0.0, 0.0
        self._clearance_m, self._distance_m = math.inf, math.inf
        self._before_mps = 0.0
        self._closed = False
        self._client = connect(settings.host, settings.port, settings.timeout_s)
        self._old: Any = None
        try:
            self._begin(seed)
        except RuntimeError as error:
            failure = self._failed("preparing the episode", error)
            self.close()
            raise failure from error
        except BaseException:
            self.close()
            raise

    @property
    def tick_s(self) -> float:
        return self.settings.tick_s

    @property
    def time_s(self) -> float:
        return self._ticks * self.settings.tick_s

    @property
    def done(self) -> bool:
        return any(event.kind in _FINAL for event in self._events)

    @property
    def drums(self) -> tuple[Obstacle, ...]:
        """The obstacles as the simulator has them."""
        return self._drums

    @property
    def mismatches(self) -> tuple[str, ...]:
        """What of the vehicle file does not hold for the simulator's vehicle, a sentence each."""
        return mismatches(self.vehicle, self._steering, self._radius_m, self.settings.tick_s)

    @property
    def pose(self) -> tuple[float, float, float]:
        """x, y [m] and heading [rad] of the vehicle's origin, y to the left."""
        return self._pose

    def tick(self) -> None:
        self._open("tick()")
        beta_rad, speed_mps, brake = self._control
        throttle, braking = pedals(self._speed_mps, speed_mps, brake)
        steer = self._steering.steer(beta_rad, self._speed_mps)
        try:
            self._ego.apply_control(self._carla.VehicleControl(throttle=throttle, steer=steer, brake=braking))
            self._frame = self._world.tick(self.settings.timeout_s)
        except RuntimeError as error:
            raise self._failed("a tick", error) from error
        self._ticks += 1
        self._before_mps = self._speed_mps
        self._driven_m += self._speed_mps * self.tick_s
        self._read()
        self._judge()

    def state(self) -> State:
        x_m, y_m, heading_rad = self._pose
        return State(x_m, y_m, heading_rad, beta_rad=self._control[0], speed_mps=self._speed_mps)

    def obstacles(self) -> tuple[Disc, ...]:
        if self.settings.lidar is not None:
            return self._covered(self.settings.lidar)
        reach, bounds = self.vehicle.bounds.sensing_range_m, self.vehicle.bounds
        standing = (Disc(drum.x_m, drum.y_m, drum.radius_m) for drum in self._drums)
        return tuple(
            self._kept_clear(disc)
            for disc in (*standing, *self._moving)
            if reach is None or self._gap_m(disc) - self._keep_out_m(disc) <= reach + bounds.position_m
        )

    def frame(self) -> Frame:
        self._open("frame()")
        try:
            return self._attached.picture(self._frame, self.settings.timeout_s)
        except queue.Empty as error:
            raise self._failed(f"the camera's image of frame {self._frame}", error) from error

    def apply(self, control: Command) -> None:
        if not (math.isfinite(control.beta_rad) and math.isfinite(control.speed_mps)):
            raise WorldError(
                f"control beta_rad = {control.beta_rad!r}, speed_mps = {control.speed_mps!r}: both must be finite"
            )
        limit = self.vehicle.beta_max_rad
        self._control = (max(-limit, min(limit, control.beta_rad)), control.speed_mps, control.brake)

    def events(self) -> tuple[Event, ...]:
        return tuple(self._events)

    def report(self) -> Report:
        kinds, length_m = [event.kind for event in self._events], self._route.length_m
        progress_m = max(0.0, min(length_m, self._place.s_m))
        return Report(
            time_s=self.time_s,
            progress_m=progress_m,
            progress=progress_m / length_m,
            collisions=kinds.count(EventKind.COLLISION),
            kerb_hits=kinds.count(EventKind.KERB),
            off_track=EventKind.OFF_TRACK in kinds,
            min_distance_m=self._distance_m if math.isfinite(self._distance_m) else None,
            min_clearance_m=self._clearance_m if math.isfinite(self._clearance_m) else None,
            deviation_m=self._place.offset_m,
            mean_deviation_m=self._deviation_sum_m / max(1, self._ticks),
            max_deviation_m=self._deviation_max_m,
            mean_speed_mps=self._driven_m / self.time_s if self._ticks else 0.0,
            done=self.done,
        )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._sensors is not None:
                self._sensors.stop()
            if self._old is not None:
                remove_ours(self._client, self._world)
                self._world.apply_settings(self._old)
        except RuntimeError:
            # The server is gone: the next run removes what it may still hold.
            return

    def _begin(self, seed: int) -> None:
        self._world = self._client.get_world()
        road_map = self._world.get_map()
        wanted = self.settings.map_name
        if wanted is not None and road_map.name.rsplit("/")[-1] != wanted:
            raise SimulatorError(
                f"the server at {self._address} has the map {road_map.name}, not {wanted}: load it with "
                f"client.load_world({wanted!r}), or name the loaded one"
            )
        self._old = self._world.get_settings()
        self._synchronise()
        # In synchronous mode a client knows of no actor before its first tick.
        self._world.tick(self.settings.timeout_s)
        if remove_ours(self._client, self._world):
            # A run that was killed left its synchronous mode too: a server so left would wait for ever.
            self._old.synchronous_mode, self._old.fixed_delta_seconds = False, None
        if self.settings.weather is not None:
            self._world.set_weather(_weather(self._carla, self.settings.weather))
        start = self._start(road_map)
        self._ego = self._spawn(self.settings.vehicle_type, start)
        self._route = follow(road_map, start.location.x, -start.location.y, self.settings.length_m)
        lane = road_map.get_waypoint(start.location)
        self.scenario = Scenario(
            road_map.name, self._route, lane.lane_width / 2.0, self.settings.target_speed_mps, self.settings.obstacles
        )
        self._drums = tuple(self._stand(drum, start) for drum in self._placed(seed))
        self._frame = self._world.tick(self.settings.timeout_s)
        self._steering: Steering = measure(self._ego)
        self._spectator = self._world.get_spectator()
        box = self._ego.bounding_box
        self._radius_m = math.hypot(box.extent.x, box.extent.y)
        self._ego.apply_control(self._carla.VehicleControl(brake=1.0))
        self._traffic = Traffic(self._world, self.settings.traffic)
        self._sensors = Sensors(
            self._carla, self._spawn, self._ego, self.settings.tick_s, self.settings.camera_s, self.settings.lidar
        )
        try:
            self._frame = self._sensors.await_first(
                lambda: int(self._world.tick(self.settings.timeout_s)), self.settings.timeout_s
            )
        except queue.Empty as error:
            raise self._failed("the first picture", error) from error
        self._place = Place(0.0, 0.0, 0.0, 0.0)
        self._read()
        self._judge()

    def _synchronise(self) -> None:
        settings = self._world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, self.settings.tick_s
        self._world.apply_settings(settings)

    def _start(self, road_map: Any) -> Any:
        points = road_map.get_spawn_points()
        if not 0 <= self.settings.spawn_point < len(points):
            raise SimulatorError(
                f"spawn_point = {self.settings.spawn_point}: the map {road_map.name} has {len(points)}, from 0"
            )
        return points[self.settings.spawn_point]

    def _spawn(self, name: str, transform: Any, parent: Any = None, **attributes: str) -> Any:
        found = [item for item in self._world.get_blueprint_library() if item.id == name]
        if not found:
            raise SimulatorError(f"the server at {self._address} has no blueprint {name}")
        for key, value in {"role_name": ROLE, **attributes}.items():
            if found[0].has_attribute(key):
                found[0].set_attribute(key, value)
        actor = self._world.spawn_actor(found[0], transform, attach_to=parent)
        self._ours.add(actor.id)
        return actor

    def _placed(self, seed: int) -> tuple[Obstacle, ...]:
        return self.settings.obstacles.spawn(self._route, np.random.default_rng([seed, 0]))

    def _stand(self, drum: Obstacle, start: Any) -> Obstacle:
        where = self._carla.Location(drum.x_m, -drum.y_m, start.location.z)
        prop = self._spawn(self.settings.obstacle_type, self._carla.Transform(where))
        extent = prop.bounding_box.extent
        return Obstacle(drum.x_m, drum.y_m, max(0.1, math.hypot(extent.x, extent.y)), max(0.1, 2.0 * extent.z))

    def _read(self) -> None:
        place, velocity = self._ego.get_transform(), self._ego.get_velocity()
        self._pose = place.location.x, -place.location.y, wrap_angle(-math.radians(place.rotation.yaw))
        self._speed_mps = math.hypot(velocity.x, velocity.y)
        self._moving = self._traffic.look(self._ours)
        self._place = self._route.locate(self._pose[0], self._pose[1], self._place.s_m)
        if self.settings.spectator:
            above = self._carla.Location(place.location.x, place.location.y, place.location.z + 30.0)
            self._spectator.set_transform(
                self._carla.Transform(above, self._carla.Rotation(pitch=-90.0, yaw=place.rotation.yaw))
            )

    def _judge(self) -> None:
        deviation = abs(self._place.offset_m)
        if self._ticks:
            self._deviation_sum_m += deviation
            self._deviation_max_m = max(self._deviation_max_m, deviation)
        others: tuple[Obstacle | Disc, ...] = (*self._drums, *self._moving)
        for other in others:
            gap_m = self._gap_m(other)
            self._distance_m = min(self._distance_m, gap_m)
            self._clearance_m = min(self._clearance_m, gap_m - other.radius_m - self._radius_m)
        for kind, detail in self._attached.happened():
            struck = kind is EventKind.COLLISION and self._before_mps <= _STANDING_MPS
            self._events.append(Event(self.time_s, EventKind.STRUCK if struck else kind, detail))
        if deviation > self.scenario.half_width_m:
            self._once(EventKind.OFF_TRACK, f"{self._place.offset_m:+.2f} m off the centre line")
        if self._place.s_m >= self._route.length_m:
            self._once(EventKind.FINISHED, f"{self._route.length_m:.1f} m driven")

    def _once(self, kind: EventKind, detail: str) -> None:
        if all(event.kind != kind for event in self._events):
            self._events.append(Event(self.time_s, kind, detail))

    def _covered(self, lidar: LidarSettings) -> tuple[Disc, ...]:
        try:
            hits = self._attached.hits(self._frame, self.settings.timeout_s)
        except queue.Empty as error:
            raise self._failed(f"the lidar's turn of frame {self._frame}", error) from error
        x_m, y_m, heading_rad = self._pose
        cos, sin = math.cos(heading_rad), math.sin(heading_rad)
        extent = self._ego.bounding_box.extent
        return tuple(
            self._kept_clear(Disc(x_m + ahead * cos - left * sin, y_m + ahead * sin + left * cos, radius_m))
            for ahead, left, radius_m in cover(hits, lidar, (extent.x, extent.y))
        )

    def _gap_m(self, other: Obstacle | Disc) -> float:
        return math.hypot(other.x_m - self._pose[0], other.y_m - self._pose[1])

    def _keep_out_m(self, other: Disc) -> float:
        touching = other.radius_m + (self.vehicle.radius_m or self._radius_m)
        return max(touching, self.vehicle.barrier.r_bar_m) if self.vehicle.barrier else touching

    def _kept_clear(self, other: Disc) -> Disc:
        """Return the disc that, with the vehicle's declared radius, is kept as clear of as the body needs."""
        return replace(other, radius_m=self._keep_out_m(other) - self.vehicle.radius_m)

    @property
    def _attached(self) -> Sensors:
        if self._sensors is None:
            raise WorldError("the world has no sensors yet")
        return self._sensors

    @property
    def _address(self) -> str:
        return f"{self.settings.host}:{self.settings.port}"

    def _open(self, what: str) -> None:
        if self._closed:
            raise WorldError(f"{what} after close(): this world is closed, make a new one for another episode")

    def _failed(self, what: str, error: Exception) -> SimulatorError:
        # Whoever closes the world next must not wait its full time for a server that may be gone.
        give_up(self.settings.host, self.settings.port)
        self._client.set_timeout(min(_GONE_TIMEOUT_S, self.settings.timeout_s))
        return SilentSimulatorError(
            f"the CARLA server at {self._address} failed at {what} (timeout {self.settings.timeout_s:g} s): {error}"
        )


def _check_reach(settings: CarlaSettings, vehicle: Vehicle) -> None:
    reach, lidar = vehicle.bounds.sensing_range_m, settings.lidar
    if lidar is not None and (reach is None or reach > lidar.range_m):
        raise ConfigurationError(
            f"bounds.sensing_range_m = {'undeclared' if reach is None else reach} in the vehicle file, the lidar "
            f"sees {lidar.range_m:g} m: declare at most that, or give the lidar a longer range"
        )


def _weather(carla: Any, name: str) -> Any:
    if not _is_preset(carla, name):
        known = [each for each in dir(carla.WeatherParameters) if _is_preset(carla, each)]
        raise SimulatorError(f"weather = {name!r}: must be a preset of carla.WeatherParameters: {', '.join(known)}")
    return getattr(carla.WeatherParameters, name)


def _is_preset(carla: Any, name: str) -> bool:
    return isinstance(getattr(carla.WeatherParameters, name, None), carla.WeatherParameters)
