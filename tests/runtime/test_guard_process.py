"""The guard as a real process: answers, damage, silence, death, and the daemon's link that adopts or replaces it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

import headway
from runtime.errors import ConfigurationError, UnavailableError
from runtime.serve.guard_link import GuardCommand, GuardLink, guard_arguments
from runtime.serve.guard_messages import Report
from shield.vehicle import Vehicle, load_vehicle
from tests.processes import PATIENCE_S, wait_for

STANDING = headway.Pose(0.0, 0.0, 0.0, 0.0, 0.0)
AHEAD = [headway.Obstacle(40.0, 0.0, 4.0)]


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "g.sock"


@pytest.fixture
def guard(socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(guard_arguments(socket, "demo")) as process:
        wait_for(socket.exists)
        yield process
        process.send_signal(signal.SIGCONT)
        process.kill()


@pytest.fixture
def vehicle() -> Vehicle:
    return load_vehicle("demo")


@pytest.fixture
def open_link(socket: Path, vehicle: Vehicle) -> Iterator[Callable[..., GuardLink]]:
    """Makes links; ends the guards that they started."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    links: list[GuardLink] = []
    pids: set[int] = set()

    def make(arguments: tuple[str, ...] | None = None, of: Vehicle = vehicle, hear: Any = None) -> GuardLink:
        command = guard_arguments(socket, "demo") if arguments is None else arguments
        link = GuardLink(context, zmq.Poller(), of, GuardCommand(socket, command), hear or (lambda report: None))
        links.append(link)
        return link

    yield make
    for link in links:
        if link.welcome is not None:
            pids.add(link.welcome.pid)
        link.close()
    for pid in pids:
        end(pid)
    context.term()


def end(pid: int) -> None:
    try:
        watched = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: bool(zmq.select([watched], [], [], 0.1)[0]))
        os.close(watched)
    except ProcessLookupError:
        return


def step_until(session: headway.Session, pose: headway.Pose, reason: str = "") -> headway.Applied:
    """Report `pose` until the guard decides, for `reason`: on a busy machine an observation can arrive too old."""
    applied = []

    def decided() -> bool:
        applied.append(session.step(pose, AHEAD, wait_s=1.0))
        return bool(session.decisions) and session.decisions[-1].reason.startswith(reason)

    wait_for(decided)
    return applied[-1]


def hear_until(link: GuardLink, holds: Callable[[], bool]) -> None:
    def heard() -> bool:
        link.receive()
        return holds()

    wait_for(heard)


def ask(socket: Path, frame: bytes) -> Any:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{socket}")
        dealer.send(frame)
        assert dealer.poll(round(1e3 * PATIENCE_S))
        return msgpack.unpackb(dealer.recv())


def status(socket: Path) -> Any:
    return ask(socket, msgpack.packb({"kind": "status/1"}))


@pytest.mark.usefixtures("guard")
def test_a_standing_vehicle_is_told_to_stand(socket: Path) -> None:
    with headway.Session(None, socket) as session:
        applied = step_until(session, STANDING)
    assert applied.certified
    assert applied.control.brake


@pytest.mark.usefixtures("guard")
def test_a_proposal_moves_the_vehicle_and_a_report_reaches_the_watcher(
    socket: Path, open_link: Callable[..., GuardLink]
) -> None:
    reports: list[Report] = []
    link = open_link((), hear=reports.append)
    link.open()
    assert link.adopted
    with headway.Session(None, socket) as session:

        def certified() -> bool:
            """Propose and report anew: neither a proposal nor a decision is of use for long."""
            link.receive()
            link.attend({})  # the guard forgets a watcher that is silent
            link.propose(time.monotonic_ns(), 0.05, 10.0)
            session.step(STANDING, AHEAD, wait_s=1.0)
            if not session.decisions or session.applier.decision is not session.decisions[-1]:
                return False
            return (session.decisions[-1].mode, session.decisions[-1].reason) == ("admit", "proposal_certified")

        wait_for(certified)
        decision = session.decisions[-1]
        applied = session.applier.control_at(decision.stamp_s)
    assert status(socket)["proposals"] >= 1
    assert (applied.source, applied.control.speed_mps) == ("held", 10.0)
    assert decision.mode == "admit"
    assert decision.deadline_s > 0.04
    hear_until(link, lambda: decision.deadline_s in [report.deadline_s for report in reports])


