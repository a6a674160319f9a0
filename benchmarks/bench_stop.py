"""From the receipt of a cancel to the device being free, at random moments of a run.

Run: python benchmarks/bench_stop.py PACKAGE [--rounds 1000] [--json FILE]

One onnxruntime thread; alone, and beside a process that keeps one core busy. onnxruntime looks at `terminate` between
two nodes of its graph, so the longest node bounds the stop: the profile of a whole run says how long that is.
"""

import argparse
import json
import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import onnxruntime
from machine import keep, line, machine, spread

from devices.backend import CancelToken
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.package import Package, load_package
from devices.tensor import Array
from runtime.execute.model import zeros

ASKED_P99_MS = 5.0
RUNS = 20


class Runner:
    """A chain on a thread of its own, as a device's worker has it."""

    def __init__(self, chain: Chain, inputs: dict[str, Array]) -> None:
        self._chain, self._inputs = chain, inputs
        self._asked: SimpleQueue[CancelToken | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[bool, float]] = SimpleQueue()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while (token := self._asked.get()) is not None:
            self._begun.set()
            result = self._chain.run(self._inputs, cancel=token)
            self._ended.put((result.cancelled, time.perf_counter()))

    def stop_after(self, wait_s: float) -> float | None:
        """Cancel a run after a while; return how long it went on [s], or None if it had ended before."""
        token = CancelToken()
        self._begun.clear()
        self._asked.put(token)
        self._begun.wait()
        time.sleep(wait_s)
        asked_s = time.perf_counter()
        token.cancel()
        cancelled, ended_s = self._ended.get()
        return ended_s - asked_s if cancelled else None

    def close(self) -> None:
        """End the thread."""
        self._asked.put(None)
        self._thread.join()


def spin(stop: Any) -> None:
    """Keep one core busy."""
    while not stop.is_set():
        sum(range(10_000))


def longest_nodes(package: Package, inputs: dict[str, Array]) -> dict[str, float]:
    """Return the least time of the three longest nodes [ms]."""
    least: dict[str, float] = {}
    values: dict[str, Array] = dict(inputs)
    for segment in package.segments:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling = True
        session = onnxruntime.InferenceSession(package.model(segment.id), options, ["CPUExecutionProvider"])
        fed = {spec.name: values[spec.name] for spec in segment.inputs}
        for _ in range(RUNS):
            made = session.run([spec.name for spec in segment.outputs], fed)
        values.update(zip((spec.name for spec in segment.outputs), made, strict=True))
        profile = Path(session.end_profiling())
        for event in json.loads(profile.read_text()):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                name = f"{segment.id}/{event['name'].removesuffix('_kernel_time')}"
                least[name] = min(least.get(name, float("inf")), event["dur"] / 1e3)
        profile.unlink()
    return dict(sorted(least.items(), key=lambda item: -item[1])[:3])


def measure(runner: Runner, full_s: float, rounds: int) -> dict[str, Any]:
    """Stop a run `rounds` times."""
    rng = random.Random(3)
    samples = [s for _ in range(rounds) if (s := runner.stop_after(rng.uniform(0.0, 0.95 * full_s))) is not None]
    return {**spread(samples), "stopped": len(samples)}


def least_s(action: Callable[[], object]) -> float:
    """Return the least time of a few calls [s]."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="a package's folder or an ONNX file")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    package = load_package(options.package)
    where = machine("onnxruntime", "numpy")
    print(line("machine", where))
    inputs = {spec.name: zeros(spec) for spec in package.inputs}
    chain = Chain(package, OnnxRuntimeBackend())
    full_s = least_s(lambda: chain.run(inputs))
    results: dict[str, Any] = {"longest nodes, ms": longest_nodes(package, inputs), "whole run": {"ms": full_s * 1e3}}
    runner = Runner(chain, inputs)
    stop = multiprocessing.Event()
    spinner = multiprocessing.Process(target=spin, args=(stop,), daemon=True)
    try:
        results["alone"] = measure(runner, full_s, options.rounds)
        spinner.start()
        results["beside a busy core"] = measure(runner, full_s, options.rounds)
    finally:
        stop.set()
        runner.close()
        if spinner.pid is not None:
            spinner.join()
    for name, told in results.items():
        print(line(name, told))
    print(line("asked for", {"p99_ms": ASKED_P99_MS}))
    keep(options.json, where, results)


if __name__ == "__main__":
    main()
