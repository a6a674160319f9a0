"""Predicted against measured latency of plans on this machine's own devices.

Run: PYTHONPATH=. python benchmarks/bench_plan_measured.py [--rounds 100] [--json FILE]

Two networks in parts (benchmarks/width_models.py: two width stages that meet three times; three branches) on pairs of
devices: two pinned cores, one of them with 8-bit weights, and a pinned core beside OpenVINO. A first round times every
segment alone, the way between the devices and their contention (on a third network), and the planner plans with that.
Then the plans, everything on one device, and seeded random placements run through the executor, in one process and in
shuffled order with the segments alone and the way and contention again. The prediction counts with the medians of these
same rounds, so that what else the machine does falls on both sides; the error is that of the predicted against the
measured median.
"""

import argparse
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine, spread
from side_by_side import shuffled
from width_models import branches, two_stages

from devices.open import open_device
from devices.package import Package
from devices.profile import Latency, Origin, Profile, SegmentFigures, Source
from devices.samples import sample_inputs
from devices.tensor import Array
from runtime.execute.executor import Executor
from runtime.execute.request import Reply, Request, Status
from runtime.execute.worker import Device
from runtime.plan.build import place, tails_s
from runtime.plan.check import check_schedule
from runtime.plan.graphs import package_graph
from runtime.plan.instance import make_instance
from runtime.plan.planner import Options, plan_problem
from runtime.plan.problem import Contention, Link, Problem
from runtime.plan.profiles import Surroundings, problem_of
from runtime.plan.schedule import latency_s

YARDSTICK = "yardstick"
SOURCE = Source("measured in this run", Origin.MEASURED, "the measurer's own")
PAIRS = (("cpu:0", "cpu:1"), ("cpu:0", "cpu:1+int8"), ("cpu:0", "openvino:CPU:1"))
RANDOM_PLACEMENTS = 4
ASKED = 0.10


class Asker:
    """Sends one request at a time and waits for its reply."""

    def __init__(self, executor: Executor, model: str, inputs: Mapping[str, Array]) -> None:
        self._executor, self._model, self._inputs = executor, model, inputs

    def __call__(self) -> None:
        """Ask once."""
        done = threading.Event()
        replies: list[Reply] = []

        def take(reply: Reply) -> None:
            replies.append(reply)
            done.set()

        self._executor.submit(Request(0, self._model, self._inputs), take)
        done.wait()
        if replies[0].status is not Status.OK:
            raise SystemExit(f"no answer: {replies[0]}")


class Pinned:
    """A thread on a device's cores that times what it is given, as a device's worker would run it."""

    def __init__(self, cores: frozenset[int] | None) -> None:
        self._pool = ThreadPoolExecutor(1, initializer=lambda: os.sched_setaffinity(0, cores) if cores else None)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def times(self, action: Callable[[], object], samples: list[float]) -> Callable[[], object]:
        """Return what runs `action` once on the thread and keeps its time [s]."""

        def once() -> None:
            began = time.perf_counter()
            action()
            samples.append(time.perf_counter() - began)

        return lambda: self._pool.submit(once).result()


@dataclass
class Rounds:
    """What runs in shuffled order: segments alone, and placements of packages."""

    devices: tuple[str, str]
    rounds: int
    alone: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    placed: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def run(self, packages: dict[str, Package], placements: dict[tuple[str, str], dict[str, str]]) -> None:
        """Time every segment of `packages` on both devices, and every placement by (package, name)."""
        with ExitStack() as stack:
            sides: dict[str, Callable[[], object]] = {}
            for device, (name, package) in product(self.devices, packages.items()):
                opened = open_device(device, package)
                pinned = Pinned(opened.cores)
                stack.callback(pinned.close)
                for part in package.segments:
                    loaded = opened.backend.load(part, package.model(part.id))
                    samples = self.alone[name, part.id, device] = []
                    inputs = sample_inputs(part.inputs)
                    sides[f"{name} {part.id} {device}"] = pinned.times(partial(loaded.run, inputs), samples)
            for (name, what), placement in placements.items():
                sides[f"{name} placed {what}"] = self._asker(stack, packages[name], placement)
            times = shuffled(sides, self.rounds)
        self.placed = {key: times[f"{key[0]} placed {key[1]}"].clock_s for key in placements}

    def _asker(self, stack: ExitStack, package: Package, placement: dict[str, str]) -> Asker:
        opened = {name: open_device(name, package) for name in self.devices}
        executor = stack.enter_context(Executor([Device(item.backend, item.cores) for item in opened.values()]))
        names = {name: item.backend.device for name, item in opened.items()}
        executor.load(package, placement={part: names[device] for part, device in placement.items()})
        return Asker(executor, package.name, sample_inputs(package.inputs))

    def profile(self, name: str, package: Package) -> Profile:
        """Return the segments' medians as a profile whose units are the devices."""
        rows = [
            SegmentFigures(package.name, part.id, device, 1, Latency(self._median_s(name, part.id, device), SOURCE))
            for part in package.segments
            for device in self.devices
        ]
        return Profile(name, "this machine", segments=tuple(rows))

    def _median_s(self, name: str, segment: str, device: str) -> float:
        return float(np.median(self.alone[name, segment, device]))

    def around(self, name: str, package: Package) -> Surroundings:
        """Return the way between the devices, and their contention, from the placements of `yardsticks`.

        Moving the join alone to the other device costs the way there; moving a branch lets both work side by side.
        """
        here_s, apart_s, aside_s = (float(np.median(self.placed[name, what])) for what in ("here", "apart", "aside"))
        join = package.segments[-1].id
        join_s = self._median_s(name, join, self.devices[1]) - self._median_s(name, join, self.devices[0])
        link = Link(*self.devices, latency_s=max(0.0, apart_s - here_s - join_s))
        free = problem_of([package_graph(package)], [self.profile(name, package)], Surroundings(links=(link,)))
        factor = min(max(aside_s / predict(free, yardsticks(package, self.devices)["aside"]), 1.0), 1.9)
        print(line(f"  way and contention of {self.devices}", {"way_us": 1e6 * link.latency_s, "factor": factor}))
        slow = (Contention(self.devices, factor),) if factor > 1.0 else ()
        return Surroundings(links=(link,), contention=slow)


