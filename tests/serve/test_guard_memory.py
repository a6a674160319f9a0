"""What a tick of the guard leaves behind: no memory, no garbage, no page fault; on its clock, not the machine's."""

import gc
import os
import platform
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

import headway
from runtime.serve import realtime
from runtime.serve.guard_link import guard_arguments
from runtime.serve.guard_messages import Follow, Observe, Propose, StatusQuery, Watch, encode
from runtime.serve.guard_process import GuardOptions, GuardProcess
from shield.guard import GuardSettings
from shield.vehicle import load_vehicle
from tests.processes import wait_for

TICK_S = 0.02
FILLED = 1_800  # ticks after which what is kept for a while is as large as it gets
STANDING = headway.Pose(0.0, 0.0, 0.0, 0.0, 0.0)
AHEAD = [headway.Obstacle(40.0, 0.0, 4.0)]


class Ear:
    """Stands in for the router: keeps the last frame that each peer was sent, but for those that do not read."""

    def __init__(self) -> None:
        self.heard: dict[bytes, bytes] = {}

    def send_multipart(self, parts: tuple[bytes, bytes], flags: int) -> None:
        if not parts[0].startswith(b"deaf"):
            self.heard[parts[0]] = parts[1]


class VirtualGuard:
    """A guard process without process, socket or real time: a vehicle, a daemon that watches, a recorder."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.ear: Any = Ear()
        vehicle = load_vehicle("demo")
        options = GuardOptions(Path("none"))
        self.process = GuardProcess(vehicle, GuardSettings(), options, clock=lambda: self.now_s)
        self._watch = encode(Watch(fingerprint=vehicle.fingerprint(), pid=1))
        self._applied = 0

    def take(self, peer: bytes, *frames: bytes) -> Any:
        self.process.take(self.ear, peer, list(frames))
        return self.last(peer)

    def last(self, peer: bytes) -> Any:
        """Return what the peer was sent last; None: nothing yet."""
        return msgpack.unpackb(self.ear.heard[peer]) if peer in self.ear.heard else None

    def tick(self, number: int) -> dict[str, Any]:
        """Do what happens in 20 ms; now and then a message is damaged, and a watcher comes once."""
        self.now_s += TICK_S
        stamp_ns = round(self.now_s * 1e9)
        self.take(b"daemon", encode(Propose(stamp_ns, 0.01 * (number % 7), 8.0)))
        if number % 10 == 0:
            self.take(b"daemon", self._watch)
            self.take(b"recorder", encode(Follow()))
            self.take(b"anyone", b"\xc1" if number % 20 else b"")
            self.take(b"deaf %d" % number, self._watch)
        discs = [(40.0 + i, 9.0 * (i - 1), 2.0, 0.0) for i in range(number % 3)]
        observed = Observe(stamp_ns, 0.0, 0.0, 0.0, 0.0, 0.0, discs, self._applied)
        answer: dict[str, Any] = self.take(b"vehicle", encode(observed))
        assert answer["kind"] == "decision/1"
        self._applied = answer["id"]
        return answer


@pytest.fixture
def guard() -> VirtualGuard:
    return VirtualGuard()


def blocks_after(guard: VirtualGuard, first: int, ticks: int) -> int:
    for number in range(first, first + ticks):
        guard.tick(number)
    return sys.getallocatedblocks()


def leaves_nothing(guard: VirtualGuard, ticks: int) -> None:
    """Run with the garbage collector off, as the guard does: what reference counts do not free stays for good."""
    gc.collect()
    gc.disable()
    try:
        before = blocks_after(guard, 0, FILLED)
        grown = blocks_after(guard, FILLED, ticks) - before
        garbage = gc.collect()
    finally:
        gc.enable()
    assert grown < 50, f"{grown} blocks more after {ticks} ticks"
    assert garbage < 50, f"{garbage} objects in cycles after {FILLED + ticks} ticks"


@pytest.mark.timeout(60)
def test_ticks_leave_neither_memory_nor_garbage_behind(guard: VirtualGuard) -> None:
    leaves_nothing(guard, 700)


@pytest.mark.slow
def test_a_hundred_thousand_ticks_leave_nothing_behind(guard: VirtualGuard) -> None:
    leaves_nothing(guard, 100_000)


def test_a_tick_takes_little_memory_for_a_while(guard: VirtualGuard) -> None:
    for number in range(100):
        guard.tick(number)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for number in range(100, 200):
            guard.tick(number)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 256_000


def test_watchers_that_fell_silent_are_forgotten_without_a_vehicle(guard: VirtualGuard) -> None:
    for number in range(50):
        guard.now_s += 1.0
        guard.take(b"daemon %d" % number, guard._watch)
    assert guard.take(b"anyone", encode(StatusQuery()))["watchers"] <= 3


def test_a_late_answer_is_counted(guard: VirtualGuard) -> None:
    held = guard.tick(0)
    assert held["mode"] == "admit"
    times = iter((guard.now_s + TICK_S, guard.now_s + 1.0))
    guard.process._clock = lambda: next(times, guard.now_s + 1.0)
    stamp_ns = round((guard.now_s + TICK_S) * 1e9)
    guard.take(b"vehicle", encode(Observe(stamp_ns, 0.0, 0.0, 0.0, 0.0, 0.0, [], held["id"])))
    assert guard.take(b"anyone", encode(StatusQuery()))["late"] == 1


def test_a_guard_in_service_asks_the_kernel_for_no_memory(tmp_path: Path) -> None:
    socket = tmp_path / "g.sock"

    def status() -> dict[str, Any]:
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.connect(f"ipc://{socket}")
            dealer.send(encode(StatusQuery()))
            return dict(msgpack.unpackb(dealer.recv()))

    def ticks(number: int, session: headway.Session) -> None:
        until = status()["ticks"] + number

        def enough() -> bool:
            session.step(STANDING, AHEAD, wait_s=0.5)
            return len(session.decisions) >= number and int(status()["ticks"]) >= until

        for _ in range(number):
            session.step(STANDING, AHEAD, wait_s=0.5)
        wait_for(enough)

    with subprocess.Popen(guard_arguments(socket, "demo", extra=("--no-fifo",)), stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(socket.exists)
            with headway.Session(None, socket) as session:
                ticks(100, session)
                before = status()
                ticks(300, session)
                after = status()
        finally:
            process.kill()
    granted = after["realtime"]
    assert granted["gc_frozen"] == "yes"
    if granted["memory_locked"] != "yes" or granted["heap_kept"] != "yes":
        pytest.skip(f"memory cannot be kept here: {granted}")
    assert after["page_faults"] - before["page_faults"] < 0.1 * (after["ticks"] - before["ticks"])


def test_a_short_slice_is_granted_only_where_the_kernel_has_one() -> None:
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    script = "from runtime.serve.realtime import become_punctual as b; print(b(fifo=False).short_slice)"
    told = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=True).stdout.strip()
    if platform.machine() not in realtime._SCHED_SETATTR:
        assert "is not known for" in told
    else:
        assert told == "yes" if release >= (6, 12) else "has none" in told


def test_a_machine_whose_calls_are_unknown_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    assert realtime._short_slice(0) == "sched_setattr's number is not known for s390x"


def test_a_kernel_that_takes_the_call_and_gives_no_slice_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf:
        def syscall(self, number: int, *arguments: Any) -> int:
            return 0

    monkeypatch.setattr(realtime, "_libc", Deaf())
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert realtime._short_slice(os.getpid()).endswith("has none: 6.12 has")


def test_what_the_c_library_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime, "_libc", object())
    assert realtime._heap_kept() == "this C library has no mallopt"


def test_a_guard_keeps_time_by_its_own_clock(guard: VirtualGuard) -> None:
    begun_s = time.monotonic()
    guard.now_s += 1e6
    assert guard.tick(0)["stamp_ns"] == round(guard.now_s * 1e9)
    assert guard.take(b"anyone", encode(StatusQuery()))["uptime_s"] > 9e5
    assert time.monotonic() - begun_s < 9e5
