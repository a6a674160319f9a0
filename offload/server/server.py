"""The edge server: runs model packages for vehicles, earliest deadline first.

One I/O thread owns the ROUTER and every decision; worker threads compute; a loader thread loads. Work goes to the
workers through a deadline queue and comes back through a queue and an eventfd in the same poller. With nothing else to
do and a model that takes less than half a millisecond, the I/O thread computes itself and spares both hand-overs;
should such a run take long after all, a watchdog stops it and a worker takes over.

A request whose time has passed is answered DEADLINE_EXCEEDED and never computed; one that runs is stopped where it is.
A damaged or impossible message is answered INVALID with its reason and concerns nobody else.

Models are replaced while serving: the new ones are loaded and warmed up first, requests accepted before finish on the
old ones.

Beyond loopback an edge server must know its clients: see `offload.security`.
"""

import heapq
import itertools
import logging
import os
import resource
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
import zmq

from devices.backend import Backend
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.clock import Clock, MonotonicClock
from devices.errors import DeviceError, InputError
from devices.package import Package
from offload.codec import available
from offload.errors import ServerError, WireError
from offload.frames import COPY_BELOW_BYTES, Array
from offload.security.gate import Gate, RefusedError
from offload.server.clients import Clients, most_clients
from offload.server.computing import Answer, Computer
from offload.server.models import Range, ServedModel, load_models
from offload.server.queue import DeadlineQueue, Job
from offload.server.settings import ServerSettings
from offload.server.tally import Tally
from offload.server.watchdog import Watchdog
from offload.throttle import Throttle
from offload.wakeup import Wakeup, holds_message
from offload.wire import (
    Cancel,
    Code,
    FromEdge,
    Hello,
    Ping,
    Pong,
    Reply,
    Request,
    Welcome,
    decode_from_vehicle,
    encode,
    encode_with,
)

_LOG = logging.getLogger("headway.edge")
_BATCH = 64  # messages read in a row before results and timers get their turn
_FLUSH_MS = 500
_LONGEST_POLL_MS = 250

_STUCK_S = 2.0


