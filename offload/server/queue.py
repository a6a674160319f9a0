"""The edge server's queue: earliest deadline first, fair shares for every client, batches where they help.

The I/O thread puts and discards, worker threads take. A job is either computed or answered by the I/O thread, never
both.

Jobs come by deadline, then priority, then order of arrival. Each client has a credit of computing time; a job is
charged to it when it is taken. A client without credit waits until nobody with credit has a job waiting; then a new
round begins and every credit is filled up. So a client that floods the queue with urgent work takes at most its credit
from the others in each round, and nothing is lost while it is alone.

A batch is the job that comes first and those that follow it at once in the queue, if they run the same segments on
inputs of the same shape and the model says that so many are done by the first one's deadline, which is the earliest.
"""

import heapq
from collections.abc import Callable

from devices.edf import EdfQueue, Entry
from offload.server.job import Job

ROUND_US = 50_000
"""Computing time that a client may take in one round [us]."""

_LEAST_CHARGE_US = 100
_MOST_CHARGE_US = 4 * ROUND_US


class DeadlineQueue(EdfQueue[Job]):
    """A priority queue of jobs that threads wait on.

    Args:
        batch_limit: Most jobs that may run together with this one first; 1 by default.
    """

    def __init__(self, batch_limit: Callable[[Job], int] | None = None) -> None:
        super().__init__()
        self._batch_limit = batch_limit
        self._next_round: list[Entry[Job]] = []
        self._credit_us: dict[bytes, int] = {}

    def put(self, job: Job) -> None:
        """Add a job."""
        job.entry = self.push((job.deadline_s, job.request.priority), job)

    def discard(self, job: Job) -> bool:
        """Take a job out, or keep one that was never put from being computed; False if a worker has it already."""
        if job.discarded or (job.entry is not None and not self.remove(job.entry)):
            return False
        job.discarded = True
        return True

    def take(self) -> list[Job] | None:
        """Wait for the most urgent job and return it with those to run beside it; None once closed and empty."""
        return self._wait(self._take_batch)

    # What follows holds the lock.

    def _next(self) -> Entry[Job] | None:
        while True:
            entry = super()._next()
            if entry is None:
                if not self._next_round:
                    self._credit_us.clear()
                    return None
                self._begin_round()
                continue
            job = entry.item
            if job is None or self._credit_us.get(job.owner, ROUND_US) > 0 or not self._others_wait():
                return entry
            self._next_round.append(heapq.heappop(self._heap))

    def _begin_round(self) -> None:
        self._heap, self._next_round = self._next_round, []
        heapq.heapify(self._heap)
        self._credit_us = {owner: min(ROUND_US, left_us + ROUND_US) for owner, left_us in self._credit_us.items()}

    def _others_wait(self) -> bool:
        return bool(self._next_round) or len(self._heap) > 1

    def _claim(self) -> Job:
        job = super()._claim()
        left_us = self._credit_us.get(job.owner, ROUND_US)
        self._credit_us[job.owner] = left_us - min(max(job.expected_us, _LEAST_CHARGE_US), _MOST_CHARGE_US)
        return job

    def _take_batch(self) -> list[Job] | None:
        if self._next() is None:
            return None
        first = self._claim()
        together = [first]
        limit = 1 if self._batch_limit is None or first.served is None or not len(self) else self._batch_limit(first)
        while len(together) < limit:
            entry = self._next()
            job = entry.item if entry is not None else None
            if job is None or job.served is not first.served or not _stack(first, job):
                break
            together.append(self._claim())
        return together


def _stack(first: Job, other: Job) -> bool:
    """Whether the inputs of two jobs differ in their number of rows alone."""
    return first.inputs.keys() == other.inputs.keys() and all(
        array.ndim > 0 and array.shape[1:] == other.inputs[name].shape[1:] and array.dtype == other.inputs[name].dtype
        for name, array in first.inputs.items()
    )
