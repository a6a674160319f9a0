"""What cutting, exits, stopping and the executor cost.

Run: python benchmarks/bench_executor.py [PART ..] [--quick] [--json FILE]

Both sides of every comparison run in one process, in alternating order, one intra-op thread. ResNet-18, random weights.

chain     segments of a package against one bare onnxruntime session of the whole model
exit      an answer at exit 1 against a package that holds only the segments up to it
stop      from cancel to the device being free, at random moments of a run, alone and beside one busy core
overhead  a request through the executor (submitted, and inline) against the bare chain
deadline  random deadlines between .2 and 2 times the full latency, with a second model as background load
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from resnet import whole_model, write_cut

from devices.backend import CancelToken
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.package import Package, load_package
from runtime.execute.executor import Executor, ExecutorSettings
from runtime.execute.request import Reply, Request, Status
from runtime.execute.worker import Device

SIZE = 112
IMAGE = {"image": np.random.default_rng(1).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)}


def spread_ms(samples_s: list[float]) -> dict[str, float]:
    """Return p50, p99 and max in ms."""
    p50, p99 = np.percentile(samples_s, [50, 99], method="inverted_cdf") * 1e3
    return {"p50_ms": round(float(p50), 4), "p99_ms": round(float(p99), 4), "max_ms": round(max(samples_s) * 1e3, 4)}


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return the time of one call and the processor time of this thread [s]."""
    began, began_cpu = time.perf_counter(), time.thread_time()
    action()
    return time.perf_counter() - began, time.thread_time() - began_cpu


@dataclass(frozen=True, slots=True)
class Times:
    """Times of one side [s]: by the clock, and of the processor, which other processes disturb less."""

    clock_s: list[float]
    cpu_s: list[float]

    @property
    def median_s(self) -> float:
        """Median by the clock [s]."""
        return float(np.median(self.clock_s))

    @property
    def cpu_median_s(self) -> float:
        """Median of the processor's time [s]."""
        return float(np.median(self.cpu_s))

    def figures(self, base: "Times | None" = None) -> dict[str, float]:
        """Return the spread, and the ratios of the medians to those of `base`."""
        figures = {**spread_ms(self.clock_s), "cpu_p50_ms": round(self.cpu_median_s * 1e3, 4)}
        if base is not None:
            figures["ratio_p50"] = round(self.median_s / base.median_s, 4)
            figures["ratio_cpu_p50"] = round(self.cpu_median_s / base.cpu_median_s, 4)
        return figures


