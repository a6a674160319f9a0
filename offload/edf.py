"""The edge server's queue: earliest deadline first, then priority, then order of arrival.

The I/O thread puts and discards, worker threads take. Who got a job first, a worker or a discard, is decided under one
lock, so that a job is either computed or answered by the I/O thread, never both.
"""

import heapq
import itertools
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue

from devices.backend import CancelToken
from offload.frames import Array
from offload.wire import Request


@dataclass(slots=True, eq=False)
class Job:
    """One accepted request.

    Args:
        client: ZeroMQ identity of its connection.
        inputs: Its tensors by name; emptied once it is answered.
        size: Bytes of its tensors [B].
        received_s, deadline_s: When it came and when its answer stops being of use, on the server's clock [s].
        expected_us: Time its computation is expected to take [us].
        token: Stops it where it runs.
        taken: A worker has it.
        discarded: It was taken out of the queue before a worker had it.
        expired: Its token was cancelled because its deadline passed, not because the client asked.
    """

    client: bytes
    request: Request
    inputs: dict[str, Array]
    size: int
    received_s: float
    deadline_s: float
    expected_us: int = 0
    token: CancelToken = field(default_factory=CancelToken)
    taken: bool = False
    discarded: bool = False
    expired: bool = False


class DeadlineQueue:
    """A priority queue of jobs that threads wait on."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Job]] = []
        self._sequence = itertools.count()
        self._lock = threading.Lock()
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # one True an entry of the heap, discarded ones included
        self._waiting = 0

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return self._waiting

    def put(self, job: Job) -> None:
        """Add a job."""
        with self._lock:
            heapq.heappush(self._heap, (job.deadline_s, job.request.priority, next(self._sequence), job))
            self._waiting += 1
        self._tokens.put(True)

    def discard(self, job: Job) -> bool:
        """Take a job out; False if a worker has it already."""
        with self._lock:
            if job.taken or job.discarded:
                return False
            job.discarded = True
            self._waiting -= 1
            return True

    def take(self) -> Job | None:
        """Wait for the most urgent job and return it; None once the queue is closed and empty."""
        while self._tokens.get():
            with self._lock:
                job = heapq.heappop(self._heap)[-1]
                if not job.discarded:
                    job.taken = True
                    self._waiting -= 1
                    return job
        return None

    def close(self, workers: int) -> None:
        """Let each of so many workers leave once it has taken what was put before."""
        for _ in range(workers):
            self._tokens.put(False)
