"""The connection: uvicorn's protocol with a short cut for inferences, and with bounds on the head of a request.

An inference of the usual kind (a declared length, nothing packed, the connection kept) is read into its buffer, run and
answered from the parser's own calls: no task, no events, no ASGI messages, and where the model is quick and its device
idle, no turn of the event loop. Everything else goes the ASGI way. To uvicorn the exchange in progress looks like one
of its own cycles, so that requests sent ahead wait for their turn and a draining server waits for the answer.
"""

import asyncio
import logging
import time
from typing import Any

import numpy as np
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from runtime.execute.request import Reply
from runtime.serve.http.body import ALIGNMENT, MOST_BYTES, PATIENCE_S, Room, declared_length, packing
from runtime.serve.http.codec import Body
from runtime.serve.http.infer import Headers, InferHandler, answer, check_access, target
from runtime.serve.http.routes import error_response
from runtime.serve.oip.calls import Call
from runtime.serve.oip.errors import Cause, OipError

_log = logging.getLogger("headway.http")
_MOST_HEAD_BYTES = 65_536
_HEAD_PATIENCE_S = 30.0
_UNUSUAL = frozenset({b"expect", b"content-encoding", b"transfer-encoding", b"upgrade"})


class Exchange:
    """One inference on a connection, from its head to its answer; has what uvicorn looks at in its own cycles.

    Args:
        model: Name and version asked for.
        length: Size of the body [byte].
        json_length: Where its first tensor begins [byte]; None: it has none.
        room: Where room for the body is set aside, until `release`.
        traceparent: The header of that name.
    """

    __slots__ = (
        "_body",
        "_filled",
        "_length",
        "_memory",
        "_room",
        "began_ns",
        "disconnected",
        "json_length",
        "keep_alive",
        "message_event",
        "model",
        "response_complete",
        "traceparent",
    )

    def __init__(
        self, model: tuple[str, str], length: int, json_length: int | None, room: Room, traceparent: bytes | None
    ) -> None:
        self.began_ns = time.monotonic_ns()
        self.traceparent = traceparent
        self.model = model
        self.json_length = json_length
        self.keep_alive = True
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY
        self._length = length
        self._filled = 0
        self._memory: Any = None
        self._body: memoryview | None = None
        room.take(length)
        self._room: Room | None = room

    def take(self, piece: bytes) -> None:
        """Take in a piece of the body; one that is all of it is used where it lies."""
        if len(piece) == self._length:
            self._body, self._filled = memoryview(piece), self._length
            return
        if self._body is None:
            self._memory = np.empty(self._length + ALIGNMENT, np.uint8)
            begin = -(self._memory.__array_interface__["data"][0] + (self.json_length or 0)) % ALIGNMENT
            self._body = memoryview(self._memory)[begin : begin + self._length]
        end = self._filled + len(piece)
        self._body[self._filled : end] = piece
        self._filled = end

    def release(self) -> None:
        """Give the room for the body back; again: nothing."""
        room, self._room = self._room, None
        if room is not None:
            room.give(self._length)

    @property
    def body(self) -> memoryview:
        """The body, once it is whole."""
        return (self._body or memoryview(b"")).toreadonly()


class _Nobody:
    """Stands where uvicorn's cycles have the event that they wait for."""

    def set(self) -> None:
        """Wake nobody."""


_NOBODY = _Nobody()


