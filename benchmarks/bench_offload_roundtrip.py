"""Round trip of a 150 KB identity request: client and edge server against a bare pyzmq ROUTER/DEALER echo.

All servers are processes of their own on TCP loopback, all get the same frames with copy=False at both ends, and the
blocks of measurements alternate, so that a busy moment of the machine hits all alike. Plain against plain, and CURVE
against CURVE. "bare with model" is a ROUTER that checks its input and runs the same model, and does nothing else of
what an edge server does: no limits, deadlines, queue or counts. Two loads: back to back, and 50 Hz open loop, timed
from the moment a request was due (no coordinated omission). Beside the times stands the processor time a request
takes, of all threads of client and server.

    python benchmarks/bench_offload_roundtrip.py [--seconds 10] [--json FILE]
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import zmq
from machine import keep, line, machine, spread
from onnx import TensorProto, helper

from devices.package import Exit, SegmentSource, write_package
from offload.client import ClientSettings, EdgeClient, Status
from offload.security.curve import ClientSecurity
from offload.security.keys import KeyPair, allow, new_keys, write_keys
from offload.wire import Code, Request, encode_with

ROOT = Path(__file__).resolve().parents[1]
SIZE = 37_500
BLOCKS = 10
PERIOD_S = 0.02
UNLIMITED = ("--client-messages", "1e6", "--client-mb", "1e6")


@dataclass
class Trip:
    """One kind of round trip: what makes one, whose processor time it takes, and how long it took each time [s]."""

    go: Callable[[], None]
    server: int
    times_s: list[float] = field(default_factory=list)
    busy_s: float = 0.0

    def measure(self, load: Callable[[Callable[[], None], float], list[float]], seconds: float) -> None:
        """Add so many seconds of a load."""
        before_s = _busy_s(os.getpid()) + _busy_s(self.server)
        self.times_s += load(self.go, seconds)
        self.busy_s += _busy_s(os.getpid()) + _busy_s(self.server) - before_s

    def figures(self) -> dict[str, float]:
        """Return percentiles [us], processor time a request [us], and how many there were; begin anew."""
        found = {**spread(self.times_s, "us"), "cpu_us": 1e6 * self.busy_s / len(self.times_s)}
        self.times_s, self.busy_s = [], 0.0
        return found


def _busy_s(process: int) -> float:
    """Return the processor time that all threads of a process have had [s]."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return 1e-9 * sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def write_identity(folder: Path) -> None:
    """Write a package that hands 150 000 bytes back."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIZE]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    write_package(
        folder, name="identity", version="1", segments=[SegmentSource("all", model)], exits=[Exit("final", "all", "y")]
    )


def echo(pipe: Pipe, keys: KeyPair | None, model: Path | None) -> None:
    """Be the bare server: hand the frames back; with a model, check and run it and hand its output back instead."""
    os.nice(10)  # as the edge server does
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    if keys is not None:
        router.curve_server = True
        router.curve_secretkey = keys.secret.encode()
    router.bind("tcp://127.0.0.1:0")
    pipe.send(router.getsockopt_string(zmq.LAST_ENDPOINT))
    if model is None:
        while True:
            router.send_multipart(router.recv_multipart(copy=False), copy=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    while True:
        client, header, data = router.recv_multipart(copy=False)
        x = np.frombuffer(data.buffer, np.float32).reshape(1, SIZE)
        if not np.isfinite(x).all():
            raise RuntimeError("a value is not finite")
        (y,) = session.run(None, {"x": x})
        router.send_multipart([client, header, y], copy=False)


@contextmanager
def bare_trip(keys: KeyPair | None = None, model: Path | None = None) -> Iterator[Trip]:
    """Yield the round trip through a bare DEALER, under CURVE with the server's keys; see `echo`."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=echo, args=(theirs, keys, model), daemon=True)
    server.start()
    theirs.close()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    if keys is not None:
        ClientSecurity(new_keys(), {"": keys.public}).secure(dealer, "")
    dealer.connect(ours.recv())
    frames: list[Any] = encode_with(
        Request(id=1, model="identity", time_left_us=1), {"x": np.ones((1, SIZE), np.float32)}
    )

    def go() -> None:
        dealer.send_multipart(frames, copy=False)
        back = dealer.recv_multipart(copy=False)
        if len(back[1].buffer) != 4 * SIZE:
            raise RuntimeError(f"{len(back[1].buffer)} bytes came back: {4 * SIZE} were sent")

    try:
        yield Trip(go, server.pid or 0)
    finally:
        dealer.close()
        context.term()
        server.kill()
        server.join()


