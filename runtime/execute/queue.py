"""The queue of one device: earliest deadline first, then highest priority, then first come.

Pushing and removing never wait for the device. A waiting worker sleeps on a `SimpleQueue` of tickets, one a push, which
wakes it faster than a condition variable; the heap beside it holds the order.
"""

import heapq
import itertools
import math
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
Urgency = tuple[float, ...]  # of one request: deadline, priority; of a part of one also arrival and rank


def urgency(deadline_ns: int | None, priority: int) -> Urgency:
    """Return a key that is less the more urgent a request is; no deadline is the least urgent."""
    return (math.inf if deadline_ns is None else deadline_ns, -priority)


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One place in the queue.

    Args:
        key: From `urgency`.
        item: What waits; None once it was taken or removed.
        cost_s: Least time it will keep the device busy [s].
    """

    key: Urgency
    item: T | None
    cost_s: float = 0.0
    sequence: int = field(default=0)

    def __lt__(self, other: "Entry[T]") -> bool:
        return (self.key, self.sequence) < (other.key, other.sequence)


class EdfQueue(Generic[T]):
    """Earliest deadline first, for any number of pushing threads and one that pops."""

    def __init__(self) -> None:
        self._heap: list[Entry[T]] = []
        self._live = 0
        self._sequence = itertools.count()
        self._lock = threading.Lock()
        self._tickets: SimpleQueue[bool] = SimpleQueue()

    def __len__(self) -> int:
        return self._live

    def push(self, key: Urgency, item: T, cost_s: float = 0.0) -> Entry[T]:
        """Put an item in its place and return that."""
        entry = Entry(key, item, cost_s, next(self._sequence))
        with self._lock:
            heapq.heappush(self._heap, entry)
            self._live += 1
        self._tickets.put(True)
        return entry

    def remove(self, entry: Entry[T]) -> bool:
        """Take an item out wherever it stands; return whether it was still there."""
        with self._lock:
            if entry.item is None:
                return False
            entry.item = None
            self._live -= 1
            return True

    def pop(self) -> T | None:
        """Wait for the most urgent item and take it; None once the queue is closed and empty."""
        while True:
            open_ = self._tickets.get()
            item = self.pop_before(None)
            if item is not None:
                return item
            if not open_:
                self._tickets.put(False)
                return None

    def pop_before(self, key: Urgency | None) -> T | None:
        """Take the most urgent item without waiting, if there is one more urgent than `key` (None: any at all)."""
        with self._lock:
            while self._heap:
                item = self._heap[0].item
                if item is not None and key is not None and not self._heap[0].key < key:
                    return None
                entry = heapq.heappop(self._heap)
                if item is not None:
                    entry.item = None
                    self._live -= 1
                    return item
            return None

    def cost_before(self, key: Urgency) -> float:
        """Return the least time that items at least as urgent as `key` will keep the device busy [s]."""
        with self._lock:
            return sum(entry.cost_s for entry in self._heap if entry.item is not None and entry.key <= key)

    def close(self) -> None:
        """Let `pop` return None once nothing is left."""
        self._tickets.put(False)
