"""The guard at 50 Hz while inference keeps every core busy, with and without daemon and edge server being killed.

    python benchmarks/bench_guard_load.py [--seconds 600] [--only-busy | --only-killed] [--kill-every 10] [--weight]
                                          [--json FILE]

Without SCHED_FIFO. This process is the vehicle, with the guard's short slice: it sleeps until the next multiple of
20 ms, reports state, obstacles and a camera frame, and waits for the guard's decision. It proposes a control itself as
well, so that the guard has as much to do while there is no daemon.
Lateness of a tick: from the time it is due to its decision's arrival, so the vehicle's own late wake-ups count. A late
control is one that was in effect when it was not certified for that instant; decisions that came too late to take
effect are refused by the vehicle side, and counted beside. Two bare 50 Hz sleepers, one with the short slice and one
without, and the steal time of /proc/stat, tell what the machine itself contributes.

Vehicle, guard and load are sessions of their own, as units are. --weight asks (as root, where autogroups are on) for
the guard's and the vehicle's the weight that the guard's unit has, CPUWeight=1000.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq
from growth import LEAST, growth, resident_bytes
from machine import keep, line, machine, spread

import headway
from runtime.serve.guard_link import guard_arguments
from runtime.serve.guard_messages import Propose, encode
from runtime.serve.realtime import become_punctual

TICK_S = 0.02
BESIDE = Path(__file__).with_name("guard_beside.py")
STANDING = headway.Pose(0.0, 0.0, 0.0, 0.0, 0.0)
AHEAD = [headway.Obstacle(40.0, 0.0, 4.0), headway.Obstacle(25.0, 9.0, 2.0), headway.Obstacle(60.0, -8.0, 3.0)]
FRAME = np.full((80, 160, 3), 90, np.uint8)
SLIP_RAD, SPEED_MPS = 0.02, 8.0
WARM_S = 3.0
_PATIENCE_MS = 20_000
_WEIGHT_OF_UNIT = -10  # niceness of an autogroup whose weight is about ten times the usual, as CPUWeight=1000


class Beside:
    """A part of `guard_beside.py` in a session of its own."""

    def __init__(self, *arguments: str) -> None:
        command = (sys.executable, str(BESIDE), *arguments)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)

    def end(self) -> dict[str, Any]:
        """Let it end, and return what it told."""
        told, _ = self._process.communicate()
        return dict(json.loads(told)) if told else {}


def ask_status(socket: Path) -> dict[str, Any]:
    """Return the guard's status."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{socket}")
        dealer.send(msgpack.packb({"kind": "status/1"}))
        if not dealer.poll(_PATIENCE_MS):
            raise SystemExit(f"the guard at {socket} did not tell its status within {_PATIENCE_MS} ms")
        return dict(msgpack.unpackb(dealer.recv()))


def processor_s() -> tuple[float, float, float]:
    """Return the time that all cores together were busy, idle, and taken by the host so far [s]."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) * tick_s, (idle + iowait) * tick_s, steal * tick_s


def weigh(pid: int) -> str:
    """Give a session its unit's weight; return "yes" or why not."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(_WEIGHT_OF_UNIT))
    except OSError as error:
        return error.strerror or str(error)
    return "yes"


@contextmanager
def running_guard(socket: Path) -> Iterator[int]:
    """Run a guard in a session of its own, as a daemon or systemd starts it; yields its process."""
    command = guard_arguments(socket, "demo", extra=("--no-fifo",))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as guard:
        try:
            yield guard.pid
        finally:
            guard.kill()


