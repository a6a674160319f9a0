"""An emulator of CARLA's network protocol, for tests; it is not CARLA, and listens on the loopback interface alone.

Requests are msgpack-RPC: [0, id, method, [metadata, ...]] -> [1, id, None, [[1, value]]], [[0, [message]]] where it
failed, [[False]] where there is no value. A sensor is a stream on a second port: the client sends the stream's number
(u32) and gets messages of a u32 length and a payload, whose first 48 bytes name the sensor, frame, time and place.
As in CARLA, a tick is answered first and its pictures come after it.
"""

import asyncio
import json
import math
import os
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import msgpack
import uvloop

from carla_bridge.route import Route
from tests.carla_emulator.actors import BLUEPRINTS, Actor, physics, spawned
from tests.carla_emulator.roads import WIDTH_M, laps, opendrive
from tests.carla_emulator.sensors import Eyes, cylinders

_HEADER = struct.Struct("<QQd6f")
_EPISODE = struct.Struct("<Qdf3iI")
_COLLISION, _LIDAR, _RGB, _OBSERVER = 0, 11, 13, 17
_SUN = [0.0] * 15
_STREAMED = {"sensor.camera.rgb": _RGB, "sensor.lidar.ray_cast": _LIDAR}


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, by the number of the synchronous tick; None: never."""

    version: str = "0.9.16"
    exit_at: int | None = None
    freeze_at: int | None = None
    blind_at: int | None = None
    slow_at: int | None = None
    slow_s: float = 0.0


class Emulator:
    """One episode, its actors and the clients that follow them."""

    def __init__(self, faults: Faults, map_name: str = "Carla/Maps/Emulated", count: int = 1) -> None:
        sections = laps(count)
        self.faults, self.map_name, self.xodr = faults, map_name, opendrive(sections)
        self.eyes = Eyes(Route.from_sections(sections), WIDTH_M / 2.0)
        self.settings: list[Any] = [False, False, [False], True, 0.01, 10, 0.0, True, 3000.0, 2000.0, True]
        self.weather: list[Any] = list(_SUN)
        self.actors: dict[int, Actor] = {}
        self.calls: Counter[str] = Counter()
        self.frame, self.time_s, self.episode, self.ticks, self.next_number = 1, 0.0, 1, 0, 1
        self.streams: dict[int, list[asyncio.Transport]] = {}
        self.stream_port = self.cues = 0
        self.frozen = self.owed = False
        self.spectator = self._spawn([0, "spectator", []], [[0.0, 0.0, 10.0], [0.0, 0.0, 0.0]])

    @property
    def step_s(self) -> float:
        """Step of the clock [s]."""
        return float(self.settings[2][1]) if self.settings[2][0] else 0.05

    def call(self, method: str, args: list[Any]) -> Any:
        """Return what a request is answered."""
        self.calls[method] += 1
        handler: Callable[..., Any] | None = getattr(self, f"rpc_{method}", None)
        if handler is None:
            return [[0, [f"the emulator does not know {method}"]]]
        try:
            value = handler(*args)
        except (KeyError, LookupError) as error:
            return [[0, [f"{method}: no such actor: {error}"]]]
        return value if method == "apply_batch" else [[False]] if value is None else [[1, value]]

    async def run_free(self) -> None:
        """Tick twenty times a second of real time as long as the episode is asynchronous."""
        while True:
            await asyncio.sleep(0.05)
            if not self.settings[0] and not self.frozen:
                self._tick()
                self.look()

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
            for number, (name, attributes) in enumerate(BLUEPRINTS.items(), start=1)
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
        self.actors[number].transform, self.actors[number].packed = transform, b""

    def rpc_apply_control_to_vehicle(self, number: int, control: list[Any]) -> None:
        self.actors[number].control = control

    def rpc_set_actor_target_velocity(self, number: int, velocity: list[float]) -> None:
        actor = self.actors[number]
        actor.velocity, actor.packed = velocity, b""
        if actor.body is not None:
            actor.body.speed_mps = math.hypot(*velocity)

    def rpc_get_physics_control(self, number: int) -> list[Any]:
        return physics(self.actors[number])

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
        self.cues += 1
        if self.cues == self.faults.exit_at:
            os._exit(3)
        if self.cues == self.faults.freeze_at:
            self.frozen = True
            return self.frame
        if self.cues == self.faults.slow_at:
            time.sleep(self.faults.slow_s)
        self._tick()
        return self.frame

    def rpc_emulator_calls(self) -> dict[str, int]:
        return dict(self.calls)

    def look(self) -> None:
        """Send what the cameras and lidars that are due see of the last tick."""
        if not self.owed or (self.faults.blind_at is not None and self.cues >= self.faults.blind_at):
            return
        self.owed = False
        for sensor in list(self.actors.values()):
            if sensor.kind in _STREAMED and self.streams.get(sensor.number) and self.time_s >= sensor.due_s - 1e-6:
                sensor.due_s = self.time_s + sensor.attribute("sensor_tick")
                ego = self.actors[sensor.parent]
                drums = cylinders(self.actors.values(), but=ego.number)
                if sensor.kind == "sensor.camera.rgb":
                    payload = self.eyes.image(ego, drums, self.time_s, self.ticks)
                else:
                    payload = self.eyes.sweep(sensor, ego, drums, self.step_s)
                self._send(sensor.number, _STREAMED[sensor.kind], sensor.place(), payload)

    def observe(self) -> None:
        """Send a snapshot of the world."""
        parts = [_EPISODE.pack(self.episode, self.time_s, self.step_s, *[0] * 4)]
        parts += [actor.state() for actor in self.actors.values()]
        self._send(0, _OBSERVER, [0.0] * 6, b"".join(parts))

    def _spawn(self, description: list[Any], transform: Any, parent: int = 0) -> Actor:
        actor = spawned(self.next_number, description, transform, parent)
        self.actors[actor.number], self.next_number = actor, self.next_number + 1
        return actor

    def _actor(self, actor: Actor) -> list[Any]:
        box = [[0.0, 0.0, actor.extent[2]], actor.extent, [0.0, 0.0, 0.0], actor.number]
        token = self._token(actor.number) if actor.family == "sensor" else b""
        return [actor.number, actor.parent, actor.description, box, b"\x0a", token]

    def _token(self, stream: int) -> bytes:
        return struct.pack("<IHBB16s", stream, self.stream_port, 1, 1, bytes([127, 0, 0, 1]))

    def _tick(self) -> None:
        self.frame, self.ticks, self.time_s = self.frame + 1, self.ticks + 1, self.time_s + self.step_s
        for actor in self.actors.values():
            actor.move(self.step_s)
        self.observe()
        self.owed = True
        for number in list(self.actors):
            self.feel(number)

    def feel(self, number: int) -> None:
        """Tell a sensor of collisions, where it is one and somebody listens, of what touches and did not before."""
        sensor = self.actors.get(number)
        if sensor is not None and sensor.kind == "sensor.other.collision":
            self._collide(sensor)

    def _collide(self, sensor: Actor) -> None:
        ego = self.actors.get(sensor.parent)
        if ego is None or ego.radius_m is None or not self.streams.get(sensor.number):
            return
        at, touching = ego.place(), set()
        for other in self.actors.values():
            if other is ego or other.radius_m is None:
                continue
            there = other.place()
            if math.dist(at[:2], there[:2]) < ego.radius_m + other.radius_m:
                touching.add(other.number)
                if other.number not in ego.touching:
                    payload = msgpack.packb([self._actor(ego), self._actor(other), [100.0, 0.0, 0.0]])
                    self._send(sensor.number, _COLLISION, sensor.place(), payload)
        ego.touching = touching

    def _send(self, stream: int, kind: int, place: list[float], payload: bytes) -> None:
        message = _HEADER.pack(kind, self.frame, self.time_s, *place) + payload
        for transport in self.streams.get(stream, []):
            transport.write(struct.pack("<I", len(message)) + message)


class Calls(asyncio.Protocol):
    """Answers one client's requests until it goes, or for ever nothing once the emulator is frozen."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._unpacker.feed(data)
        for _, number, method, args in self._unpacker:
            value = self._emulator.call(method, args[1:])
            if self._emulator.frozen:
                return
            self._transport.write(msgpack.packb([1, number, None, value]))
            self._emulator.look()


