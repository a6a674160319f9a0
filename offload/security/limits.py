"""How much one client may send: a token bucket of messages and one of bytes.

A bucket of rate R and depth B holds at time t

    level(t) = min(B, level(t0) + R (t - t0))

and a message that costs c passes if level >= c, which takes c away. A client may so send B at once and R for ever, and
nobody's flood costs others more than the reading of it.
"""

import math
from collections import Counter
from dataclasses import dataclass

from offload.errors import ServerError

_KEPT = 8192


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Most that one client may send.

    Args:
        messages_per_s, bytes_per_s: Steady rates; infinite: no limit.
        burst_s: How many seconds' worth may come at once [s].
    Raises:
        ServerError: a limit is not positive.
    """

    messages_per_s: float = 2000.0
    bytes_per_s: float = 2.5e8
    burst_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("messages_per_s", "bytes_per_s", "burst_s"):
            if not getattr(self, name) > 0.0:
                raise ServerError(f"{name} = {getattr(self, name)!r}: must be positive")
        if not math.isfinite(self.burst_s):
            raise ServerError(f"burst_s = {self.burst_s!r}: must be a finite time")


def client_limits(messages_per_s: float | None, megabytes_per_s: float | None, *, secured: bool) -> ClientLimits | None:
    """Return the limits that were asked for; those by default on a server that others reach; none on loopback.

    Raises:
        ServerError: a limit is not positive.
    """
    if messages_per_s is None and megabytes_per_s is None:
        return ClientLimits() if secured else None
    asked = ClientLimits() if secured else ClientLimits(math.inf, math.inf)
    return ClientLimits(
        asked.messages_per_s if messages_per_s is None else messages_per_s,
        asked.bytes_per_s if megabytes_per_s is None else 1e6 * megabytes_per_s,
    )


class _Buckets:
    __slots__ = ("bytes", "messages", "since_s")

    def __init__(self, messages: float, bytes_: float, now_s: float) -> None:
        self.since_s = now_s
        self.messages = messages
        self.bytes = bytes_


class RateLimiter:
    """The buckets of every client; of too many the oldest are let go, which can only fill them."""

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self._most_messages = max(1.0, limits.messages_per_s * limits.burst_s)
        self._most_bytes = limits.bytes_per_s * limits.burst_s
        self._clients: dict[bytes, _Buckets] = {}
        self.counts: Counter[str] = Counter()
        """Messages refused, by the limit they were over."""

    def why_not(self, client: bytes, size: int, now_s: float) -> str:
        """Charge a message of `size` bytes to `client` at `now_s` [s]; return why it may not pass, "" if it may.

        A message larger than the whole depth passes when the bucket is full, and leaves it in debt.
        """
        limits, most = self._limits, self._most_bytes
        buckets = self._clients.get(client)
        if buckets is None:
            buckets = self._clients[client] = _Buckets(self._most_messages, most, now_s)
            if len(self._clients) > _KEPT:
                del self._clients[next(iter(self._clients))]
        elif now_s > buckets.since_s:
            passed_s, buckets.since_s = now_s - buckets.since_s, now_s
            buckets.messages = min(self._most_messages, buckets.messages + limits.messages_per_s * passed_s)
            buckets.bytes = min(most, buckets.bytes + limits.bytes_per_s * passed_s)
        if buckets.messages < 1.0:
            self.counts["messages"] += 1
            return f"more than {limits.messages_per_s:g} messages a second"
        if buckets.bytes < size and buckets.bytes < most:
            self.counts["bytes"] += 1
            return f"more than {limits.bytes_per_s:g} bytes a second"
        buckets.messages -= 1.0
        buckets.bytes -= size
        return ""