class EdgeServer:
    """Serves packages until stopped. Binding happens at construction, after every model is loaded and warmed up.

    Args:
        packages: What to serve.
        settings: How.
        open_backend: Opens the device of one worker; onnxruntime on the CPU by default.
        clock: Passed in for tests.
    Raises:
        ServerError: no package, two of one name, or the address cannot be bound.
        DeviceError: a model cannot be loaded or run.
    """

    def __init__(
        self,
        packages: Sequence[Package],
        settings: ServerSettings | None = None,
        *,
        open_backend: Callable[[], Backend] = OnnxRuntimeBackend,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or ServerSettings()
        self._clock = clock or MonotonicClock()
        self._open_backend = open_backend
        self._models = self._load(packages)
        self.tally = Tally()
        """What has been counted."""
        self._computer = Computer(self._clock, self.tally)
        self._queue = DeadlineQueue(self._computer.batch_limit)
        self._done: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._to_load: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._jobs: dict[tuple[bytes, int], Job] = {}
        self._jobs_of: Counter[bytes] = Counter()
        self._deadlines: list[tuple[float, int, Job]] = []
        self._parked: dict[tuple[ServedModel, Range], list[Job]] = {}
        self._sequence = itertools.count()
        self._load_us = 0
        self._bytes = 0
        self._stopping = False
        self._turned_s = -float("inf")
        self._watchdog = Watchdog(self._settings.inline_limit_s)
        self._complaints = Throttle(_LOG, self._clock)
        self._wakeup = Wakeup()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate: Gate | None = None
        try:
            if self._settings.security is not None or self._settings.client_limits is not None:
                self._gate = Gate(self._context, self._settings.security, self._settings.client_limits, self._clock)
            self._router = self._bind()
        except BaseException:
            self._watchdog.close()
            if self._gate is not None:
                self._gate.close()
            self._context.term()
            self._wakeup.close()
            raise
        self.endpoint: str = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        """Address it is bound to, with its real port."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models served."""
        return tuple(self._models)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the models served, by name."""
        return {name: model.package.version for name, model in self._models.items()}

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._queue)

    @property
    def open_requests(self) -> int:
        """Requests accepted and not answered."""
        return len(self._jobs)

    @property
    def load_s(self) -> float:
        """Work accepted and not finished [s]."""
        return 1e-6 * self._load_us

    @property
    def clients(self) -> Clients:
        """Who is connected."""
        return self._clients

    @property
    def gate_counts(self) -> Counter[str]:
        """What the gate has let in and refused; see `Gate.counts`."""
        return Counter() if self._gate is None else self._gate.counts

    def why_not_ready(self) -> str:
        """Return why requests sent now would not be computed in time; empty if they would. For any thread."""
        if self._stopping:
            return "draining"
        now_s = self._clock.now_s()
        if now_s - self._turned_s > _STUCK_S:
            return "not serving, or the I/O thread is stuck"
        overdue_s = self._computer.longest_overdue_s(now_s)
        if overdue_s > _STUCK_S:
            return f"a worker does not stop: {overdue_s:.1f} s past the deadline of what it computes"
        if len(self._jobs) >= self._settings.queue_jobs:
            return f"{len(self._jobs)} requests are open: no more are taken"
        return ""

    def stop(self) -> None:
        """Refuse new work, finish what was accepted, then leave `serve`; for any thread and for signal handlers."""
        self._stopping = True
        self._wakeup.set()

    def reload(self, read: Callable[[], Sequence[Package]]) -> None:
        """Replace the models by the packages that `read` returns; returns at once, for any thread and signal handlers.

        They are read, loaded and warmed up on the loader's thread while the old ones serve on; where that fails, the
        log says why and the old ones stay.
        """
        self._to_load.put(lambda: self._reload(read))

    def serve(self) -> None:
        """Serve until stopped; blocks the calling thread, which becomes the I/O thread."""
        loader = threading.Thread(target=self._bring, name="edge-loader", daemon=True)
        workers = [
            threading.Thread(target=self._work, args=(number,), name=f"edge-worker-{number}", daemon=True)
            for number in range(self._settings.workers)
        ]
        for thread in (loader, *workers):
            thread.start()
        try:
            self._loop()
        finally:
            for job in self._jobs.values():
                job.token.cancel()
            self._computer.stop()
            self._queue.close(len(workers))
            self._to_load.put(None)
            for thread in (loader, *workers):
                thread.join()
            self.close()

    def close(self) -> None:
        """Give the address back; for a server that is not serving. Twice does no harm."""
        self._watchdog.close()
        if not self._router.closed:
            self._clients.close()
        self._router.close(linger=_FLUSH_MS)
        if self._gate is not None:
            self._gate.close()
        self._context.term()
        self._wakeup.close()

    def _load(self, packages: Sequence[Package]) -> dict[str, ServedModel]:
        settings = self._settings
        return load_models(packages, self._open_backend, settings.workers, self._clock, settings.batch)

    def _bind(self) -> zmq.Socket[bytes]:
        settings = self._settings
        router: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.BACKLOG, 4096),
            (zmq.SNDHWM, settings.client_jobs + 8),
            (zmq.RCVHWM, settings.client_jobs + 8),
            (zmq.MAXMSGSIZE, max(settings.limits.tensor_bytes, settings.limits.header_bytes)),
            (zmq.HEARTBEAT_IVL, settings.heartbeat_ms),
            (zmq.HEARTBEAT_TIMEOUT, 3 * settings.heartbeat_ms),
            (zmq.HEARTBEAT_TTL, 3 * settings.heartbeat_ms),
        ):
            router.setsockopt(option, value)
        if self._gate is not None:
            self._gate.secure(router)
        router.copy_threshold = COPY_BELOW_BYTES
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = settings.clients or most_clients(limit, len(list(Path("/proc/self/fd").iterdir())))
        self._clients = Clients(router, most, self._clock)
        try:
            router.bind(settings.bind)
        except zmq.ZMQError as error:
            self._clients.close()
            router.close()
            raise ServerError(f"cannot bind {settings.bind}: {error.strerror}; choose another port, or 0") from error
        return router

    # What follows runs on the workers and the loader.

    def _work(self, number: int) -> None:
        cores = self._settings.worker_cores
        if cores:
            os.sched_setaffinity(0, {cores[number % len(cores)]})
        while (jobs := self._queue.take()) is not None:
            answers, again = self._computer.compute(number, jobs)
            self._tell(lambda answers=answers, again=again: self._computed(answers, again))  # type: ignore[misc]

    def _bring(self) -> None:
        while (action := self._to_load.get()) is not None:
            action()

    def _reload(self, read: Callable[[], Sequence[Package]]) -> None:
        try:
            models = self._load(read())
        except Exception:
            _LOG.exception("the models could not be loaded anew: those served so far stay")
            self.tally.reloads["failed"] += 1
            return
        self._tell(lambda: self._replace(models))

    def _bring_range(self, model: ServedModel, wanted: Range) -> None:
        failure = ""
        try:
            model.load(wanted)
        except DeviceError as error:
            failure = str(error)
        except Exception:
            _LOG.exception("segments %s to %s of %r could not be loaded", *wanted, model.package.name)
            failure = "the server failed; its log says why"
        self._tell(lambda: self._unpark(model, wanted, failure))

    def _tell(self, action: Callable[[], None]) -> None:
        """Have the I/O thread do something."""
        self._done.put(action)
        self._wakeup.set()

    # What follows runs on the I/O thread.

    def _loop(self) -> None:
        poller = zmq.Poller()
        wakeup, monitor = self._wakeup.fileno(), self._clients.monitor
        poller.register(self._router, zmq.POLLIN)
        poller.register(wakeup, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        give_up_s: float | None = None
        while True:
            self._turned_s = now_s = self._clock.now_s()
            if self._stopping and give_up_s is None:
                give_up_s = now_s + self._settings.drain_s
                _LOG.info("draining: %d requests are left", len(self._jobs))
            if give_up_s is not None and (not self._jobs or now_s >= give_up_s):
                return
            for ready, _ in poller.poll(self._timeout_ms(now_s, give_up_s)):
                if ready is self._router:
                    self._receive()
                elif ready == wakeup:
                    self._wakeup.clear()
                    self._collect()
                else:
                    self._clients.watch()
            self._expire()
            self._clients.tick()

    def _timeout_ms(self, now_s: float, give_up_s: float | None) -> int:
        while self._deadlines and not self._is_open(self._deadlines[0][-1]):
            heapq.heappop(self._deadlines)
        times = [self._deadlines[0][0]] if self._deadlines else []
        if give_up_s is not None:
            times.append(give_up_s)
        if self._clients.next_s is not None:
            times.append(self._clients.next_s)
        # Never for ever: a signal that arrives just before the poll is only seen when the poll returns.
        return max(0, min(_LONGEST_POLL_MS, int(1e3 * (min(times) - now_s)) + 1)) if times else _LONGEST_POLL_MS

    def _receive(self) -> None:
        for _ in range(_BATCH):
            identity, *frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            client = identity.bytes
            try:
                if self._gate is not None:
                    self._gate.check(client, frames)
                message, tensors = decode_from_vehicle(frames, self._settings.limits)
                if not self._clients.admit(client, identity):
                    self._turn_away(client, message.id if isinstance(message, Request) else 0)
                elif isinstance(message, Request):
                    self._request(client, message, tensors)
                elif isinstance(message, Cancel):
                    self._cancel(client, message.id)
                elif isinstance(message, Ping):
                    self._send_plain(
                        client, Pong(number=message.number, load_us=self._load_us, ready=not self._stopping)
                    )
                elif isinstance(message, Hello):
                    self._send_plain(
                        client, Welcome(server=self._settings.name, models=self.models, codecs=available())
                    )
            except WireError as error:
                self._refuse(client, error.request_id, Code.INVALID, str(error))
            except RefusedError as error:
                self._refuse(client, error.request_id, error.code, str(error))
            if not holds_message(self._router):
                return

    def _turn_away(self, client: bytes, request_id: int) -> None:
        text = f"{len(self._clients)} clients are connected: no more are taken; try another server, or later"
        self._refuse(client, request_id, Code.RESOURCE_EXHAUSTED, text)

    def _request(self, client: bytes, request: Request, tensors: dict[str, Array]) -> None:
        if self._stopping:
            self._refuse(client, request.id, Code.UNAVAILABLE, "the server is draining: go elsewhere")
            return
        model = self._models.get(request.model)
        if model is None:
            raise WireError(f"no model is called {request.model!r}: there are {', '.join(self._models)}", request.id)
        wanted = model.range_of(request)
        if (client, request.id) in self._jobs:
            raise WireError(f"request id {request.id} is in use: a new request needs a new id", request.id)
        size = 0
        for array in tensors.values():
            size += array.nbytes
        if self._jobs or size > self._settings.queue_bytes:
            full = self._why_full(client if self._gate is None else self._gate.owner(client), size)
            if full:
                self._refuse(client, request.id, Code.RESOURCE_EXHAUSTED, full)
                return
        now_s = self._clock.now_s()
        job = Job(client, request, tensors, size, now_s, now_s + 1e-6 * request.time_left_us)
        if self._gate is not None:
            job.owner = self._gate.owner(client)
        job.served = model.loaded(wanted)
        if job.served is None:
            self._park(model, wanted, job)
            return
        self._check(job)
        if not self._jobs and job.served.times.of(1).p50_s < self._settings.inline_s and self._compute_here(job):
            return
        job.expected_us = job.served.job_us
        hopeless = self._why_hopeless(job)
        if hopeless:
            self._refuse(client, request.id, Code.RESOURCE_EXHAUSTED, hopeless)
            return
        self._accept(job)
        self._queue.put(job)

    def _check(self, job: Job) -> None:
        try:
            job.served.check(job.inputs)  # type: ignore[union-attr]
        except InputError as error:
            raise WireError(f"model {job.request.model!r}: {error}", job.request.id) from error

    def _compute_here(self, job: Job) -> bool:
        """Compute on the I/O thread and answer; False if that took too long and was stopped: a worker must do it."""
        self._watchdog.arm(job.token)
        answer = self._computer.compute_here(job)
        self._watchdog.disarm()
        if answer is None:
            return False
        self.tally.inline += 1
        self._reply(job.client, answer)
        return True

    def _accept(self, job: Job) -> None:
        self._jobs[job.client, job.request.id] = job
        self._jobs_of[job.owner] += 1
        self._load_us += job.expected_us
        self._bytes += job.size
        if len(self._deadlines) > 2 * len(self._jobs) + _BATCH:  # most are of jobs answered long before their deadline
            self._deadlines = [entry for entry in self._deadlines if self._is_open(entry[-1])]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (job.deadline_s, next(self._sequence), job))

    def _park(self, model: ServedModel, wanted: Range, job: Job) -> None:
        """Keep a job until the segments it asks for are loaded."""
        self._accept(job)
        waiting = self._parked.setdefault((model, wanted), [])
        waiting.append(job)
        if len(waiting) == 1:
            self._to_load.put(lambda: self._bring_range(model, wanted))

    def _unpark(self, model: ServedModel, wanted: Range, failure: str) -> None:
        for job in self._parked.pop((model, wanted)):
            if not self._is_open(job) or job.discarded:
                continue
            job.served = model.loaded(wanted)
            try:
                if job.served is None:
                    self._close(job)
                    self._refuse(job.client, job.request.id, Code.UNAVAILABLE, failure or "unloaded again: try again")
                    continue
                self._check(job)
                self._queue.put(job)
            except WireError as error:
                self._close(job)
                self._refuse(job.client, job.request.id, Code.INVALID, str(error))

    def _replace(self, models: dict[str, ServedModel]) -> None:
        self._models = models
        self.tally.reloads["done"] += 1
        served = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        _LOG.info("loaded anew: %s", served)

    def _why_full(self, client: bytes, size: int) -> str:
        settings, mine = self._settings, self._jobs_of.get(client, 0)
        if len(self._jobs) >= settings.queue_jobs or mine >= settings.client_jobs:
            most = f"at most {settings.queue_jobs} and {settings.client_jobs} are taken"
            return f"{len(self._jobs)} requests are open, {mine} of them yours: {most}"
        if self._bytes + size > settings.queue_bytes:
            return f"open requests hold {self._bytes} bytes: with {size} more they exceed {settings.queue_bytes}"
        return ""

    def _why_hopeless(self, job: Job) -> str:
        """Return why a job cannot be done in time after those that are more urgent; empty if it can, or may in part.

        A queue longer than what can be done in time would end in nothing but late work, and in no time for batches.
        """
        served, left_us = job.served, job.request.time_left_us
        if served is None or served.answers_early or not self._jobs:
            return ""
        own_us = served.batch_us
        if self._load_us + own_us <= left_us * self._settings.workers:
            return ""
        before_us = sum(item.expected_us for item in self._jobs.values() if item.deadline_s <= job.deadline_s)
        if before_us / self._settings.workers + own_us <= left_us:
            return ""
        return f"{before_us} us of more urgent work and {own_us} us of its own: {left_us} us are left"

    def _is_open(self, job: Job) -> bool:
        return self._jobs.get((job.client, job.request.id)) is job

    def _close(self, job: Job) -> None:
        del self._jobs[job.client, job.request.id]
        self._load_us -= job.expected_us
        self._bytes -= job.size
        job.inputs = {}
        self._jobs_of[job.owner] -= 1
        if not self._jobs_of[job.owner]:
            del self._jobs_of[job.owner]

    def _cancel(self, client: bytes, request_id: int) -> None:
        job = self._jobs.get((client, request_id))
        if job is None:
            return  # answered meanwhile: the reply is on its way
        if self._queue.discard(job):
            self._close(job)
            self._refuse(client, request_id, Code.CANCELLED, "taken from the queue")
        else:
            job.token.cancel()
            self._computer.look(job)

    def _expire(self) -> None:
        now_s = self._clock.now_s()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            job = heapq.heappop(self._deadlines)[-1]
            if not self._is_open(job):
                continue
            if self._queue.discard(job):
                self._close(job)
                text = f"not computed: waited {round(1e6 * (now_s - job.received_s))} us in the queue"
                self._refuse(job.client, job.request.id, Code.DEADLINE_EXCEEDED, text)
            elif not job.token.cancelled:
                job.expired = True
                job.token.cancel()
                self._computer.look(job)

    def _collect(self) -> None:
        while True:
            try:
                action = self._done.get_nowait()
            except Empty:
                return
            action()

    def _computed(self, answers: Sequence[tuple[Job, Answer]], again: Sequence[Job]) -> None:
        for job, answer in answers:
            self._close(job)
            self._reply(job.client, answer)
        for job in again:
            self.tally.rerun += 1
            job.taken = False
            self._queue.put(job)

    def _reply(self, client: bytes, answer: Answer) -> None:
        reply = answer.reply
        if self._load_us:
            reply = msgspec.structs.replace(reply, load_us=self._load_us)
        self.tally.replies[reply.code] += 1
        try:
            self._send(client, encode_with(reply, answer.outputs, self._settings.limits))
        except WireError as error:
            message = f"the answer does not fit the wire: {error}"
            self._send_plain(client, Reply(id=reply.id, code=Code.UNAVAILABLE, message=message[:1024]))

    def _refuse(self, client: bytes, request_id: int, code: Code, message: str) -> None:
        if code is Code.INVALID:
            self._complaints.warn(f"refused: {message}")
        self.tally.replies[code] += 1
        self._send_plain(client, Reply(id=request_id, code=code, message=message[:1024], load_us=self._load_us))

    def _send_plain(self, client: bytes, message: FromEdge) -> None:
        self._send(client, encode(message))

    def _send(self, client: bytes, frames: Sequence[Any]) -> None:
        try:
            self._router.send_multipart([client, *frames], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self.tally.replies["unreachable"] += 1