@pytest.mark.usefixtures("guard")
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"", "not a guard message"),
        (b"\xc1garbage", "not a guard message"),
        (msgpack.packb({"kind": "observe/9"}), "known kinds are observe/1"),
        (msgpack.packb({"kind": "observe/1", "x_m": "far"}), "x_m"),
        (msgpack.packb({"kind": "propose/1", "stamp_ns": 1, "beta_rad": 0.0, "speed_mps": 1.0, "extra": 1}), "extra"),
        (bytes(1 << 19), "524288 bytes: the guard reads at most"),
    ],
    ids=["empty", "no msgpack", "other version", "text for a number", "unknown field", "too large"],
)
def test_damage_is_answered_and_harms_nobody(socket: Path, frame: bytes, message: str) -> None:
    answer = ask(socket, frame)
    assert answer["kind"] == "refused/1"
    assert message in answer["error"]
    assert status(socket)["kind"] == "guard_status/1"


@pytest.mark.usefixtures("guard")
def test_a_state_that_is_no_number_gives_the_stored_backup_and_its_reason(socket: Path) -> None:
    with headway.Session(None, socket) as session:
        step_until(session, STANDING)
        applied = step_until(session, headway.Pose(float("nan"), 0.0, 0.0, 0.0, 0.0), "observation_invalid")
    assert applied.certified
    assert applied.control.brake


@pytest.mark.usefixtures("guard")
def test_one_guard_serves_one_vehicle(socket: Path) -> None:
    with headway.Session(None, socket) as first, headway.Session(None, socket) as second:
        step_until(first, STANDING)

        def refusals() -> list[str]:
            """Report both: of a vehicle that is silent for a second on a busy machine, the guard takes the other."""
            first.step(STANDING, AHEAD, wait_s=0.1)
            second.step(STANDING, AHEAD, wait_s=0.1)
            return [*second.refusals, *first.refusals]

        wait_for(lambda: bool(refusals()))
        assert "one guard serves one vehicle" in refusals()[0]


def test_a_guard_ticks_by_itself_when_the_vehicle_is_silent(
    socket: Path, guard: subprocess.Popen[bytes], open_link: Callable[..., GuardLink]
) -> None:
    reports: list[Report] = []
    link = open_link((), hear=reports.append)
    link.open()
    with headway.Session(None, socket) as session:

        def missed() -> bool:
            """Report once and be silent for some ticks; the guard forgets a watcher that is silent."""
            link.receive()
            link.attend({})
            session.step(STANDING, AHEAD, wait_s=1.0)
            session.listen(time.monotonic() + 0.1)
            link.receive()
            return any(report.reason == "observation_missing" for report in reports)

        wait_for(missed)
    assert guard.poll() is None


def test_sigterm_ends_a_guard_cleanly(socket: Path, guard: subprocess.Popen[bytes]) -> None:
    guard.terminate()
    assert guard.wait(PATIENCE_S) == 0
    assert not socket.exists()


def test_a_link_starts_a_guard_where_there_is_none_and_adopts_it_the_next_time(
    open_link: Callable[..., GuardLink],
) -> None:
    first = open_link()
    first.open()
    assert not first.adopted
    second = open_link()
    second.open()
    assert second.adopted
    assert first.welcome is not None
    assert second.welcome is not None
    assert first.welcome.pid == second.welcome.pid


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_guard_that_ends_or_freezes_is_replaced(open_link: Callable[..., GuardLink], harm: signal.Signals) -> None:
    link = open_link()
    link.open()
    assert link.welcome is not None
    former = link.welcome.pid
    os.kill(former, harm)

    def replaced() -> bool:
        link.attend(dict(link._poller.poll(10)))
        link.receive()
        return link.restarts == 1 and link.welcome is not None

    wait_for(replaced)
    assert link.welcome.pid != former


def test_a_guard_of_another_vehicle_is_not_adopted(
    guard: subprocess.Popen[bytes], open_link: Callable[..., GuardLink]
) -> None:
    link = open_link((), of=load_vehicle("config2"))
    with pytest.raises(ConfigurationError, match="guards vehicle 'demo'"):
        link.open()
    assert guard.poll() is None


def test_a_daemon_that_may_not_start_a_guard_says_so(open_link: Callable[..., GuardLink]) -> None:
    with pytest.raises(UnavailableError, match="may not start one"):
        open_link(()).open()


def test_a_second_guard_at_one_socket_names_the_first(socket: Path, guard: subprocess.Popen[bytes]) -> None:
    second = subprocess.run(
        guard_arguments(socket, "demo"), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert second.returncode == 69
    assert f"running process {guard.pid}" in second.stderr
