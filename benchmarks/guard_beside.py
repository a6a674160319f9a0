"""What runs beside the guard in `bench_guard_load.py`, each part a process of its own that ends when its stdin closes.

    python benchmarks/guard_beside.py load FOLDER KILL_EVERY_S   daemon, edge server and clients; kills the first two
    python benchmarks/guard_beside.py sleep bare|slice           a bare 50 Hz sleeper; prints its lateness as JSON

A part prints one line of JSON when it ends. Neither may have a real-time priority, which the guard does without here.
"""

import ctypes
import json
import os
import resource
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import carla_bridge
from runtime.serve.realtime import become_punctual

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
COMMAND = (sys.executable, "-P", "-m", "runtime.cli.main")
TICK_S = 0.02
_PR_CAPBSET_DROP, _CAP_SYS_NICE = 24, 23
FLOOD = """
import sys, numpy as np, headway
frame = np.full((1, 80, 160, 3), 90, np.uint8)
while True:
    try:
        with headway.Client(sys.argv[1], timeout_s=2.0) as client:
            while True:
                client.infer("driving", {"frame": frame}, least_exit="exit3")
    except headway.HeadwayError:
        pass
"""

COMPUTE = """
import os, sys, numpy as np
from pathlib import Path
from devices.open import open_device
from devices.package import load_package
core = int(sys.argv[2])
os.sched_setaffinity(0, {core})
package, frame = load_package(Path(sys.argv[1])), np.full((1, 80, 160, 3), 90, np.uint8)
loaded = open_device("cpu").backend.load(package.segment("trunk1"), package.model("trunk1"))
while True:
    loaded.run({"frame": frame})
"""


class Load:
    """A daemon with two clients for each core, an edge server, and a process on each core that computes on its own.

    What the daemon leaves idle while requests travel, the last take; all that infers has niceness 10.
    """

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "d.sock"
        self._environment = {**os.environ, "HEADWAY_GUARD_START": "false"}
        self._killable = [self._daemon(), self._edge()]
        flood = (sys.executable, "-P", "-c", FLOOD, str(self._socket))
        compute = (sys.executable, "-P", "-c", COMPUTE, str(PACKAGE))
        cores = sorted(os.sched_getaffinity(0))
        started = [flood] * (2 * len(cores)) + [(*compute, str(core)) for core in cores]
        self._clients = [subprocess.Popen(("nice", "-n", "10", *command)) for command in started]

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        quiet = subprocess.DEVNULL
        return subprocess.Popen((*COMMAND, *arguments), env=self._environment, stdin=quiet, stdout=quiet, stderr=quiet)

    def _daemon(self) -> "subprocess.Popen[bytes]":
        return self._start("serve", "--socket", str(self._socket), "--package", str(PACKAGE))

    def _edge(self) -> "subprocess.Popen[bytes]":
        return self._start("edge", "--bind", "tcp://127.0.0.1:0", "--package", str(PACKAGE))

    def kill(self) -> None:
        """Kill daemon and edge server with SIGKILL and start both again."""
        _end(self._killable)
        self._killable = [self._daemon(), self._edge()]

    def close(self) -> None:
        """Kill all."""
        _end([*self._clients, *self._killable])


def forgo_priority() -> None:
    """Let no process that this one starts have a real-time priority, root's neither."""
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_SYS_NICE, 0, 0, 0)  # refused where there is no such right anyway
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))


def _end(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def load(folder: Path, kill_every_s: float) -> dict[str, Any]:
    """Keep every core busy until stdin closes; kill daemon and edge server every so often, 0: never."""
    running, kills = Load(folder), 0
    try:
        while not _closed(kill_every_s or None):
            running.kill()
            kills += 1
    finally:
        running.close()
    return {"kills": kills}


def sleep(short_slice: bool) -> dict[str, Any]:
    """Sleep to every multiple of 20 ms until stdin closes, and return how late it woke up [ms]."""
    if short_slice:
        become_punctual(fifo=False)
    late_s = []
    due_s = time.monotonic()
    while not _closed(0.0):
        due_s = max(due_s + TICK_S, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))
        late_s.append(time.monotonic() - due_s)
    ordered = sorted(late_s)
    return {
        "p99.9_ms": 1e3 * ordered[round(0.999 * (len(ordered) - 1))],
        "max_ms": 1e3 * ordered[-1],
        "wakes": len(ordered),
    }


def _closed(patience_s: float | None) -> bool:
    return bool(select.select([sys.stdin], [], [], patience_s)[0])


def main() -> None:
    """Run one part."""
    forgo_priority()
    match sys.argv[1:]:
        case ["load", folder, kill_every_s]:
            told = load(Path(folder), float(kill_every_s))
        case ["sleep", "bare" | "slice" as kind]:
            told = sleep(kind == "slice")
        case other:
            raise SystemExit(f"{other}: must be load FOLDER KILL_EVERY_S, or sleep bare|slice")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
