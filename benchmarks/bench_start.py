"""How long from `headway serve` to the first answer, and what the daemon costs while nobody asks.

    python benchmarks/bench_start.py [--starts 7] [--idle-s 10] [--json FILE]

Each start has its own folder, so that a guard is started too. Idle: no vehicle, keep-warm off; the processor time of
daemon and guard from /proc, over the wall time.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine, spread

import carla_bridge
import headway

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
FRAME = np.full((1, 80, 160, 3), 90, np.uint8)


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_answer_s(folder: Path, idle_s: float) -> dict[str, float]:
    """Start a daemon, ask it as soon as it listens, and return times [s]; with `idle_s` also what it costs idle."""
    socket = folder / "d.sock"
    command = (sys.executable, "-P", "-m", "runtime.cli.main", "serve", "--socket", str(socket))
    begun_s = time.monotonic()
    with subprocess.Popen((*command, "--package", str(PACKAGE)), stderr=subprocess.DEVNULL) as daemon:
        with headway.Client(socket, timeout_s=30.0) as client:
            while True:
                try:
                    client.infer("driving", {"frame": FRAME})
                    break
                except headway.UnavailableError:
                    time.sleep(1e-3)
            told = {"first_answer_s": time.monotonic() - begun_s, "daemon_cpu_s": cpu_s(daemon.pid)}
            guard = client.status()["guard"]["pid"]
            told["guard_cpu_s"] = cpu_s(guard)
        if idle_s:
            time.sleep(1.0)
            before_s, daemon_s, guard_s = time.monotonic(), cpu_s(daemon.pid), cpu_s(guard)
            time.sleep(idle_s)
            passed_s = time.monotonic() - before_s
            told["idle_daemon_percent"] = 100.0 * (cpu_s(daemon.pid) - daemon_s) / passed_s
            told["idle_guard_percent"] = 100.0 * (cpu_s(guard) - guard_s) / passed_s
        daemon.terminate()
    os.kill(guard, signal.SIGTERM)
    return told


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--idle-s", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = machine("onnxruntime", "pyzmq", "msgspec", "numpy")
    print(line("machine", where))
    starts = []
    for number in range(arguments.starts):
        with tempfile.TemporaryDirectory() as folder:
            starts.append(first_answer_s(Path(folder), arguments.idle_s if number == arguments.starts - 1 else 0.0))
    results: dict[str, Any] = {
        "start to first answer": spread([start["first_answer_s"] for start in starts], "s"),
        "processor time of the daemon by then": spread([start["daemon_cpu_s"] for start in starts], "s"),
        "processor time of the guard by then": spread([start["guard_cpu_s"] for start in starts], "s"),
        "idle, % of a core": {name: starts[-1][f"idle_{name}_percent"] for name in ("daemon", "guard")},
    }
    for name, figures in results.items():
        print(line(name, figures))
    keep(arguments.json, where, results)


if __name__ == "__main__":
    main()
