"""The unmodified `carla` wheel against the emulator of its protocol (not CARLA): 50 Hz closed loop, and ticks a second.

    python benchmarks/bench_carla_emulator.py [--seconds 60] [--ticks 3000] [--json FILE]

The loop runs by the wall clock through a daemon and a guard of their own, with a camera image each tick. A control is
late when the moving vehicle had, at some instant, none certified for it. How long the simulator was made to wait, and
how late observations were, tell how well this machine kept up.

Unthrottled, on one client: ticks of the wheel alone; and through CarlaWorld (control, snapshot, collision and lane
sensors) without pictures rendered, with a camera of 50 Hz at a step of 10 ms as the built-in world has it, and with a
picture rendered each tick. Beside each rate stands the processor time of client and emulator a tick, which neighbours
on the machine change less.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from carla_bridge.carla.client import connect
from carla_bridge.carla.realtime import drive_by_wall_clock
from carla_bridge.carla.world import CarlaSettings, CarlaWorld
from carla_bridge.demo.processes import Plan, Processes
from carla_bridge.obstacles import SpawnRule
from carla_bridge.virtual import DRIVING
from shield.guard import Control
from shield.vehicle import load_vehicle

ROOT = Path(__file__).resolve().parents[1]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_REAL_TIME = ("late_controls", "ticks", "waited_s", "lateness_p50_ms", "lateness_p99_ms", "lateness_max_ms")
_DRIVEN = ("time_s", "progress_m", "collisions", "sources", "windows")


@contextmanager
def emulator(*flags: str) -> Iterator[tuple[int, int]]:
    """Run an emulator and yield its port and process id."""
    command = [sys.executable, "-m", "tests.carla_emulator", *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(json.loads(process.stdout.readline())["port"]), process.pid
        finally:
            process.kill()


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has had [s]."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS_PER_S


def closed_loop(seconds: float) -> dict[str, Any]:
    """Drive by the wall clock and return what came of it."""
    with (
        emulator("--laps", str(2 + int(seconds * 12.0 / 200.0))) as (port, _),
        tempfile.TemporaryDirectory() as folder,
        Processes(Plan(Path(folder), "local", "demo", DRIVING, 20.0, 10, 1)) as processes,
    ):
        rule = SpawnRule(count=4, first_m=60.0, span_m=600.0)
        settings = CarlaSettings(port=port, length_m=seconds * 12.0 + 150.0, obstacles=rule)
        world = CarlaWorld(settings, load_vehicle("demo"), 1)
        began_s = time.monotonic()
        outcome = drive_by_wall_clock(world, processes.plan.daemon_socket, processes.plan.guard_socket, seconds)
        wall_s = time.monotonic() - began_s
        world.close()
    told = outcome.as_json()
    return {"wall_s": wall_s, **{key: told[key] for key in (*_DRIVEN, *_REAL_TIME)}}


def rate(ticks: int, pid: int, tick: Callable[[], object]) -> dict[str, float]:
    """Return ticks a second, and processor time a tick of client and emulator [us]."""
    for _ in range(ticks // 10):
        tick()
    began_s, client_s, server_s = time.monotonic(), time.process_time(), cpu_s(pid)
    for _ in range(ticks):
        tick()
    wall_s = time.monotonic() - began_s
    return {
        "ticks_per_s": ticks / wall_s,
        "client_us": 1e6 * (time.process_time() - client_s) / ticks,
        "emulator_us": 1e6 * (cpu_s(pid) - server_s) / ticks,
    }


def unthrottled(ticks: int) -> dict[str, dict[str, float]]:
    """Return the rates of the wheel alone and of CarlaWorld by what the camera does."""
    kinds = {
        "CarlaWorld, no picture": CarlaSettings(spectator=False, camera_s=1e9),
        "CarlaWorld, step 10 ms, camera 50 Hz": CarlaSettings(spectator=False, tick_s=0.01, camera_s=0.02),
        "CarlaWorld, a picture each tick": CarlaSettings(spectator=False),
    }
    rows = {}
    with emulator() as (port, pid):
        world = connect("127.0.0.1", port, 10.0).get_world()
        before = world.get_settings()
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.02
        world.apply_settings(settings)
        rows["the wheel alone"] = rate(ticks, pid, world.tick)
        world.apply_settings(before)
        for name, wanted in kinds.items():
            driven = CarlaWorld(replace(wanted, port=port), load_vehicle("demo"), 1)
            driven.apply(Control(0.0, 0.0, True))
            rows[name] = rate(ticks, pid, driven.tick)
            driven.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ticks", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"carla {version('carla')}, Python {platform.python_version()}, {machine}; emulator in a process of its own")
    rows = unthrottled(given.ticks)
    for name, row in rows.items():
        cost = f"client {row['client_us']:4.0f} us, emulator {row['emulator_us']:4.0f} us of processor a tick"
        print(f"{name:38} {row['ticks_per_s']:6.0f} ticks/s   {cost}")
    told = closed_loop(given.seconds)
    print("closed loop at 50 Hz, camera, daemon, guard:")
    for key, value in told.items():
        print(f"    {key:18} {value:.3f}" if isinstance(value, float) else f"    {key:18} {value}")
    if given.json is not None:
        given.json.write_text(json.dumps({"unthrottled": rows, "closed_loop": told, "machine": machine}, indent=2))
    sys.stdout.flush()
    os._exit(0 if told["late_controls"] == 0 else 1)  # the wheel's threads may abort an orderly end


if __name__ == "__main__":
    main()
