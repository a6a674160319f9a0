"""A vehicle's day in virtual time: guard process, vehicle side, controller and driving package, on one clock.

A share of the day is driven, one episode after the other, with every message of the guard's socket encoded and decoded
as in service. The rest the vehicle is parked and reports nothing: the guard hears the daemon's heartbeat four times a
second, a question for its status every 15 s, and one damaged message a minute.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

import headway
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.scenario import load_scenario
from carla_bridge.virtual import answer_of
from runtime.serve.controller import Controller, ControllerSettings
from runtime.serve.guard_messages import Observe, Propose, StatusQuery, Watch, encode
from runtime.serve.guard_process import GuardOptions, GuardProcess
from shield.guard import GuardSettings
from shield.vehicle import load_vehicle

WINDOW_S = 0.02
_FRAME_EVERY = 25
_BEAT_S, _STATUS_S, _DAMAGE_S = 0.25, 15.0, 60.0


class _Router:
    """Stands in for the guard's socket: keeps the newest frame for the vehicle."""

    frame: bytes | None = None

    def send_multipart(self, parts: tuple[bytes, bytes], flags: int) -> None:
        if parts[0] == b"vehicle":
            self.frame = parts[1]


@dataclass(slots=True)
class Day:
    """The day so far.

    Args:
        now_s: Its clock [s].
        ticks: Ticks of the guard.
        episodes, finished: Drives begun, and driven to the end of the road.
        uncertified: Instants of a drive without a certified control; 0 is right.
        collisions: 0 is right.
        on_tick: Called after each tick.
    """

    now_s: float = 0.0
    ticks: int = 0
    episodes: int = 0
    finished: int = 0
    uncertified: int = 0
    collisions: int = 0
    on_tick: Callable[[], None] = lambda: None
    _router: Any = field(default_factory=_Router)
    _guard: Any = None
    _watch: bytes = b""

    def __post_init__(self) -> None:
        vehicle = load_vehicle("demo")
        options = GuardOptions(Path("none"))
        self._guard = GuardProcess(vehicle, GuardSettings(report_barrier=False), options, clock=lambda: self.now_s)
        self._watch = encode(Watch(fingerprint=vehicle.fingerprint(), pid=1))

    def park(self, seconds: float) -> None:
        """Let time pass without a report of the vehicle."""
        end_s, beats = self.now_s + seconds, 0
        while self.now_s < end_s:
            self.now_s += _BEAT_S
            beats += 1
            self._guard.take(self._router, b"daemon", [self._watch])
            if beats % round(_STATUS_S / _BEAT_S) == 0:
                self._guard.take(self._router, b"scrape", [encode(StatusQuery())])
            if beats % round(_DAMAGE_S / _BEAT_S) == 0:
                self._guard.take(self._router, b"stranger", [b"\xc1"])

    def drive(self) -> None:
        """Drive one episode from rest to its end."""
        vehicle, scenario = load_vehicle("demo"), load_scenario("town04_short")
        world = KinematicWorld(scenario, vehicle, self.episodes)
        aims = ControllerSettings(vehicle.l_r_m, vehicle.beta_max_rad, scenario.target_speed_mps)
        controller, applier = Controller(aims), headway.Applier()
        start_s, window = self.now_s, 0
        self.episodes += 1
        while not world.done and world.time_s < 120.0:
            self.now_s = start_s + world.time_s
            if window % _FRAME_EVERY == 0:
                answer = answer_of(world.frame()).answer[0].tolist()
                controller.update_answer(tuple(answer), world.state(), world.time_s)
            self._window(world, controller, applier)
            for _ in range(round(WINDOW_S / world.tick_s)):
                held = applier.control_at(start_s + world.time_s)
                self.uncertified += not held.certified
                world.apply(held.control)
                world.tick()
            window += 1
        report = world.report()
        self.collisions += report.collisions
        self.finished += report.progress >= 0.99
        self.now_s = start_s + world.time_s

    def _window(self, world: KinematicWorld, controller: Controller, applier: headway.Applier) -> None:
        state = world.state()
        beta_rad, speed_mps = controller.propose(state, state.speed_mps or 0.0, world.time_s)
        stamp_ns = round(self.now_s * 1e9)
        self._guard.take(self._router, b"daemon", [encode(Propose(stamp_ns, beta_rad, speed_mps))])
        discs = [(disc.x_m, disc.y_m, disc.radius_m, disc.speed_max_mps) for disc in world.obstacles()]
        pose = (state.x_m, state.y_m, state.heading_rad, state.beta_rad, state.speed_mps)
        self._guard.take(self._router, b"vehicle", [encode(Observe(stamp_ns, *pose, discs, applier.applied_id))])
        applier.accept(headway._decision(msgpack.unpackb(self._router.frame)), self.now_s)
        self.ticks += 1
        self.on_tick()
