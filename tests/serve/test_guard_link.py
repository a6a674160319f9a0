"""The daemon's patience with its guard: a daemon that was itself held up kills nobody for silence."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from runtime.serve.guard_link import _ADOPT_WAIT_S, GuardCommand, GuardLink, guard_arguments
from runtime.serve.guard_messages import Request
from shield.vehicle import load_vehicle
from tests.processes import wait_for


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "g.sock"


@pytest.fixture
def guard(socket: Path) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(guard_arguments(socket, "demo", extra=("--no-fifo",)), stderr=subprocess.DEVNULL)
    wait_for(socket.exists)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def link(socket: Path, guard: "subprocess.Popen[bytes]") -> Iterator[GuardLink]:
    with zmq.Context() as context:
        made = GuardLink(context, zmq.Poller(), load_vehicle("demo"), GuardCommand(socket, ()), lambda report: None)
        try:
            made.open()
            yield made
        finally:
            made.close()


def test_a_daemon_that_was_held_up_does_not_take_its_guard_for_silent(link: GuardLink) -> None:
    link.attend({})
    link._heard_s -= 60.0  # as after a stop of the whole daemon, when nothing has been read yet
    link._attended_s -= 60.0
    link.attend({})
    assert link.restarts == 0
    assert link.welcome is not None


def test_a_guard_that_is_silent_to_a_daemon_that_listens_is_replaced(link: GuardLink) -> None:
    assert link.welcome is not None
    signal.pidfd_send_signal(link._pidfd or 0, signal.SIGSTOP)
    link._heard_s = time.monotonic()

    def replaced() -> bool:
        link.attend(dict(link._poller.poll(10)))
        link._attended_s = time.monotonic()  # however busy the machine is: it listens
        return link.restarts == 1

    wait_for(replaced)


def test_a_guard_that_is_slow_to_answer_is_waited_for(
    socket: Path, guard: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is frozen until the first, short wait would have been over."""
    guard.send_signal(signal.SIGSTOP)
    asked: list[float] = []
    with zmq.Context() as context:
        link = GuardLink(context, zmq.Poller(), load_vehicle("demo"), GuardCommand(socket, ()), lambda report: None)
        send = link._send

        def sent(message: Request) -> None:
            asked.append(time.monotonic())
            if asked[-1] - asked[0] > _ADOPT_WAIT_S:
                guard.send_signal(signal.SIGCONT)
            send(message)

        monkeypatch.setattr(link, "_send", sent)
        try:
            link.open()
            assert link.adopted
            assert asked[-1] - asked[0] > _ADOPT_WAIT_S
        finally:
            link.close()
