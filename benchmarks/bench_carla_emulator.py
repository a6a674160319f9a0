"""The unmodified `carla` wheel against the emulator of its protocol (not CARLA): 50 Hz closed loop, and ticks a second.

    python benchmarks/bench_carla_emulator.py [--seconds 60]

The loop is the shielded one with the shipped network, one camera image a tick, paced by the wall clock. A tick is late
when its control was not given by the instant it is for. Unthrottled: ticks with a camera image, control and all event
sensors through CarlaWorld, and bare ticks of the client.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from carla_bridge.carla.client import connect
from carla_bridge.carla.world import CarlaSettings, CarlaWorld
from carla_bridge.obstacles import SpawnRule
from carla_bridge.virtual import drive
from shield.guard import Control
from shield.vehicle import load_vehicle

ROOT = Path(__file__).resolve().parents[1]


class Paced(CarlaWorld):
    """A CarlaWorld that ticks by the wall clock and keeps how long before each instant the control was there."""

    spare_s: list[float]
    next_s: float | None = None

    def tick(self) -> None:
        if self.next_s is None:
            self.spare_s, self.next_s = [], time.monotonic() + self.tick_s
        spare_s = self.next_s - time.monotonic()
        self.spare_s.append(spare_s)
        time.sleep(max(0.0, spare_s))
        self.next_s += self.tick_s
        super().tick()
        self.frame()


def bare_ticks(port: int, count: int) -> float:
    """Return how many synchronous ticks a second the client alone does."""
    world = connect("127.0.0.1", port, 10.0).get_world()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.02
    world.apply_settings(settings)
    began_s = time.monotonic()
    for _ in range(count):
        world.tick()
    return count / (time.monotonic() - began_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    command = [sys.executable, "-m", "tests.carla_emulator"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as emulator:
        assert emulator.stdout is not None
        port = json.loads(emulator.stdout.readline())["port"]
        try:
            settings = CarlaSettings(port=port, obstacles=SpawnRule(count=2), target_speed_mps=3.0)
            warm = CarlaWorld(settings, load_vehicle("demo"), 1)
            drive(warm, 1, 1.0, shielded=True)
            warm.close()
            world = Paced(settings, load_vehicle("demo"), 1)
            began_s = time.monotonic()
            episode = drive(world, 1, seconds, shielded=True)
            wall_s = time.monotonic() - began_s
            world.close()
            spare_ms = 1e3 * np.array(world.spare_s)
            bare = CarlaWorld(CarlaSettings(port=port, spectator=False), load_vehicle("demo"), 1)
            bare.apply(Control(0.0, 0.0, True))
            began_s = time.monotonic()
            for _ in range(3000):
                bare.tick()
            rate = 3000 / (time.monotonic() - began_s)
            bare.close()
            bare_rate = bare_ticks(port, 5000)
        finally:
            emulator.kill()
    print(f"carla {version('carla')}, Python {platform.python_version()}, {platform.machine()}, emulator in a process")
    print(
        f"50 Hz closed loop, camera: {episode.report.time_s:.1f} s in {wall_s:.1f} s of wall clock, "
        f"{int(np.sum(spare_ms < 0.0))} late of {len(spare_ms)}, uncertified {episode.uncertified}; "
        f"control given before its instant by "
        f"p50 {np.percentile(spare_ms, 50):.1f}, p1 {np.percentile(spare_ms, 1):.1f}, "
        f"least {spare_ms.min():.1f} ms; collisions {episode.report.collisions}"
    )
    print(f"unthrottled, with camera and event sensors: {rate:.0f} ticks/s; bare: {bare_rate:.0f} ticks/s")


if __name__ == "__main__":
    main()
