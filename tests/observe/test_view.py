"""`headway view` with the real Rerun: live and from a log into a file that Rerun reads back; a server on loopback."""

import contextlib
import signal
import socket as sockets
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.observe.recorder.channels import EVENT, TICK
from runtime.observe.replay.log import FlightLog, LogError
from tests.observe.drives import Driven, driven, free_port
from tests.processes import end, run, start, wait_for

rr = pytest.importorskip("rerun")

pytestmark = pytest.mark.timeout(180)  # a daemon, a guard, a recorder, a drive and Rerun start for them
_PATIENCE_S = 60.0
_DRAWN = {
    "/top/vehicle",
    "/top/obstacles",
    "/top/held",
    "/top/tolerable",
    "/top/backup",
    "/guard/deadline_ms",
    "/vehicle/speed_mps",
    "/energy/window_mj",
    "/request/slack_ms",
    "/events",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    folder = tmp_path_factory.mktemp("v")
    with driven(folder, "--record", str(folder / "log")) as running:
        yield running


@pytest.fixture(scope="module")
def live(running: Driven) -> Path:
    """A recording of a drive, streamed while it was driven."""
    saved = running.folder / "live.rrd"
    viewer = start("view", "--save", str(saved), "--socket", str(running.socket))
    wait_for(saved.exists, _PATIENCE_S)
    stop = threading.Event()

    def drive() -> None:
        while not stop.is_set():
            running.drive(2.0)

    driving = threading.Thread(target=drive)
    driving.start()
    try:
        wait_for(lambda: saved.stat().st_size > 150_000, _PATIENCE_S)
        wait_for(lambda: _all_is_in(saved) and _enough_is_in(running.folder / "log"), _PATIENCE_S)
    finally:
        stop.set()
        driving.join()
        viewer.send_signal(signal.SIGINT)
        viewer.wait(_PATIENCE_S)
        end(viewer)
    assert viewer.returncode == 0
    return saved


def _all_is_in(recording: Path) -> bool:
    """Does a recording that is still written hold a row of each entity?"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has no end yet
        return set(rows(recording)) >= _DRAWN | {"/camera"}


def _enough_is_in(log: Path) -> bool:
    """Does a flight log that is still written hold ticks, windows and requests?"""
    with contextlib.suppress(LogError):
        entries = list(FlightLog([log]))
        ticks = sum(entry.topic == TICK.topic and entry.data["observation"] is not None for entry in entries)
        told = {entry.data["topic"] for entry in entries if entry.topic == EVENT.topic}
        return ticks > 20 and told >= {"window", "request"}
    return False


def rows(path: Path) -> Counter[str]:
    """Return by entity how many rows with a time a recording holds, as Rerun's own reader finds them."""
    found: Counter[str] = Counter()
    for chunk in rr.chunk.RrdReader(path).stream():
        if not chunk.is_static:
            found[chunk.entity_path] += chunk.num_rows
    return found


def values(path: Path, entity: str) -> list[Any]:
    """Return the numbers of a series."""
    found: list[Any] = []
    for chunk in rr.chunk.RrdReader(path).stream():
        if chunk.entity_path == entity and not chunk.is_static:
            batch = chunk.to_record_batch()
            column = next(name for name in batch.schema.names if "Scalars:scalars" in name)
            found += [value[0] for value in batch.column(column).to_pylist() if value]
    return found


def test_a_live_drive_is_all_in_the_recording(live: Path) -> None:
    found = rows(live)
    assert set(found) >= _DRAWN | {"/camera"}
    assert rr.chunk.RrdReader(live).blueprints


def test_a_flight_log_becomes_a_recording(running: Driven, live: Path, tmp_path: Path) -> None:
    saved = tmp_path / "log.rrd"
    ended = run("view", str(running.folder / "log"), "--save", str(saved), timeout_s=_PATIENCE_S)
    assert ended.returncode == 0, ended.stderr
    found = rows(saved)
    assert set(found) >= _DRAWN
    deadlines = values(saved, "/guard/deadline_ms")
    assert len(deadlines) > 20
    ticks = [entry.data for entry in FlightLog([running.folder / "log"]) if entry.topic == TICK.topic]
    recorded = [0.0 if tick["exceeded"] else float(tick["decision"]["deadline_s"]) for tick in ticks]
    assert not Counter(deadlines) - Counter(1e3 * min(10.0, value) for value in recorded)


def test_the_server_listens_on_loopback_alone(live: Path, running: Driven) -> None:
    port = free_port()
    arguments = ["view", str(running.folder / "log"), "--viewer", "none", "--port", str(port)]
    viewer = start(*arguments)
    try:
        assert viewer.stdout is not None
        assert f"127.0.0.1:{port}/proxy" in viewer.stdout.readline()
        bound = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert f"0100007F:{port:04X}" in bound
        assert f"00000000:{port:04X}" not in bound
        taken = run("view", *arguments[1:], timeout_s=_PATIENCE_S)
        assert taken.returncode == 78
        assert f"port {port} of 127.0.0.1 is taken" in taken.stderr
        viewer.send_signal(signal.SIGINT)
        viewer.wait(_PATIENCE_S)
        assert viewer.returncode == 0
    finally:
        end(viewer)

    def free() -> bool:
        with sockets.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    wait_for(free, _PATIENCE_S)  # Rerun has ended with it


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--viewer", "cinema"), 78, "must be one of window, web, none"),
        (("--save", "/nowhere/x.rrd"), 78, "cannot write"),
        (("nothing.mcap",), 78, "cannot read nothing.mcap"),
    ],
)
def test_what_cannot_be_is_told(arguments: tuple[str, ...], code: int, words: str) -> None:
    ended = run("view", *arguments, timeout_s=_PATIENCE_S)
    assert (ended.returncode, words in ended.stderr, ended.stdout) == (code, True, "")
