"""One rig for the fault tests: edge server, front, daemon and guard as real processes, and a vehicle's drives."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

import carla_bridge
import headway
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.loop import RealTimeLoop, Record, Tick
from carla_bridge.scenario import load_scenario
from carla_bridge.world import Report, World
from shield.vehicle import load_vehicle
from tests.processes import COMMAND, PATIENCE_S, end, end_owner, wait_for

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
ROOT = Path(__file__).resolve().parents[2]
_SILENT_S = 1.05  # a daemon takes another vehicle once the last one has been silent for a second
_TICK_S = 0.02
_LOOK_EVERY = 4  # ticks
_SETTLED_S = 0.3
_LONGEST_S = 25.0
# An answer may take half a second, so that a machine with other work gets it in time.
_PATIENT = "[offload]\nmax_wait_windows = 25\n"


class Drive:
    """A world that is over when the test has seen what it wants."""

    def __init__(self) -> None:
        self._world = KinematicWorld(load_scenario("town04_curves"), load_vehicle("demo"), 1)
        self.over = False

    @property
    def done(self) -> bool:
        return self.over or self._world.done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)


@dataclass
class Rig:
    """The processes, and what a test does with them."""

    folder: Path
    edge_endpoint: str = ""
    endpoint: str = ""
    http: str = ""
    written: int = 0
    processes: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)
    before: Counter[str] = field(default_factory=Counter)
    heard: set[str] = field(default_factory=set)
    """The guard's reasons that the vehicle has heard since the fault began."""

    @property
    def log(self) -> str:
        """What the daemon has written since the last drive began."""
        return (self.folder / "daemon.log").read_text()[self.written :]

    @property
    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.processes.items()}

    def status(self) -> dict[str, Any]:
        with headway.Client(self.folder / "daemon.sock", timeout_s=PATIENCE_S) as client:
            return client.status()

    def outcomes(self) -> Counter[str]:
        """What the daemon counts of its edge server and of its guard's reasons."""
        status = self.status()
        return Counter(status["edge"]["outcomes"]) + Counter(status["guard_reasons"])

    def edge_metrics(self) -> str:
        with urllib.request.urlopen(f"{self.http}/metrics", timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    def start_front(self) -> None:
        command = [sys.executable, "-m", "tests.faults.front", self.edge_endpoint]
        bind = [self.endpoint] if self.endpoint else []
        pipe = subprocess.PIPE
        self.processes["front"] = subprocess.Popen([*command, *bind], stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        self.endpoint = self._line("front")

    def misbehave(self, *words: str) -> None:
        """Have the front do something else, and wait until it does."""
        front = self.processes["front"]
        assert front.stdin is not None
        front.stdin.write(" ".join(words) + "\n")
        front.stdin.flush()
        assert self._line("front").split() == list(words)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        if process.stdin is not None:
            process.stdin.close()
        end(process)

    def send_signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.processes[name].pid, number)

    def start_edge(self, *flags: str) -> None:
        command = [*COMMAND, "edge", "--package", str(PACKAGE), "--http", "0", *flags]
        with (self.folder / "edge.log").open("w") as log:
            self.processes["edge"] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        said = json.loads(self._line("edge"))
        self.edge_endpoint, self.http = said["endpoint"], said["http"]

    def start_daemon(self, endpoint: str, *, config: str = "") -> None:
        settings = self.folder / "daemon.toml"
        settings.write_text(_PATIENT + config)
        sockets = ("--socket", str(self.folder / "daemon.sock"), "--guard-socket", str(self.folder / "guard.sock"))
        flags = ("--package", str(PACKAGE), "--policy", "eager", "--edge", endpoint, "--config", str(settings))
        with (self.folder / "daemon.log").open("w") as log:
            self.processes["daemon"] = subprocess.Popen([*COMMAND, "serve", *sockets, *flags], stderr=log, text=True)
        wait_for(self._ready, 2.0 * PATIENCE_S)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        end_owner(self.folder / "guard.sock")

    def drive(self, on_tick: Callable[[Tick], bool]) -> tuple[Record, Report]:
        """Drive until `on_tick`, told of each tick, has seen enough; never longer than the route."""
        world = Drive()

        def tick(now: Tick) -> None:
            world.over = world.over or on_tick(now)

        threading.Event().wait(_SILENT_S)
        self.written += len(self.log)
        with headway.Session(self.folder / "daemon.sock", self.folder / "guard.sock") as session:
            record = RealTimeLoop(cast(World, world), session, on_tick=tick).run(_LONGEST_S)
        report: Report = world.report()
        world.close()
        return record, report

    def drive_through(
        self,
        begin: Callable[[], object],
        stop: Callable[[], object],
        seen: Callable[[], bool],
        *,
        least_s: float = 0.0,
    ) -> None:
        """Drive, let a fault begin, stop it once it is `seen`, and drive on until the edge answers again.

        The fault lasts for `least_s` [s] at least. Fails where a control was late, something was hit, the fault was not
        seen, or the edge does not answer again by itself.
        """
        began_s = stopped_s = stamp_s = math.inf
        answered = self.outcomes()["OK"]

        def on_tick(now: Tick) -> bool:
            nonlocal began_s, stopped_s, stamp_s, answered
            if now.decision is not None and now.decision.stamp_s > stamp_s:  # not one that is in force since before
                self.heard.add(now.decision.reason)
            if round(now.time_s / _TICK_S) % _LOOK_EVERY:
                return False
            if began_s == math.inf:
                self.before = self.outcomes()
                if now.time_s >= _SETTLED_S and self.before["OK"] > answered and not self.is_lost:
                    began_s, stamp_s = now.time_s, time.monotonic()
                    self.heard.clear()
                    begin()
            elif stopped_s == math.inf:
                if now.time_s >= began_s + least_s and seen():
                    stopped_s = now.time_s
                    stop()
                    answered = self.outcomes()["OK"]
            else:
                return self.outcomes()["OK"] > answered + 1
            return False

        try:
            record, report = self.drive(on_tick)
        finally:
            if began_s < math.inf and stopped_s == math.inf:
                stop()
        assert (report.collisions, record.late_controls) == (0, 0)
        assert began_s < math.inf, f"no offload was answered before the fault: {self.status()}"
        assert stopped_s < math.inf, f"the fault begun at {began_s:.1f} s was not seen: {self.status()}"
        after = self.outcomes()["OK"]
        assert after > answered + 1, f"no answers since the fault ended at {stopped_s:.1f} s: {self.status()}"

    @property
    def is_lost(self) -> bool:
        """Whether the edge server counts as lost at present."""
        return str(self.status()["edge"]["state"]) == "lost"

    def since(self) -> Counter[str]:
        """By how much each outcome has become more frequent since the fault began."""
        return self.outcomes() - self.before

    def says(self, pattern: str) -> bool:
        """Wait until the daemon's log of this drive matches `pattern`: what is counted is logged, if not at once."""
        wait_for(lambda: re.search(pattern, self.log) is not None)
        return True

    def _ready(self) -> bool:
        if self.processes["daemon"].poll() is not None:
            pytest.fail(f"the daemon ended: {self.log}")
        try:
            return bool(self.status()["ready"])
        except headway.HeadwayError:
            return False

    def _line(self, name: str) -> str:
        stdout = self.processes[name].stdout
        assert stdout is not None
        return stdout.readline().strip()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("rig"))
    try:
        made.start_edge()
        made.start_front()
        made.start_daemon(made.endpoint)
        wait_for(lambda: made.status()["edge"]["state"] == "connected")
        yield made
    finally:
        made.stop()


@pytest.fixture
def bare_rig(tmp_path: Path) -> Iterator[Rig]:
    """A rig with nothing started."""
    made = Rig(tmp_path)
    yield made
    made.stop()
