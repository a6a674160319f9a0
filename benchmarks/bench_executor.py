"""What segments, exits and the executor cost.

Run: python benchmarks/bench_executor.py [PART ..] [--quick] [--json FILE]

Both sides of every comparison run in one process, in shuffled order, one intra-op thread. ResNet-18, random weights.

chain     segments of a package against one bare onnxruntime session of the whole model
exit      an answer at exit 1 against a package that holds only the segments up to it
overhead  a request through the executor (submitted, and inline) against the bare chain
"""

import argparse
import json
import os
import platform
import random
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from resnet import whole_model, write_cut
from side_by_side import shuffled

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.package import Package, load_package
from runtime.execute.executor import Executor, ExecutorSettings
from runtime.execute.request import Request
from runtime.execute.worker import Device

SIZE = 112
IMAGE = {"image": np.random.default_rng(1).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)}


def bench_chain(folder: Path, _: Package, rounds: int) -> dict[str, Any]:
    """Compare one session, a package of one segment and packages of three."""
    path = folder / "whole.onnx"
    path.write_bytes(whole_model(SIZE).SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    one = Chain(load_package(path), OnnxRuntimeBackend())
    three = Chain(write_cut(folder / "cut", SIZE, (2, 3), exits=False), OnnxRuntimeBackend())
    times = shuffled(
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
    times = shuffled(
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
            times = shuffled(sides, rounds)
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


PARTS: dict[str, tuple[Callable[[Path, Package, int], dict[str, Any]], int]] = {
    "chain": (bench_chain, 30),
    "exit": (bench_exit, 20),
    "overhead": (bench_overhead, 20),
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
