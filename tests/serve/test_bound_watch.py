"""A bound exceeded at run time: seen for what it is, told by every way, latched until the vehicle stands within it."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headway
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.scenario import load_scenario
from runtime.observe.metrics.guard import ask_guard
from runtime.serve.bound_watch import CLEAR_LOOKS, BoundWatch
from runtime.serve.guard_messages import Follow, Observe, Propose, StatusQuery, Watch, encode
from runtime.serve.guard_process import GuardOptions, GuardProcess
from shield.guard import Control, GuardSettings, Observation
from shield.state import State
from shield.vehicle import Bounds, Vehicle, load_vehicle
from tests.observe.drives import driven
from tests.processes import PATIENCE_S, end_owner, wait_for
from tests.serve.test_guard_life import started, started_guard

DEMO = load_vehicle("demo")
LOOSE = replace(
    DEMO,
    bounds=Bounds(
        position_m=0.3,
        heading_rad=0.02,
        speed_mps=0.2,
        steering_rad=0.01,
        slip_rate_radps=1.0,
        tick_s=0.02,
        jitter_s=0.02,
    ),
)
TICK_S = 0.02


def seen(time_s: float, speed_mps: float = 5.0, **changes: float) -> Observation:
    state = State(5.0 * time_s, 0.0, 0.0, 0.0, speed_mps)
    return Observation(time_s, replace(state, **changes), (), 1)


def bounds_of(vehicle: Vehicle, *observations: Observation) -> list[str]:
    watch = BoundWatch(vehicle, GuardSettings())
    return [item.bound for observation in observations for item in watch.look(observation, None)]


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.floats(-0.8, 0.8), st.floats(0.0, 12.0))
def test_a_vehicle_that_keeps_to_its_bounds_never_exceeds_one(seed: int, beta: float, speed: float) -> None:
    world = KinematicWorld(load_scenario("empty_road"), LOOSE, seed, error_share=1.0)
    watch = BoundWatch(LOOSE, GuardSettings())
    for tick in range(100):
        state = replace(world.state(), beta_rad=max(-0.88, min(0.88, world.state().beta_rad)))
        assert watch.look(Observation(world.time_s, state, world.obstacles(), tick), None) == ()
        world.apply(Control(beta if tick % 40 < 20 else -beta, speed))
        world.tick()
    assert watch.latched is None


def test_each_bound_is_seen_to_be_exceeded_by_its_name() -> None:
    first = seen(1.0)
    assert bounds_of(LOOSE, first, seen(1.02)) == []
    assert bounds_of(LOOSE, seen(1.0, 12.3)) == ["speed"]
    assert bounds_of(LOOSE, first, seen(1.02, 5.7)) == ["acceleration"]
    assert bounds_of(LOOSE, first, seen(1.02, x_m=6.2)) == ["position"]
    assert bounds_of(LOOSE, first, seen(1.02, heading_rad=0.3)) == ["turn"]
    assert bounds_of(LOOSE, first, seen(1.02, beta_rad=0.1)) == ["slip_rate"]


def test_what_is_not_declared_is_not_compared() -> None:
    free = replace(LOOSE, a_max_mps2=None, bounds=replace(LOOSE.bounds, slip_rate_radps=None))
    assert bounds_of(free, seen(1.0), seen(1.02, 9.0, beta_rad=0.5)) == []


def test_long_gaps_repeats_a_first_observation_and_nonsense_are_not_compared() -> None:
    far = replace(seen(3.0), state=State(900.0, 0.0, 0.0, 0.0, 5.0))
    started = replace(seen(1.02, x_m=900.0), applied_id=0)
    assert bounds_of(LOOSE, seen(1.0), far) == []
    assert bounds_of(LOOSE, seen(1.0), started) == []
    assert bounds_of(LOOSE, seen(1.0), seen(1.0, x_m=900.0)) == []
    assert bounds_of(LOOSE, seen(1.0), seen(1.02, x_m=math.nan), seen(1.04)) == []


def test_it_latches_until_the_vehicle_stands_and_all_has_been_well_for_long() -> None:
    watch = BoundWatch(LOOSE, GuardSettings())
    watch.look(seen(1.0), None)
    watch.look(seen(1.02, 5.7), None)
    assert str(watch.latched) == "acceleration: 0.700 m/s, at most 0.560"
    for number in range(2, 120):
        watch.look(seen(1.0 + TICK_S * number, 5.0), None)
    assert watch.latched is not None
    clean = replace(seen(0.0), state=State(0.0, 0.0, 0.0, 0.0, 0.0))
    watch.look(replace(clean, stamp_s=4.6), None)
    assert watch.latched is None
    assert watch.counts == {"acceleration": 1}


class VirtualProcess:
    """A guard process without process, socket or real time, and a vehicle that does what it is told."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.heard: dict[bytes, list[dict[str, Any]]] = {}
        self.process = GuardProcess(DEMO, GuardSettings(), GuardOptions(Path("none")), clock=lambda: self.now_s)
        self.x_m, self.speed_mps, self.applied = 0.0, 0.0, 0

    def send_multipart(self, parts: tuple[bytes, bytes], flags: int) -> None:
        self.heard.setdefault(parts[0], []).append(msgpack.unpackb(parts[1]))

    def take(self, peer: bytes, message: Any) -> dict[str, Any]:
        self.process.take(self, peer, [encode(message)])  # type: ignore[arg-type] # only its send_multipart is used
        return self.heard[peer][-1] if peer in self.heard else {}

    def tick(self, asked_mps: float = 8.0, jump_m: float = 0.0) -> dict[str, Any]:
        self.now_s += TICK_S
        stamp_ns = round(self.now_s * 1e9)
        self.take(b"daemon", Watch(fingerprint=DEMO.fingerprint(), pid=1))
        self.take(b"recorder", Follow())
        self.take(b"daemon", Propose(stamp_ns, 0.0, asked_mps))
        self.x_m += self.speed_mps * TICK_S + jump_m
        answer = self.take(b"vehicle", Observe(stamp_ns, self.x_m, 0.0, 0.0, 0.0, self.speed_mps, [], self.applied))
        target = 0.0 if answer["brake"] else answer["speed_mps"]
        self.speed_mps += max(-0.12, min(0.08, target - self.speed_mps))
        self.applied = answer["id"]
        return answer


