"""Every fail-safe latches: once a backup runs, only a fresh certified state ends it, whatever is said meanwhile."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

import headway
from runtime.serve.guard_link import guard_arguments
from runtime.serve.guard_messages import StatusQuery, encode
from shield.guard import Decision, Guard, Mode, Observation, Proposal, Reason
from shield.state import Disc, State
from shield.vehicle import Vehicle, load_vehicle
from tests.processes import wait_for

DEMO = load_vehicle("demo")
TICK_S = 0.02
# Gives up real-time priorities and locked memory, root's rights to both (CAP_IPC_LOCK, CAP_SYS_NICE) as well.
FORGO = """
import ctypes, os, resource, sys
for capability in (14, 23):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
os.execv(sys.argv[1], sys.argv[1:])
"""


class Drive:
    """A vehicle that drives straight on, its applier and its guard, tick by tick."""

    def __init__(self, vehicle: Vehicle = DEMO) -> None:
        self.guard = Guard(vehicle)
        self.applier = headway.Applier()
        self.now_s = 0.0
        for _ in range(3):
            assert self.tick().mode is Mode.ADMIT

    def seen(self, *discs: Disc, x_m: float = 0.0, age_s: float = 0.0) -> Observation:
        state = State(x_m, 0.0, 0.0, 0.0, 5.0 if self.now_s > TICK_S else 0.0)
        return Observation(self.now_s - age_s, state, discs, self.applier.applied_id)

    def tick(self, *discs: Disc) -> Decision:
        """Go on as usual."""
        self.now_s += TICK_S
        return self.decide(self.seen(*discs))

    def decide(self, observation: Observation | None, now_s: float | None = None) -> Decision:
        """Have the guard decide, with a fresh proposal, and the vehicle side take what it says."""
        proposal = Proposal(self.now_s, 0.0, 5.0)
        decision = self.guard.tick(self.now_s if now_s is None else now_s, observation, proposal)
        self.applier.accept(decision, self.now_s)
        return decision

    def source(self) -> str:
        return self.applier.control_at(self.now_s).source


def invalid(drive: Drive) -> Decision:
    return drive.decide(drive.seen(x_m=math.nan))


def out_of_order(drive: Drive) -> Decision:
    return drive.decide(drive.seen(age_s=0.5))


def from_the_future(drive: Drive) -> Decision:
    return drive.decide(drive.seen(age_s=-1.0))


def clock(drive: Drive) -> Decision:
    return drive.decide(drive.seen(), now_s=math.nan)


def nothing_certified(drive: Drive) -> Decision:
    return drive.decide(drive.seen(Disc(4.02, 0.0, 4.0)))


def certifier(drive: Drive) -> Decision:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shield.guard.machine.certified_pair", lambda *arguments: 1 / 0)
        return drive.decide(drive.seen())


def silence(drive: Drive) -> Decision:
    decision = drive.decide(None)
    while decision.mode is Mode.HOLD:
        drive.now_s += TICK_S
        decision = drive.decide(None)
    return decision


FAULTS: list[tuple[Callable[[Drive], Decision], Reason]] = [
    (invalid, Reason.OBSERVATION_INVALID),
    (out_of_order, Reason.OBSERVATION_OUT_OF_ORDER),
    (from_the_future, Reason.OBSERVATION_INVALID),
    (clock, Reason.CLOCK_INVALID),
    (nothing_certified, Reason.NOTHING_CERTIFIED),
    (certifier, Reason.CERTIFIER_FAILED),
    (silence, Reason.OBSERVATION_MISSING),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_backup_goes_on_until_a_fresh_state_is_certified(fault: Callable[[Drive], Decision], reason: Reason) -> None:
    drive = Drive()
    drive.now_s += TICK_S
    kept = drive.applier.decision
    assert kept is not None
    decision = fault(drive)
    assert (decision.mode, decision.reason) == (Mode.BACKUP, reason)
    assert drive.applier.control_at(drive.now_s).control == kept.backup
    for number in range(200):
        drive.now_s += TICK_S
        stale = drive.seen(age_s=0.2) if number % 3 else None
        again = drive.decide(stale if number % 5 else drive.seen(x_m=math.inf))
        assert again.mode is Mode.BACKUP, f"{again.mode} for {again.reason} {number + 1} ticks after {reason}"
        assert drive.source() == "backup"
    assert drive.tick(Disc(4.02, 0.0, 4.0)).mode is Mode.BACKUP  # fresh, and not to be certified
    assert drive.source() == "backup"
    assert drive.tick().mode is Mode.ADMIT
    assert drive.source() == "held"


def test_a_dead_guard_s_last_backup_runs_on_the_vehicle_side_alone() -> None:
    drive = Drive()
    kept = drive.applier.decision
    assert kept is not None
    assert kept.backup is not None
    assert kept.backup.brake
    end_s = drive.applier.hold_until_s
    for number in range(1000):
        applied = drive.applier.control_at(end_s + number * TICK_S)
        assert (applied.source, applied.control, applied.certified) == ("backup", kept.backup, True)
    drive.guard = Guard(DEMO)  # restarted: it knows nothing of what is in flight
    drive.now_s = end_s + 1000 * TICK_S
    fresh = drive.tick()
    assert (fresh.mode, fresh.id > kept.id, drive.source()) == (Mode.ADMIT, True, "held")


def test_a_vehicle_without_declared_brakes_is_never_told_to_brake() -> None:
    drive = Drive(replace(DEMO, deceleration_mps2=None))
    kept = drive.applier.decision
    assert kept is not None
    assert kept.backup is not None
    assert not kept.backup.brake
    decision = invalid(drive)
    assert (decision.mode, decision.control.brake) == (Mode.BACKUP, False)
    assert not drive.applier.control_at(drive.now_s + 60.0).control.brake


def test_what_a_guard_was_refused_it_tells_and_goes_without(tmp_path: Path) -> None:
    socket = tmp_path / "g.sock"
    command = (sys.executable, "-c", FORGO, *guard_arguments(socket, "demo"))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(socket.exists)
            with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
                dealer.setsockopt(zmq.LINGER, 0)
                dealer.connect(f"ipc://{socket}")
                dealer.send(encode(StatusQuery()))
                status: dict[str, Any] = msgpack.unpackb(dealer.recv())
        finally:
            process.kill()
    assert status["realtime"]["fifo"] == "Operation not permitted"
    assert status["realtime"]["memory_locked"] in ("Operation not permitted", "Cannot allocate memory")
    assert status["realtime"]["gc_frozen"] == "yes"
