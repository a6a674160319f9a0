"""Serves metrics over HTTP on loopback, on threads of its own; nothing is measured for their sake."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

from runtime.errors import UnavailableError
from runtime.observe.metrics.daemon import DaemonCollector
from runtime.observe.metrics.guard import GuardCollector
from runtime.serve.oip.access import join_address, require_loopback
from runtime.serve.service import Service


@contextmanager
def open_metrics(
    address: str, guard: Path, service: Service | None = None, status: Callable[[], dict[str, Any]] | None = None
) -> Iterator[str]:
    """Serve /metrics at HOST:PORT until the context ends, and yield the address.

    Args:
        address: HOST:PORT on loopback; port 0: any that is free.
        guard: Unix socket of the guard whose metrics are served.
        service, status: The daemon's; None: the guard's metrics alone.
    Raises:
        ConfigurationError: the address is none, or open to other machines.
        UnavailableError: it is taken.
    """
    host, port = require_loopback("observe.metrics", address)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(GuardCollector(guard))
    if service is not None and status is not None:
        registry.register(DaemonCollector(service, status))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UnavailableError(f"cannot serve metrics at {address}: {error.strerror}; choose another port") from error
    try:
        yield join_address(host, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
