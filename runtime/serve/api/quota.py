"""How much one client of the local socket may have open, and send.

On the unix socket a client is a process, however many connections it opens: ZeroMQ hands on the process id that the
kernel vouches for. On TCP it is a connection.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from offload.security.limits import ClientLimits, RateLimiter


@dataclass(frozen=True, slots=True)
class Quota:
    """Most that one client may have.

    Args:
        requests: Requests in flight.
        subscriptions: Subscriptions to events.
        rates: Messages and bytes a second; None: no limit.
    """

    requests: int = 64
    subscriptions: int = 8
    rates: ClientLimits | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Args:
        door: Number of the socket it came by.
        peer: ZeroMQ's name of its connection there.
        owner: Who its quota is counted for.
    """

    door: int
    peer: bytes
    owner: bytes


@dataclass(slots=True)
class Quotas:
    """What every client has in flight; used on the socket thread alone."""

    quota: Quota = field(default_factory=Quota)
    _open: Counter[bytes] = field(default_factory=Counter)
    _limiter: RateLimiter | None = None

    def __post_init__(self) -> None:
        if self.quota.rates is not None:
            self._limiter = RateLimiter(self.quota.rates)

    @property
    def limited(self) -> bool:
        """Whether rates are limited at all."""
        return self._limiter is not None

    def why_not(self, client: Client, size: int) -> str:
        """Charge a message of `size` bytes; return why it may not pass, "" if it may."""
        return "" if self._limiter is None else self._limiter.why_not(client.owner, size, time.monotonic())

    def begin(self, client: Client) -> str:
        """Count a request as in flight; return why it may not begin, "" if it may."""
        number = self._open[client.owner]
        if number >= self.quota.requests:
            return f"{number} of your requests are in flight: at most {self.quota.requests} may be"
        self._open[client.owner] = number + 1
        return ""

    def end(self, client: Client) -> None:
        """Count a request as answered."""
        left = self._open[client.owner] - 1
        if left:
            self._open[client.owner] = left
        else:
            del self._open[client.owner]


def owner_of(address: Any, peer: bytes) -> bytes:
    """Return who a quota is counted for, from ZeroMQ's "Peer-Address": "localhost:UID:GID:PID", or an IP address."""
    parts = str(address).split(":")
    known = len(parts) == 4 and all(part.isdecimal() for part in parts[1:]) and parts[3] != "0"
    return f"{parts[1]}:{parts[3]}".encode() if known else peer
