"""The guard at 50 Hz while inference keeps every core busy, with and without daemon and edge server being killed.

    python benchmarks/bench_guard_load.py [--seconds 600] [--kill-every-s 10] [--json FILE]

Without SCHED_FIFO. This process is the vehicle, with the guard's short slice: it sleeps until the next multiple of
20 ms, reports, and waits for the decision. Its own wake-ups are the 50 Hz sleeper of the same run, and the steal time
of /proc/stat stands beside. Lateness of a tick: from the observation's leaving to its decision's arrival. Late
controls: decisions that the guard counts as sent after they could take effect, and those that the vehicle refused.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgpack
import zmq
from machine import keep, line, machine, spread

import carla_bridge
import headway
from runtime.serve.guard_link import guard_arguments
from runtime.serve.realtime import become_punctual

PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
COMMAND = (sys.executable, "-P", "-m", "runtime.cli.main")
TICK_S = 0.02
STANDING = headway.Pose(0.0, 0.0, 0.0, 0.0, 0.0)
AHEAD = [headway.Obstacle(40.0, 0.0, 4.0)]
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


class Load:
    """A daemon on two devices with a client for each core, and an edge server beside."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "d.sock"
        self._environment = {**os.environ, "HEADWAY_GUARD_START": "false"}
        self._killable = [self._daemon(), self._edge()]
        flood = (sys.executable, "-P", "-c", FLOOD, str(self._socket))
        self._clients = [subprocess.Popen(("nice", "-n", "10", *flood)) for _ in range(2 * (os.cpu_count() or 1))]

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        quiet = subprocess.DEVNULL
        return subprocess.Popen((*COMMAND, *arguments), env=self._environment, stdout=quiet, stderr=quiet)

    def _daemon(self) -> "subprocess.Popen[bytes]":
        return self._start("serve", "--socket", str(self._socket), "--package", str(PACKAGE))

    def _edge(self) -> "subprocess.Popen[bytes]":
        return self._start("edge", "--bind", "tcp://127.0.0.1:0", "--package", str(PACKAGE))

    def kill(self) -> None:
        """Kill daemon and edge server with SIGKILL and start both again."""
        self.close(self._killable)
        self._killable = [self._daemon(), self._edge()]

    def close(self, processes: "list[subprocess.Popen[bytes]] | None" = None) -> None:
        """Kill some processes; None: all."""
        for process in processes or [*self._clients, *self._killable]:
            process.kill()
            process.wait()


def ask_status(socket: Path) -> dict[str, Any]:
    """Return the guard's status."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{socket}")
        dealer.send(msgpack.packb({"kind": "status/1"}))
        return dict(msgpack.unpackb(dealer.recv()))


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory [B]."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def steal_s() -> float:
    """Return the time that the host took from this machine so far [s]."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


def drive(seconds: float, kill_every_s: float | None) -> dict[str, Any]:
    """Run the guard under load, and return what became of its ticks."""
    with tempfile.TemporaryDirectory() as name:
        socket = Path(name) / "headway-guard.sock"
        guard = subprocess.Popen(guard_arguments(socket, "demo", extra=("--no-fifo",)), stderr=subprocess.DEVNULL)
        load = Load(Path(name))
        try:
            with headway.Session(None, socket, patience_s=10.0) as session:
                return {**_tick(session, load, guard.pid, seconds, kill_every_s), **_counted(socket, session)}
        finally:
            load.close()
            guard.kill()
            guard.wait()


def _tick(
    session: headway.Session, load: Load, guard: int, seconds: float, kill_every_s: float | None
) -> dict[str, Any]:
    answered_s, slept_s, missing = [], [], 0
    due_s = time.monotonic() + 3.0  # until everything runs
    end_s, stolen_s, resident = due_s + seconds, steal_s(), 0
    kill_s = due_s + kill_every_s if kill_every_s else float("inf")
    warm_s = due_s + min(10.0, seconds / 4)
    while due_s < end_s:
        time.sleep(max(0.0, due_s - time.monotonic()))
        begun_s = time.monotonic()
        slept_s.append(begun_s - due_s)
        before = session.decisions[-1] if session.decisions else None
        session.step(STANDING, AHEAD, wait_s=0.5)
        answered_s.append(time.monotonic() - begun_s)
        missing += not session.decisions or session.decisions[-1] is before
        if not resident and begun_s > warm_s:
            resident = resident_bytes(guard)
        if begun_s > kill_s:
            load.kill()
            kill_s = time.monotonic() + (kill_every_s or 0.0)
        due_s = max(due_s + TICK_S, time.monotonic() - TICK_S)
    ordered = sorted(answered_s)
    return {
        **spread(answered_s),
        "p99.9_ms": 1e3 * ordered[round(0.999 * (len(ordered) - 1))],
        "ticks": len(ordered),
        "ticks later than 20 ms": sum(late_s > TICK_S for late_s in answered_s),
        "without a decision": missing,
        "sleeper p99.9_ms": 1e3 * sorted(slept_s)[round(0.999 * (len(slept_s) - 1))],
        "sleeper max_ms": 1e3 * max(slept_s),
        "steal_s": steal_s() - stolen_s,
        "guard grew by_kb": (resident_bytes(guard) - resident) / 1e3,
    }


def _counted(socket: Path, session: headway.Session) -> dict[str, Any]:
    status = ask_status(socket)
    return {
        "late controls": status["late"],
        "guard's own tick max_ms": status["tick_max_ms"],
        "refused by the vehicle side": session.applier.refused,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--kill-every-s", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = machine("onnxruntime", "pyzmq", "numpy")
    print(line("machine", where))
    become_punctual(fifo=False)
    results = {}
    for name, every_s in (("busy", None), ("busy, daemon and edge killed", arguments.kill_every_s)):
        results[name] = drive(arguments.seconds, every_s)
        print(line(name, results[name]))
    keep(arguments.json, where, results)


if __name__ == "__main__":
    main()
