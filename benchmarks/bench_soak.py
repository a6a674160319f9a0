"""Does anything grow? Daemon, guard, edge server and vehicle for half an hour, or a vehicle's day in virtual time.

    python benchmarks/bench_soak.py [--seconds 1800] [--json FILE]
    python benchmarks/bench_soak.py --hurried [--seconds 300] [--json FILE]
    python benchmarks/bench_soak.py --virtual-hours 24 [--driven .1] [--json FILE]

Real: the processes of `headway demo` under the policy "eager", one episode after the other at 50 Hz; the resident
memory of each is read every second. Hurried: the same processes, a vehicle that reports every 2 ms instead, ten times
as often, always the same. Virtual: `virtual_day.py`, which drives a tenth of the day. This process collects
its garbage after each drive: cycles that Python would leave for hours are no growth.
"""

import argparse
import gc
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from growth import LEAST, Series, resident_bytes
from machine import keep, line, machine
from virtual_day import Day

import headway
from carla_bridge.demo.processes import Plan, Processes
from carla_bridge.kinematic import KinematicWorld
from carla_bridge.loop import RealTimeLoop
from carla_bridge.scenario import load_scenario
from carla_bridge.virtual import DRIVING
from runtime.serve.realtime import answer_promptly
from shield.vehicle import load_vehicle

_SAMPLES = 2000
_HURRIED_S = 0.002


class Samples:
    """The resident memory of some processes, read no more often than once a second."""

    def __init__(self, pids: dict[str, int], every_s: float, seconds: float) -> None:
        self._pids = pids
        self._every_s = every_s
        self._due_s = 0.0
        self.ended: list[str] = []
        self.series = {name: Series(LEAST + round(2 * seconds / every_s)) for name in pids}

    def take(self) -> None:
        """Read where it is due."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + self._every_s
            for name, pid in tuple(self._pids.items()):
                try:
                    self.series[name].add(now_s, float(resident_bytes(pid)))
                except FileNotFoundError:
                    self.ended.append(name)
                    del self._pids[name]


def real(seconds: float) -> dict[str, dict[str, Any]]:
    """Drive episode after episode in real time, and return what became of each process."""
    scenario, vehicle = load_scenario("town04_short"), load_vehicle("demo")
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        plan = Plan(Path(folder), "eager", "demo", DRIVING, 20.0, 10, 1)
        with Processes(plan) as processes, headway.Session(plan.daemon_socket, plan.guard_socket) as session:
            answer_promptly()
            samples = Samples(_pids(processes), min(1.0, seconds / 50), seconds)
            counts: Counter[str] = Counter()
            end_s = time.monotonic() + seconds
            while (left_s := end_s - time.monotonic()) > 0.0 or len(samples.series["vehicle"]) < LEAST:
                session.applier = headway.Applier()
                world = KinematicWorld(scenario, vehicle, counts["episodes"])
                record = RealTimeLoop(world, session, on_tick=lambda _: samples.take()).run(min(max(left_s, 1.0), 60.0))
                counts["episodes"] += 1
                counts["ticks"] += len(record.ticks)
                counts["late controls"] += record.late_controls
                counts["collisions"] += world.report().collisions
                session.decisions.clear()
                session.windows.clear()
                gc.collect()
            status = processes.status()
    counts["guard restarts"] = int(status["guard"]["restarts"])
    counts["requests"] = int(sum(status["replies"].values()))
    grown = {name: series.growth() for name, series in samples.series.items()}
    return {"drive": {**counts, "ended": " ".join(samples.ended)}, **grown}


def hurried(seconds: float) -> dict[str, dict[str, Any]]:
    """Report ten times as often as a vehicle does, and return what became of each process."""
    pose, ahead = headway.Pose(0.0, 0.0, 0.0, 0.0, 5.0), [headway.Obstacle(60.0, 0.0, 1.0)]
    frame = np.full((80, 160, 3), 90, np.uint8)
    reports = 0
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        plan = Plan(Path(folder), "eager", "demo", DRIVING, 20.0, 10, 1)
        with Processes(plan) as processes, headway.Session(plan.daemon_socket, plan.guard_socket) as session:
            samples = Samples(_pids(processes), min(1.0, seconds / 50), seconds)
            end_s = time.monotonic() + seconds
            while (now_s := time.monotonic()) < end_s or len(samples.series["vehicle"]) < LEAST:
                session.report(pose, ahead, frame, now_s)
                session.listen(now_s + _HURRIED_S)
                session.decisions.clear()
                session.windows.clear()
                samples.take()
                reports += 1
    grown = {name: series.growth() for name, series in samples.series.items()}
    return {"drive": {"reports": reports, "as a vehicle's minutes": reports / 3000.0}, **grown}


def _pids(processes: Processes) -> dict[str, int]:
    status = processes.status()
    daemon = int(status["pid"])
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    edge = next(pid for pid in map(int, children) if pid != daemon)
    return {"daemon": daemon, "guard": int(status["guard"]["pid"]), "edge": edge, "vehicle": os.getpid()}


def virtual(hours: float, driven: float) -> dict[str, dict[str, Any]]:
    """Let a day go by, and return what became of this process."""
    series, every_s = Series(_SAMPLES), 3600.0 * hours / _SAMPLES
    due_s = 0.0

    def sample() -> None:
        nonlocal due_s
        if day.now_s >= due_s:
            due_s = day.now_s + every_s
            series.add(day.now_s, float(resident_bytes(os.getpid())))

    day = Day(on_tick=sample)
    begun_s = time.monotonic()
    while day.now_s < 3600.0 * hours:
        before_s = day.now_s
        day.drive()
        day.park((day.now_s - before_s) * (1.0 - driven) / driven)
        gc.collect()
    told = {name: getattr(day, name) for name in ("ticks", "episodes", "finished", "uncertified", "collisions")}
    passed = {"virtual_h": day.now_s / 3600.0, "real_s": time.monotonic() - begun_s}
    return {"day": {**passed, **told}, "this process": series.growth()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--hurried", action="store_true")
    parser.add_argument("--virtual-hours", type=float)
    parser.add_argument("--driven", type=float, default=0.1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = machine("onnxruntime", "pyzmq", "numpy")
    print(line("machine", where), flush=True)
    hours = arguments.virtual_hours
    if arguments.hurried:
        results = hurried(arguments.seconds or 300.0)
    else:
        results = real(arguments.seconds or 1800.0) if hours is None else virtual(hours, arguments.driven)
    for name, figures in results.items():
        print(line(name, figures), flush=True)
    keep(arguments.json, where, results)


if __name__ == "__main__":
    main()