def yardsticks(package: Package, devices: tuple[str, str]) -> dict[str, dict[str, str]]:
    """Return placements that show the way and the contention: all here, the join there, a branch there."""
    parts = [segment.id for segment in package.segments]
    here = dict.fromkeys(parts, devices[0])
    return {"here": here, "apart": {**here, parts[-1]: devices[1]}, "aside": {**here, parts[1]: devices[1]}}


def predict(problem: Problem, placement: dict[str, str]) -> float:
    """Return the predicted latency of a placement [s]."""
    instance = make_instance(problem)
    devices = [instance.devices.index(placement[unit.segment]) for unit in instance.units]
    levels = [0] * len(instance.devices)
    schedule = place(instance, devices, levels, tails_s(instance, devices, levels))
    if schedule is None:
        raise SystemExit(f"{problem.name}: a tensor has no way")
    check_schedule(instance, schedule)
    return latency_s(instance, schedule.ends_s)


def chosen(problem: Problem, devices: tuple[str, str]) -> dict[str, dict[str, str]]:
    """Return the planner's placements, everything on one device, and random ones, by name."""
    report = plan_problem(problem, Options(time_limit_s=10.0, points=1, most_plans=4, steps=3000, quantile="p50"))
    (model,) = problem.models
    found = {f"plan {number}": plan.placement[model.name] for number, plan in enumerate(report.plans, 1)}
    parts, rng = [segment.id for segment in model.segments], random.Random(0)
    found |= {f"all on {device}": dict.fromkeys(parts, device) for device in devices}
    for number in range(RANDOM_PLACEMENTS):
        found[f"random {number}"] = {part: rng.choice(devices) for part in parts}
    return found


def compare(packages: dict[str, Package], devices: tuple[str, str], rounds: int) -> dict[str, Any]:
    """Return predicted and measured latency of each placement on two devices."""
    measure = {(YARDSTICK, what): where for what, where in yardsticks(packages[YARDSTICK], devices).items()}
    first = Rounds(devices, max(rounds // 2, 10))
    first.run(packages, measure)
    around = first.around(YARDSTICK, packages[YARDSTICK])
    placements = dict(measure)
    for name, package in packages.items():
        if name != YARDSTICK:
            problem = problem_of([package_graph(package)], [first.profile(name, package)], around)
            placements |= {(name, what): where for what, where in chosen(problem, devices).items()}
    again = Rounds(devices, rounds)
    again.run(packages, placements)
    around = again.around(YARDSTICK, packages[YARDSTICK])
    rows: dict[str, Any] = {}
    for (name, what), samples in again.placed.items():
        if name == YARDSTICK:
            continue
        problem = problem_of([package_graph(packages[name])], [again.profile(name, packages[name])], around)
        predicted_s, measured_s = predict(problem, placements[name, what]), float(np.median(samples))
        rows[f"{name}: {what}"] = {
            "predicted_ms": 1e3 * predicted_s,
            **spread(samples),
            "error": abs(predicted_s - measured_s) / measured_s,
        }
        print(line(f"    {name}: {what}", rows[f"{name}: {what}"]), flush=True)
    return rows


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    where = machine("onnxruntime", "openvino", "ortools", "numpy")
    print(line("machine", where))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        packages = {
            YARDSTICK: branches(Path(folder) / "yardstick"),
            "two stages": two_stages(Path(folder) / "two"),
            "three branches": branches(Path(folder) / "three", 3),
        }
        for pair in PAIRS:
            print(f"  {' and '.join(pair)}")
            results[" and ".join(pair)] = compare(packages, pair, options.rounds)
    errors = [row["error"] for rows in results.values() for row in rows.values()]
    plans = [row["error"] for rows in results.values() for name, row in rows.items() if ": plan" in name]
    results["figures"] = {
        "median_error_of_plans": float(np.median(plans)),
        "median_error_of_all": float(np.median(errors)),
        "worst_error": max(errors),
        "reached": bool(np.median(plans) < ASKED),
    }
    print(line("figures", results["figures"]))
    keep(options.json, where, results)


if __name__ == "__main__":
    main()
