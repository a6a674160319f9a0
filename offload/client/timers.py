"""Actions to be taken at a time, earliest first; those of requests that have ended are swept out."""

import heapq
import itertools
import math
from collections.abc import Callable, Container

KEPT = 0
"""Owner of actions that belong to no request."""

_SWEEP_ABOVE = 64


class Timers:
    """A heap of actions. Owned by one thread at a time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._kept = 0

    def __len__(self) -> int:
        """Return how many actions wait, those of ended requests included."""
        return len(self._heap)

    @property
    def next_s(self) -> float:
        """When the next action is due [s]; infinite without one."""
        return self._heap[0][0] if self._heap else math.inf

    def at(self, time_s: float, owner: int, action: Callable[[], None]) -> None:
        """Have `action` taken at `time_s` [s] for request `owner`."""
        heapq.heappush(self._heap, (time_s, next(self._sequence), owner, action))

    def fire(self, now_s: float) -> None:
        """Take every action that is due at `now_s` [s]."""
        while self._heap and self._heap[0][0] <= now_s:
            heapq.heappop(self._heap)[-1]()

    def sweep(self, open_ids: Container[int]) -> None:
        """Drop actions whose request is not in `open_ids`, where they have become many since the last time."""
        if len(self._heap) > 2 * self._kept + _SWEEP_ABOVE:
            self._heap = [entry for entry in self._heap if entry[2] == KEPT or entry[2] in open_ids]
            heapq.heapify(self._heap)
            self._kept = len(self._heap)
