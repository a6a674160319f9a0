"""How an edge server's workers compute: one job or a batch at a time, stopped where nobody wants the answer any more.

A batch runs under one token. It is stopped as soon as one of its jobs must be answered, because its deadline fell, or
when nobody wants any of its answers; those that still have time are then run again.

A job that the model has no time left for is not begun: where everybody sends too much, every job would otherwise be
stopped shortly before its end, and nothing ever be answered. Once a second it is tried all the same, as the model may
have become quicker.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from devices.backend import CancelToken
from devices.clock import Clock
from devices.errors import DeviceError
from offload.frames import Array
from offload.server.job import Job
from offload.server.ranges import Computed
from offload.server.tally import Tally
from offload.wire import Code

_LOG = logging.getLogger("headway.edge")
_TRIED_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one job.

    Args:
        job: The job.
        code: How it ended; `message` says why, unless OK.
        outputs: Tensors by name; `exit_id` names the exit that gave them, None where the range holds none.
        queue_s, compute_s: Time it waited, and time it was computed [s].
    """

    job: Job
    code: Code
    message: str = ""
    outputs: Mapping[str, Array] = field(default_factory=dict)
    exit_id: str | None = None
    queue_s: float = 0.0
    compute_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Running:
    jobs: Sequence[Job]
    token: CancelToken


class Computer:
    """Runs jobs; one for all workers.

    Args:
        clock: Times the runs and tells whose deadline has passed.
        tally: Counts them.
    """

    def __init__(self, clock: Clock, tally: Tally) -> None:
        self._clock = clock
        self._tally = tally
        self._running: dict[int, _Running] = {}

    def batch_limit(self, first: Job) -> int:
        """Return how many jobs may run together with `first` as the most urgent."""
        served = first.served
        if served is None or not served.batch_sizes:
            return 1
        return served.times.limit(served.batch_sizes, first.deadline_s - self._clock.now_s())

    def longest_overdue_s(self, now_s: float) -> float:
        """Return how long ago the deadline of something fell that a worker still computes [s]; 0 if there is none."""
        running = list(self._running.values())
        return max((now_s - max(job.deadline_s for job in item.jobs) for item in running), default=0.0)

    def look(self, job: Job) -> None:
        """Stop the batch that `job` is in if it expired, or if nobody wants the answers; its own token is cancelled."""
        for running in list(self._running.values()):
            if job in running.jobs and (job.expired or all(item.token.cancelled for item in running.jobs)):
                running.token.cancel()

    def stop(self) -> None:
        """Stop whatever runs."""
        for running in list(self._running.values()):
            running.token.cancel()

    def compute(self, worker: int, jobs: Sequence[Job]) -> tuple[list[Answer], list[Job]]:
        """Return the answers to jobs, and those of a batch that must be run again."""
        began_s = self._clock.now_s()
        answers = []
        if any(self._is_late(job, began_s) for job in jobs):
            answers = [_late(job, began_s) for job in jobs if self._is_late(job, began_s)]
            jobs = [job for job in jobs if not self._is_late(job, began_s)]
            if not jobs:
                return answers, []
        token = jobs[0].token if len(jobs) == 1 else CancelToken()
        self._running[worker] = _Running(jobs, token)
        for job in jobs:
            if job.token.cancelled:
                self.look(job)
        self._tally.batches[len(jobs)] += 1
        again: list[Job] = []
        try:
            for job, computed in zip(jobs, self._run(worker, jobs, token), strict=True):
                if computed.cancelled and not job.token.cancelled and len(jobs) > 1:
                    again.append(job)
                else:
                    answers.append(self._answer(job, computed, began_s))
        except DeviceError as error:
            answers += [_failure(job, str(error)) for job in jobs]
        except Exception:
            answers += [failed_oddly(job) for job in jobs]
        finally:
            del self._running[worker]
        return answers, again

    def _is_late(self, job: Job, now_s: float) -> bool:
        """Whether a job's deadline has passed, or is so near that nothing could be answered by then."""
        left_s, served = job.deadline_s - now_s, job.served
        if left_s <= 0.0:
            return True
        if served is None or served.answers_early or left_s >= served.times.alone.p50_s:
            return False
        return now_s - served.ran_s < _TRIED_EVERY_S

    def _run(self, worker: int, jobs: Sequence[Job], token: CancelToken) -> list[Computed]:
        served = jobs[0].served
        if served is None:
            raise ValueError(f"job {jobs[0].request.id} is not bound to a model")
        began_s = served.ran_s = self._clock.now_s()
        if len(jobs) == 1:
            computed = [served.run(worker, jobs[0].inputs, token)]
        else:
            computed = served.run_together(worker, [job.inputs for job in jobs], token)
        # A stopped run counts as well: the model is at least that slow.
        served.took(len(jobs), self._clock.now_s() - began_s)
        return computed

    def _answer(self, job: Job, computed: Computed, began_s: float) -> Answer:
        compute_s = self._clock.now_s() - began_s
        queue_s = began_s - job.received_s
        self._tally.queue.add(queue_s)
        self._tally.compute.add(compute_s)
        if job.token.cancelled and not job.expired:
            return Answer(job, Code.CANCELLED, "stopped while it ran", queue_s=queue_s, compute_s=compute_s)
        if computed.cancelled and computed.exit_id is None:
            message = f"no exit was finished: {job.request.time_left_us} us were left"
            return Answer(job, Code.DEADLINE_EXCEEDED, message, queue_s=queue_s, compute_s=compute_s)
        return Answer(job, Code.OK, "", computed.outputs, computed.exit_id, queue_s, compute_s)


def _late(job: Job, now_s: float) -> Answer:
    queue_s, left_us = now_s - job.received_s, round(1e6 * (job.deadline_s - now_s))
    text = f"not computed: waited {max(0, round(1e6 * queue_s))} us, {job.request.time_left_us} us were left"
    if left_us > 0:
        text = f"not computed: {left_us} us were left when its turn came, too few for this model"
    return Answer(job, Code.DEADLINE_EXCEEDED, text, queue_s=queue_s)


def _failure(job: Job, message: str) -> Answer:
    return Answer(job, Code.UNAVAILABLE, message[:1024])


def failed_oddly(job: Job) -> Answer:
    """Return the answer to a job that failed as nothing should, which the log explains."""
    _LOG.exception(
        "request %d on model %r failed",
        job.request.id,
        job.request.model,
        extra={"code": "request_failed", "model": job.request.model},
    )
    return _failure(job, "the server failed; its log says why")
