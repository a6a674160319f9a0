"""Predicted against measured latency of plans on this machine's own devices.

Run: PYTHONPATH=. python benchmarks/bench_plan_measured.py [--rounds 100] [--json FILE]

Two unlike networks in parts (benchmarks/width_models.py: two width stages that meet three times; three branches) on
pairs of devices: two pinned cores, one of them with 8-bit weights, and a pinned core beside OpenVINO. Every segment is
profiled on each device alone; the way between two devices and the contention are measured once, on a third network of
two branches. Then, for each pair, the planner's plans, everything on one device, and seeded random placements run
through the executor, in one process and shuffled order. The error is that of the predicted against the measured median.
Profile and runs are minutes apart: on a machine that does other work both drift.
"""

import argparse
import random
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine
from side_by_side import shuffled
from width_models import branches, two_stages

from devices.open import open_device
from devices.package import Package
from devices.profile import Profile
from devices.profiler import ProfilerSettings, measure
from devices.samples import sample_inputs
from devices.tensor import Array
from runtime.execute.executor import Executor
from runtime.execute.request import Reply, Request, Status
from runtime.execute.worker import Device
from runtime.plan.build import place, tails_s
from runtime.plan.graphs import package_graph
from runtime.plan.instance import make_instance
from runtime.plan.plan import make_plan
from runtime.plan.planner import Options, plan_problem
from runtime.plan.problem import Contention, Link, Problem
from runtime.plan.profiles import Surroundings, problem_of

PAIRS = (("cpu:0", "cpu:1"), ("cpu:0", "cpu:1+int8"), ("cpu:0", "openvino:CPU"))
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


def run(package: Package, devices: tuple[str, ...], placements: list[dict[str, str]], rounds: int) -> list[list[float]]:
    """Return the times of requests under each placement [s]."""
    inputs = sample_inputs(package.inputs)
    with ExitStack() as stack:
        sides: dict[str, Callable[[], object]] = {}
        for index, placement in enumerate(placements):
            opened = [open_device(name, package) for name in devices]
            executor = stack.enter_context(Executor([Device(item.backend, item.cores) for item in opened]))
            names = {name: item.backend.device for name, item in zip(devices, opened, strict=True)}
            executor.load(package, placement={part: names[device] for part, device in placement.items()})
            sides[str(index)] = Asker(executor, package.name, inputs)
        times = shuffled(sides, rounds)
    return [times[str(index)].clock_s for index in range(len(placements))]


def surroundings(profile: Profile, package: Package, devices: tuple[str, ...], rounds: int) -> Surroundings:
    """Measure the way between two devices, and how much they slow each other, on a network of two branches.

    Moving the join alone to the other device costs the way there; moving a branch lets both work side by side.
    """
    parts = [segment.id for segment in package.segments]
    here = dict.fromkeys(parts, devices[0])
    apart = {**here, parts[-1]: devices[1]}
    aside = {**here, parts[1]: devices[1]}
    times = [float(np.median(row)) for row in run(package, devices, [here, apart, aside], rounds)]
    graph = package_graph(package)
    cost = {d: {p: profile.segment(package.name, p, d).latency.p50_s for p in parts} for d in devices}
    join_s = cost[devices[1]][parts[-1]] - cost[devices[0]][parts[-1]]
    way_s = max(0.0, times[1] - times[0] - join_s)
    free = problem_of([graph], [profile], Surroundings(links=(Link(*devices, latency_s=way_s),)), units=devices)
    instance = make_instance(free)
    assigned = [devices.index(aside[unit.segment]) for unit in instance.units]
    alone = place(instance, assigned, [0, 0], tails_s(instance, assigned, [0, 0]))
    predicted_s = max(alone.ends_s) if alone is not None else times[2]
    factor = min(max(times[2] / predicted_s, 1.0), 1.9)
    contention = (Contention((devices[0], devices[1]), factor),) if factor > 1.0 else ()
    print(line(f"  way and contention of {devices}", {"way_us": 1e6 * way_s, "factor": factor}), flush=True)
    return Surroundings(links=(Link(*devices, latency_s=way_s),), contention=contention)


def placements_of(problem: Problem, limit_s: float) -> dict[str, tuple[dict[str, str], float]]:
    """Return placements by name with their predicted median latency [s]."""
    report = plan_problem(problem, Options(time_limit_s=limit_s, points=2, most_plans=4, steps=3000, generations=10))
    (model,) = problem.models
    found = {
        f"plan {number}": (plan.placement[model.name], 1e-3 * plan.latency_p50_ms)
        for number, plan in enumerate(report.plans, 1)
    }
    instance = make_instance(problem)
    rng = random.Random(0)
    count = len(instance.units)
    chosen = {f"all on {name}": [index] * count for index, name in enumerate(instance.devices)}
    for number in range(RANDOM_PLACEMENTS):
        chosen[f"random {number}"] = [rng.randrange(len(instance.devices)) for _ in range(count)]
    levels = [0] * len(instance.devices)
    for name, devices in chosen.items():
        schedule = place(instance, devices, levels, tails_s(instance, devices, levels))
        if schedule is not None:
            plan = make_plan(instance, schedule, name, 0.0, False)
            found[name] = (plan.placement[model.name], 1e-3 * plan.latency_p50_ms)
    return found


def compare(
    package: Package, profile: Profile, devices: tuple[str, ...], around: Surroundings, rounds: int
) -> dict[str, Any]:
    """Return predicted and measured latency of each placement."""
    problem = problem_of([package_graph(package)], [profile], around, units=devices)
    found = placements_of(problem, 10.0)
    times = run(package, devices, [placement for placement, _ in found.values()], rounds)
    rows = {}
    for (name, (placement, predicted_s)), samples in zip(found.items(), times, strict=True):
        measured_s = float(np.median(samples))
        rows[name] = {
            "predicted_ms": 1e3 * predicted_s,
            "p50_ms": 1e3 * measured_s,
            "p99_ms": 1e3 * float(np.percentile(samples, 99)),
            "error": abs(predicted_s - measured_s) / measured_s,
            "on": str({device: list(placement.values()).count(device) for device in devices}),
        }
        print(line(f"    {name}", rows[name]), flush=True)
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
    settings = ProfilerSettings((1,), 300, 1.0, 0, load=False)
    with tempfile.TemporaryDirectory() as folder:
        packages = {
            "calibration": branches(Path(folder) / "calibration"),
            "two stages": two_stages(Path(folder) / "two"),
            "three branches": branches(Path(folder) / "three", 3),
        }
        names = sorted({name for pair in PAIRS for name in pair})
        profiles = {name: measure(package, names, settings) for name, package in packages.items()}
        for pair in PAIRS:
            around = surroundings(profiles["calibration"], packages["calibration"], pair, options.rounds)
            for name in list(packages)[1:]:
                print(f"  {name} on {' and '.join(pair)}")
                results[f"{name} on {pair}"] = compare(packages[name], profiles[name], pair, around, options.rounds)
    errors = [row["error"] for rows in results.values() for row in rows.values()]
    plans = [row["error"] for rows in results.values() for name, row in rows.items() if name.startswith("plan")]
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
