"""How an edge server's workers compute: one job or a batch at a time, stopped where nobody wants the answer any more.

A batch runs under one token. It is stopped as soon as one of its jobs must be answered, because its deadline fell, or
when nobody wants any of its answers; those that still have time are then run again.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from devices.backend import CancelToken
from devices.clock import Clock
from devices.errors import DeviceError
from offload.frames import Array
from offload.server.models import Computed
from offload.server.queue import Job
from offload.server.tally import Tally
from offload.wire import Code, Reply

_LOG = logging.getLogger("headway.edge")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one job: the reply, still without the server's load, and its tensors."""

    reply: Reply
    outputs: Mapping[str, Array] = field(default_factory=dict)


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
        self._lock = threading.Lock()

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

    def compute_here(self, job: Job) -> Answer | None:
        """Compute one job under its own token; None if it was stopped: it must be run again, elsewhere."""
        began_s = self._clock.now_s()
        if began_s >= job.deadline_s:
            return Answer(_late(job, began_s))
        try:
            computed = job.served.run(0, job.inputs, job.token)  # type: ignore[union-attr]
        except DeviceError as error:
            return Answer(_failure(job, str(error)))
        except Exception:
            return Answer(_failed_oddly(job))
        self._took(job, 1, self._clock.now_s() - began_s)
        job.token = CancelToken()  # the watchdog may still stop the old one
        if computed.cancelled:
            return None
        return self._answer(job, computed, began_s)

    def compute(self, worker: int, jobs: Sequence[Job]) -> tuple[list[tuple[Job, Answer]], list[Job]]:
        """Return the answers to jobs, and those of a batch that must be run again."""
        began_s = self._clock.now_s()
        answers = [(job, Answer(_late(job, began_s))) for job in jobs if began_s >= job.deadline_s]
        jobs = [job for job in jobs if began_s < job.deadline_s]
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
                    answers.append((job, self._answer(job, computed, began_s)))
        except DeviceError as error:
            answers += [(job, Answer(_failure(job, str(error)))) for job in jobs]
        except Exception:
            answers += [(job, Answer(_failed_oddly(job))) for job in jobs]
        finally:
            del self._running[worker]
        return answers, again

    def _run(self, worker: int, jobs: Sequence[Job], token: CancelToken) -> list[Computed]:
        served = jobs[0].served
        began_s = self._clock.now_s()
        if len(jobs) == 1:
            computed = [served.run(worker, jobs[0].inputs, token)]  # type: ignore[union-attr]
        else:
            computed = served.run_together(worker, [job.inputs for job in jobs], token)  # type: ignore[union-attr]
        # A stopped run counts as well: the model is at least that slow.
        self._took(jobs[0], len(jobs), self._clock.now_s() - began_s)
        return computed

    def _took(self, job: Job, size: int, compute_s: float) -> None:
        served = job.served
        if served is None:
            return
        measured = size if size == 1 else min((item for item in served.batch_sizes if item >= size), default=size)
        if measured == size:
            served.times.of(size).add(compute_s)

    def _answer(self, job: Job, computed: Computed, began_s: float) -> Answer:
        compute_s = self._clock.now_s() - began_s
        queue_s = began_s - job.received_s
        self._tally.queue.add(queue_s)
        self._tally.compute.add(compute_s)
        code, message, exit_id = Code.OK, "", computed.exit_id
        outputs: Mapping[str, Array] = computed.outputs
        if job.token.cancelled and not job.expired:
            code, message = Code.CANCELLED, "stopped while it ran"
        elif computed.cancelled and exit_id is None:
            code = Code.DEADLINE_EXCEEDED
            message = f"no exit was finished: {job.request.time_left_us} us were left"
        if code is not Code.OK:
            exit_id, outputs = None, {}
        reply = Reply(
            id=job.request.id,
            code=code,
            message=message,
            exit_id=exit_id,
            queue_us=max(0, int(1e6 * queue_s)),
            compute_us=round(1e6 * compute_s),
        )
        return Answer(reply, outputs)


def _late(job: Job, now_s: float) -> Reply:
    queue_us = max(0, round(1e6 * (now_s - job.received_s)))
    text = f"not computed: waited {queue_us} us, {job.request.time_left_us} us were left"
    return Reply(id=job.request.id, code=Code.DEADLINE_EXCEEDED, message=text, queue_us=queue_us)


def _failure(job: Job, message: str) -> Reply:
    return Reply(id=job.request.id, code=Code.UNAVAILABLE, message=message[:1024])


def _failed_oddly(job: Job) -> Reply:
    _LOG.exception("request %d on model %r failed", job.request.id, job.request.model)
    return _failure(job, "the server failed; its log says why")
