"""What requests may rely on in a live daemon: who comes first, what deadlines bound, and what ends with its client."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from onnx import TensorProto, helper

import headway
from devices.package import Exit, SegmentSource, write_package
from tests.processes import wait_for
from tests.serve.api.test_local_socket import ONES, serving, write_model

FOREVER = 10**12
POSE = headway.Pose(0.0, 0.0, 0.0, 0.0, 0.0)
AHEAD = [headway.Obstacle(40.0, 0.0, 1.0, 2.0)]


def write_rounds(folder: Path) -> None:
    """Write a model that goes round as often as its input says: quick on zeros, and as slow as one likes."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["go_on"], ["go_on_2"]), helper.make_node("Mul", ["v", "half"], ["v_2"])]
    reads = [
        value("i", TensorProto.INT64, []),
        value("go_on", TensorProto.BOOL, []),
        value("v", TensorProto.FLOAT, [1]),
    ]
    gives = [value("go_on_2", TensorProto.BOOL, []), value("v_2", TensorProto.FLOAT, [1])]
    body = helper.make_graph(nodes, "body", reads, gives)
    outer = [
        helper.make_node("Squeeze", ["rounds"], ["count"]),
        helper.make_node("Loop", ["count", "go", "x"], ["y"], body=body),
    ]
    constants = [
        helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
        helper.make_tensor("go", TensorProto.BOOL, [], [True]),
    ]
    inputs = [value("rounds", TensorProto.INT64, [1]), value("x", TensorProto.FLOAT, [1])]
    graph = helper.make_graph(outer, "rounds", inputs, [value("y", TensorProto.FLOAT, [1])], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    package = folder / "rounds" / "1"
    write_package(
        package, name="rounds", version="1", segments=[SegmentSource("all", proto)], exits=[Exit("out", "all", "y")]
    )


def rounds(count: int) -> dict[str, np.ndarray]:
    return {"rounds": np.array([count], np.int64), "x": np.ones(1, np.float32)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("d")
    write_model(made / "models", "drives", "1", 7.0)
    write_model(made / "models", "times", "1", 3.0)
    write_rounds(made / "models")
    return made


@pytest.fixture(scope="module")
def socket(folder: Path) -> Iterator[Path]:
    models = str(folder / "models")
    with serving(folder, "--repository", models, "--package", f"{models}/drives/1") as path:
        yield path


@pytest.fixture
def client(socket: Path) -> Iterator[headway.Client]:
    with headway.Client(socket, timeout_s=15.0) as opened:
        yield opened


@contextlib.contextmanager
def dealer(socket: Path) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as opened:
        opened.setsockopt(zmq.LINGER, 0)
        opened.setsockopt(zmq.RCVTIMEO, 15_000)
        opened.connect(f"ipc://{socket}")
        yield opened


def ask(opened: "zmq.Socket[bytes]", number: int, count: int, priority: int = 0) -> None:
    inputs = rounds(count)
    tensors = [{"name": name, "dtype": str(a.dtype), "shape": a.shape} for name, a in inputs.items()]
    message = {"kind": "infer/1", "id": number, "model": "rounds", "priority": priority, "tensors": tensors}
    opened.send_multipart([msgpack.packb(message), *(array.tobytes() for array in inputs.values())])


def waiting(client: headway.Client) -> int:
    return sum(client.status()["queued"].values())


def test_a_run_far_longer_than_usual_holds_nobody_up_and_ends_at_its_deadline(
    socket: Path, client: headway.Client
) -> None:
    assert client.infer("rounds", rounds(2)).outputs["y"][0] == 0.25
    with dealer(socket) as other:
        ask(other, 1, FOREVER)
        assert client.status()["ready"]  # whoever came in between is served
        other.send(msgpack.packb({"kind": "cancel/1", "id": 1}))
        assert msgpack.unpackb(other.recv())["code"] == "CANCELLED"
    deadline_s = 0.3
    while True:
        with pytest.raises(headway.RequestError) as caught:
            client.infer("rounds", rounds(FOREVER), deadline_s=deadline_s)
        if caught.value.code != "RESOURCE_EXHAUSTED":
            break
        deadline_s *= 2.0  # a run that was stopped took as long on a busy machine, and no less is left
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert client.infer("rounds", rounds(1)).outputs["y"][0] == 0.5


def test_of_equal_deadlines_the_highest_priority_comes_first_whoever_asks(socket: Path, client: headway.Client) -> None:
    events = client.events("request", timeout_s=15.0)
    with dealer(socket) as holds, dealer(socket) as low, dealer(socket) as high:
        ask(holds, 1, FOREVER, priority=1)  # nothing more urgent may interrupt it
        ask(holds, 2, FOREVER, priority=1)
        wait_for(lambda: waiting(client) == 1)  # the first one runs: messages of two connections have no order
        ask(low, 3, 1, priority=9)
        ask(high, 4, 1, priority=2)
        wait_for(lambda: waiting(client) == 3)
        for number in (2, 1):
            holds.send(msgpack.packb({"kind": "cancel/1", "id": number}))
        answered = (event.data for event in events if event.data["status"] == "OK" and event.data["model"] == "rounds")
        assert [next(answered)["priority"], next(answered)["priority"]] == [2, 9]
    events.close()  # type: ignore[attr-defined]


def test_what_a_killed_client_asked_for_is_stopped(socket: Path, client: headway.Client) -> None:
    script = (
        "import sys, threading, msgpack\n"
        "from tests.serve.api.test_semantics import FOREVER, ask, dealer\n"
        "with dealer(sys.argv[1]) as opened:\n"
        "    ask(opened, 1, FOREVER)\n"
        "    ask(opened, 2, FOREVER)\n"
        "    threading.Event().wait()\n"
    )
    before = client.status()
    cancelled = before["replies"].get("CANCELLED", 0)

    def taken() -> bool:
        """Have both come, the first one running? While one has come alone it may wait for a moment as well."""
        status = client.status()
        return bool(status["requests"] == before["requests"] + 2 and sum(status["queued"].values()) == 1)

    with subprocess.Popen([sys.executable, "-c", script, str(socket)]) as process:
        try:
            wait_for(taken)
        finally:
            process.kill()
    wait_for(lambda: client.status()["replies"].get("CANCELLED", 0) == cancelled + 2)
    assert waiting(client) == 0
    assert client.infer("rounds", rounds(1)).outputs["y"][0] == 0.5


def test_the_guard_s_deadline_bounds_requests_to_the_model_that_drives(
    socket: Path, folder: Path, client: headway.Client
) -> None:
    assert client.infer("drives", {"x": ONES}).time_left_s is None
    client.unload("drives")  # nobody drives
    with pytest.raises(headway.RequestError, match="not loaded"):
        client.infer("drives", {"x": ONES})
    client.load("drives")
    guard = folder / "headway-guard.sock"
    left_s: list[float] = []

    def bounded() -> bool:
        """Drive a tick, and ask for as long as one may: the guard's deadline falls before."""
        told = {"kind": "propose/1", "stamp_ns": time.monotonic_ns(), "beta_rad": 0.0, "speed_mps": 8.0}
        proposes.send(msgpack.packb(told))
        session.step(POSE, AHEAD)
        with contextlib.suppress(headway.RequestError):  # on a busy machine it may be too near
            left_s.append(client.infer("drives", {"x": ONES}, deadline_s=3600.0).time_left_s or 0.0)
        return bool(left_s) and 0.0 < left_s[-1] < 60.0

    def kept() -> bool:
        """Drive a tick, and try to have the model unloaded; a busy machine may take too long for the next tick."""
        session.step(POSE, AHEAD)
        try:
            client.unload("drives")
        except headway.RequestError as error:
            return error.code == "FAILED_PRECONDITION" and "drives the vehicle" in str(error)
        client.load("drives")
        return False

    with headway.Session(socket, guard) as session, dealer(guard) as proposes:
        wait_for(bounded)
        assert client.infer("times", {"x": ONES}).time_left_s is None
        wait_for(kept)


def test_the_asyncio_client_uses_shared_memory(socket: Path) -> None:
    async def talk() -> list[Any]:
        async with headway.AsyncClient(socket, timeout_s=15.0) as client:
            asked = [client.infer("times", {"x": (1.0 + number) * ONES}) for number in range(6)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(talk())
    assert [answer.outputs["y"][0, -1] for answer in answers] == [3.0 * (1.0 + number) for number in range(6)]
