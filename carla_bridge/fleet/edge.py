"""Edge servers behind one queue: earliest deadline first, in batches, and nothing computed that would be late."""

import heapq
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests computed together on one server, until `end_s` [s]."""

    end_s: float
    requests: tuple[int, ...]


class Edge:
    """The servers; a batch of b requests takes fixed_s + b each_s.

    Args:
        servers: How many.
        fixed_s, each_s: Time of a batch [s].
        most: Largest batch.
    """

    def __init__(self, servers: int, fixed_s: float, each_s: float, most: int) -> None:
        if servers < 1 or most < 1 or not (fixed_s >= 0.0 and each_s > 0.0):
            raise ValueError(
                f"servers = {servers}, most = {most}, fixed_s = {fixed_s}, each_s = {each_s}: the first two must be at "
                "least 1, the times not negative and each_s positive"
            )
        self._free = servers
        self._servers = servers
        self._fixed_s = fixed_s
        self._each_s = each_s
        self._most = most
        self._queue: list[tuple[float, int]] = []
        self.busy_s = 0.0
        self.dropped = 0

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    @property
    def per_second(self) -> float:
        """Requests that all servers answer in a second, in full batches."""
        return self._servers * self._most / self.batch_s(self._most)

    def batch_s(self, count: int) -> float:
        """Return the time of a batch of `count` [s]."""
        return self._fixed_s + count * self._each_s

    def put(self, request: int, deadline_s: float) -> None:
        """Queue a request whose answer is of use until `deadline_s` [s]."""
        heapq.heappush(self._queue, (deadline_s, request))

    def finish(self) -> None:
        """A server is free again."""
        self._free += 1

    def start(self, now_s: float) -> Batch | None:
        """Start the next batch if a server is free and there is work that can still be in time.

        A batch is as large as the first deadline in it allows; what cannot be in time even alone is dropped.
        """
        if not self._free:
            return None
        chosen: list[int] = []
        first_s = 0.0
        while self._queue and len(chosen) < self._most:
            deadline_s, request = self._queue[0]
            if not chosen:
                first_s = deadline_s
            if now_s + self.batch_s(len(chosen) + 1) > first_s:
                if chosen:
                    break
                heapq.heappop(self._queue)
                self.dropped += 1
                continue
            heapq.heappop(self._queue)
            chosen.append(request)
        if not chosen:
            return None
        self._free -= 1
        took_s = self.batch_s(len(chosen))
        self.busy_s += took_s
        return Batch(now_s + took_s, tuple(chosen))