def alternate(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Time all sides in turn, the order reversed every second round."""
    for action in sides.values():
        for _ in range(5):
            action()
    times = {name: Times([], []) for name in sides}
    for round_ in range(rounds):
        for name in list(sides)[:: 1 if round_ % 2 else -1]:
            clock_s, cpu_s = timed(sides[name])
            times[name].clock_s.append(clock_s)
            times[name].cpu_s.append(cpu_s)
    return times


def bench_chain(folder: Path, _: Package, rounds: int) -> dict[str, Any]:
    """Compare one session, a package of one segment and packages of three."""
    path = folder / "whole.onnx"
    path.write_bytes(whole_model(SIZE).SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    one = Chain(load_package(path), OnnxRuntimeBackend())
    three = Chain(write_cut(folder / "cut", SIZE, (2, 3), exits=False), OnnxRuntimeBackend())
    times = alternate(
        {
            "session": lambda: session.run(None, IMAGE),
            "one segment": lambda: one.run(IMAGE),
            "three segments": lambda: three.run(IMAGE),
        },
        rounds,
    )
    return {name: side.figures(times["session"]) for name, side in times.items()}


def bench_exit(_: Path, package: Package, rounds: int) -> dict[str, Any]:
    """Compare an answer at exit 1 with a package of nothing else."""
    chain = Chain(package, OnnxRuntimeBackend())
    front_ids = package.needed(package.exits[0].id)
    front = Chain(package, OnnxRuntimeBackend(), front_ids)
    times = alternate(
        {
            "front only": lambda: front.run(IMAGE, on_exit=lambda _: True),
            "exit 1": lambda: chain.run(IMAGE, on_exit=lambda _: True),
            "to the end": lambda: chain.run(IMAGE, on_exit=lambda _: False),
        },
        rounds,
    )
    figures: dict[str, Any] = {name: side.figures(times["front only"]) for name, side in times.items()}
    share = times["exit 1"].cpu_median_s / times["to the end"].cpu_median_s
    macs = package.mac_share(package.exits[0].id)
    return {**figures, "exit_1_share_of_cpu": round(share, 4), "exit_1_share_of_macs": round(macs, 4)}


def spin(stop: Any) -> None:
    """Keep one core busy."""
    while not stop.is_set():
        sum(range(10_000))


def bench_stop(_: Path, package: Package, rounds: int) -> dict[str, Any]:
    """Time from cancel to the end of the run."""
    chain = Chain(package, OnnxRuntimeBackend())
    full_s = min(timed(lambda: chain.run(IMAGE))[0] for _ in range(5))
    figures = {}
    for load in ("alone", "beside a busy core"):
        stop = multiprocessing.Event()
        spinner = multiprocessing.Process(target=spin, args=(stop,))
        if load != "alone":
            spinner.start()
        samples = [sample for _ in range(rounds) if (sample := stop_once(chain, full_s)) is not None]
        if load != "alone":
            stop.set()
            spinner.join()
        figures[load] = {**spread_ms(samples), "stopped": len(samples)}
    return figures


def stop_once(chain: Chain, full_s: float) -> float | None:
    """Cancel one run at a random moment; return the time until it ended [s], or None if it had ended before."""
    token, ended = CancelToken(), []

    def run() -> None:
        result = chain.run(IMAGE, cancel=token)
        if result.cancelled:
            ended.append(time.perf_counter())

    worker = threading.Thread(target=run)
    worker.start()
    time.sleep(random.uniform(0.0, 0.95 * full_s))
    asked = time.perf_counter()
    token.cancel()
    worker.join()
    return ended[0] - asked if ended else None


def bench_overhead(folder: Path, package: Package, rounds: int) -> dict[str, Any]:
    """Compare a request through the executor with the bare chain, on a small and a larger model."""
    figures = {}
    small = write_cut(folder / "small", 32, (), exits=False, name="small")
    for label, chosen, inputs in (
        ("ResNet-18 32x32", small, {"image": IMAGE["image"][:, :, :32, :32].copy()}),
        (f"ResNet-18 {SIZE}x{SIZE}, exits", package, IMAGE),
    ):
        settings = ExecutorSettings(inline_limit_s=1.0)
        with Executor([Device(OnnxRuntimeBackend())], settings) as executor:
            chain = executor.load(chosen).chain
            sides = {
                "chain": lambda c=chain, i=inputs: c.run(i, on_exit=lambda _: False),
                "inline": lambda e=executor, p=chosen, i=inputs: e.run_inline(Request(0, p.name, i)),
                "submitted": lambda e=executor, p=chosen, i=inputs: submit_and_wait(e, p.name, i),
            }
            times = alternate(sides, rounds)
        base_s = times["chain"].median_s
        figures[label] = {
            name: {**side.figures(), "more_us_p50": round((side.median_s - base_s) * 1e6, 1)}
            for name, side in times.items()
        }
    return figures


def submit_and_wait(executor: Executor, model: str, inputs: Any) -> None:
    """Send one request and wait for its reply."""
    done = threading.Event()
    executor.submit(Request(0, model, inputs), lambda _: done.set())
    done.wait()


def bench_deadline(folder: Path, package: Package, count: int) -> dict[str, Any]:
    """Send requests with random deadlines beside endless background work; count what was answered in time."""
    rng = random.Random(7)
    background = write_cut(folder / "background", SIZE, (1, 2, 3), exits=False, name="background")
    with Executor([Device(OnnxRuntimeBackend())], ExecutorSettings()) as executor:
        model = executor.load(package)
        executor.load(background)
        full_s = model.latency.complete_p99_s()
        ending = threading.Event()

        def again(_: Reply | None = None) -> None:
            if not ending.is_set():
                executor.submit(Request("background", background.name, IMAGE), again)

        again()
        outcomes = []
        for index in range(count):
            asked_s = rng.uniform(0.2, 2.0) * full_s
            got: list[tuple[Reply, int]] = []
            done = threading.Event()

            def take(reply: Reply, got: list[tuple[Reply, int]] = got, done: threading.Event = done) -> None:
                got.append((reply, time.monotonic_ns()))
                done.set()

            deadline_ns = time.monotonic_ns() + round(asked_s * 1e9)
            executor.submit(Request(index, package.name, IMAGE, deadline_ns), take)
            done.wait()
            reply, came_ns = got[0]
            loaded_p99_s = model.latency.first[0].p99_s
            outcomes.append((reply.status, reply.exit_id, came_ns - deadline_ns, asked_s, loaded_p99_s))
        ending.set()
    late_ns = sorted(late for _, _, late, _, _ in outcomes)
    roomy = [status for status, _, _, asked_s, p99_s in outcomes if asked_s >= 1.5 * p99_s]
    exits = [exit_id for status, exit_id, _, _, _ in outcomes if status is Status.OK]
    return {
        "requests": count,
        "full_p99_ms": round(full_s * 1e3, 3),
        "answered_or_refused_in_time": round(sum(late <= 0 for late in late_ns) / count, 5),
        "lateness_p999_ms": round(late_ns[int(0.999 * count) - 1] / 1e6, 4),
        "lateness_max_ms": round(late_ns[-1] / 1e6, 4),
        "statuses": {status.value: sum(s is status for s, *_ in outcomes) for status in Status},
        "exit_shares": {name: round(exits.count(name) / max(1, len(exits)), 4) for name in sorted(set(exits), key=str)},
        "roomy_without_answer": round(sum(status is not Status.OK for status in roomy) / max(1, len(roomy)), 5),
    }


PARTS: dict[str, tuple[Callable[[Path, Package, int], dict[str, Any]], int]] = {
    "chain": (bench_chain, 30),
    "exit": (bench_exit, 20),
    "stop": (bench_stop, 40),
    "overhead": (bench_overhead, 20),
    "deadline": (bench_deadline, 100),
}


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    scale = 1 if options.quick else 10
    random.seed(3)
    figures: dict[str, Any] = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
        }
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = write_cut(folder / "exits", SIZE, (2, 3), exits=True)
        for part in options.parts or PARTS:
            bench, rounds = PARTS[part]
            figures[part] = bench(folder, package, rounds * scale)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
