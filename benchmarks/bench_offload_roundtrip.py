"""Round trip of a 150 KB identity request: client and edge server against a bare pyzmq ROUTER/DEALER echo.

Both servers are processes of their own on TCP loopback, both echo the same frames with copy=False at both ends, and the
blocks of measurements alternate, so that a busy moment of the machine hits both. Two loads: back to back, and 50 Hz
open loop, timed from the moment a request was due (no coordinated omission).

    python benchmarks/bench_offload_roundtrip.py [--seconds 10] [--json FILE]
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import zmq
from onnx import TensorProto, helper

from devices.package import Exit, SegmentSource, write_package
from offload.client import EdgeClient
from offload.connection import ClientSettings, Status
from offload.wire import Code, Request, encode_with

ROOT = Path(__file__).resolve().parents[1]
SIZE = 37_500
BLOCKS = 10
PERIOD_S = 0.02
PATIENT = ClientSettings(silence_s=5.0)

Trip = Callable[[], None]


def write_identity(folder: Path) -> None:
    """Write a package that hands 150 000 bytes back."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIZE]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    write_package(
        folder, name="identity", version="1", segments=[SegmentSource("all", model)], exits=[Exit("final", "all", "y")]
    )


def echo(pipe: Pipe) -> None:
    """Be the bare server."""
    os.nice(10)  # as the edge server does
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.bind("tcp://127.0.0.1:0")
    pipe.send(router.getsockopt_string(zmq.LAST_ENDPOINT))
    while True:
        router.send_multipart(router.recv_multipart(copy=False), copy=False)


@contextmanager
def bare_trip() -> Iterator[Trip]:
    """Yield one round trip through a bare DEALER."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=echo, args=(theirs,), daemon=True)
    server.start()
    theirs.close()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(ours.recv())
    frames: list[Any] = encode_with(
        Request(id=1, model="identity", time_left_us=1), {"x": np.ones((1, SIZE), np.float32)}
    )

    def trip() -> None:
        dealer.send_multipart(frames, copy=False)
        back = dealer.recv_multipart(copy=False)
        if len(back[1].buffer) != 4 * SIZE:
            raise RuntimeError(f"{len(back[1].buffer)} bytes came back: {4 * SIZE} were sent")

    try:
        yield trip
    finally:
        dealer.close()
        context.term()
        server.kill()
        server.join()


@contextmanager
def edge_trip(folder: Path) -> Iterator[Trip]:
    """Yield one round trip through an `EdgeClient` and a `headway edge`."""
    command = [sys.executable, "-m", "runtime.cli.main", "edge", "--package", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("the edge server has no output")
            endpoint = json.loads(server.stdout.readline())["endpoint"]
            with EdgeClient(endpoint, PATIENT) as client:
                if not client.wait_for(Status.CONNECTED, 10.0):
                    raise RuntimeError(client.state.reason)
                inputs = {"x": np.ones((1, SIZE), np.float32)}

                def trip() -> None:
                    outcome = client.ask("identity", inputs, time.monotonic() + 5.0)
                    if outcome.code is not Code.OK or outcome.outputs["y"].nbytes != 4 * SIZE:
                        raise RuntimeError(f"{outcome.code} {outcome.message}")

                yield trip
        finally:
            server.kill()
            server.wait()


def back_to_back(trip: Trip, seconds: float) -> list[float]:
    """Return the times of trips that follow each other at once [s]."""
    times = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        trip()
        times.append(time.perf_counter() - began)
    return times


def open_loop(trip: Trip, seconds: float) -> list[float]:
    """Return the times of trips that are due every 20 ms, from when they were due [s]."""
    times = []
    due = time.perf_counter() + PERIOD_S
    for _ in range(max(1, int(seconds / PERIOD_S))):
        time.sleep(max(0.0, due - time.perf_counter()))
        trip()
        times.append(time.perf_counter() - due)
        due += PERIOD_S
    return times


def summary(times: list[float]) -> dict[str, float]:
    """Return p50, p99 and max [us] and how many there were."""
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_us": 1e6 * p50, "p99_us": 1e6 * p99, "max_us": 1e6 * max(times), "count": len(times)}


def main() -> None:
    """Measure, print a table, keep the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="per server and load")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    arguments = parser.parse_args()
    loads = {"back to back": back_to_back, "50 Hz open loop": open_loop}
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}",
        "versions": {"pyzmq": zmq.__version__, "libzmq": zmq.zmq_version(), "onnxruntime": onnxruntime.__version__},
    }
    print(figures["machine"], figures["versions"])
    with tempfile.TemporaryDirectory() as root:
        write_identity(Path(root) / "identity")
        with bare_trip() as bare, edge_trip(Path(root) / "identity") as edge:
            for trip in (bare, edge):
                back_to_back(trip, 0.5)
            for name, measure in loads.items():
                times: dict[str, list[float]] = {"bare": [], "edge": []}
                for _ in range(BLOCKS):
                    times["bare"] += measure(bare, arguments.seconds / BLOCKS)
                    times["edge"] += measure(edge, arguments.seconds / BLOCKS)
                rows = {server: summary(values) for server, values in times.items()}
                ratios = {key: rows["edge"][key] / rows["bare"][key] for key in ("p50_us", "p99_us", "max_us")}
                figures[name] = {**rows, "ratio": ratios}
                for server, row in {**rows, "ratio": ratios}.items():
                    cells = "  ".join(f"{key[:-3]} {row[key]:8.2f}" for key in ("p50_us", "p99_us", "max_us"))
                    print(f"{name:16} {server:6} {cells}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
