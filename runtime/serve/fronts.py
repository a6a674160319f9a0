"""HTTP and gRPC beside the local socket: one thread with one event loop serves both, against the daemon's service.

The thread begins once models are loaded. When the daemon drains, what comes in is still answered, UNAVAILABLE; closing
ends the servers after what was begun.
"""

import asyncio
import gc
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from runtime.config import FrontSection
from runtime.errors import ConfigurationError, UnavailableError
from runtime.serve.oip.access import Access, join_address, parse_address
from runtime.serve.oip.calls import Calls
from runtime.serve.oip.desk import Desk
from runtime.serve.realtime import answer_promptly
from runtime.serve.service import Service

_log = logging.getLogger("headway.front")
_PATIENCE_S = 10.0
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the front ends can be reached.

    Args:
        http, grpc: HOST:PORT; None: not served.
    """

    http: str | None = None
    grpc: str | None = None


def check_free(front: FrontSection) -> None:
    """Refuse addresses that are taken, before models are loaded for nothing.

    Raises:
        ConfigurationError: One is no address.
        UnavailableError: One is taken; the text names it.
    """
    for key, address in (("front.http", front.http), ("front.grpc", front.grpc)):
        if address is None:
            continue
        host, port = parse_address(key, address)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise UnavailableError(f"cannot bind {key} = {address}: {error.strerror or error}") from error


@contextmanager
def open_fronts(section: FrontSection, access: Access, service: Service) -> Iterator[Addresses]:
    """Serve HTTP and gRPC where they are configured, until the context ends.

    Raises:
        ConfigurationError: A library is missing.
        UnavailableError: An address is taken.
    """
    if section.http is None and section.grpc is None:
        yield Addresses()
        return
    fronts = _Fronts(section, access, service)
    thread = threading.Thread(target=fronts.run, name="headway-front", daemon=True)
    thread.start()
    try:
        addresses = fronts.begun.result(_PATIENCE_S)
        _log.info("the Open Inference Protocol is served at %s", addresses, extra={"code": "front_ready"})
        yield addresses
    finally:
        fronts.stop()
        thread.join(_PATIENCE_S)


class _Server(Protocol):
    async def start(self, host: str, port: int) -> int: ...

    async def stop(self, grace_s: float) -> None: ...


class _Fronts:
    """The thread's life: begin, serve, end."""

    def __init__(self, section: FrontSection, access: Access, service: Service) -> None:
        self._access = access
        self._section = section
        self._service = service
        self._loop = _new_loop()
        self._ending = asyncio.Event()
        self.begun: Future[Addresses] = Future()

    def run(self) -> None:
        """Serve until `stop`; what keeps it from beginning is the exception of `begun`."""
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            if self.begun.done():
                _log.exception("the front ends failed", extra={"code": "front_failed"})
            else:
                self.begun.set_exception(error)
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def stop(self) -> None:
        """Have the servers end; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._ending.set)
        except RuntimeError:  # it has ended already
            return

    async def _serve(self) -> None:
        answer_promptly()
        servers: list[_Server] = []
        try:
            addresses = await self._begin(servers)
            gc.collect()
            gc.freeze()  # the libraries' objects, looked through in the middle of a request, would hold it up
            self.begun.set_result(addresses)
            await self._ending.wait()
        finally:
            for server in servers:
                await server.stop(_GRACE_S)

    async def _begin(self, servers: list[_Server]) -> Addresses:
        """Start what is configured; libraries of what is not are never loaded."""
        calls = Calls(self._service, self._loop)
        desk = Desk(self._service, model_control=self._section.model_control)
        addresses: dict[str, str] = {}
        for kind, opened in (("http", self._http), ("grpc", self._grpc)):
            address: str | None = getattr(self._section, kind)
            if address is not None:
                host, port = parse_address(f"front.{kind}", address)
                server = opened(calls, desk)
                servers.append(server)
                addresses[kind] = join_address(host, await server.start(host, port))
        return Addresses(**addresses)

    def _http(self, calls: Calls, desk: Desk) -> _Server:
        from runtime.serve.http.server import HttpApp, HttpServer

        return HttpServer(HttpApp(calls, desk, self._access, self._loop), self._access)

    def _grpc(self, calls: Calls, desk: Desk) -> _Server:
        try:
            from runtime.serve.grpc.server import GrpcServer
        except ImportError as error:
            raise ConfigurationError(f"front.grpc needs grpcio ({error}): pip install 'headway[grpc]'") from error
        return GrpcServer(calls, desk, self._access)


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()
