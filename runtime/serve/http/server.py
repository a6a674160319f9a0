"""The HTTP server: uvicorn on the front ends' event loop, one ASGI application.

Inferences go to their own handler, the rest to the routes. The head of a request is bounded before it is parsed.
"""

import asyncio
import logging
import socket
from typing import Any

import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.errors import UnavailableError
from runtime.serve.http.body import DisconnectedError, Receive
from runtime.serve.http.infer import InferHandler, Send, target
from runtime.serve.http.routes import error_response, routes
from runtime.serve.oip.access import Access, join_address, server_context
from runtime.serve.oip.calls import Calls
from runtime.serve.oip.desk import Desk
from runtime.serve.oip.errors import Cause, OipError

_log = logging.getLogger("headway.http")
_MOST_HEAD_BYTES = 65_536
_MOST_CONNECTIONS = 1024
_KEEP_ALIVE_S = 75
_HEAD_PATIENCE_S = 30.0


class HttpApp:
    """The ASGI application.

    Args:
        calls: Runs inferences.
        desk: Answers the rest.
        access: What clients must bring.
        loop: The event loop.
    """

    def __init__(self, calls: Calls, desk: Desk, access: Access, loop: asyncio.AbstractEventLoop) -> None:
        self._infer = InferHandler(calls, loop)
        self._routes = routes(desk)
        self._access = access

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            self._check(headers)
            model = target(scope["path"]) if scope["method"] == "POST" else None
            if model is None:
                await self._routes(scope, receive, send)  # type: ignore[arg-type]
            else:
                await self._infer(model, headers, receive, send)
        except OipError as error:
            await _respond(error_response(error), scope, receive, send)
        except DisconnectedError:
            return
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            failure = OipError(Cause.INTERNAL, "the server failed; its log says why")
            await _respond(error_response(failure), scope, receive, send)

    def _check(self, headers: dict[bytes, bytes]) -> None:
        self._access.check(_text(headers.get(b"authorization")))
        self._access.check_origin(_text(headers.get(b"origin")), _text(headers.get(b"host")))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


async def _respond(response: Response, scope: Any, receive: Receive, send: Send) -> None:
    await response(scope, receive, send)  # type: ignore[arg-type]


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which drops a connection whose request has a head without end, in bytes or in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect the first head."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_HEAD_PATIENCE_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._end_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        if self._in_head and self._head_bytes > _MOST_HEAD_BYTES:
            self.send_400_response(f"The head of a request has at most {_MOST_HEAD_BYTES} bytes.")
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes and self._timer is None:
            self._timer = self.loop.call_later(_HEAD_PATIENCE_S, self.transport.close)

    def on_headers_complete(self) -> None:
        """Note that the head was read."""
        self._in_head = False
        self._end_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HttpServer:
    """A uvicorn server.

    Args:
        app: What answers.
        access: Whose certificate it shows.
    """

    def __init__(self, app: HttpApp, access: Access) -> None:
        self._config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._config.load()
        if access.tls is not None:
            self._config.ssl = server_context(access.tls)
        self._server = uvicorn.Server(self._config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Bind and begin; return the port.

        Raises:
            UnavailableError: The address is taken, or not of this machine.
        """
        bound = _bound(host, port)
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[bound]))
        return int(bound.getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Take no more connections, finish what was begun within about `grace_s` [s]."""
        self._config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UnavailableError(f"cannot serve HTTP at {join_address(host, port)}: {error}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise UnavailableError(f"cannot serve HTTP at {join_address(host, port)}: {error.strerror}") from error
    return bound