@contextmanager
def edge_trip(folder: Path, keys: KeyPair | None = None) -> Iterator[Trip]:
    """Yield the round trip through an `EdgeClient` and a `headway edge`, under CURVE with the server's keys."""
    command = [sys.executable, "-m", "runtime.cli.main", "edge", "--package", str(folder)]
    settings = ClientSettings(silence_s=5.0)
    if keys is not None:
        mine, files = new_keys(), folder.parent
        write_keys(files / "edge.key", keys)
        allow(files / "allowed", mine.public, "vehicle")
        command += ["--keys", str(files / "edge.key"), "--allow", str(files / "allowed"), *UNLIMITED]
        settings = ClientSettings(silence_s=5.0, security=ClientSecurity(mine, {"": keys.public}))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("the edge server has no output")
            endpoint = json.loads(server.stdout.readline())["endpoint"]
            with EdgeClient(endpoint, settings) as client:
                if not client.wait_for(Status.CONNECTED, 10.0):
                    raise RuntimeError(client.state.reason)
                inputs = {"x": np.ones((1, SIZE), np.float32)}

                def go() -> None:
                    outcome = client.ask("identity", inputs, time.monotonic() + 5.0)
                    if outcome.code is not Code.OK or outcome.outputs["y"].nbytes != 4 * SIZE:
                        raise RuntimeError(f"{outcome.code} {outcome.message}")

                yield Trip(go, server.pid)
        finally:
            server.kill()
            server.wait()


def back_to_back(go: Callable[[], None], seconds: float) -> list[float]:
    """Return the times of trips that follow each other at once [s]."""
    times = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        go()
        times.append(time.perf_counter() - began)
    return times


def open_loop(go: Callable[[], None], seconds: float) -> list[float]:
    """Return the times of trips that are due every 20 ms, from when they were due [s]."""
    times = []
    due = time.perf_counter() + PERIOD_S
    for _ in range(max(1, int(seconds / PERIOD_S))):
        time.sleep(max(0.0, due - time.perf_counter()))
        go()
        times.append(time.perf_counter() - due)
        due += PERIOD_S
    return times


def main() -> None:
    """Measure, print a table, keep the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="per server and load")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    arguments = parser.parse_args()
    where = machine("onnxruntime", "pyzmq", "msgspec")
    where["libzmq"] = zmq.zmq_version()
    print(line("machine", where))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        folder, keys = Path(root) / "identity", new_keys()
        write_identity(folder)
        trips = {
            "bare": stack.enter_context(bare_trip()),
            "bare with model": stack.enter_context(bare_trip(model=next(folder.rglob("*.onnx")))),
            "edge": stack.enter_context(edge_trip(folder)),
            "bare, CURVE": stack.enter_context(bare_trip(keys)),
            "edge, CURVE": stack.enter_context(edge_trip(folder, keys)),
        }
        for trip in trips.values():
            back_to_back(trip.go, 0.5)
        for load in (back_to_back, open_loop):
            for block in range(BLOCKS):
                for trip in list(trips.values())[:: 1 if block % 2 else -1]:
                    trip.measure(load, arguments.seconds / BLOCKS)
            name = load.__name__.replace("_", " ")
            results[name] = {kind: trip.figures() for kind, trip in trips.items()}
            for suffix in ("", ", CURVE"):
                edge, bare = results[name][f"edge{suffix}"], results[name][f"bare{suffix}"]
                results[name][f"ratio{suffix}"] = {key: edge[key] / bare[key] for key in edge}
            least = results[name]["bare with model"]
            results[name]["ratio to bare with model"] = {key: results[name]["edge"][key] / least[key] for key in least}
            for kind, figures in results[name].items():
                print(line(f"{name}, {kind}", figures))
    keep(arguments.json, where, results)


if __name__ == "__main__":
    main()
