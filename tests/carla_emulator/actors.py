"""What stands and moves in the emulator: blueprints, the vehicle's geometry, and how things move in a tick.

Axes are CARLA's: x forward, y to the right, yaw clockwise [degree]. Vehicles follow a kinematic bicycle, walkers go
straight on, everything else stands.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from carla_bridge.bicycle import Bicycle
from shield.vehicle import load_vehicle

L_R_M, WHEELBASE_M, LOCK_DEG = 1.6, 3.2, 70.0
STEERING_CURVE = ([0.0, 1.0], [20.0, 0.9], [60.0, 0.8], [120.0, 0.7])  # km/h, share of full lock
_SPEEDS_KMPH, _SHARES = zip(*STEERING_CURVE, strict=True)
_ACTOR = struct.Struct("<IB6f3f3f3f")
_CONTROL = struct.Struct("<fff???i")
_ACTOR_BYTES = 119
_LIDAR = {"channels": "32", "range": "10.0", "points_per_second": "56000", "rotation_frequency": "10.0"}
_LIDAR_MORE = {"upper_fov": "10.0", "lower_fov": "-30.0", "horizontal_fov": "360.0", "noise_stddev": "0.0"}
BLUEPRINTS: dict[str, dict[str, str]] = {
    "vehicle.tesla.model3": {"number_of_wheels": "4"},
    "vehicle.audi.tt": {"number_of_wheels": "4"},
    "walker.pedestrian.0001": {},
    "static.prop.barrel": {},
    "sensor.camera.rgb": {"image_size_x": "160", "image_size_y": "80", "fov": "90.0", "sensor_tick": "0.0"},
    "sensor.lidar.ray_cast": {**_LIDAR, **_LIDAR_MORE, "dropoff_general_rate": "0.45", "sensor_tick": "0.0"},
    "sensor.other.collision": {},
    "sensor.other.lane_invasion": {},
}
# Half length, half width, half height [m]; and the radius that collisions and rays go by [m].
_EXTENTS = {"vehicle": [2.25, 0.9, 0.8], "walker": [0.19, 0.19, 0.93], "static": [0.5, 0.5, 0.5]}
_RADII_M = {"vehicle": 2.42, "walker": 0.27, "static": 0.5}


@dataclass(slots=True)
class Actor:
    """Anything spawned: its description as the client sent it, its place and its motion."""

    number: int
    kind: str
    description: list[Any]
    transform: list[list[float]]
    parent: int = 0
    body: Bicycle | None = None
    velocity: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    control: list[Any] = field(default_factory=lambda: [0.0, 0.0, 0.0, False, False, False, 0])
    touching: set[int] = field(default_factory=set)
    due_s: float = 0.0
    packed: bytes = b""

    @property
    def family(self) -> str:
        """The first part of its kind."""
        return self.kind.partition(".")[0]

    @property
    def extent(self) -> list[float]:
        """Half its length, width and height [m]."""
        return _EXTENTS.get(self.family, [0.5, 0.5, 0.5])

    @property
    def radius_m(self) -> float | None:
        """Radius about its place that nothing else may enter [m]; None: it has no body."""
        return _RADII_M.get(self.family)

    def attribute(self, name: str) -> float:
        """Return a number that the client set, or the blueprint's."""
        given = {item[0]: item[2] for item in self.description[2]}
        return float(given.get(name, BLUEPRINTS[self.kind].get(name, "0")))

    def place(self) -> list[float]:
        """Return x, y, z [m], pitch, yaw, roll [degree]."""
        if self.body is None:
            return [*self.transform[0], *self.transform[1]]
        yaw = -math.degrees(self.body.heading_rad)
        return [self.body.x_m, -self.body.y_m, self.transform[0][2], 0.0, yaw, 0.0]

    def move(self, step_s: float) -> None:
        """Move on by a tick."""
        if self.body is not None:
            _drive(self.body, self.control, step_s)
        elif any(self.velocity):
            self.transform = [
                [at + speed * step_s for at, speed in zip(self.transform[0], self.velocity, strict=True)],
                self.transform[1],
            ]
            self.packed = b""

    def state(self) -> bytes:
        """Return its part of a snapshot of the world."""
        if self.body is not None:
            return self._pack_body(self.body)
        if not self.packed:
            self.packed = _ACTOR.pack(self.number, 2, *self.place(), *self.velocity, *[0.0] * 6)
            self.packed = self.packed.ljust(_ACTOR_BYTES, b"\0")
        return self.packed

    def _pack_body(self, body: Bicycle) -> bytes:
        place = self.place()
        along = math.radians(place[4]) - body.beta_rad
        velocity = body.speed_mps * math.cos(along), body.speed_mps * math.sin(along), 0.0
        turn = -math.degrees(body.speed_mps * math.sin(body.beta_rad) / L_R_M)
        state = _ACTOR.pack(self.number, 2, *place, *velocity, 0.0, 0.0, turn, 0.0, 0.0, 0.0)
        return (state + _CONTROL.pack(*self.control)).ljust(_ACTOR_BYTES, b"\0")


def spawned(number: int, description: list[Any], transform: Any, parent: int) -> Actor:
    """Return a new actor of what a client sent."""
    actor = Actor(number, description[1], description, transform, parent)
    if actor.family == "vehicle":
        (x, y, _), (_, yaw, _) = transform
        actor.body = Bicycle(load_vehicle("demo"), x, -y, -math.radians(yaw))
    return actor


def physics(actor: Actor) -> list[Any]:
    """Return a vehicle's physics as the client unpacks it: wheel places in centimetres of the world."""
    x, y, z, _, yaw, _ = actor.place()
    ahead = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    wheels = []
    for along, lock in ((WHEELBASE_M - L_R_M, LOCK_DEG), (-L_R_M, 0.0)):
        for side in (-0.8, 0.8):
            at = [
                100.0 * (x + along * ahead[0] - side * ahead[1]),
                100.0 * (y + along * ahead[1] + side * ahead[0]),
                100.0 * z,
            ]
            wheels.append([3.5, 0.25, lock, 35.0, 1500.0, 0.0, 2.0, 17.0, 1000.0, at])
    gears = [[4.0, 0.5, 0.65]]
    curve = [list(point) for point in STEERING_CURVE]
    engine = [[[0.0, 400.0]], 5000.0, 1.0, 0.15, 2.0, 0.35, True, 0.5, 10.0, 4.0, gears]
    return [*engine, 1500.0, 0.3, [0.0, 0.0, 0.0], curve, wheels, True]


def _drive(body: Bicycle, control: list[Any], step_s: float) -> None:
    throttle, steer, brake, hand_brake = control[:4]
    lock_rad = math.radians(LOCK_DEG) * float(np.interp(3.6 * body.speed_mps, _SPEEDS_KMPH, _SHARES))
    beta_rad = -math.atan(L_R_M / WHEELBASE_M * math.tan(steer * lock_rad))
    rate = 4.0 * throttle - 6.0 * max(brake, float(hand_brake))
    body.step(beta_rad, max(0.0, body.speed_mps + rate * step_s), False, step_s)
