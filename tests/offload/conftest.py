"""Packages, backends and edge servers for the tests of the offload tier."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import zmq
from onnx import TensorProto, helper

from devices.backend import CancelToken
from devices.errors import RunCancelledError, SegmentError
from devices.package import Exit, Package, Segment, SegmentSource, TensorSpec, write_package
from offload.frames import Array
from offload.server import EdgeServer
from offload.server.settings import ServerSettings
from offload.wire import FromEdge, decode_from_edge

ROOT = Path(__file__).resolve().parents[2]


def model(nodes: list[Any], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], constants: Any = ()) -> Any:
    """Return an ONNX model on float32 tensors."""
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
        initializer=list(constants),
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def scale_by(name: str, source: str, target: str, factor: float) -> Any:
    constant = helper.make_tensor(f"{name}_factor", TensorProto.FLOAT, [1], [factor])
    return model(
        [helper.make_node("Mul", [source, f"{name}_factor"], [target])],
        {source: ["N", 4]},
        {target: ["N", 4]},
        [constant],
    )


def early_head() -> Any:
    nodes = [
        helper.make_node("Identity", ["features"], ["answer_early"]),
        helper.make_node("ReduceMax", ["features"], ["confidence_early"], axes=[1], keepdims=1),
    ]
    return model(nodes, {"features": ["N", 4]}, {"answer_early": ["N", 4], "confidence_early": ["N", 1]})


def endless() -> Any:
    """Return a model that multiplies for ages, one small node after the other."""
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["keep_in"], ["keep_out"]),
            helper.make_node("Mul", ["carried_in", "one"], ["carried_out"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried_out", TensorProto.FLOAT, None),
        ],
    )
    # Runs briefly on zeros, so that warming up ends, and practically for ever on anything else.
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["turns_float"], to=TensorProto.INT64),
        helper.make_node("Mul", ["turns_float", "many"], ["turns"]),
        helper.make_node("Loop", ["turns", "yes", "features"], ["answer"], body=step),
    ]
    constants = [
        helper.make_tensor("many", TensorProto.INT64, [], [10**12]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    return model(nodes, {"features": ["N", 4]}, {"answer": ["N", 4]}, constants)


@dataclass(frozen=True)
class Packages:
    """The packages of the tests: `driver` has two exits, `slow` the same with an endless last segment."""

    driver: Package
    slow: Package
    identity: Package

    @property
    def folders(self) -> list[Path]:
        return [self.driver.folder, self.slow.folder, self.identity.folder]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    root = tmp_path_factory.mktemp("packages")
    exits = [
        Exit("early", "head", "answer_early", "confidence_early", threshold=0.9),
        Exit("final", "tail", "answer"),
    ]
    stem = SegmentSource("stem", scale_by("stem", "x", "features", 2.0))
    head = SegmentSource("head", early_head())
    tails = {"driver": scale_by("tail", "features", "answer", 5.0), "slow": endless()}
    made = {
        name: write_package(
            root / name, name=name, version="1", segments=[stem, head, SegmentSource("tail", tail)], exits=exits
        )
        for name, tail in tails.items()
    }
    plain = model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["N", 37500]}, {"y": ["N", 37500]})
    identity = write_package(
        root / "identity",
        name="identity",
        version="1",
        segments=[SegmentSource("all", plain)],
        exits=[Exit("final", "all", "y")],
        inputs=[TensorSpec("x", "float32", ("N", 37500))],
    )
    return Packages(made["driver"], made["slow"], identity)


@dataclass
class Gate:
    """A device whose runs wait until they are let through; what ran is written down."""

    name: str = "gate"
    device: str = "cpu:0"
    merges: bool = False
    open: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ran: list[float] = field(default_factory=list)

    def load(self, segment: Segment, model: bytes) -> "GateRun":
        return GateRun(self, segment)

    def upload(self, array: Array) -> Array:
        return array

    def download(self, value: Array) -> Array:
        return value


class GateRun:
    """One segment on a `Gate`: zeros pass at once, the input -1 fails as segments do, -2 as nothing should."""

    def __init__(self, gate: Gate, segment: Segment) -> None:
        self._gate = gate
        self._segment = segment

    def run(self, inputs: Mapping[str, Array], cancel: CancelToken | None = None) -> dict[str, Array]:
        (array,) = inputs.values()
        first = float(array.flat[0])
        if first == -1.0:
            raise SegmentError("the device is on fire")
        if first == -2.0:
            raise ZeroDivisionError("a bug")
        if first != 0.0 and self._segment.id == "stem":
            self._wait(first, cancel)
        shapes = {"confidence_early": (1, 1)}
        return {spec.name: np.full(shapes.get(spec.name, (1, 4)), first, np.float32) for spec in self._segment.outputs}

    def _wait(self, first: float, cancel: CancelToken | None) -> None:
        self._gate.ran.append(first)
        self._gate.entered.release()
        assert cancel is not None
        cancel.bind(self._gate.open.set)
        try:
            assert self._gate.open.wait(15.0)
        finally:
            cancel.unbind(self._gate.open.set)
        if cancel.cancelled:
            self._gate.open.clear()
            raise RunCancelledError("stopped")


@dataclass
class Served:
    """An edge server in a thread of this process."""

    server: EdgeServer
    gate: Gate
    thread: threading.Thread


@pytest.fixture
def serve(packages: Packages) -> Iterator[Callable[..., Served]]:
    """Start an edge server on a `Gate`; its settings are the keywords."""
    started: list[Served] = []

    def start(**settings: Any) -> Served:
        gate = Gate()
        plain = {"inline_s": 0.0, "drain_s": 0.2, "batch": False, "heartbeat_ms": 10_000}
        options = ServerSettings(**(plain | settings))
        server = EdgeServer([packages.driver], options, open_backend=lambda: gate)
        thread = threading.Thread(target=server.serve)
        thread.start()
        started.append(Served(server, gate, thread))
        return started[-1]

    yield start
    for served in started:
        served.server.stop()
        served.thread.join(15.0)
        assert not served.thread.is_alive()


class Peer:
    """A bare DEALER that can send anything."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 15_000)
        self.socket.connect(endpoint)

    def send(self, frames: Any) -> None:
        self.socket.send_multipart(frames)

    def receive(self) -> tuple[FromEdge, dict[str, Array]]:
        return decode_from_edge(self.socket.recv_multipart(copy=False))


