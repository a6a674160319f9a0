"""An emulator of CARLA's network protocol, for tests; it is not CARLA, and listens on the loopback interface alone.

Requests are msgpack-RPC: [0, id, method, [metadata, ...]] -> [1, id, None, [[1, value]]], [[0, [message]]] where it
failed, [[False]] where there is no value. A sensor is a stream on a second port: the client sends the stream's number
(u32) and gets messages of a u32 length and a payload, whose first 48 bytes name the sensor, frame, time and place.
Axes are CARLA's: x forward, y to the right, yaw clockwise [degree].
"""

import asyncio
import json
import math
import os
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from carla_bridge.bicycle import Bicycle
from carla_bridge.camera import Camera
from carla_bridge.obstacles import Obstacle
from carla_bridge.route import Route
from carla_bridge.scenery import draw_scenery
from shield.vehicle import load_vehicle
from tests.carla_emulator.roads import SECTIONS, WIDTH_M, opendrive

_HEADER = struct.Struct("<QQd6f")
_EPISODE = struct.Struct("<Qdf3iI")
_ACTOR = struct.Struct("<IB6f3f3f3f")
_CONTROL = struct.Struct("<fff???i")
_ACTOR_BYTES = 119
_COLLISION, _RGB, _OBSERVER = 0, 13, 17
L_R_M, WHEELBASE_M, LOCK_DEG = 1.6, 3.2, 70.0
STEERING_CURVE = ([0.0, 1.0], [20.0, 0.9], [60.0, 0.8], [120.0, 0.7])  # km/h, share of full lock
_SUN = [0.0] * 15
_BLUEPRINTS: dict[str, dict[str, str]] = {
    "vehicle.tesla.model3": {"number_of_wheels": "4"},
    "static.prop.barrel": {},
    "sensor.camera.rgb": {"image_size_x": "160", "image_size_y": "80", "fov": "90.0", "sensor_tick": "0.0"},
    "sensor.other.collision": {},
    "sensor.other.lane_invasion": {},
}


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, by the number of the tick; None: never."""

    version: str = "0.9.16"
    exit_at: int | None = None
    freeze_at: int | None = None
    slow_at: int | None = None
    slow_s: float = 0.0


@dataclass(slots=True)
class Actor:
    """Anything spawned: its description as the client sent it, its place and, of a vehicle, its motion."""

    number: int
    kind: str
    description: list[Any]
    transform: list[list[float]]
    parent: int = 0
    body: Bicycle | None = None
    control: list[Any] = field(default_factory=lambda: [0.0, 0.0, 0.0, False, False, False, 0])
    touching: bool = False

    def place(self) -> list[float]:
        """Return x, y, z [m], pitch, yaw, roll [degree]."""
        if self.body is None:
            return [*self.transform[0], *self.transform[1]]
        yaw = -math.degrees(self.body.heading_rad)
        return [self.body.x_m, -self.body.y_m, self.transform[0][2], 0.0, yaw, 0.0]


class Emulator:
    """One episode, its actors and the clients that follow them."""

    def __init__(self, faults: Faults, map_name: str = "Carla/Maps/Emulated") -> None:
        self.faults, self.map_name, self.xodr = faults, map_name, opendrive()
        self.route = Route.from_sections(SECTIONS)
        self.camera = Camera(half_width_m=WIDTH_M / 2.0)
        self.scenery = draw_scenery(np.random.default_rng(0), self.route.length_m)
        self.settings: list[Any] = [False, False, [False], True, 0.01, 10, 0.0, True, 3000.0, 2000.0, True]
        self.weather: list[Any] = list(_SUN)
        self.actors: dict[int, Actor] = {}
        self.calls: Counter[str] = Counter()
        self.frame, self.time_s, self.episode, self.ticks, self.next_number = 1, 0.0, 1, 0, 1
        self.streams: dict[int, list[asyncio.StreamWriter]] = {}
        self.stream_port = 0
        self.frozen = False
        self.spectator = self._spawn([0, "spectator", []], [[0.0, 0.0, 10.0], [0.0, 0.0, 0.0]])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client's requests until it goes."""
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
        while data := await reader.read(1 << 16):
            unpacker.feed(data)
            for _, number, method, args in unpacker:
                self.calls[method] += 1
                value = self._call(method, args[1:])
                if self.frozen:
                    await asyncio.Event().wait()
                writer.write(msgpack.packb([1, number, None, value]))
        writer.close()

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send one client one sensor's messages until it goes."""
        (number,) = struct.unpack("<I", await reader.readexactly(4))
        self.streams.setdefault(number, []).append(writer)
        if number == 0:
            self._observe()
        await reader.read()
        self.streams[number].remove(writer)
        writer.close()

    async def run_free(self) -> None:
        """Tick twenty times a second of real time as long as the episode is asynchronous."""
        while True:
            await asyncio.sleep(0.05)
            if not self.settings[0]:
                self._tick()

    def _call(self, method: str, args: list[Any]) -> Any:
        handler: Callable[..., Any] | None = getattr(self, f"rpc_{method}", None)
        if handler is None:
            return [[0, [f"the emulator does not know {method}"]]]
        try:
            value = handler(*args)
        except (KeyError, LookupError) as error:
            return [[0, [f"{method}: no such actor: {error}"]]]
        return value if method == "apply_batch" else [[False]] if value is None else [[1, value]]

    def rpc_version(self) -> str:
        return self.faults.version

    def rpc_get_episode_info(self) -> list[Any]:
        return [self.episode, [self._token(0)]]

    def rpc_get_map_info(self) -> list[Any]:
        return [self.map_name, [[[2.0, 0.0, 0.3], [0.0, 0.0, 0.0]]]]

    def rpc_get_map_data(self) -> str:
        return self.xodr

    def rpc_get_required_files(self, *_: Any) -> list[str]:
        return []

    def rpc_query_lights_state(self, *_: Any) -> list[Any]:
        return []

    def rpc_get_actor_bounding_box(self, number: int) -> list[Any]:
        return list(self._actor(self.actors[number])[3])

    def rpc_get_available_maps(self) -> list[str]:
        return [self.map_name]

    def rpc_copy_opendrive_to_file(self, text: str, _: Any) -> None:
        self.xodr, self.map_name = text, "Carla/Maps/OpenDriveMap"

    def rpc_load_new_episode(self, name: str, reset: bool, *_: Any) -> None:
        if name.rsplit("/")[-1] != self.map_name.rsplit("/")[-1]:
            raise LookupError(name)
        if reset:
            self.settings = [False, False, [False], *self.settings[3:]]
        self.episode += 1
        self.actors = {self.spectator.number: self.spectator}

    def rpc_get_actor_definitions(self) -> list[Any]:
        return [
            [
                number,
                name,
                ",".join(name.split(".")),
                [[key, 2, value, [], True, False] for key, value in (attributes | {"role_name": ""}).items()],
            ]
            for number, (name, attributes) in enumerate(_BLUEPRINTS.items(), start=1)
        ]

    def rpc_get_spectator(self) -> list[Any]:
        return self._actor(self.spectator)

    def rpc_get_episode_settings(self) -> list[Any]:
        return self.settings

    def rpc_set_episode_settings(self, settings: list[Any]) -> int:
        self.settings = settings
        return self.frame

    def rpc_get_weather_parameters(self) -> list[Any]:
        return self.weather

    def rpc_set_weather_parameters(self, weather: list[Any]) -> None:
        self.weather = weather

    def rpc_get_actors_by_id(self, numbers: list[int]) -> list[Any]:
        return [self._actor(self.actors[number]) for number in numbers if number in self.actors]

    def rpc_spawn_actor(self, description: list[Any], transform: Any) -> list[Any]:
        return self._actor(self._spawn(description, transform))

    def rpc_spawn_actor_with_parent(self, description: list[Any], transform: Any, parent: int, *_: Any) -> list[Any]:
        return self._actor(self._spawn(description, transform, self.actors[parent].number))

    def rpc_destroy_actor(self, number: int) -> bool:
        return self.actors.pop(number, None) is not None

    def rpc_get_sensor_token(self, number: int) -> list[Any]:
        return [self._token(number)]

    def rpc_set_actor_transform(self, number: int, transform: Any) -> None:
        self.actors[number].transform = transform

    def rpc_apply_control_to_vehicle(self, number: int, control: list[Any]) -> None:
        self.actors[number].control = control

    def rpc_set_actor_target_velocity(self, number: int, velocity: list[float]) -> None:
        body = self.actors[number].body
        if body is not None:
            body.speed_mps = math.hypot(*velocity)

    def rpc_get_physics_control(self, number: int) -> list[Any]:
        x, y, z, _, yaw, _ = self.actors[number].place()
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

    def rpc_apply_batch(self, commands: list[Any], tick: bool) -> list[Any]:
        names = {1: "destroy_actor", 2: "apply_control_to_vehicle", 6: "set_actor_transform"}
        answers: list[Any] = []
        for ((index, args),) in commands:
            if index == 0:
                actor = self._spawn(args[0], args[1], args[2][1] if args[2][0] else 0)
                answers.append([[1, actor.number]])
            elif index in names and args[0] in self.actors:
                getattr(self, f"rpc_{names[index]}")(*args)
                answers.append([[1, args[0]]])
            else:
                answers.append([[0, [f"command {index} of actor {args[0]} was not found"]]])
        if tick:
            self._tick()
        return answers

    def rpc_tick_cue(self) -> int:
        if self.ticks == self.faults.exit_at:
            os._exit(3)
        if self.ticks == self.faults.freeze_at:
            self.frozen = True
            return self.frame
        if self.ticks == self.faults.slow_at:
            time.sleep(self.faults.slow_s)
        self._tick()
        return self.frame

    def rpc_emulator_calls(self) -> dict[str, int]:
        return dict(self.calls)

    def _spawn(self, description: list[Any], transform: Any, parent: int = 0) -> Actor:
        number, self.next_number = self.next_number, self.next_number + 1
        actor = Actor(number, description[1], description, transform, parent)
        if actor.kind.startswith("vehicle."):
            (x, y, _), (_, yaw, _) = transform
            actor.body = Bicycle(load_vehicle("demo"), x, -y, -math.radians(yaw))
        self.actors[number] = actor
        return actor

    def _actor(self, actor: Actor) -> list[Any]:
        extent = [2.25, 0.9, 0.8] if actor.body is not None else [0.5, 0.5, 0.5]
        box = [[0.0, 0.0, 0.8], extent, [0.0, 0.0, 0.0], actor.number]
        token = self._token(actor.number) if actor.kind.startswith("sensor.") else b""
        return [actor.number, actor.parent, actor.description, box, b"\x0a", token]

    def _token(self, stream: int) -> bytes:
        return struct.pack("<IHBB16s", stream, self.stream_port, 1, 1, bytes([127, 0, 0, 1]))

    def _tick(self) -> None:
        step_s = self.settings[2][1] if self.settings[2][0] else 0.05
        self.frame, self.ticks, self.time_s = self.frame + 1, self.ticks + 1, self.time_s + step_s
        for actor in self.actors.values():
            if actor.body is not None:
                _drive(actor.body, actor.control, step_s)
        self._observe()
        for sensor in list(self.actors.values()):
            if sensor.kind == "sensor.camera.rgb" and self.streams.get(sensor.number):
                self._send(sensor.number, _RGB, sensor.place(), self._image(sensor))
            elif sensor.kind == "sensor.other.collision":
                self._collide(sensor)

    def _observe(self) -> None:
        parts = [
            _EPISODE.pack(self.episode, self.time_s, self.settings[2][1] if self.settings[2][0] else 0.05, *[0] * 4)
        ]
        for actor in self.actors.values():
            speed, place = (0.0 if actor.body is None else actor.body.speed_mps), actor.place()
            beta = 0.0 if actor.body is None else actor.body.beta_rad
            yaw = math.radians(place[4]) - beta
            velocity = (speed * math.cos(yaw), speed * math.sin(yaw), 0.0)
            turn = -math.degrees(speed * math.sin(beta) / L_R_M)
            state = _ACTOR.pack(actor.number, 2, *place, *velocity, 0.0, 0.0, turn, 0.0, 0.0, 0.0)
            if actor.body is not None:
                state += _CONTROL.pack(*actor.control)
            parts.append(state.ljust(_ACTOR_BYTES, b"\0"))
        self._send(0, _OBSERVER, [0.0] * 6, b"".join(parts))

    def _image(self, sensor: Actor) -> bytes:
        body = self.actors[sensor.parent].body
        if body is None:
            raise LookupError(sensor.parent)
        drums = tuple(
            Obstacle(actor.transform[0][0], -actor.transform[0][1], 0.5)
            for actor in self.actors.values()
            if actor.kind.startswith("static.")
        )
        near_m = self.route.locate(body.x_m, body.y_m).s_m
        pose = body.x_m, body.y_m, body.heading_rad
        picture = self.camera.render(
            self.route, pose, drums, self.scenery, s_m=near_m, time_s=self.time_s, number=self.ticks
        )
        bgra = np.full((*picture.shape[:2], 4), 255, np.uint8)
        bgra[..., :3] = picture[..., ::-1]
        return struct.pack("<IIf", picture.shape[1], picture.shape[0], 90.0) + bgra.tobytes()

    def _collide(self, sensor: Actor) -> None:
        ego = self.actors.get(sensor.parent)
        if ego is None or ego.body is None:
            return
        for other in self.actors.values():
            if not other.kind.startswith("static."):
                continue
            gap = math.hypot(other.transform[0][0] - ego.body.x_m, -other.transform[0][1] - ego.body.y_m)
            if gap < 2.42 + 0.5 and not other.touching:
                payload = msgpack.packb([self._actor(ego), self._actor(other), [100.0, 0.0, 0.0]])
                self._send(sensor.number, _COLLISION, sensor.place(), payload)
            other.touching = gap < 2.42 + 0.5

    def _send(self, stream: int, kind: int, place: list[float], payload: bytes) -> None:
        message = _HEADER.pack(kind, self.frame, self.time_s, *place) + payload
        for writer in self.streams.get(stream, []):
            writer.write(struct.pack("<I", len(message)) + message)


def _drive(body: Bicycle, control: list[Any], step_s: float) -> None:
    throttle, steer, brake, hand_brake = control[:4]
    speeds, shares = zip(*STEERING_CURVE, strict=True)
    lock_rad = math.radians(LOCK_DEG) * float(np.interp(3.6 * body.speed_mps, speeds, shares))
    beta_rad = -math.atan(L_R_M / WHEELBASE_M * math.tan(steer * lock_rad))
    rate = 4.0 * throttle - 6.0 * max(brake, float(hand_brake))
    body.step(beta_rad, max(0.0, body.speed_mps + rate * step_s), False, step_s)


async def serve(port: int, faults: Faults, map_name: str) -> None:
    """Serve until the process is ended; the ports are told on standard output as one line of JSON."""
    emulator = Emulator(faults, map_name)
    streams = await asyncio.start_server(emulator.stream, "127.0.0.1", 0)
    emulator.stream_port = streams.sockets[0].getsockname()[1]
    calls = await asyncio.start_server(emulator.answer, "127.0.0.1", port)
    line = {"port": calls.sockets[0].getsockname()[1], "stream_port": emulator.stream_port}
    os.write(1, (json.dumps(line) + "\n").encode())
    await emulator.run_free()
