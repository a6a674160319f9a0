"""Throughput of the edge server with 64 clients, against a bare onnxruntime loop.

The bare loop has one thread, pinned to core 0. The server's computing thread is pinned there too; its I/O and the load
share core 1. The blocks alternate, so that a busy moment of the machine hits both. Each client has one request under
way. Two models of 1 ms or more: a convolution, where batches bring nothing, and a wide layer, where they do.

All have one niceness. On a machine that others use as well, Linux shares a core between groups of processes by what
each group's tasks weigh there against all its tasks: beside a load of higher priority on core 1, the computing thread
would get a tenth of its share of core 0, and half the rate.

Then an overload: half as much again as that rate, sent on time whatever comes back, with 64 runs' time each. What is
late must not be computed: `late starts` counts answers whose computation began after their deadline.

    python benchmarks/bench_offload_throughput.py [--seconds 10] [--clients 64] [--json FILE]
"""

import argparse
import multiprocessing
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from edge_load import Load, Server, edge_server
from machine import keep, line, machine, spread
from onnx import TensorProto, helper

from devices.package import Exit, SegmentSource, write_package

COMPUTE_CORE, IO_CORE = 0, 1
BLOCKS = 5
PATIENCE_S = 5.0
OVERLOAD = 1.5


def convolution(rng: np.random.Generator) -> tuple[Any, tuple[int, ...]]:
    """Return a stack of convolutions and the shape of one input."""
    nodes, weights, source, channels = [], [], "x", 3
    for index in range(4):
        kernel = rng.normal(scale=1.0 / (3.0 * channels**0.5), size=(32, channels, 3, 3)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(kernel, f"w{index}"))
        nodes.append(helper.make_node("Conv", [source, f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        source, channels = f"r{index}", 32
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["g"]))
    nodes.append(helper.make_node("Flatten", ["g"], ["y"]))
    return _model(nodes, weights, (3, 64, 64), 32), (3, 64, 64)


def wide(rng: np.random.Generator) -> tuple[Any, tuple[int, ...]]:
    """Return two wide layers, bound by reading their weights, and the shape of one input."""
    shapes = ((1024, 4096), (4096, 1024))
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 32.0, f"w{index}")
        for index, shape in enumerate(shapes)
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["y"]),
    ]
    return _model(nodes, weights, (1024,), 1024), (1024,)


def _model(nodes: list[Any], weights: list[Any], shape: tuple[int, ...], width: int) -> Any:
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width])],
        initializer=weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def bare(pipe: Pipe, model: bytes, shape: tuple[int, ...]) -> None:
    """Be the bare loop: for each number of seconds that comes, run so long and say how many runs that were."""
    os.sched_setaffinity(0, {COMPUTE_CORE})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {"x": np.random.default_rng(1).standard_normal((1, *shape)).astype(np.float32)}
    for _ in range(20):
        session.run(None, inputs)
    pipe.send(0)
    while True:
        end = time.perf_counter() + pipe.recv()
        runs, began = 0, time.perf_counter()
        while not runs or time.perf_counter() < end:
            session.run(None, inputs)
            runs += 1
        pipe.send(runs / (time.perf_counter() - began))


