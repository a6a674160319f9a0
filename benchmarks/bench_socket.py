"""Round trip of a 150 KB identity request on the daemon's local socket, against a bare pyzmq ROUTER/DEALER echo.

Both servers are processes of their own on unix sockets. The echo sends back the very frames that a client of the daemon
sends, copy=False at both ends; the client is `headway.Client`, once with frames and once with shared memory, and what
it returns is checked. Blocks of measurements alternate in random order, so that a busy moment hits every side.

Two loads: back to back, and one request every 20 ms; the latter also with `serve.keep_warm_ms`, since after 20 ms most
of what Python and onnxruntime need has left the caches.

    python benchmarks/bench_socket.py [--seconds 10] [--keep-warm-ms 2] [--json FILE]
"""

import argparse
import itertools
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import machine
import msgpack
import numpy as np
import onnx
import zmq
from daemon import serving
from onnx import TensorProto, helper

import headway
from devices.package import Exit, SegmentSource, write_package

SIZE = 37_500
BLOCKS = 12
GAP_S = 0.02
ASKED = {("socket", "back to back"): 1.5, ("socket", "20 ms gaps"): 1.5, ("shared memory", "back to back"): 1.0,
         ("shared memory", "20 ms gaps"): 1.3}  # fmt: skip

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


def echo(pipe: Pipe, path: str) -> None:
    """Be the bare server."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(f"ipc://{path}")
        pipe.send(True)
        while True:
            frames = router.recv_multipart(copy=False)
            if len(frames[1].buffer) == 0:
                return
            router.send_multipart(frames, copy=False)


@contextmanager
def bare_echo(path: Path, array: np.ndarray) -> Iterator[Trip]:
    """Start the echo; yield one round trip of the frames of a request."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=echo, args=(theirs, str(path)))
    server.start()
    ours.recv()
    header = msgpack.packb(
        {
            "kind": "infer/1", "id": 1, "model": "identity", "deadline_us": None, "sent_ns": time.monotonic_ns(),
            "priority": 0, "least_exit": None, "tensors": [{"name": "x", "dtype": "float32", "shape": [1, SIZE]}],
        }
    )  # fmt: skip
    with zmq.Context() as client, client.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{path}")

        def trip() -> None:
            dealer.send_multipart([header, array.data.cast("B")], copy=False)
            frames = dealer.recv_multipart(copy=False)
            back = np.frombuffer(frames[1].buffer, np.float32)
            assert back[-1] == array[0, -1]

        yield trip
        dealer.send(b"")
        server.join()


@contextmanager
def daemon(folder: Path, keep_warm_ms: int = 0) -> Iterator[Path]:
    """Start `headway serve` with the identity; yield its socket once it is ready."""
    folder.mkdir(exist_ok=True)
    write_identity(folder / "identity")
    settings = {"HEADWAY_SERVE_KEEP_WARM_MS": str(keep_warm_ms)} if keep_warm_ms else {}
    with serving(folder, ["--package", str(folder / "identity")], settings) as served:
        yield served.path


def request(client: headway.Client, array: np.ndarray) -> Trip:
    """Return one round trip through the daemon."""

    def trip() -> None:
        answer = client.infer("identity", {"x": array})
        assert answer.outputs["y"][0, -1] == array[0, -1]

    return trip


def measure(sides: dict[str, Trip], seconds: float, gap_s: float) -> dict[str, list[float]]:
    """Time blocks of every side in random order [s]."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    order, rng = list(sides), random.Random(0)
    block_s = seconds / BLOCKS / len(sides)
    for trip in sides.values():
        for _ in range(50):
            trip()
    for _ in range(BLOCKS):
        rng.shuffle(order)
        for name in order:
            trip, until_s = sides[name], time.perf_counter() + block_s
            for number in itertools.count():
                if gap_s:
                    time.sleep(gap_s)
                began_s = time.perf_counter()
                if began_s > until_s:
                    break
                trip()
                if number >= 3:  # the first ones find the other side's caches
                    times[name].append(time.perf_counter() - began_s)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each load")
    parser.add_argument("--keep-warm-ms", type=int, default=2)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    where = machine.machine("pyzmq", "msgpack", "msgspec", "onnxruntime", "numpy")
    print(machine.line("machine", where))
    array = np.random.default_rng(0).random((1, SIZE), np.float32)
    results: dict[str, dict[str, object]] = {}
    loads = (("back to back", 0.0, 0), ("20 ms gaps", GAP_S, 0), ("20 ms gaps", GAP_S, chosen.keep_warm_ms))
    for load, gap_s, keep_warm_ms in loads:
        with tempfile.TemporaryDirectory(prefix="hw", dir="/tmp") as name, ExitStack() as stack:
            folder = Path(name)
            path = stack.enter_context(daemon(folder, keep_warm_ms))
            framed = stack.enter_context(headway.Client(path, shared_memory=False))
            shared = stack.enter_context(headway.Client(path))
            sides = {
                "echo": stack.enter_context(bare_echo(folder / "e.sock", array)),
                "socket": request(framed, array),
                "shared memory": request(shared, array),
            }
            times = measure(sides, chosen.seconds, gap_s)
        base = machine.spread(times["echo"], "us")
        for side, samples in times.items():
            figures = machine.spread(samples, "us")
            told: dict[str, object] = {
                **figures,
                "samples": len(samples),
                "ratio_p50": figures["p50_us"] / base["p50_us"],
            }
            if (side, load) in ASKED:
                told["asked"] = f"<= {ASKED[side, load]}"
            title = f"{side}, {load}" + (f", warm every {keep_warm_ms} ms" if keep_warm_ms else "")
            results[title] = told
            print(machine.line(title, told), flush=True)
    machine.keep(chosen.json, where, results)


if __name__ == "__main__":
    main()
