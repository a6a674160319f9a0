"""`headway top` against a real daemon and guard: once, as JSON, and on a terminal of its own while a vehicle drives."""

import contextlib
import fcntl
import io
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from runtime.observe.top.picture import picture
from runtime.observe.top.screen import screen
from tests.observe.drives import Driven, driven
from tests.processes import COMMAND, run, wait_for

pytestmark = pytest.mark.timeout(120)  # a daemon, a guard and a drive start for them
_TITLES = ("top view", "tolerable deadline", "exits", "windows", "devices, last second", "link and energy")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    with driven(tmp_path_factory.mktemp("t")) as running:
        yield running


def look(running: Driven, how: str) -> str:
    """Return what one look prints; how much is heard within its second is a matter of how busy the machine is."""
    ended = run("top", how, "--socket", str(running.socket), timeout_s=60.0)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def test_one_look_at_an_idle_daemon(running: Driven) -> None:
    def whole() -> bool:
        text = look(running, "--once")
        assert all(title in text for title in _TITLES)
        return "headway  ready" in text and "vehicle demo" in text

    wait_for(whole, 60.0)


def test_one_look_as_json(running: Driven) -> None:
    def whole() -> bool:
        told = json.loads(look(running, "--json"))
        daemon, guard = told["daemon"], told["guard"]
        return daemon is not None and guard is not None and daemon["ready"] and guard["vehicle"] == "demo"

    wait_for(whole, 60.0)


def test_nobody_there_is_told(tmp_path: Path) -> None:
    ended = run("top", "--once", "--socket", str(tmp_path / "none.sock"), timeout_s=60.0)
    assert ended.returncode == 0, ended.stderr
    assert "no daemon" in ended.stdout
    assert "no guard" in ended.stdout


def test_a_terminal_shows_the_vehicle_until_ctrl_c(running: Driven) -> None:
    stop = threading.Event()

    def drive() -> None:
        while not stop.is_set():
            running.drive(2.0)

    driving = threading.Thread(target=drive)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown = bytearray()
    with subprocess.Popen(
        [*COMMAND, "top", "--socket", str(running.socket)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color"},
    ) as process:
        os.close(slave)
        driving.start()
        try:
            wait_for(lambda: _read(master, shown) and b"m/s" in shown and b"limited by" in shown, 60.0)
            process.send_signal(signal.SIGINT)
            wait_for(lambda: _read(master, shown) and process.poll() is not None, 60.0)
            _read_rest(master, shown)
        finally:
            process.kill()
            stop.set()
            driving.join()
            os.close(master)
    assert process.returncode == 0
    text = shown.decode(errors="replace")
    assert all(title in text for title in _TITLES)
    assert "Traceback" not in text
    assert text.rindex("\x1b[?1049l") > text.rindex("\x1b[?1049h")  # the terminal is given back as it was


def _read(master: int, into: bytearray) -> bool:
    """Take in what the terminal was sent."""
    if select.select([master], [], [], 0.0)[0]:
        try:
            into += os.read(master, 1 << 16)
        except OSError:  # its process has ended
            return True
    return True


def _read_rest(master: int, into: bytearray) -> None:
    """Take in what a process that has ended wrote last: it may have come after the last look."""
    with contextlib.suppress(OSError):  # there is no more
        while data := os.read(master, 1 << 16):
            into += data


def test_the_picture_turns_with_the_vehicle() -> None:
    view = {"obstacles": [[0.0, 20.0, 3.0]], "held": [[0.0, 0.0], [0.0, 10.0]], "certain": 1, "backup": []}
    north = picture({**view, "pose": [0.0, 0.0, 1.5707963267948966]}, 30, 14).plain.split("\n")
    assert len(north) == 14
    columns = [index for row in north for index, letter in enumerate(row) if letter != " "]
    assert 11 <= min(columns) <= max(columns) <= 18  # an obstacle dead ahead lies in the middle
    east = picture({**view, "pose": [0.0, 0.0, 0.0]}, 30, 14).plain.split("\n")
    assert any(row[:6].strip() for row in east)  # the same obstacle, now on the left


@pytest.mark.parametrize("width", [40, 60, 100, 160])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    guard = {
        "vehicle": "demo",
        "certificate": "ab" * 32,
        "driven": True,
        "mode": "hold",
        "reason": "proposal_certified",
    }
    guard |= {"deadline_s": 0.31, "limited_by": "obstacle:0", "speed_mps": 7.25, "manoeuvre": "brake"}
    guard |= {
        "exceeded": "",
        "view": {"pose": [0.0, 0.0, 0.0], "obstacles": [], "held": [], "certain": 0, "backup": []},
    }
    daemon = {"ready": True, "uptime_s": 3.0, "queued": {"cpu": 2}, "edge": None}
    state = {"guard": guard, "daemon": daemon, "exits": {"exit1": 3}, "windows": {"local": 4}, "segments": []}
    state |= {"deadlines": [[-0.02, 0.3, "hold"]] * 90, "energy": [[-0.02, 113.5, "local"]]}
    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    console.print(screen(state, width))
    lines = console.export_text().splitlines()
    assert "310 ms" in "".join(lines)
    assert max(map(len, lines)) <= width
