"""The gRPC server: grpc.aio on the front ends' event loop, one handler a call.

Messages are taken in as bytes; only `ModelInfer` has a codec of its own, the others go through protobuf. What is
refused ends with the code of its cause and the same text as over HTTP.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped, unused-ignore]

from runtime.errors import UnavailableError
from runtime.serve.grpc.codec import Head, Infer, decode, embedded, encode
from runtime.serve.grpc.messages import METHODS, SERVICE, filled, message
from runtime.serve.grpc.outlines import Outlines
from runtime.serve.oip.access import Access, join_address
from runtime.serve.oip.calls import Asked, Calls, chosen, told
from runtime.serve.oip.desk import Desk
from runtime.serve.oip.errors import OipError
from runtime.serve.oip.options import read_options

_log = logging.getLogger("headway.grpc")
_MOST_BYTES = 64 * 2**20
_MOST_CALLS = 1024
_NS_PER_S = 1_000_000_000
_OPTIONS = (
    ("grpc.max_receive_message_length", _MOST_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 16_384),
    ("grpc.so_reuseport", 0),  # a second daemon shall fail, not share
)
_Context = Any  # grpc.aio.ServicerContext
_Unary = Callable[[Any, _Context], Awaitable[Any]]


class TokenCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """Refuses calls without the token before anything of their messages is read.

    Args:
        access: What knows the token.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Return the call's handler, or one that refuses it."""
        given = dict(details.invocation_metadata or ()).get("authorization")
        try:
            self._access.check(given if isinstance(given, str) else None)
        except OipError as error:
            return grpc.stream_stream_rpc_method_handler(_refusing(error))
        return await continuation(details)


def _refusing(error: OipError) -> Callable[[Any, _Context], Awaitable[None]]:
    async def refuse(requests: Any, context: _Context) -> None:
        await context.abort(_code(error), str(error))

    return refuse


class GrpcServer:
    """Serves inference.GRPCInferenceService.

    Args:
        calls: Runs inferences.
        desk: Answers the rest.
        access: What clients must bring.
    """

    def __init__(self, calls: Calls, desk: Desk, access: Access) -> None:
        self._calls = calls
        self._desk = desk
        self._access = access
        self._outlines = Outlines[Head]()
        interceptors = () if access.token is None else (TokenCheck(access),)
        self._server = grpc.aio.server(interceptors=interceptors, options=_OPTIONS, maximum_concurrent_rpcs=_MOST_CALLS)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers()),))

    async def start(self, host: str, port: int) -> int:
        """Bind and begin; return the port.

        Raises:
            UnavailableError: The address is taken, or not of this machine.
        """
        tls, address = self._access.tls, join_address(host, port)
        try:
            if tls is None:
                bound: int = self._server.add_insecure_port(address)
            else:
                key, certificate, ca = tls.read()
                credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=ca is not None)
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise UnavailableError(f"cannot serve gRPC at {address}: {error}") from error
        if bound == 0:
            raise UnavailableError(f"cannot serve gRPC at {address}: the address is taken, or not of this machine")
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, finish what was begun within `grace_s` [s]."""
        await self._server.stop(grace_s)

    def _handlers(self) -> dict[str, Any]:
        desk = self._desk
        answers: dict[str, Callable[[Any], Any]] = {
            "ServerLive": lambda asked: {"live": True},
            "ServerReady": lambda asked: {"ready": _holds(desk.require_ready)},
            "ModelReady": lambda asked: {"ready": _holds(lambda: desk.require_model(asked.name, asked.version))},
            "ServerMetadata": lambda asked: desk.server(),
            "ModelMetadata": lambda asked: desk.model(asked.name, asked.version),
            "ModelConfig": lambda asked: {"config": desk.config(asked.name, asked.version)},
            "ModelStatistics": lambda asked: {"model_stats": desk.statistics(asked.name, asked.version)},
            "RepositoryIndex": lambda asked: {"models": desk.index(ready=asked.ready)},
        }
        handlers = {name: _handler(name, self._guarded(_answering(answer))) for name, answer in answers.items()}
        handlers["RepositoryModelLoad"] = _handler("RepositoryModelLoad", self._guarded(self._load))
        handlers["RepositoryModelUnload"] = _handler("RepositoryModelUnload", self._guarded(self._unload))
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._guarded(self._infer))
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return handlers

    def _guarded(self, answer: _Unary) -> _Unary:
        """Return a handler that ends with the right code what `answer` refuses."""

        async def handle(request: Any, context: _Context) -> Any:
            try:
                return await answer(request, context)
            except OipError as error:
                await context.abort(_code(error), str(error))
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception:
                _log.exception("a call failed", extra={"code": "request_failed"})
                await context.abort(grpc.StatusCode.INTERNAL, "the server failed; its log says why")

        return handle

    async def _load(self, asked: Any, context: _Context) -> dict[str, Any]:
        await self._desk.load(asked.model_name, asked.parameters)
        return {}

    async def _unload(self, asked: Any, context: _Context) -> dict[str, Any]:
        await self._desk.unload(asked.model_name)
        return {}

    async def _infer(self, data: bytes, context: _Context) -> bytes:
        return await self._run(data, context)

    async def _run(self, data: bytes, context: _Context) -> bytes:
        remaining_s, traceparent = context.time_remaining(), _traceparent(context) if self._calls.traced else None
        began_ns = time.monotonic_ns()
        asked = decode(data, self._outlines)
        call = self._calls.begin(_asked(asked, began_ns, remaining_s, traceparent))
        reply = call.taken() if call.answered.done() else await call.reply()
        encoded = encode(reply.model, reply.version, asked.id, told(reply), chosen(reply, asked.outputs))
        asyncio.get_running_loop().call_soon(call.sent)  # once the message was handed over
        return encoded

    async def _stream(self, requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        """Answer one request after the other; what is refused is told in its place and ends nothing."""
        failed = message("ModelStreamInferResponse")
        async for data in requests:
            try:
                yield embedded(await self._run(data, context))
            except OipError as error:
                yield failed(error_message=str(error)).SerializeToString()


def _traceparent(context: _Context) -> str | None:
    return next((str(value) for key, value in context.invocation_metadata() or () if key == "traceparent"), None)


def _asked(asked: Infer, began_ns: int, remaining_s: float | None, traceparent: str | None) -> Asked:
    due_ns = None if remaining_s is None else began_ns + round(remaining_s * _NS_PER_S)
    options = read_options(asked.parameters)
    return Asked(asked.model, asked.version, asked.inputs, began_ns, asked.outputs, options, due_ns, traceparent)


def _answering(answer: Callable[[Any], Any]) -> _Unary:
    async def handle(request: Any, context: _Context) -> Any:
        return answer(request)

    return handle


def _handler(name: str, handle: _Unary) -> Any:
    asked, answered = METHODS[name]
    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=message(asked).FromString,
        response_serializer=lambda values: filled(answered, values).SerializeToString(),
    )


def _holds(require: Callable[[], None]) -> bool:
    try:
        require()
    except OipError:
        return False
    return True


def _code(error: OipError) -> Any:
    return grpc.StatusCode[error.cause.grpc]
