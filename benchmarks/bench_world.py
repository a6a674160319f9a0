"""The built-in world and its driving package: times, and how well the route is driven with answers of any age.

Run: python benchmarks/bench_world.py [--repeat N] [--seeds N] [--json FILE]

Times are wall clock on one thread. Driving is in virtual time and the same on every machine: the empty route once for
each age of answers, then episodes of 15 s with the published obstacles, with and without their noise, shield off.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine, spread

from carla_bridge.kinematic import KinematicWorld, Start
from carla_bridge.scenario import load_scenario
from carla_bridge.virtual import drive, driving_chain
from runtime.serve.controller import Controller, ControllerSettings
from shield.guard import Control
from shield.vehicle import load_vehicle

AGES = (1, 2, 5, 10)
SCENARIO = "town04_curves"


def main() -> None:
    options = _options()
    where = machine("numpy", "opencv-python-headless", "onnxruntime")
    print(line("machine", where))
    results: dict[str, Any] = {}
    for name, figures in (*times(options.repeat), *driving(options.seeds)):
        results[name] = figures
        print(line(name, figures), flush=True)
    keep(options.json, where, results)


def times(repeat: int) -> list[tuple[str, dict[str, Any]]]:
    """Return the times of a frame, a step of the world, a proposal and each exit."""
    vehicle = load_vehicle("demo")
    world = KinematicWorld(load_scenario(SCENARIO), vehicle, 1, start=Start(s_m=100.0, speed_mps=1.0))
    world.apply(Control(0.0, 1.0))
    controller, state = Controller(ControllerSettings(vehicle.l_r_m, vehicle.beta_max_rad)), world.state()
    controller.update_answer([0.2, 0.0, 0.01, 0.9, 0.1, 20.0], state, 0.0)
    frame = world.frame()
    found = [
        ("camera frame", spread(_timed(world.frame, repeat))),
        ("step of the world, 10 ms", spread(_timed(world.tick, repeat), "us")),
        ("proposal of the controller", spread(_timed(lambda: controller.propose(state, 11.0, 0.1), repeat), "us")),
    ]
    chain = driving_chain()
    for index, item in enumerate(chain.package.exits):
        samples = _timed(
            lambda: chain.run({"frame": frame[None]}, on_exit=lambda answer: answer.index >= index),  # noqa: B023
            repeat,
        )
        found.append((f"driving package to {item.id}", spread(samples)))
    return found


def driving(seeds: int) -> list[tuple[str, dict[str, Any]]]:
    """Return deviation, speed and what went wrong for each age of answers."""
    vehicle, scenario = load_vehicle("demo"), load_scenario(SCENARIO)
    found = []
    for age in AGES:
        report = drive(KinematicWorld(scenario.without_obstacles(), vehicle, 1), age, 60.0).report
        figures = {
            "mean_deviation_m": report.mean_deviation_m,
            "max_deviation_m": report.max_deviation_m,
            "mean_speed_mps": report.mean_speed_mps,
            "progress": report.progress,
        }
        found.append((f"empty route, answers {20 * age} ms old", figures))
    for noise, course in (("", scenario), (" noisy", scenario.with_noise())):
        found += [
            (f"{seeds}{noise} episodes, {20 * age} ms old", _episodes(course, vehicle, age, seeds)) for age in AGES
        ]
    return found


def _episodes(course: Any, vehicle: Any, age: int, seeds: int) -> dict[str, Any]:
    drives = [drive(KinematicWorld(course, vehicle, 100 + seed), age, 15.0) for seed in range(seeds)]
    reports = [one.report for one in drives]
    answers = sum(sum(one.exits.values()) for one in drives)
    return {
        "collisions": sum(report.collisions for report in reports),
        "kerb_hits": sum(report.kerb_hits for report in reports),
        "least_distance_m": min(report.min_distance_m or np.inf for report in reports),
        "mean_deviation_m": float(np.mean([report.mean_deviation_m for report in reports])),
        "mean_speed_mps": float(np.mean([report.mean_speed_mps for report in reports])),
        **{name: sum(one.exits[name] for one in drives) / answers for name in ("exit1", "exit2", "exit3")},
    }


def _timed(call: Callable[[], Any], repeat: int) -> list[float]:
    samples = []
    for _ in range(repeat + 10):
        begin = time.perf_counter()
        call()
        samples.append(time.perf_counter() - begin)
    return samples[10:]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeat", type=int, default=500, help="samples of each time")
    parser.add_argument("--seeds", type=int, default=12, help="episodes for each age of answers")
    parser.add_argument("--json", type=Path, default=None, help="keep machine and figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