class Stream(asyncio.Protocol):
    """Follows one sensor for one client: its first four bytes are the sensor's number."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator, self._asked, self._number = emulator, b"", -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._asked += data
        if self._number < 0 and len(self._asked) >= 4:
            (self._number,) = struct.unpack_from("<I", self._asked)
            self._emulator.streams.setdefault(self._number, []).append(self._transport)
            if self._number == 0:
                self._emulator.observe()
            self._emulator.feel(self._number)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._number >= 0:
            self._emulator.streams[self._number].remove(self._transport)


async def serve(port: int, faults: Faults, map_name: str, count: int) -> None:
    """Serve until the process is ended; the ports are told on standard output as one line of JSON."""
    emulator, loop = Emulator(faults, map_name, count), asyncio.get_running_loop()
    streams = await loop.create_server(lambda: Stream(emulator), "127.0.0.1", 0)
    emulator.stream_port = streams.sockets[0].getsockname()[1]
    calls = await loop.create_server(lambda: Calls(emulator), "127.0.0.1", port)
    line = {"port": calls.sockets[0].getsockname()[1], "stream_port": emulator.stream_port}
    os.write(1, (json.dumps(line) + "\n").encode())
    await emulator.run_free()


def main(port: int, faults: Faults, map_name: str, count: int) -> None:
    """Run the emulator until the process is ended."""
    uvloop.run(serve(port, faults, map_name, count))
