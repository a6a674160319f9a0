"""Which messages an edge server looks at: those of clients it knows, within their limits.

A client is its key where there is CURVE, however many connections it opens, and its connection where there is none.
Everything else an edge server limits by client, its open requests among it, it should limit by `user`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from devices.clock import Clock
from offload.security.curve import Doorkeeper, ServerSecurity
from offload.security.limits import ClientLimits, RateLimiter
from offload.wire import Code

if TYPE_CHECKING:
    from collections import Counter


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not looked at."""

    code: Code
    reason: str


class Gate:
    """One server's gate.

    Args:
        context: Where the server's sockets are made.
        security: None: clients are not known, which is for loopback alone.
        limits: Most that one client may send.
    Raises:
        SecurityError: the allow-list cannot be read.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        security: ServerSecurity | None,
        limits: ClientLimits,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._limiter = RateLimiter(limits)
        self._doorkeeper = None if security is None else Doorkeeper(context, security, clock)

    def secure(self, socket: "zmq.Socket[bytes]") -> None:
        """Prepare a socket before it binds."""
        if self._doorkeeper is not None:
            self._doorkeeper.secure(socket)

    def user(self, client: bytes, frames: Sequence[zmq.Frame]) -> bytes:
        """Return who sent a message: the key it came under, or the connection where there is no CURVE."""
        if self._doorkeeper is None or not frames:
            return client
        try:
            return str(frames[0].get("User-Id")).encode()
        except zmq.ZMQError:
            return b""

    def refusal(self, user: bytes, frames: Sequence[zmq.Frame]) -> Refusal | None:
        """Charge a message to its sender; return why it is not to be looked at, None if it is."""
        if self._doorkeeper is not None and self._doorkeeper.allowed.name_of(user.decode()) is None:
            self._doorkeeper.counts["revoked"] += 1
            return Refusal(Code.UNAUTHORIZED, "this client's key is not on the allow-list any more")
        size = 0
        for frame in frames:
            size += len(frame)
        reason = self._limiter.why_not(user, size, self._clock.now_s())
        return Refusal(Code.RESOURCE_EXHAUSTED, f"you send {reason}") if reason else None

    @property
    def counts(self) -> "Counter[str]":
        """Handshakes "admitted" and "rejected", messages "revoked", and over the limits "messages" and "bytes"."""
        mine = self._limiter.counts.copy()
        return mine if self._doorkeeper is None else mine + self._doorkeeper.counts

    def close(self) -> None:
        """Let go of what is open; twice does no harm."""
        if self._doorkeeper is not None:
            self._doorkeeper.close()
