"""The HTTP server: uvicorn on the front ends' event loop, one ASGI application.

Inferences go to their own handler, the rest to the routes. The head of a request is bounded before it is parsed.
"""

import asyncio
import logging
import socket
from functools import partial
from typing import Any

import uvicorn
from starlette.responses import Response

from runtime.errors import UnavailableError
from runtime.serve.http.body import DisconnectedError, Receive
from runtime.serve.http.infer import InferHandler, Send, check_access, target
from runtime.serve.http.protocol import InferProtocol
from runtime.serve.http.routes import error_response, routes
from runtime.serve.oip.access import Access, join_address, server_context
from runtime.serve.oip.calls import Calls
from runtime.serve.oip.desk import Desk
from runtime.serve.oip.errors import Cause, OipError

_log = logging.getLogger("headway.http")
_MOST_CONNECTIONS = 1024
_KEEP_ALIVE_S = 75


class HttpApp:
    """The ASGI application.

    Args:
        calls: Runs inferences.
        desk: Answers the rest.
        access: What clients must bring.
        loop: The event loop.
    """

    def __init__(self, calls: Calls, desk: Desk, access: Access, loop: asyncio.AbstractEventLoop) -> None:
        self.infer = InferHandler(calls, access, loop)
        self._routes = routes(desk)
        self._access = access

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            check_access(self._access, headers)
            model = target(scope["path"]) if scope["method"] == "POST" else None
            if model is None:
                await self._routes(scope, receive, send)  # type: ignore[arg-type]
            else:
                await self.infer(model, headers, receive, send)
        except OipError as error:
            await _respond(error_response(error), scope, receive, send)
        except DisconnectedError:
            return
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"], extra={"code": "request_failed"})
            failure = OipError(Cause.INTERNAL, "the server failed; its log says why")
            await _respond(error_response(failure), scope, receive, send)


async def _respond(response: Response, scope: Any, receive: Receive, send: Send) -> None:
    await response(scope, receive, send)  # type: ignore[arg-type]


class HttpServer:
    """A uvicorn server.

    Args:
        app: What answers.
        access: Whose certificate it shows.
    """

    def __init__(self, app: HttpApp, access: Access) -> None:
        self._config = uvicorn.Config(
            app,
            http=partial(InferProtocol, app.infer),  # type: ignore[arg-type]
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
