"""POST /v2/models/{name}[/versions/{version}]/infer, from the raw request to the raw answer.

It stands beside the routes, not among them, since time counts here; most requests don't even get this far, see
`protocol`. The tensors of the answer are sent as they lie in memory. A client that goes away while its request runs has
it stopped.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from runtime.execute.request import Reply
from runtime.serve.http.body import (
    MOST_BYTES,
    DisconnectedError,
    Receive,
    Room,
    declared_length,
    packed,
    packing,
    read_body,
    unpacked,
)
from runtime.serve.http.codec import Body, decode, encode
from runtime.serve.oip.access import Access
from runtime.serve.oip.calls import Asked, Call, Calls, chosen, told
from runtime.serve.oip.options import read_options

Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
_WATCH_AFTER_S = 0.02  # requests that are done by then cost no look at their connection
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")


def target(path: str) -> tuple[str, str] | None:
    """Return model and version (empty: the default one) of an inference's path; None if it is no such path."""
    match path.split("/"):
        case ["", "v2", "models", model, "infer"]:
            return model, ""
        case ["", "v2", "models", model, "versions", version, "infer"]:
            return model, version
    return None


def check_access(access: Access, headers: Mapping[bytes, bytes]) -> None:
    """Refuse a request of somebody who may not ask.

    Raises:
        OipError: It lacks the token, or a web page made it.
    """
    access.check(_text(headers.get(b"authorization")))
    access.check_origin(_text(headers.get(b"origin")), _text(headers.get(b"host")))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


class InferHandler:
    """Answers inferences.

    Args:
        calls: Runs them.
        access: What clients must bring.
        loop: The event loop.
    """

    def __init__(self, calls: Calls, access: Access, loop: asyncio.AbstractEventLoop) -> None:
        self._calls = calls
        self.access = access
        self.loop = loop
        self.room = Room()

    def begin(
        self,
        model: tuple[str, str],
        body: memoryview,
        json_length: int | None,
        began_ns: int,
        traceparent: bytes | None = None,
    ) -> tuple[Body, Call]:
        """Return what a body asks, and the call that answers it; `traceparent` is the header of that name.

        Raises:
            OipError: It gets no answer.
        """
        asked = decode(body, json_length)
        options = read_options(asked.parameters)
        request = Asked(*model, asked.inputs, began_ns, tuple(asked.outputs), options, traceparent=_text(traceparent))
        return asked, self._calls.begin(request)

    async def __call__(
        self, model: tuple[str, str], headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """Answer one request.

        Raises:
            OipError: It gets no answer; nothing was sent yet.
        """
        length, encoding = declared_length(headers, b"content-length"), headers.get(b"content-encoding")
        held = MOST_BYTES if length is None or encoding is not None else min(length, MOST_BYTES)
        self.room.take(held)
        try:
            await self._serve(model, headers, receive, send)
        finally:
            self.room.give(held)

    async def _serve(
        self, model: tuple[str, str], headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        began_ns = time.monotonic_ns()
        json_length = declared_length(headers, b"inference-header-content-length")
        body = await read_body(receive, declared_length(headers, b"content-length"), json_length)
        encoding = headers.get(b"content-encoding")
        if encoding is not None:
            body = await unpacked(body, encoding)
        asked, call = self.begin(model, body, json_length, began_ns, headers.get(b"traceparent"))
        reply = call.taken() if call.answered.done() else await self._watched(call, receive)
        try:
            await self._answer(asked, reply, packing(headers.get(b"accept-encoding", b"")), send)
        finally:
            self.loop.call_soon(call.sent)  # what was written leaves at the end of this turn of the loop

    async def _watched(self, call: Call, receive: Receive) -> Reply:
        watching: list[asyncio.Task[None]] = []
        waiting = asyncio.current_task()

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if waiting is not None:
                waiting.cancel()

        timer = self.loop.call_later(_WATCH_AFTER_S, lambda: watching.append(self.loop.create_task(watch())))
        try:
            return await call.reply()
        except asyncio.CancelledError as error:
            raise DisconnectedError from error
        finally:
            timer.cancel()
            for task in watching:
                task.cancel()

    async def _answer(self, asked: Body, reply: Reply, encoding: bytes | None, send: Send) -> None:
        headers, parts = answer(asked, reply)
        if encoding is not None:
            headers.append((b"content-encoding", encoding))
            parts = [await packed(b"".join(parts), encoding)]
        await _send(send, headers, parts)


def answer(asked: Body, reply: Reply) -> tuple[Headers, list[bytes | memoryview]]:
    """Return headers and body of an answer; its tensors are not copied.

    Raises:
        OipError: An output cannot be written as JSON.
    """
    head: dict[str, Any] = {"model_name": reply.model, "model_version": reply.version}
    if asked.id:
        head["id"] = asked.id
    head["parameters"] = told(reply)
    text, tensors = encode(head, chosen(reply, tuple(asked.outputs)), asked.outputs, default=asked.binary)
    if not tensors:
        return [_JSON], [text]
    return [_BINARY, (b"inference-header-content-length", str(len(text)).encode())], [text, *tensors]


async def _send(send: Send, headers: Headers, parts: list[bytes | memoryview]) -> None:
    headers.append((b"content-length", str(sum(map(len, parts))).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    last = len(parts) - 1
    for place, part in enumerate(parts):
        await send({"type": "http.response.body", "body": part, "more_body": place < last})
