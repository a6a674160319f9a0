"""The worker of one device: one thread that runs the most urgent request, and only that one.

Between two segments it looks at the queue: a request with an earlier deadline is run to its end there and then, and the
one that was interrupted goes on afterwards with nothing lost. Where a request would miss its deadline by waiting for a
segment to end, that segment is stopped at once and run again later, a few times for each request at most.
A request that runs on several devices stands in their queues with the parts that are ready, and needs no such pause.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from devices.backend import Backend
from devices.chain import ExitAnswer
from devices.clock import NS_PER_S, Clock
from devices.errors import BackendError, InputError, SegmentError
from devices.tensor import check_finite
from runtime.execute.flow import Flow
from runtime.execute.job import Job
from runtime.execute.latency import LatencyWindow
from runtime.execute.queue import EdfQueue
from runtime.execute.request import Status
from runtime.execute.reserve import Reserve

_log = logging.getLogger(__name__)
MAX_NESTED = 8
MAX_INTERRUPTIONS = 4
_STUCK_S = 2.0


@dataclass(frozen=True, slots=True)
class Device:
    """A device and where its worker runs.

    Args:
        backend: The opened device.
        cores: Processor cores the worker is pinned to; None: wherever the kernel likes.
    """

    backend: Backend
    cores: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one device does for a request that runs on several.

    Args:
        job: The request.
        flow: Its run.
        place: Place of the unit in the flow.
        spare: It is what an edge server has not answered in time.
    """

    job: Job
    flow: Flow
    place: int
    spare: bool = False


@dataclass(frozen=True, slots=True)
class _Running:
    """What a device does just now: for which job, until when by its p99 [ns], whether it may be stopped for another."""

    job: Job
    until_ns: int
    may_wait: bool