@contextmanager
def bare_loop(model: bytes, shape: tuple[int, ...]) -> Iterator[Callable[[float], float]]:
    """Yield what runs the bare loop for some seconds and returns its rate [1/s]."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=bare, args=(theirs, model, shape), daemon=True)
    process.start()
    theirs.close()
    ours.recv()

    def run(seconds: float) -> float:
        ours.send(seconds)
        rate: float = ours.recv()
        return rate

    try:
        yield run
    finally:
        process.kill()
        process.join()


def closed_loop(load: Load, seconds: float) -> float:
    """Keep one request of every client under way for so long; return answers a second."""
    for client in load.clients:
        load.send(client)
    began = time.perf_counter()
    before = load.seen.codes["OK"]
    while (now := time.perf_counter()) - began < seconds:
        for client in load.receive(0.05):
            load.send(client)
    rate = (load.seen.codes["OK"] - before) / (now - began)
    while load.unanswered and time.perf_counter() - began < seconds + PATIENCE_S:
        load.receive(0.1)
    return rate


def open_loop(load: Load, seconds: float, rate: float) -> float:
    """Send at a rate [1/s] that is above what can be done, for so long; return answers a second."""
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        due_s = began + number / rate
        while (left_s := due_s - time.monotonic()) > 0.0:
            load.receive(left_s)
        load.send(load.clients[number % len(load.clients)], due_s)
    took_s = time.monotonic() - began
    while load.unanswered and time.monotonic() - began < took_s + PATIENCE_S:
        load.receive(0.1)
    return load.seen.codes["OK"] / took_s


def _any_core() -> None:
    os.sched_setaffinity(0, {COMPUTE_CORE, IO_CORE})


def jobs_a_run(server: Server) -> float:
    """Return how many requests ran together on average."""
    jobs = runs = 0.0
    with urllib.request.urlopen(f"{server.http}/metrics") as answer:
        for row in answer.read().decode().splitlines():
            if row.startswith("headway_edge_batches_total{"):
                size, count = float(row.split('"')[1]), float(row.split()[-1])
                jobs, runs = jobs + size * count, runs + count
    return jobs / runs if runs else 1.0


def measure(folder: Path, build: Any, clients: int, seconds: float) -> dict[str, Any]:
    """Return both rates, their ratio, and what the server did under overload."""
    model, shape = build(np.random.default_rng(0))
    name = build.__name__
    write_package(
        folder / name, name=name, version="1", segments=[SegmentSource("all", model)], exits=[Exit("final", "all", "y")]
    )
    inputs = {"x": np.random.default_rng(1).standard_normal((1, *shape)).astype(np.float32)}
    flags = ("--package", str(folder / name), "--core", str(COMPUTE_CORE), "--io-core", str(IO_CORE))
    with bare_loop(model.SerializeToString(), shape) as loop, edge_server(*flags, before=_any_core) as server:
        run_s = 1.0 / loop(0.5)
        load = Load(server.endpoint, clients, name, inputs, time_left_s=4.0 * clients * run_s + 1.0)
        closed_loop(load, 0.5)
        load.seen.latencies_s.clear()
        bare_rates, edge_rates = [], []
        for _ in range(BLOCKS):
            bare_rates.append(loop(seconds / BLOCKS))
            edge_rates.append(closed_loop(load, seconds / BLOCKS))
        lost = load.forget()
        load.close()
        together = jobs_a_run(server)
        pressed = Load(server.endpoint, clients, name, inputs, time_left_s=clients * run_s)
        goodput = open_loop(pressed, seconds / 2, OVERLOAD * float(np.median(edge_rates)))
        pressed_lost = pressed.forget()
        pressed.close()
    bare_rate, edge_rate = float(np.median(bare_rates)), float(np.median(edge_rates))
    return {
        "run_ms": 1e3 / bare_rate,
        "bare_per_s": bare_rate,
        "edge_per_s": edge_rate,
        "ratio": float(np.median(np.array(edge_rates) / np.array(bare_rates))),
        "jobs_a_run": together,
        "lost": lost,
        **spread(load.seen.latencies_s),
        "late_starts": load.seen.late_starts,
        "codes": dict(load.seen.codes),
        "overload": {
            "answers_per_s": goodput,
            "lost": pressed_lost,
            "late_starts": pressed.seen.late_starts,
            "codes": dict(pressed.seen.codes),
            **(spread(pressed.seen.latencies_s) if pressed.seen.latencies_s else {}),
        },
    }


def main() -> None:
    """Measure, print, keep the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="per model and side")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {IO_CORE})
    os.nice(10)  # as the edge server does
    where = machine("onnxruntime", "pyzmq", "msgspec")
    print(line("machine", where))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for build in (convolution, wide):
            figures = measure(Path(folder), build, arguments.clients, arguments.seconds)
            results[build.__name__] = figures
            print(line(build.__name__, {key: value for key, value in figures.items() if key != "overload"}))
            print(line(f"{build.__name__}, overload", figures["overload"]))
    keep(arguments.json, where, results)


if __name__ == "__main__":
    main()
