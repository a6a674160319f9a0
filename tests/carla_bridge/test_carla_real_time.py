"""The whole chain by the wall clock: the unmodified wheel, the emulator (not CARLA), a daemon and its guard."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("carla", reason="needs the client wheel: pip install 'headway[carla]'")

from carla_bridge.carla.realtime import drive_by_wall_clock
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.scenario import load_scenario
from carla_bridge.virtual import DRIVING
from runtime.errors import ConfigurationError, UnavailableError
from shield.vehicle import load_vehicle
from tests.carla_bridge.conftest import Serve
from tests.processes import COMMAND, end, end_owner, start, wait_for

pytestmark = [pytest.mark.carla, pytest.mark.timeout(120)]

PATIENCE_S = 100.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a daemon that runs every window on this machine, and its guard."""
    socket = tmp_path_factory.mktemp("daemon") / "d.sock"
    package = ["--package", str(DRIVING), "--vehicle", "demo", "--policy", "local"]
    process = start("serve", "--socket", str(socket), *package)
    try:
        wait_for(lambda: _ready(socket), PATIENCE_S)
        yield socket
    finally:
        end(process)
        end_owner(socket.with_name("headway-guard.sock"))


def _ready(socket: Path) -> bool:
    asked = subprocess.run([*COMMAND, "status", "--socket", str(socket), "--json"], capture_output=True, check=False)
    return asked.returncode == 0 and bool(json.loads(asked.stdout)["ready"])


def _drive(port: int, socket: Path, *more: str) -> "subprocess.Popen[str]":
    where = ["--port", str(port), "--daemon", str(socket), "--vehicle", "demo"]
    command = [*COMMAND, "drive", "--world", "carla", *where, "--duration-s", "2.5", "--json", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _end_of(process: "subprocess.Popen[str]") -> tuple[Any, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return json.loads(out[out.index("{") :]), err


def test_a_slow_tick_holds_the_world_up_and_makes_no_control_late(serve: Serve, daemon: Path) -> None:
    told, _ = _end_of(_drive(serve("--slow-at", "60", "--slow-s", "0.3").port, daemon))
    assert told["time_s"] == pytest.approx(2.5)
    assert (told["late_controls"], told["collisions"]) == (0, 0)
    assert told["ticks"] == 125
    assert told["waited_s"] >= 0.26  # all of the slow tick but the one that was due, and less than one besides
    assert sum(told["sources"].values()) == told["ticks"]


def test_a_server_that_is_lost_is_waited_for_and_the_episode_starts_anew(serve: Serve, daemon: Path) -> None:
    first = serve("--exit-at", "40")
    process = _drive(first.port, daemon, "--timeout-s", "4", "--duration-s", "1.5")
    wait_for(lambda: first.process.poll() is not None or process.poll() is not None, PATIENCE_S)
    assert first.process.poll() == 3, process.communicate()
    serve("--port", str(first.port))
    told, logged = _end_of(process)
    assert told["starts"] >= 2
    assert told["late_controls"] == 0
    assert told["time_s"] == pytest.approx(1.5)
    assert "waiting up to 30 s for it" in logged


def test_a_frozen_server_leaves_the_vehicle_where_it_is_and_is_told(serve: Serve, daemon: Path) -> None:
    command = [
        "--world",
        "carla",
        "--port",
        str(serve("--freeze-at", "40").port),
        "--daemon",
        str(daemon),
        "--vehicle",
        "demo",
    ]
    more = ["--timeout-s", "1", "--reconnect-s", "0", "--duration-s", "1e6"]
    process = subprocess.Popen([*COMMAND, "drive", *command, *more], stderr=subprocess.PIPE, text=True)
    try:
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 69, err
    assert "the simulator failed, not the agent: the CARLA server" in err


def test_no_daemon_and_another_vehicles_guard_are_refused(tmp_path: Path, daemon: Path) -> None:
    world = KinematicWorld(load_scenario("town04_short"), load_vehicle("config2"), 1)
    with pytest.raises(ConfigurationError, match="the guard certifies for the vehicle demo"):
        drive_by_wall_clock(world, daemon, daemon.with_name("headway-guard.sock"), 1.0)
    with pytest.raises(UnavailableError, match="start one with headway serve"):
        drive_by_wall_clock(world, tmp_path / "no.sock", tmp_path / "no-guard.sock", 1.0)
