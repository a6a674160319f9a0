"""What an edge server has accepted and not answered: by request, by client, and by deadline.

Kept sorted by deadline, so that the next one to fall and the work due before a given one cost a search and a sum over
plain numbers. A server that is asked for more than it can do spends most of its time on exactly these questions.
"""

from bisect import bisect_left, bisect_right
from collections import Counter

from offload.server.job import Job


class Agenda:
    """The open jobs of one server. Owned by its I/O thread; others may read `len` and `load_us`."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[bytes, int], Job] = {}
        self._of: Counter[bytes] = Counter()
        self._deadlines_s: list[float] = []
        self._costs_us: list[int] = []
        self._sorted: list[Job] = []
        self.load_us = 0
        """Work accepted and not finished [us]."""
        self.size = 0
        """Bytes of the tensors of open jobs [B]."""

    def __len__(self) -> int:
        """Return how many jobs are open."""
        return len(self._jobs)

    def __contains__(self, job: Job) -> bool:
        return self._jobs.get((job.client, job.request.id)) is job

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every open job."""
        return tuple(self._jobs.values())

    @property
    def next_s(self) -> float | None:
        """When the next deadline falls that `fallen` has not returned yet [s]; None: there is none."""
        return self._deadlines_s[0] if self._deadlines_s else None

    def find(self, client: bytes, request_id: int) -> Job | None:
        """Return a client's open job; None if it has none of that id."""
        return self._jobs.get((client, request_id))

    def open_of(self, owner: bytes) -> int:
        """Return how many jobs of one client are open."""
        return self._of.get(owner, 0)

    def add(self, job: Job) -> None:
        """Take in a job that was accepted."""
        self._jobs[job.client, job.request.id] = job
        self._of[job.owner] += 1
        self.load_us += job.expected_us
        self.size += job.size
        place = bisect_right(self._deadlines_s, job.deadline_s)
        self._deadlines_s.insert(place, job.deadline_s)
        self._costs_us.insert(place, job.expected_us)
        self._sorted.insert(place, job)

    def remove(self, job: Job) -> None:
        """Take out a job that is answered; its tensors are let go."""
        del self._jobs[job.client, job.request.id]
        self._of[job.owner] -= 1
        if not self._of[job.owner]:
            del self._of[job.owner]
        self.load_us -= job.expected_us
        self.size -= job.size
        job.inputs = {}
        place = bisect_left(self._deadlines_s, job.deadline_s)
        while place < len(self._sorted) and self._deadlines_s[place] == job.deadline_s:
            if self._sorted[place] is job:
                self._forget(slice(place, place + 1))
                return
            place += 1

    def fallen(self, now_s: float) -> list[Job]:
        """Return the jobs whose deadline has fallen since the last call; they stay open until they are removed."""
        end = bisect_right(self._deadlines_s, now_s)
        fallen = self._sorted[:end]
        self._forget(slice(0, end))
        return fallen

    def work_until_us(self, deadline_s: float) -> int:
        """Return the work of the open jobs whose deadline is to come, but no later than this [us]."""
        return sum(self._costs_us[: bisect_right(self._deadlines_s, deadline_s)])

    def _forget(self, places: slice) -> None:
        del self._deadlines_s[places], self._costs_us[places], self._sorted[places]
