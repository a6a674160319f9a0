"""A queue of work for devices: earliest deadline first, then highest priority, then first come.

Pushing and removing never wait for whoever works. A worker that waits sleeps on a `SimpleQueue` of tickets, one a push,
which wakes it faster than a condition variable; the heap beside it holds the order. Who got an item first, a worker or
a removal, is decided under one lock: it is never both.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Urgency = tuple[float, ...]
"""Less for what is more urgent: a deadline, then whatever breaks ties."""


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One place in the queue.

    Args:
        key: How urgent it is.
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
    """Earliest deadline first, for any number of threads that push and that pop."""

    def __init__(self) -> None:
        self._heap: list[Entry[T]] = []
        self._live = 0
        self._sequence = itertools.count()
        self._lock = threading.Lock()
        self._tickets: SimpleQueue[bool] = SimpleQueue()  # at least one True an item that waits

    def __len__(self) -> int:
        """Return how many items wait."""
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
        return self._wait(lambda: self._take_before(None))

    def pop_before(self, key: Urgency | None) -> T | None:
        """Take the most urgent item without waiting, if there is one more urgent than `key` (None: any at all)."""
        with self._lock:
            return self._take_before(key)

    def cost_before(self, key: Urgency) -> float:
        """Return the least time that items at least as urgent as `key` will keep the device busy [s]."""
        with self._lock:
            return sum(entry.cost_s for entry in self._heap if entry.item is not None and entry.key <= key)

    def close(self) -> None:
        """Let every worker leave once nothing is left."""
        self._tickets.put(False)

    def _wait(self, take: Callable[[], R | None]) -> R | None:
        """Return what `take` returns, under the lock, as soon as that is something; None once closed and empty."""
        while True:
            open_ = self._tickets.get()
            with self._lock:
                taken = take()
            if taken is not None:
                if not open_:
                    self._tickets.put(False)
                return taken
            if not open_:
                self._tickets.put(False)
                return None

    # What follows holds the lock.

    def _next(self) -> Entry[T] | None:
        """Return the entry that comes next, on top of the heap; None if none waits."""
        while self._heap:
            if self._heap[0].item is not None:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def _claim(self) -> T:
        """Take the item on top of the heap."""
        entry = heapq.heappop(self._heap)
        item, entry.item = entry.item, None
        if item is None:
            raise ValueError("what is on top of the queue was removed: look for the next one first")
        self._live -= 1
        return item

    def _take_before(self, key: Urgency | None) -> T | None:
        entry = self._next()
        if entry is None or (key is not None and not entry.key < key):
            return None
        return self._claim()
