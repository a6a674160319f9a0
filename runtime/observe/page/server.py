"""The live page: plain HTML, CSS and JavaScript, and a stream of snapshots as server-sent events.

    /            the page           /live   ten snapshots a second, as JSON
    /page.css    /page.js

It is for this machine's own browsers: bound to loopback, refused under any other name, and allowed by its
content-security-policy to load nothing but these.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from runtime.errors import UnavailableError
from runtime.observe.gather import Gatherer
from runtime.serve.oip.access import is_loopback, split_host

_STATIC = Path(__file__).parent / "static"
_PERIOD_S = 0.1
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class PageServer:
    """Serves the page until told to end.

    Args:
        gatherer: Where the snapshots come from.
        host, port: A loopback address.
    """

    def __init__(self, gatherer: Gatherer, host: str, port: int) -> None:
        self._gatherer = gatherer
        self._host, self._port = host, port
        routes = [Route(path, self._file) for path in _FILES]
        app = Starlette(routes=[*routes, Route("/live", self._live)])
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=64,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)

    async def serve(self, pid: int | None = None) -> None:
        """Serve until SIGTERM or SIGINT, or until process `pid` has ended.

        Raises:
            UnavailableError: The address is taken, or may not be used.
        """
        with ExitStack() as stack:
            if pid is not None:
                try:
                    watched = os.pidfd_open(pid)
                except ProcessLookupError:
                    return
                stack.callback(os.close, watched)
                loop = asyncio.get_running_loop()
                loop.add_reader(watched, self._end)
                stack.callback(loop.remove_reader, watched)
            with self._listening() as listening:
                await self.server.serve([listening])

    def _end(self) -> None:
        self.server.should_exit = True

    def _listening(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            return socket.create_server((self._host, self._port), family=family, backlog=64)
        except OSError as error:
            why = error.strerror or str(error)
            raise UnavailableError(f"cannot serve the page at {self._host}:{self._port}: {why}") from error

    async def _file(self, request: Request) -> Response:
        if (refusal := _refusal(request)) is not None:
            return refusal
        name, kind = _FILES[request.url.path]
        return Response((_STATIC / name).read_bytes(), media_type=kind, headers=_HEADERS)

    async def _live(self, request: Request) -> Response:
        if (refusal := _refusal(request)) is not None:
            return refusal
        return StreamingResponse(self._snapshots(), media_type="text/event-stream", headers=_HEADERS)

    async def _snapshots(self) -> AsyncIterator[bytes]:
        while not self.server.should_exit:
            yield b"data: " + msgspec.json.encode(self._gatherer.snapshot()) + b"\n\n"
            await asyncio.sleep(_PERIOD_S)


def _refusal(request: Request) -> Response | None:
    """Refuse what a browser asks under another name than this machine's: a foreign page may have been rebound to it."""
    host = request.headers.get("host", "")
    if is_loopback(split_host(host)) and "origin" not in request.headers:
        return None
    return PlainTextResponse(f"host {host[:64]!r} is not this machine: ask for 127.0.0.1 or localhost\n", 403)
