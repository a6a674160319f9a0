"""How an edge client behaves, and what it knows of whom it talks to."""

from dataclasses import dataclass, field
from enum import StrEnum

from offload.errors import ClientError
from offload.frames import Limits
from offload.security.curve import ClientSecurity


class Status(StrEnum):
    """Whether the edge server's loop answers."""

    CONNECTED = "CONNECTED"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class PeerState:
    """What is known of the edge server.

    Args:
        status: CONNECTED or LOST.
        reason: Why it is lost; empty while connected.
        since_s: When the status was taken [s].
        server, models, codecs: What it calls itself, serves and reads; empty while lost.
    """

    status: Status
    reason: str
    since_s: float
    server: str = ""
    models: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ()

    @property
    def connected(self) -> bool:
        """Whether requests can be sent."""
        return self.status is Status.CONNECTED


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a client behaves.

    Args:
        name: How it introduces itself.
        ping_s: Interval of pings [s].
        silence_s: A ping unanswered for this long means the peer is lost [s].
        heartbeat_ms: Interval of ZeroMQ's own heartbeats [ms].
        reconnect_ms, reconnect_max_ms: First and longest interval between attempts to connect [ms].
        handshake_ms: A peer that accepts but does not finish ZeroMQ's handshake is given up after this [ms].
        open_requests: Most requests that may wait for their reply.
        limits: Most that one message may carry.
        security: Keys of this client and its servers; None: plain, for servers on loopback.
    """

    name: str = "vehicle"
    ping_s: float = 0.05
    silence_s: float = 0.2
    heartbeat_ms: int = 100
    reconnect_ms: int = 20
    reconnect_max_ms: int = 200
    handshake_ms: int = 1000
    open_requests: int = 64
    limits: Limits = field(default_factory=Limits)
    security: ClientSecurity | None = None

    def __post_init__(self) -> None:
        for name in ("ping_s", "silence_s", "heartbeat_ms", "reconnect_ms", "handshake_ms", "open_requests"):
            if not getattr(self, name) > 0:
                raise ClientError(f"{name} = {getattr(self, name)!r}: must be positive")
        if self.reconnect_max_ms < self.reconnect_ms:
            raise ClientError(f"reconnect_max_ms = {self.reconnect_max_ms}: must be at least {self.reconnect_ms}")
