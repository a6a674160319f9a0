"""The units under a real systemd, installed as docs/install.md says, on a board of namespaces."""

import json
from collections.abc import Iterator

import pytest

from tests.processes import wait_for
from tests.systemd.board import Board

GUARD, DAEMON, EDGE = "headway-guard", "headway", "headway-edge"
pytestmark = pytest.mark.timeout(180)  # a daemon imports for seconds where others keep the machine busy
PATIENT = "/run/systemd/system/{}.service.d/patient.conf"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    made = Board(tmp_path_factory.mktemp("board"))
    try:
        for unit in (GUARD, DAEMON):  # a machine under load is no reason to restart them
            made.run("mkdir", "-p", f"/run/systemd/system/{unit}.service.d")
            made.write(PATIENT.format(unit), "[Service]\nWatchdogSec=300s\n")
        made.systemctl("daemon-reload")
        yield made
    finally:
        made.end()


@pytest.fixture
def running(board: Board) -> Board:
    board.systemctl("start", GUARD, DAEMON)
    assert _active(board, GUARD, DAEMON), board.log
    return board


def _active(board: Board, *units: str) -> bool:
    return board.systemctl("is-active", *units).split() == ["active"] * len(units)


def _replaced(board: Board, unit: str, old: int) -> bool:
    return _active(board, unit) and board.pid(unit) not in (0, old)


def _status(board: Board) -> dict[str, object]:
    told = board.headway("status", "--socket", "/run/headway/headway.sock", "--json")
    assert told.returncode == 0, told.stderr
    status: dict[str, object] = json.loads(told.stdout)
    return status


def _hears(board: Board, guard: int) -> bool:
    """Is the daemon in touch with the guard of this process? A test before may have restarted it a moment ago."""
    heard = _status(board)["guard"]
    return heard is not None and heard["pid"] == guard  # type: ignore[index]


def test_the_daemon_is_ready_once_it_is_started_and_serves_its_repository(running: Board) -> None:
    assert _status(running)["models"] == ["driving"]
    wait_for(lambda: _hears(running, running.pid(GUARD)))
    assert "serving driving" in running.systemctl("status", DAEMON)


def test_a_killed_daemon_comes_back_and_finds_its_guard(running: Board) -> None:
    guard, daemon = running.pid(GUARD), running.pid(DAEMON)
    running.systemctl("kill", "--signal=KILL", DAEMON)
    wait_for(lambda: _replaced(running, DAEMON, daemon))
    assert running.pid(GUARD) == guard
    wait_for(lambda: _hears(running, guard))


def test_a_stopped_daemon_drains_and_leaves_the_guard(running: Board) -> None:
    guard = running.pid(GUARD)
    running.systemctl("stop", DAEMON)
    assert running.systemctl("is-active", DAEMON) == "inactive"
    assert "drained" in running.log
    assert running.pid(GUARD) == guard


def test_a_reload_keeps_the_process(running: Board) -> None:
    daemon = running.pid(DAEMON)
    running.systemctl("reload", DAEMON)
    wait_for(lambda: _status(running)["reload"]["done"] == 1)  # type: ignore[index]
    assert running.pid(DAEMON) == daemon


@pytest.mark.parametrize("unit", [GUARD, pytest.param(DAEMON, marks=pytest.mark.slow)])
def test_what_is_frozen_is_restarted_by_its_watchdog(running: Board, unit: str) -> None:
    other = DAEMON if unit == GUARD else GUARD
    running.write(PATIENT.format(unit), "")
    running.systemctl("daemon-reload")
    running.systemctl("restart", unit)
    old, beside = running.pid(unit), running.pid(other)
    running.run("kill", "-STOP", str(old))
    wait_for(lambda: _replaced(running, unit, old))
    assert running.pid(other) == beside
    running.write(PATIENT.format(unit), "[Service]\nWatchdogSec=300s\n")
    running.systemctl("daemon-reload")
    running.systemctl("restart", unit)


def test_a_wrong_configuration_is_not_tried_again(running: Board) -> None:
    running.systemctl("stop", DAEMON)
    right = running.run("cat", "/etc/headway/headway.toml").stdout
    running.write("/etc/headway/headway.toml", "[serve]\nrepositry = 1\n")
    running.systemctl("start", DAEMON)
    assert running.systemctl("show", "--property=ExecMainStatus", "--value", DAEMON) == "78"
    assert running.systemctl("is-active", DAEMON) == "failed"
    assert "repositry" in running.log
    running.write("/etc/headway/headway.toml", right)


def test_the_edge_server_starts_and_drains(board: Board) -> None:
    board.systemctl("start", EDGE)
    assert _active(board, EDGE), board.log
    board.systemctl("stop", EDGE)
    assert board.systemctl("show", "--property=Result", "--value", EDGE) == "success"
