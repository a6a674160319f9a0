"""The edge server's queue: earliest deadline first, fair shares for every client, batches where they help.

The I/O thread puts and discards, worker threads take. Who got a job first, a worker or a discard, is decided under one
lock, so that a job is either computed or answered by the I/O thread, never both.

Jobs come by deadline, then priority, then order of arrival. Each client has a credit of computing time; a job is
charged to it when it is taken. A client without credit waits until nobody with credit has a job waiting; then a new
round begins and every credit is filled up. So a client that floods the queue with urgent work takes at most its credit
from the others in each round, and nothing is lost while it is alone.

A batch is the job that comes first and those that follow it at once in the queue, if they run the same segments on
inputs of the same shape and the model says that so many are done by the first one's deadline, which is the earliest.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from queue import SimpleQueue

from offload.server.job import Job

ROUND_US = 50_000
"""Computing time that a client may take in one round [us]."""

_LEAST_CHARGE_US = 100
_MOST_CHARGE_US = 4 * ROUND_US

Entry = tuple[float, int, int, Job]


class DeadlineQueue:
    """A priority queue of jobs that threads wait on.

    Args:
        batch_limit: Most jobs that may run together with this one first; 1 by default.
    """

    def __init__(self, batch_limit: Callable[[Job], int] | None = None) -> None:
        self._batch_limit = batch_limit
        self._heap: list[Entry] = []
        self._next_round: list[Entry] = []
        self._credit_us: dict[bytes, int] = {}
        self._sequence = itertools.count()
        self._lock = threading.Lock()
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # at least one True a job that waits
        self._waiting = 0

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return self._waiting

    def put(self, job: Job) -> None:
        """Add a job."""
        with self._lock:
            heapq.heappush(self._heap, (job.deadline_s, job.request.priority, next(self._sequence), job))
            self._waiting += 1
            job.queued = True
        self._tokens.put(True)

    def discard(self, job: Job) -> bool:
        """Take a job out, or keep one that was never put from being computed; False if a worker has it already."""
        with self._lock:
            if job.taken or job.discarded:
                return False
            job.discarded = True
            self._waiting -= job.queued
            return True

    def take(self) -> list[Job] | None:
        """Wait for the most urgent job and return it with those to run beside it; None once closed and empty."""
        while self._tokens.get():
            with self._lock:
                first = self._first()
                if first is not None:
                    self._pop()
                    return [first, *self._beside(first)]
        return None

    def close(self, workers: int) -> None:
        """Let each of so many workers leave once it has taken what was put before."""
        for _ in range(workers):
            self._tokens.put(False)

    def _first(self) -> Job | None:
        """Return the job that comes next and leave it on top of the heap; None if none waits."""
        while self._heap or self._next_round:
            if not self._heap:
                self._heap, self._next_round = self._next_round, []
                heapq.heapify(self._heap)
                self._credit_us = {
                    client: min(ROUND_US, credit_us + ROUND_US) for client, credit_us in self._credit_us.items()
                }
            job = self._heap[0][-1]
            if job.discarded:
                heapq.heappop(self._heap)
            elif self._credit_us.get(job.owner, ROUND_US) <= 0 and self._others_wait(job):
                self._next_round.append(heapq.heappop(self._heap))
            else:
                return job
        self._credit_us.clear()
        return None

    def _others_wait(self, job: Job) -> bool:
        return bool(self._next_round) or len(self._heap) > 1

    def _pop(self) -> None:
        job = heapq.heappop(self._heap)[-1]
        job.taken = True
        self._waiting -= 1
        left_us = self._credit_us.get(job.owner, ROUND_US)
        self._credit_us[job.owner] = left_us - min(max(job.expected_us, _LEAST_CHARGE_US), _MOST_CHARGE_US)

    def _beside(self, first: Job) -> list[Job]:
        if self._batch_limit is None or first.served is None or not self._waiting:
            return []
        beside: list[Job] = []
        limit = self._batch_limit(first)
        while len(beside) + 1 < limit:
            job = self._first()
            if job is None or job.served is not first.served or not _stack(first, job):
                break
            self._pop()
            beside.append(job)
        return beside


def _stack(first: Job, other: Job) -> bool:
    """Whether the inputs of two jobs differ in their number of rows alone."""
    return first.inputs.keys() == other.inputs.keys() and all(
        array.ndim > 0 and array.shape[1:] == other.inputs[name].shape[1:] and array.dtype == other.inputs[name].dtype
        for name, array in first.inputs.items()
    )
