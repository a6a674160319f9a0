"""Segments of one request at the same time on two pinned cores, against one after the other on one.

Run: python benchmarks/bench_parallel.py [--rounds 200] [--json FILE]

two-stages   a network in two equal width stages that meet three times: stage 1 on cpu:0, stage 2 on cpu:1
branches     two equal chains of convolutions on one image: one on each core
ceiling      two sessions of one branch by two bare threads, each pinned to a core: what this machine gives today

All sides go through an executor, one onnxruntime thread a device, in one process and shuffled order. "apart" runs the
same segments on cpu:0, each for itself; "merged" is what one device would really do, its segments merged into one.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from machine import keep, line, machine
from side_by_side import shuffled
from width_models import branches, two_stages

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import Package
from devices.tensor import Array
from runtime.execute.executor import Executor
from runtime.execute.model import zeros
from runtime.execute.request import Reply, Request, Status
from runtime.execute.worker import Device

ASKED = {"two-stages": 1.6, "branches": 1.8}


class Apart(OnnxRuntimeBackend):
    """A device that runs every segment as a session of its own."""

    merges = False


class Asker:
    """Sends one request at a time and waits for its reply."""

    def __init__(self, executor: Executor, model: str, inputs: Mapping[str, Array]) -> None:
        self._executor, self._model, self._inputs = executor, model, inputs
        self.last: Reply | None = None

    def __call__(self) -> None:
        """Ask once."""
        done = threading.Event()

        def take(reply: Reply) -> None:
            self.last = reply
            done.set()

        self._executor.submit(Request(0, self._model, self._inputs), take)
        done.wait()
        if self.last is None or self.last.status is not Status.OK:
            raise SystemExit(f"no answer: {self.last}")


def ceiling(package: Package, cores: tuple[int, int], runs: int = 100) -> float:
    """Return how much faster two pinned bare threads run two branches than one thread runs them in turn."""
    segment = package.segment("branch1")
    inputs = {spec.name: zeros(spec) for spec in segment.inputs}
    loaded = [OnnxRuntimeBackend().load(segment, package.model("branch1")) for _ in cores]

    def go(index: int) -> None:
        os.sched_setaffinity(0, {cores[index]})
        for _ in range(runs):
            loaded[index].run(inputs)

    def timed_s(groups: list[list[int]]) -> float:
        began = time.perf_counter()
        for group in groups:
            threads = [threading.Thread(target=go, args=(index,)) for index in group]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return time.perf_counter() - began

    timed_s([[0], [1]])
    return float(np.median([timed_s([[0], [1]]) / timed_s([[0, 1]]) for _ in range(5)]))


def compare(package: Package, placement: Mapping[str, str], cores: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Return the times of the sides, and how much faster two cores are."""
    inputs = {spec.name: zeros(spec) for spec in package.inputs}
    with ExitStack() as stack:
        sides: dict[str, Callable[[], object]] = {}
        askers: dict[str, Asker] = {}
        for side, kind, where in (
            ("two cores", OnnxRuntimeBackend, placement),
            ("one core, apart", Apart, {}),
            ("one core, merged", OnnxRuntimeBackend, {}),
        ):
            devices = [Device(kind(f"cpu:{k}"), frozenset((core,))) for k, core in enumerate(cores)]
            executor = stack.enter_context(Executor(devices))
            executor.load(package, placement=where)
            askers[side] = Asker(executor, package.name, inputs)
            sides[side] = askers[side]
        times = shuffled(sides, rounds)
        reply = askers["two cores"].last
        busy = {} if reply is None else {t.segment_id: (t.device, round(t.elapsed_s * 1e3, 2)) for t in reply.segments}
    figures: dict[str, Any] = {side: measured.figures() for side, measured in times.items()}
    for side in ("one core, apart", "one core, merged"):
        pairs = np.array(times[side].clock_s) / np.array(times["two cores"].clock_s)
        figures[f"speedup against {side}"] = {
            "of_p50": times[side].median_s / times["two cores"].median_s,
            "of_least": min(times[side].clock_s) / min(times["two cores"].clock_s),
            "p50_of_pairs": float(np.median(pairs)),
        }
    figures["last request, segment: device, ms"] = busy
    return figures


def main() -> None:
    """Run both and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit(f"two cores are needed: open are {allowed}")
    cores = (allowed[0], allowed[1])
    where = machine("onnxruntime", "numpy")
    print(line("machine", where))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chains = branches(folder / "branches" / "1")
        stages = two_stages(folder / "two-stages" / "1")
        results["ceiling"] = {"two bare threads": ceiling(chains, cores)}
        second = {s.id: "cpu:1" for s in stages.segments if s.id.startswith("stage2")}
        results["two-stages"] = compare(stages, second, cores, options.rounds)
        results["branches"] = compare(chains, {"branch2": "cpu:1"}, cores, options.rounds)
    print(line("ceiling", results["ceiling"]))
    for model, asked in ASKED.items():
        for side, figures in results[model].items():
            print(line(f"{model}: {side}", figures))
        print(line(f"{model}: asked for", {"speedup": asked}))
    keep(options.json, where, results)


if __name__ == "__main__":
    main()
