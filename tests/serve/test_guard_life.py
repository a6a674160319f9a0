"""Guard and daemon as real processes that are killed: who outlives whom, who starts whom, and with which priority."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

import carla_bridge
import headway
from runtime.serve.guard_link import GuardCommand, GuardLink, guard_arguments
from shield.vehicle import load_vehicle
from tests.processes import COMMAND, PATIENCE_S, end_owner, wait_for

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
STANDING = headway.Pose(0.0, 0.0, 0.0, 0.0, 0.0)
AHEAD = [headway.Obstacle(40.0, 0.0, 4.0)]


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "headway-guard.sock"
    yield path
    end_owner(path)


@pytest.fixture
def context() -> "Iterator[zmq.Context[zmq.Socket[bytes]]]":
    with zmq.Context() as made:
        yield made


def link_to(context: "zmq.Context[zmq.Socket[bytes]]", socket: Path, *, may_start: bool = True) -> GuardLink:
    arguments = guard_arguments(socket, "demo", extra=("--no-fifo",)) if may_start else ()
    return GuardLink(context, zmq.Poller(), load_vehicle("demo"), GuardCommand(socket, arguments), lambda report: None)


def go_round(link: GuardLink) -> None:
    link.receive()
    link.attend(dict(link._poller.poll(10)))


@contextlib.contextmanager
def started(process: "subprocess.Popen[bytes]") -> "Iterator[subprocess.Popen[bytes]]":
    with process:
        try:
            yield process
        finally:
            process.kill()


def started_guard(socket: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(guard_arguments(socket, "demo"), stderr=subprocess.DEVNULL)
    wait_for(socket.exists)
    return process


def owner(socket: Path) -> int:
    return int(Path(f"{socket}.lock").read_text() or 0)


def guards_at(socket: Path) -> list[int]:
    """Return every living process whose command line is a guard's at `socket`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"guard" in words and os.fsencode(socket) in words:
                found.append(int(entry.name))
    return found


def niceness_of_threads(pid: int) -> set[int]:
    stats = [(task / "stat").read_text().rpartition(")")[2].split() for task in Path(f"/proc/{pid}/task").iterdir()]
    return {int(fields[16]) for fields in stats}


@pytest.mark.parametrize("attempt", range(2))
def test_two_daemons_that_start_at_once_share_one_guard(
    context: "zmq.Context[zmq.Socket[bytes]]", socket: Path, attempt: int
) -> None:
    links = [link_to(context, socket) for _ in range(2)]
    threads = [threading.Thread(target=link.open) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pids = {link.welcome.pid for link in links if link.welcome is not None}
    for link in links:
        link.close()
    assert pids == {owner(socket)}
    wait_for(lambda: guards_at(socket) == list(pids))


def test_the_vehicle_side_runs_its_backup_until_a_new_guard_certifies_afresh(
    context: "zmq.Context[zmq.Socket[bytes]]", socket: Path
) -> None:
    link = link_to(context, socket)
    link.open()
    with headway.Session(None, socket) as session:

        def moving() -> bool:
            link.propose(time.monotonic_ns(), 0.0, 5.0)
            session.step(STANDING, AHEAD, wait_s=0.5)
            # On a busy machine a decision can come too late for the vehicle side to take it.
            taken = bool(session.decisions) and session.applier.decision is session.decisions[-1]
            return taken and session.decisions[-1].mode == "admit"

        wait_for(moving)
        former = owner(socket)
        os.kill(former, signal.SIGKILL)
        kept = session.applier.decision
        assert kept is not None
        end_s = session.applier.hold_until_s
        assert session.applier.control_at(end_s - 1e-3).source == "held"
        applied = session.applier.control_at(end_s)
        assert (applied.source, applied.control, applied.certified) == ("backup", kept.backup, True)
        assert session.applier.control_at(end_s + 60.0).source == "backup"  # it latches
        decided = len(session.decisions)

        def certified_again() -> bool:
            go_round(link)
            # A new guard that was handed an old observation first latches until a proposal is certified.
            link.propose(time.monotonic_ns(), 0.0, 5.0)
            session.step(STANDING, AHEAD, wait_s=0.05)
            return len(session.decisions) > decided and session.applier.decision is session.decisions[-1]

        wait_for(certified_again)
        assert owner(socket) != former
        assert link.restarts == 1
    link.close()


def test_a_guard_that_others_start_is_waited_for_when_it_dies(
    context: "zmq.Context[zmq.Socket[bytes]]", socket: Path
) -> None:
    first = started_guard(socket)
    link = link_to(context, socket, may_start=False)
    link.open()
    first.kill()
    first.wait()

    def lost() -> bool:
        go_round(link)
        return link.welcome is None

    wait_for(lost)
    second = started_guard(socket)

    def found() -> bool:
        go_round(link)
        return link.welcome is not None and link.welcome.pid == second.pid

    wait_for(found)
    link.close()
    second.kill()
    second.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_daemon_s_whole_group_leaves_the_guard_and_its_priority_is_its_own(
    socket: Path, number: signal.Signals
) -> None:
    path = socket.with_name("d.sock")
    command = (*COMMAND, "serve", "--socket", str(path), "--package", str(PACKAGE))
    settings = {**os.environ, "HEADWAY_GUARD_FIFO": "false"}
    with started(subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, env=settings)) as daemon:

        def ready() -> bool:
            try:
                with headway.Client(path, timeout_s=1.0) as client:
                    return bool(client.status()["ready"])
            except headway.HeadwayError:
                return False

        wait_for(ready)
        guard = owner(socket)
        assert niceness_of_threads(guard) == {0}
        assert 10 in niceness_of_threads(daemon.pid)

        os.kill(guard, signal.SIGKILL)  # the next one is started by a daemon that has asked to be run at once
        wait_for(lambda: owner(socket) not in (0, guard) and ready())
        guard = owner(socket)
        assert niceness_of_threads(guard) == {0}
        assert os.sched_getscheduler(guard) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER

        os.killpg(daemon.pid, number)
        daemon.wait(PATIENCE_S)
        assert os.getsid(guard) != daemon.pid
        assert guards_at(socket) == [guard]
    with headway.Session(None, socket) as session:
        wait_for(lambda: bool(session.step(STANDING, AHEAD, wait_s=0.5) and session.decisions))


def test_an_edge_process_steps_back() -> None:
    command = (*COMMAND, "edge", "--bind", "tcp://127.0.0.1:0", "--package", str(PACKAGE))
    with started(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)) as edge:
        assert edge.stdout is not None
        edge.stdout.readline()
        assert os.getpriority(os.PRIO_PROCESS, edge.pid) == 10