class DeviceWorker:
    """One device with its queue and its thread.

    Args:
        device: The device.
        clock: The executor's clock.
        reserve: Time kept before each deadline for the reply.
        refusal: Says why a job can't be met any more, or None if it can.
    Raises:
        BackendError: A core to pin to is not open to this process.
    """

    def __init__(self, device: Device, clock: Clock, reserve: Reserve, refusal: Callable[[Job], str | None]) -> None:
        allowed = os.sched_getaffinity(0)
        if device.cores is not None and not (device.cores and device.cores <= allowed):
            asked = sorted(device.cores)
            raise BackendError(f"{device.backend.device}: cannot pin to cores {asked}: open are {sorted(allowed)}")
        self.backend = device.backend
        self.queue: EdfQueue[Job | Part] = EdfQueue()
        self.gate = threading.Lock()  # held by whoever uses the device; nobody who submits or cancels waits for it
        self._cores = device.cores
        self._clock = clock
        self._reserve = reserve
        self._refusal = refusal
        self._running: _Running | None = None
        self.died: str | None = None
        self._stopping = LatencyWindow()  # from an interruption to the device being free
        self._interrupted_ns = 0
        self._thread = threading.Thread(target=self._serve, name=f"headway-{self.backend.device}", daemon=True)

    def start(self) -> None:
        """Begin to serve the queue."""
        self._thread.start()

    def close(self) -> None:
        """Let the queue run empty, then stop."""
        self.queue.close()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def lost(self) -> str | None:
        """Why the device does nothing for anybody any more, None while it does."""
        running, died = self._running, self.died
        ended_ns = None if running is None else running.job.ended_ns
        if died is None and ended_ns is not None and self._clock.now_ns() - ended_ns > _STUCK_S * NS_PER_S:
            return f"{self.backend.device} does not stop what it runs for a request that has ended"
        return died

    def _serve(self) -> None:
        try:
            self.pin()
            while (job := self.queue.pop()) is not None:
                with self.gate:
                    self.run(job)
                del job  # its tensors must not live until the next request
        except BaseException as error:  # as a driver that ends its thread
            self._die(f"the worker of {self.backend.device} has died: {error!r}")

    def _die(self, reason: str) -> None:
        """Fail what runs and what waits: nobody else will."""
        self.died = reason
        _log.error("%s", reason, extra={"code": "worker_died", "device": self.backend.device})
        while (item := self.queue.pop_before(None)) is not None:
            (item.job if isinstance(item, Part) else item).fail(reason)

    def pin(self) -> None:
        """Pin the calling thread to the device's cores."""
        if self._cores is not None:
            os.sched_setaffinity(0, self._cores)  # 0 is the calling thread, not the process

    def run(self, item: Job | Part, depth: int = 0) -> None:
        """Run a job to its end, or one part of it; the caller holds the gate.

        `depth` counts the jobs that it interrupts.
        """
        job = item.job if isinstance(item, Part) else item
        if not job.open or (not job.started and self._refused(job)):
            return
        job.start()
        outer = self._running
        try:
            if isinstance(item, Part) and item.spare:
                item.flow.run_spare(item.place, partial(self._let_pass, job, depth))
            elif isinstance(item, Part):
                self._expect(job, item.flow.unit(item.place).busy, may_wait=False)
                item.flow.run(item.place)
            else:
                self._walk(job, depth)
        except SegmentError as error:
            job.fail(str(error))
        except Exception as error:  # the worker must outlive a broken backend
            _log.exception(
                "request %r: the backend of %s failed",
                job.request.id,
                self.backend.device,
                extra={"code": "backend_failed", "device": self.backend.device},
            )
            job.fail(f"the backend of {self.backend.device} failed: {error}")
        except BaseException as error:  # ends the thread
            job.fail(f"the backend of {self.backend.device} failed: {error!r}")
            raise
        finally:
            self._running = outer

    def free_in_s(self, job: Job) -> float:
        """Return the time until what runs now would let `job` begin, by its p99 [s]."""
        running = self._running
        if running is None or running.job is job:
            return 0.0
        left_s = max(0.0, (running.until_ns - self._clock.now_ns()) / NS_PER_S)
        if not running.job.open or self._may_interrupt(running, job):
            return min(left_s, self._stopping.p99_s)
        return left_s

    def make_way(self, job: Job) -> None:
        """Stop what runs now if `job`, which waits, would miss its deadline for it; it is run again later."""
        running = self._running
        left_s = job.time_left_s()
        if running is None or left_s is None or not self._may_interrupt(running, job):
            return
        wait_s = (running.until_ns - self._clock.now_ns()) / NS_PER_S
        if wait_s > 0.0 and wait_s + job.first_p99_s + self._reserve.total_s > left_s:
            running.job.interruptions += 1
            self._interrupted_ns = self._clock.now_ns()
            running.job.token.interrupt()

    def _may_interrupt(self, running: _Running, job: Job) -> bool:
        other = running.job
        if not (running.may_wait and other.open and job.key < other.key and other.interruptions < MAX_INTERRUPTIONS):
            return False
        left_s = other.time_left_s()
        return left_s is None or left_s > job.first_p99_s + other.first_p99_s + self._reserve.total_s

    def _expect(self, job: Job, window: LatencyWindow, *, may_wait: bool) -> None:
        until_ns = self._clock.now_ns() + round(window.p99_s * NS_PER_S)
        self._running = _Running(job, until_ns, may_wait)

    def _walk(self, job: Job, depth: int) -> None:
        may_wait = depth < MAX_NESTED
        latency = job.model.latency
        self._expect(job, latency.first[job.first_exit], may_wait=may_wait)

        def on_exit(answer: ExitAnswer) -> bool:
            taken = job.take_exit(answer, self._reserve.total_s)
            if not taken:
                self._expect(job, latency.step[answer.index + 1], may_wait=may_wait)
            return taken

        def between(lost_s: float) -> None:
            self._let_pass(job, depth, lost_s)

        job.model.chain.run_checked(job.request.inputs, job.token, on_exit, job.first_exit, between)

    def _refused(self, job: Job) -> bool:
        left_s = job.time_left_s()
        if left_s is not None and left_s <= self._reserve.total_s:
            job.expire()
            return True
        reason = self._refusal(job)
        if reason is not None:
            return job.end(Status.RESOURCE_EXHAUSTED, reason)
        try:
            check_finite(job.request.inputs)
        except InputError as error:
            return job.end(Status.INVALID, str(error))
        return False

    def _let_pass(self, job: Job, depth: int, lost_s: float) -> None:
        if lost_s == 0.0 and (not len(self.queue) or depth >= MAX_NESTED):
            return
        began_ns = self._clock.now_ns()
        if lost_s > 0.0:
            self._stopping.add((began_ns - self._interrupted_ns) / NS_PER_S)
        while depth < MAX_NESTED and (urgent := self.queue.pop_before(job.key)) is not None:
            self.run(urgent, depth + 1)
        paused_ns = self._clock.now_ns() - began_ns + round(lost_s * NS_PER_S)
        job.paused(paused_ns)
        if self._running is not None:
            self._running = replace(self._running, until_ns=self._running.until_ns + paused_ns)