class InferProtocol(HttpToolsProtocol):
    """A connection.

    Args:
        infer: Answers inferences.
        args, kwargs: uvicorn's.
    """

    def __init__(self, infer: InferHandler, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._infer = infer
        self._reading: Exchange | None = None
        self._waiting: Call | None = None
        self._head_bytes = 0
        self._in_head = True
        self._timer: asyncio.TimerHandle | None = None

    # Bounds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect the first head."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEAD_PATIENCE_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more, and stop what runs for nobody."""
        self._end_timer()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._reading is not None:
            self._reading.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        if self._in_head and self._head_bytes > _MOST_HEAD_BYTES:
            self.send_400_response(f"The head of a request has at most {_MOST_HEAD_BYTES} bytes.")
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._timer is None:
            if self._reading is not None:
                self._timer = self.loop.call_later(PATIENCE_S, self._body_is_late, self._reading)
            elif self._in_head and self._head_bytes:
                self._timer = self.loop.call_later(_HEAD_PATIENCE_S, self.transport.close)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # The short cut

    def on_headers_complete(self) -> None:
        """Choose the way for this request."""
        self._in_head = False
        self._end_timer()
        self._reading = self._usual_inference()
        if self._reading is None:
            super().on_headers_complete()
        else:
            self.cycle = self._reading  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Take in a piece of a body."""
        if self._reading is None:
            super().on_body(body)
        else:
            self._reading.take(body)

    def on_message_complete(self) -> None:
        """Run the inference, and expect the next head."""
        self._in_head, self._head_bytes = True, 0
        exchange, self._reading = self._reading, None
        if exchange is None:
            super().on_message_complete()
        else:
            self._end_timer()
            self._run(exchange)

    def _usual_inference(self) -> Exchange | None:
        """Return the exchange for the request whose head was read; None if it takes the ASGI way."""
        if self.parser.get_method() != b"POST" or not self.url.endswith(b"/infer") or b"%" in self.url:
            return None
        busy = self.cycle is not None and not self.cycle.response_complete
        kept = self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive()
        crowded = self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency
        if busy or not kept or crowded or self.flow.write_paused:
            return None
        headers = dict(self.headers)
        if not _UNUSUAL.isdisjoint(headers) or packing(headers.get(b"accept-encoding", b"")) is not None:
            return None
        model = target(self.url.decode("latin-1"))
        try:
            check_access(self._infer.access, headers)
            length = declared_length(headers, b"content-length")
            json_length = declared_length(headers, b"inference-header-content-length")
        except OipError:
            return None
        room = self._infer.room
        if model is None or length is None or length > MOST_BYTES or not room.holds(length):
            return None
        return Exchange(model, length, json_length, room, headers.get(b"traceparent"))

    def _run(self, exchange: Exchange) -> None:
        try:
            asked, call = self._infer.begin(
                exchange.model, exchange.body, exchange.json_length, exchange.began_ns, exchange.traceparent
            )
            if call.answered.done():
                self._answer(exchange, asked, call, call.taken())
                return
        except OipError as error:
            self._refuse(exchange, error)
            return
        except Exception:
            self._fail(exchange)
            return
        self._waiting = call
        task = self.loop.create_task(self._wait(exchange, asked, call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _wait(self, exchange: Exchange, asked: Body, call: Call) -> None:
        try:
            self._answer(exchange, asked, call, await call.reply())
        except OipError as error:
            self._refuse(exchange, error)
        except Exception:
            self._fail(exchange)
        finally:
            self._waiting = None

    def _answer(self, exchange: Exchange, asked: Body, call: Call, reply: Reply) -> None:
        self.loop.call_soon(call.sent)  # what is written leaves at the end of this turn of the loop
        headers, parts = answer(asked, reply)
        self._write(exchange, 200, headers, parts)

    def _refuse(self, exchange: Exchange, error: OipError) -> None:
        response = error_response(error)
        headers = [(name, value) for name, value in response.raw_headers if name != b"content-length"]
        exchange.keep_alive = exchange.keep_alive and error.cause is not Cause.SLOW
        self._write(exchange, response.status_code, headers, [bytes(response.body)])

    def _fail(self, exchange: Exchange) -> None:
        _log.exception(
            "an inference of %s failed", exchange.model, extra={"code": "request_failed", "model": exchange.model}
        )
        self._refuse(exchange, OipError(Cause.INTERNAL, "the server failed; its log says why"))

    def _body_is_late(self, exchange: Exchange) -> None:
        self._timer = self._reading = None
        self._refuse(exchange, OipError(Cause.SLOW, f"the body did not come within {PATIENCE_S:g} s"))

    def _write(self, exchange: Exchange, status: int, headers: Headers, parts: list[bytes | memoryview]) -> None:
        exchange.release()
        if exchange.disconnected or self.transport.is_closing():
            return
        head = [STATUS_LINE[status], *(part for name, value in headers for part in (name, b": ", value, b"\r\n"))]
        if not exchange.keep_alive:
            head.append(b"connection: close\r\n")
        head.append(b"content-length: %d\r\n\r\n" % sum(map(len, parts)))
        self.transport.write(b"".join([*head, parts[0]]))
        for tensor in parts[1:]:
            self.transport.write(tensor)
        exchange.response_complete = True
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()
