"""Which messages an edge server looks at: those of clients it knows, within their limits.

A client is its key where there is CURVE, however many connections it opens, and its connection where there is none.
What else an edge server limits by client, open requests among it, it limits by `owner`.
"""

from collections import Counter
from collections.abc import Sequence

import zmq

from devices.clock import Clock
from offload.errors import OffloadError
from offload.frames import peek
from offload.security.curve import Doorkeeper, ServerSecurity
from offload.security.limits import ClientLimits, RateLimiter
from offload.wire import Code

_KEPT = 8192


class RefusedError(OffloadError):
    """A message is not looked at; `code` and the text go to its sender."""

    def __init__(self, code: Code, reason: str, request_id: int) -> None:
        super().__init__(reason)
        self.code = code
        self.request_id = request_id


class Gate:
    """One server's gate.

    Args:
        context: Where the server's sockets are made.
        security: None: clients are not known, which is for loopback alone.
        limits: Most that one client may send; None: no limit.
    Raises:
        SecurityError: the allow-list cannot be read.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        security: ServerSecurity | None,
        limits: ClientLimits | None,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._limiter = None if limits is None else RateLimiter(limits)
        self._user_of: dict[bytes, bytes] = {}
        self._doorkeeper = None if security is None else Doorkeeper(context, security, clock)

    def secure(self, socket: "zmq.Socket[bytes]") -> None:
        """Prepare a socket before it binds."""
        if self._doorkeeper is not None:
            self._doorkeeper.secure(socket)

    def check(self, client: bytes, frames: Sequence[zmq.Frame]) -> None:
        """Charge a message to whoever sent it over the connection `client`. A cancel always passes: it spares work.

        Raises:
            RefusedError: its sender is not let in any more, or sends more than it may.
        """
        user = client
        if self._doorkeeper is not None:
            key = _key(frames)
            user = key.encode()
            if self._user_of.get(client) != user:
                self._user_of[client] = user
                if len(self._user_of) > _KEPT:
                    del self._user_of[next(iter(self._user_of))]
            if self._doorkeeper.allowed.name_of(key) is None:
                self._doorkeeper.counts["revoked"] += 1
                text = "this client's key is not on the allow-list any more"
                raise RefusedError(Code.UNAUTHORIZED, text, peek(frames)[1])
        if self._limiter is not None:
            size = 0
            for frame in frames:
                size += len(frame)
            reason = self._limiter.why_not(user, size, self._clock.now_s())
            if reason:
                kind, request_id = peek(frames)
                if not kind.startswith("cancel/"):
                    raise RefusedError(Code.RESOURCE_EXHAUSTED, f"you send {reason}", request_id)

    def owner(self, client: bytes) -> bytes:
        """Return who is charged for what comes over the connection `client`."""
        return self._user_of.get(client, client)

    @property
    def counts(self) -> Counter[str]:
        """Handshakes "admitted" and "rejected", messages "revoked", and over the limits "messages" and "bytes"."""
        counts: Counter[str] = Counter()
        for part in (self._limiter, self._doorkeeper):
            if part is not None:
                counts.update(part.counts)
        return counts

    def close(self) -> None:
        """Let go of what is open; twice does no harm."""
        if self._doorkeeper is not None:
            self._doorkeeper.close()


def _key(frames: Sequence[zmq.Frame]) -> str:
    """Return the key that a message came under; nobody's where it came under none."""
    try:
        return str(frames[0].get("User-Id")) if frames else ""
    except zmq.ZMQError:
        return ""
