"""The connection: however a request is cut into pieces, whatever comes ahead of time, answers are right and in order.

The protocol runs on a real event loop with a transport that keeps what is written, and a service that echoes at once or
when it is told to.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from devices.package import Package, load_package
from runtime.execute.request import Ending, Reply, Request, Status
from runtime.serve.http import protocol as tested
from runtime.serve.http.body import MOST_BYTES, MOST_HELD_BYTES
from runtime.serve.http.server import HttpApp, HttpServer
from runtime.serve.oip.access import Access
from runtime.serve.oip.calls import Calls
from runtime.serve.oip.desk import Desk
from runtime.serve.service import Service

X = np.arange(5, dtype=np.float32)


class Echo:
    """A service with one model, which answers at once or, while `later`, when `finish` is called."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self.later = False
        self.waiting: list[tuple[Request, Callable[[Reply], None]]] = []
        self.cancelled: list[Any] = []
        self.delivered_ids: list[Any] = []
        self._number = 0

    def new_id(self) -> int:
        self._number += 1
        return self._number

    def package(self, name: str, version: str | None = None) -> Package:
        return self._package

    def request(self, request_id: Any, model: str, inputs: Any, **options: Any) -> Request:
        return Request(request_id, model, inputs, options["deadline_ns"])

    def run_inline(self, request: Request) -> Reply | None:
        return None if self.later else self._reply(request)

    def submit(self, request: Request, on_done: Callable[[Reply], None]) -> None:
        self.waiting.append((request, on_done))

    def finish(self) -> None:
        """Answer the request that waits longest."""
        request, on_done = self.waiting.pop(0)
        on_done(self._reply(request))

    def cancel(self, request_id: Any) -> None:
        self.cancelled.append(request_id)
        (found,) = (each for each in self.waiting if each[0].id == request_id)
        self.waiting.remove(found)
        found[1](replace(self._reply(found[0]), status=Status.CANCELLED, outputs={}))

    def delivered(self, request: Request, reply: Reply) -> None:
        self.delivered_ids.append(request.id)

    def _reply(self, request: Request) -> Reply:
        outputs = {"y": request.inputs["x"]}
        return Reply(
            request.id, Status.OK, model="echo", version="1", exit_id="e", outputs=outputs, ending=Ending.COMPLETE
        )


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        """Tests send what they like."""

    def resume_reading(self) -> None:
        """Tests send what they like."""

    def answers(self) -> list[tuple[int, bytes]]:
        """Return status and body of each answer."""
        found, rest = [], bytes(self.written)
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            size = next(int(row.partition(b":")[2]) for row in lines if row.startswith(b"content-length"))
            found.append((int(head.split()[1]), rest[:size]))
            rest = rest[size:]
        return found


class Line:
    """A connection, to a server of its own unless one is given."""

    def __init__(self, package: Package, app: HttpApp | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.service, self.wire = Echo(package), Wire()
        service = cast(Service, self.service)
        self.app = app or HttpApp(Calls(service, loop), Desk(service, model_control=False), Access(), loop)
        config = HttpServer(self.app, Access())._config
        self.protocol: Any = config.http_protocol_class(
            config=config, server_state=ServerState(), app_state={}, _loop=loop
        )  # type: ignore[call-arg]
        self.protocol.connection_made(self.wire)

    @property
    def room_left(self) -> int:
        """Room for bodies [byte]."""
        return self.app.infer.room._left

    async def settle(self) -> None:
        """Let the loop do what is to be done."""
        for _ in range(40):
            await asyncio.sleep(0)


def request(array: Any = X, *headers: str, request_id: str = "") -> bytes:
    """Return a whole request."""
    tensor = {
        "name": "x",
        "shape": array.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": array.nbytes},
    }
    text = json.dumps({"id": request_id, "inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    head = [
        "POST /v2/models/echo/infer HTTP/1.1",
        "Host: localhost",
        f"Inference-Header-Content-Length: {len(text)}",
        f"Content-Length: {len(text) + array.nbytes}",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + text + bytes(array.tobytes())


@pytest.fixture(scope="module")
def package(repository: Path) -> Package:
    return load_package(repository / "echo" / "1" / "model.onnx")


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@given(data=st.data())
def test_requests_may_come_in_any_pieces(package: Package, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3))
    stream = b"".join(request(X + k, request_id=str(k)) for k in range(count))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=6)))
    later = data.draw(st.booleans())

    async def test() -> None:
        line = Line(package)
        line.service.later = later
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            line.protocol.data_received(stream[begin:end])
            if data.draw(st.booleans()):
                await line.settle()
        for _ in range(count):
            await line.settle()
            if line.service.waiting:
                line.service.finish()
        await line.settle()
        answers = line.wire.answers()
        assert [status for status, _ in answers] == [200] * count
        assert [np.frombuffer(body[-X.nbytes :], np.float32).tolist() for _, body in answers] == [
            (X + k).tolist() for k in range(count)
        ]
        assert len(line.service.delivered_ids) == count
        assert line.room_left == MOST_HELD_BYTES
        line.protocol.connection_lost(None)

    run(test)