def test_the_conservative_setting_slows_the_vehicle_down_until_it_stands_then_drives_on() -> None:
    guard = VirtualProcess()
    for _ in range(80):
        answer = guard.tick()
    assert (answer["speed_mps"], answer["limited_by"]) == (8.0, "cap")
    jumped = guard.tick(jump_m=3.0)
    assert (jumped["deadline_s"], jumped["limited_by"]) == (0.0, "exceeded:position")
    assert (jumped["mode"], jumped["speed_mps"], jumped["intervened"]) == ("admit", 0.0, True)
    report = guard.heard[b"daemon"][-1]
    assert (report["deadline_s"], report["exceeded"][:9]) == (0.0, "position:")
    status = guard.take(b"anyone", StatusQuery())
    assert (status["exceeded"], status["conservative"]) == ({"position": 1}, report["exceeded"])
    ticks = 0
    while guard.tick()["limited_by"].startswith("exceeded"):
        ticks += 1
        assert ticks < 400
    assert guard.speed_mps < 0.3
    assert ticks >= 49
    for _ in range(50):
        guard.tick()
    assert guard.speed_mps > 3.0


def test_the_record_says_what_the_guard_was_asked_in_the_conservative_setting() -> None:
    guard = VirtualProcess()
    for _ in range(30):
        guard.tick()
    guard.tick(jump_m=3.0)
    tick = guard.heard[b"recorder"][-1]
    assert tick["proposal"]["speed_mps"] == 0.0
    assert tick["decision"]["deadline_s"] > 0.0
    assert tick["exceeded"].startswith("position:")


def test_brakes_that_do_not_bring_the_declared_deceleration_are_seen() -> None:
    watch = BoundWatch(DEMO, GuardSettings())
    guard = VirtualProcess()
    backing = guard.process._guard.tick(0.0, None, None)
    assert (backing.mode, backing.control.brake) == ("backup", True)
    found = [item.bound for n in range(100) for item in watch.look(seen(1.0 + TICK_S * n, 5.0), backing)]
    assert set(found) == {"deceleration"}
    assert watch.counts["deceleration"] < 100 - 25
    well = BoundWatch(DEMO, GuardSettings())
    for number in range(100):
        assert well.look(seen(1.0 + TICK_S * number, max(0.0, 5.0 - 0.12 * number)), backing) == ()


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "headway-guard.sock"
    yield path
    end_owner(path)


def test_a_real_guard_tells_the_vehicle_and_clears_when_it_stands_within_its_bounds(socket: Path) -> None:
    with started(started_guard(socket)), headway.Session(None, socket) as session:

        def limited_by(x_m: float) -> str:
            session.step(headway.Pose(x_m, 0.0, 0.0, 0.0, 0.0), [], wait_s=0.5)
            return session.decisions[-1].limited_by if session.decisions else ""

        wait_for(lambda: limited_by(0.0) != "")
        wait_for(lambda: limited_by(time.monotonic() % 2.0 * 50.0) == "exceeded:position")
        assert session.decisions[-1].deadline_s == 0.0
        status = ask_guard(socket, round(1e3 * PATIENCE_S))
        assert status is not None
        assert status.exceeded["position"] >= 1
        wait_for(lambda: not limited_by(7.0).startswith("exceeded"))


@pytest.mark.timeout(60)
def test_a_client_of_the_daemon_hears_of_a_bound_that_is_exceeded_and_kept_to_again(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    with driven(tmp_path) as daemon, daemon.ask() as client, headway.Session(None, daemon.guard) as session:
        events = client.events("bound", timeout_s=30.0)
        listener = threading.Thread(target=lambda: heard.extend(dict(next(events).data) for _ in range(2)))
        listener.start()

        def steps(x_m: float, ended: Callable[[], bool]) -> bool:
            session.step(headway.Pose(x_m, 0.0, 0.0, 0.0, 0.0), [], wait_s=0.5)
            return ended()

        # The daemon hears of it after the vehicle does.
        wait_for(lambda: steps(time.monotonic() % 2.0 * 50.0, lambda: bool(heard)))
        wait_for(lambda: steps(7.0, lambda: not listener.is_alive()))
    assert "position" in heard[0]["exceeded"]
    assert heard[1]["exceeded"] is None


def test_a_scenario_within_its_bounds_is_driven_without_an_alarm() -> None:
    guard = VirtualProcess()
    for number in range(150):
        guard.tick(8.0 if number < 100 else 0.0)
    assert guard.take(b"anyone", StatusQuery())["exceeded"] == {}
    assert CLEAR_LOOKS >= 1
    assert json.dumps(guard.heard[b"recorder"][-1]["exceeded"]) == '""'