@pytest.fixture
def context() -> "Iterator[zmq.Context[zmq.Socket[bytes]]]":
    """A ZeroMQ context; the test fails if it leaves a socket open."""
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    ended = threading.Thread(target=made.term, daemon=True)
    ended.start()
    ended.join(15.0)
    assert not ended.is_alive(), "a socket was left open"


@pytest.fixture
def peer(context: "zmq.Context[zmq.Socket[bytes]]") -> Iterator[Callable[[str], Peer]]:
    """Connect bare peers that are closed after the test."""
    made: list[Peer] = []

    def connect(endpoint: str) -> Peer:
        made.append(Peer(context, endpoint))
        return made[-1]

    yield connect
    for item in made:
        item.socket.close()


@dataclass
class EdgeProcess:
    """A real edge server in a process of its own."""

    process: "subprocess.Popen[str]"
    endpoint: str
    models: list[str]

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def edge_process(folders: list[Path], bind: str = "tcp://127.0.0.1:0", *flags: str) -> Iterator[EdgeProcess]:
    """Start `headway edge`, wait until it says that it listens, and end it afterwards."""
    options = [item for folder in folders for item in ("--package", str(folder))]
    command = [sys.executable, "-m", "runtime.cli.main", "edge", "--bind", bind, *options, *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = json.loads(process.stdout.readline())
            assert line["event"] == "listening"
            assert line["pid"] == process.pid
            yield EdgeProcess(process, line["endpoint"], line["models"])
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def edge(packages: Packages) -> Iterator[EdgeProcess]:
    """A real edge server with every package, shared by a module."""
    with edge_process(packages.folders) as started:
        yield started
