"""What the flight recorder costs: its share of a core while a vehicle is driven at 50 Hz, with and without frames.

    python benchmarks/bench_recorder.py [--seconds 30] [--rounds 1] [--json FILE]

A real daemon, its guard and its recorder (`headway serve --record`), and a vehicle of the kinematic world driven by
`headway.Session`; with frames each window has an answer of the model to wait for, so that the scheduler decides too.
The processor time is the kernel's count for the recorder's process (user and system, from /proc/PID/stat) over the
wall time. Asked for: below 2 % of a core.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import keep, line, machine

import carla_bridge
import headway
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.loop import RealTimeLoop
from carla_bridge.scenario import load_scenario
from runtime.observe.recorder.channels import DECISION, TICK
from runtime.observe.replay.log import FlightLog
from runtime.observe.replay.replay import replay
from shield.vehicle import load_vehicle

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
COMMAND = (sys.executable, "-P", "-m", "runtime.cli.main")
PATIENCE_S = 60.0


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def child(parent: int, command: str) -> int:
    """Return the process that `parent` started to run a command of ours."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        for pid in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
            if command.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        time.sleep(0.05)
    raise SystemExit(f"process {parent} has started no {command} after {PATIENCE_S:g} s")


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Path, int]]:
    """Start a daemon that records; yield its socket and the recorder's process."""
    socket = folder / "d.sock"
    arguments = ("serve", "--socket", str(socket), "--package", str(PACKAGE), "--record", str(folder / "log"))
    with subprocess.Popen((*COMMAND, *arguments), stderr=subprocess.DEVNULL) as daemon:
        guard = 0
        try:
            with headway.Client(socket, timeout_s=5.0) as client:
                until_s = time.monotonic() + PATIENCE_S
                while not guard:
                    try:
                        guard = client.status()["guard"]["pid"]
                    except (headway.HeadwayError, TypeError):
                        if time.monotonic() > until_s:
                            raise
                        time.sleep(0.05)
            yield socket, child(daemon.pid, "record")
        finally:
            daemon.terminate()
            daemon.wait()
            if guard:
                os.kill(guard, signal.SIGTERM)


class Blind(KinematicWorld):
    """A world without a camera: the guard alone decides."""

    def frame(self) -> Any:
        """Return no frame."""
        return None


def drive(socket: Path, guard: Path, seconds: float, *, frames: bool) -> None:
    """Drive, one observation every 20 ms."""
    world = (KinematicWorld if frames else Blind)(load_scenario("town04_short"), load_vehicle("demo"), seed=3)
    with headway.Session(socket, guard) as session:
        RealTimeLoop(world, session).run(seconds)


def measure(seconds: float, *, frames: bool) -> dict[str, Any]:
    """Return what one drive's recording cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder) as (socket, recorder):
            guard = folder / "headway-guard.sock"
            drive(socket, guard, 2.0, frames=frames)  # what is loaded at the first message is loaded
            before_s, used_s = time.monotonic(), cpu_s(recorder)
            drive(socket, guard, seconds, frames=frames)
            passed_s, used_s = time.monotonic() - before_s, cpu_s(recorder) - used_s
        topics = [entry.topic for entry in FlightLog([folder / "log"])]
        size = sum(path.stat().st_size for path in (folder / "log").glob("*.mcap"))
        outcome = replay([folder / "log"])
    return {
        "percent_of_a_core": 100.0 * used_s / passed_s,
        "ticks": topics.count(TICK.topic),
        "decisions": topics.count(DECISION.topic),
        "lost": sum(outcome.lost.values()),
        "kb_per_s": size / 1e3 / (passed_s + 2.0),
        "replays": outcome.difference is None,
    }


def main() -> None:
    """Measure both, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each drive [s]")
    parser.add_argument("--rounds", type=int, default=1, help="how often, in alternating order")
    parser.add_argument("--json", type=Path, default=None, help="where to keep the figures")
    options = parser.parse_args()
    where = machine("mcap", "zstandard", "msgspec", "pyzmq")
    print(line("machine", where))
    results: dict[str, list[dict[str, Any]]] = {"with frames": [], "without frames": []}
    for turn in range(options.rounds):
        for name in [*results] if turn % 2 == 0 else [*results][::-1]:
            results[name].append(measure(options.seconds, frames=name == "with frames"))
            print(line(name, results[name][-1]), flush=True)
    keep(options.json, where, results)


if __name__ == "__main__":
    main()
