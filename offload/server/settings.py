"""How an edge server behaves, checked when it is written down."""

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from offload.errors import ServerError
from offload.frames import Limits
from offload.security.curve import ServerSecurity
from offload.security.limits import ClientLimits


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How an edge server behaves.

    Args:
        bind: TCP address, on loopback unless `security` is given; port 0 takes a free one.
        name: How it introduces itself.
        workers: Threads that compute, each with the models loaded for itself.
        queue_jobs, client_jobs: Most requests accepted and not finished, of all clients and of one.
        queue_bytes: Most bytes of their tensors together.
        inline_s: A model whose median run is quicker than this is run by the I/O thread when nothing else waits [s].
        inline_limit_s: A run on the I/O thread that takes longer after all is stopped and handed to a worker [s].
        batch: Whether jobs for the same segments may run together where that costs less and makes none late.
        worker_cores: Processor cores that the workers are pinned to, in turn; empty: not pinned.
        clients: Most clients to take; None: what the limit on open files allows.
        drain_s: Longest time that accepted work gets after `stop` [s].
        heartbeat_ms: Interval of ZeroMQ's own heartbeats [ms]; a peer is dropped after three without an answer.
        limits: Most that one message may carry.
        client_limits: Most that one client may send; None: no limit.
        security: How clients are known; None: not at all.
    """

    bind: str = "tcp://127.0.0.1:0"
    name: str = "edge"
    workers: int = 1
    queue_jobs: int = 256
    client_jobs: int = 64
    queue_bytes: int = 256 * 2**20
    inline_s: float = 0.5e-3
    inline_limit_s: float = 0.01
    batch: bool = True
    worker_cores: tuple[int, ...] = ()
    clients: int | None = None
    drain_s: float = 5.0
    heartbeat_ms: int = 500
    limits: Limits = field(default_factory=Limits)
    client_limits: ClientLimits | None = None
    security: ServerSecurity | None = None

    def __post_init__(self) -> None:
        check_bind(self.bind, secured=self.security is not None)
        for name in ("workers", "queue_jobs", "client_jobs", "queue_bytes", "heartbeat_ms"):
            if getattr(self, name) < 1:
                raise ServerError(f"{name} = {getattr(self, name)}: must be at least 1")
        if self.clients is not None and self.clients < 1:
            raise ServerError(f"clients = {self.clients}: must be at least 1")
        absent = set(self.worker_cores) - os.sched_getaffinity(0)
        if absent:
            raise ServerError(
                f"worker_cores = {self.worker_cores}: this process may not use {sorted(absent)}, "
                f"only {sorted(os.sched_getaffinity(0))}"
            )


def check_bind(bind: str, *, secured: bool) -> None:
    """Refuse an address that is none, and one that other hosts could reach unless the server is `secured`.

    Raises:
        ServerError: not a TCP address with a port; or not on loopback, and clients are not known.
    """
    try:
        parts = urlsplit(bind)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ServerError(f"bind = {bind!r}: {error}; give tcp://127.0.0.1:PORT") from error
    if parts.scheme != "tcp" or host is None or port is None or parts.path:
        raise ServerError(f"bind = {bind!r}: must be a TCP address with a port, such as tcp://127.0.0.1:0")
    if secured:
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ServerError(
            f"bind = {bind!r} is not a loopback address: beyond loopback an edge server must know its clients; give it "
            "--keys FILE and --allow LIST, see headway keys"
        )