def drive(seconds: float, kill_every_s: float, weight: bool) -> dict[str, Any]:
    """Run the guard under load, and return what became of its ticks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        socket = folder / "headway-guard.sock"
        with running_guard(socket) as guard, headway.Session(folder / "d.sock", socket, patience_s=0.0) as session:
            beside = {
                "load": Beside("load", name, str(kill_every_s)),
                "sleeper": Beside("sleep", "bare"),
                "sleeper with slice": Beside("sleep", "slice"),
            }
            weighed = {"weight": max(weigh(guard), weigh(os.getpid()))} if weight else {}
            try:
                with zmq.Context() as context, context.socket(zmq.DEALER) as proposer:
                    proposer.setsockopt(zmq.LINGER, 0)
                    proposer.connect(f"ipc://{socket}")
                    ticked = _tick(session, proposer, guard, seconds)
                ticked.update(_counted(socket, session))
            finally:
                told = {part: process.end() for part, process in beside.items()}
        flat = {f"{part} {name}": value for part, figures in told.items() for name, value in figures.items()}
        return {**weighed, **ticked, **flat}


def _tick(session: headway.Session, proposer: zmq.Socket[bytes], guard: int, seconds: float) -> dict[str, Any]:
    late_s, woke_s, resident, sampled_s = [], [], [], []
    sources: Counter[str] = Counter()
    missing = uncertified = 0
    due_s = time.monotonic() + WARM_S  # until everything runs
    end_s, sample_s, before = due_s + seconds, due_s + min(10.0, seconds / 4), processor_s()
    while due_s < end_s or len(sampled_s) < LEAST:
        time.sleep(max(0.0, due_s - time.monotonic()))
        woke_s.append(time.monotonic() - due_s)
        proposer.send(encode(Propose(time.monotonic_ns(), SLIP_RAD, SPEED_MPS)))
        last = session.decisions[-1] if session.decisions else None
        applied = session.step(STANDING, AHEAD, FRAME, wait_s=0.5)
        now_s = time.monotonic()
        late_s.append(now_s - due_s)
        missing += not session.decisions or session.decisions[-1] is last
        uncertified += not applied.certified
        sources[applied.source] += 1
        if now_s > sample_s:
            resident.append(float(resident_bytes(guard)))
            sampled_s.append(now_s)
            sample_s += min(1.0, seconds / 60)
        due_s = max(due_s + TICK_S, now_s - TICK_S)
    busy_s, idle_s, steal_s = (now - then for now, then in zip(processor_s(), before, strict=True))
    ordered, woken = sorted(late_s), sorted(woke_s)
    rank = round(0.999 * (len(ordered) - 1))
    return {
        **spread(late_s),
        "p99.9_ms": 1e3 * ordered[rank],
        "ticks": len(ordered),
        "ticks later than 20 ms": sum(each > TICK_S for each in late_s),
        "without a decision": missing,
        "late controls": uncertified,
        "held": sources["held"],
        "vehicle's own wake-ups p99.9_ms": 1e3 * woken[rank],
        "vehicle's own wake-ups max_ms": 1e3 * woken[-1],
        "cores busy": round(busy_s / (busy_s + idle_s), 3),
        "steal_s": steal_s,
        "guard": growth(sampled_s, resident),
    }


def _counted(socket: Path, session: headway.Session) -> dict[str, Any]:
    status = ask_status(socket)
    return {
        "decisions sent too late": status["late"],
        "refused by the vehicle side": session.applier.refused,
        "guard's own tick p99_ms": status["tick_p99_ms"],
        "guard's own tick max_ms": status["tick_max_ms"],
        "modes": status["modes"],
        "reasons": status["reasons"],
        "realtime": status["realtime"],
        "page faults": status["page_faults"],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--kill-every", type=float, default=10.0)
    parser.add_argument("--only-busy", action="store_true")
    parser.add_argument("--only-killed", action="store_true")
    parser.add_argument("--weight", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if os.getpgrp() != os.getpid():
        os.setsid()  # the leader of a process group stays in its shell's session
    where = machine("onnxruntime", "pyzmq", "numpy")
    print(line("machine", where))
    become_punctual(fifo=False)
    results = {}
    phases = {"busy": 0.0, "busy, daemon and edge killed": arguments.kill_every}
    left_out = {"busy": arguments.only_killed, "busy, daemon and edge killed": arguments.only_busy}
    for name, every_s in phases.items():
        if left_out[name]:
            continue
        results[name] = drive(arguments.seconds, every_s, arguments.weight)
        print(line(name, results[name]), flush=True)
    keep(arguments.json, where, results)


if __name__ == "__main__":
    main()