def test_a_quick_model_answers_within_the_call(package: Package) -> None:
    async def test() -> None:
        line = Line(package)
        line.protocol.data_received(request())
        assert line.wire.answers()[0][0] == 200
        assert line.service.delivered_ids == []  # not before it has left
        await line.settle()
        assert line.service.delivered_ids == [1]
        line.protocol.connection_lost(None)

    run(test)


def test_other_requests_wait_for_the_one_before(package: Package) -> None:
    async def test() -> None:
        line = Line(package)
        line.service.later = True
        line.protocol.data_received(request() + b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await line.settle()
        assert not line.wire.written
        line.service.finish()
        await line.settle()
        assert [len(body) > 0 for _, body in line.wire.answers()] == [True, False]
        line.protocol.connection_lost(None)

    run(test)


@pytest.mark.parametrize("ahead", [b"", request()])
def test_a_lost_connection_stops_what_runs_for_it(package: Package, ahead: bytes) -> None:
    async def test() -> None:
        line = Line(package)
        line.service.later = True
        line.protocol.data_received(request() + ahead)
        await line.settle()
        line.protocol.connection_lost(None)
        await line.settle()
        assert line.service.cancelled == [1]
        assert line.room_left == MOST_HELD_BYTES
        assert line.service.delivered_ids == [1]
        assert not line.wire.written

    run(test)


@pytest.mark.parametrize(
    "headers", [("Connection: close",), ("Accept-Encoding: gzip",), ("Content-Encoding: identity",)]
)
def test_the_unusual_is_answered_too(package: Package, headers: tuple[str, ...]) -> None:
    async def test() -> None:
        line = Line(package)
        line.protocol.data_received(request(X, *headers))
        await line.settle()
        assert line.wire.answers()[0][0] == 200
        assert line.wire.closed == (headers == ("Connection: close",))
        line.protocol.connection_lost(None)

    run(test)


def test_a_client_that_does_not_read_is_not_written_to(package: Package) -> None:
    async def test() -> None:
        line = Line(package)
        line.protocol.pause_writing()
        line.protocol.data_received(request())
        await line.settle()
        assert not line.wire.written
        line.protocol.resume_writing()
        await line.settle()
        assert line.wire.answers()[0][0] == 200
        line.protocol.connection_lost(None)

    run(test)


def test_bodies_of_all_connections_share_the_room(package: Package) -> None:
    announced = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % MOST_BYTES

    async def test() -> None:
        first = Line(package)
        others = [Line(package, first.app) for _ in range(4)]
        for line in (first, *others[:3]):
            line.protocol.data_received(announced)
        assert first.room_left == 0
        others[3].protocol.data_received(request())
        await first.settle()
        assert others[3].wire.answers()[0][0] == 429
        others[0].protocol.connection_lost(None)
        assert first.room_left == MOST_BYTES
        others[3].protocol.data_received(request())
        assert others[3].wire.answers()[1][0] == 200
        for line in (first, *others[1:]):
            line.protocol.connection_lost(None)
        assert first.room_left == MOST_HELD_BYTES

    run(test)


def test_errors_keep_the_connection(package: Package) -> None:
    async def test() -> None:
        line = Line(package)
        wrong = request().replace(b'"FP32"', b'"BF16"')
        line.protocol.data_received(wrong + request())
        assert [status for status, _ in line.wire.answers()] == [400, 200]
        assert not line.wire.closed
        line.protocol.connection_lost(None)

    run(test)


def test_a_draining_server_lets_an_inference_end_and_hangs_up(package: Package) -> None:
    async def test() -> None:
        line = Line(package)
        line.service.later = True
        line.protocol.data_received(request())
        line.protocol.shutdown()
        assert not line.wire.closed
        line.service.finish()
        await line.settle()
        assert line.wire.answers()[0][0] == 200
        assert line.wire.closed
        line.protocol.connection_lost(None)

    run(test)


@pytest.mark.parametrize(
    ("sent", "told"), [(b"", b""), (b"POST /v2", b""), (request()[:-1], b"HTTP/1.1 408 ")], ids=["none", "head", "body"]
)
def test_what_never_comes_is_not_waited_for(
    package: Package, monkeypatch: pytest.MonkeyPatch, sent: bytes, told: bytes
) -> None:
    monkeypatch.setattr(tested, "PATIENCE_S", 0.0)
    monkeypatch.setattr(tested, "_HEAD_PATIENCE_S", 0.0)

    async def test() -> None:
        line = Line(package)
        if sent:
            line.protocol.data_received(sent)
        await line.settle()
        assert line.wire.closed
        assert bytes(line.wire.written).startswith(told)
        assert line.room_left == MOST_HELD_BYTES
        line.protocol.connection_lost(None)

    run(test)
