"""The edge server: runs model packages for vehicles, earliest deadline first.

One I/O thread owns the ROUTER and every decision; worker threads compute. Work goes to them through a deadline queue
and comes back through a queue and an eventfd in the same poller. With nothing else to do and a model that was never
slower than half a millisecond, the I/O thread computes itself and spares both hand-overs;
should such a run take long after all, a watchdog stops it and a worker takes over.

A request whose time has passed is answered DEADLINE_EXCEEDED and never computed; one that runs is stopped where it is.
A damaged or impossible message is answered INVALID with its reason and concerns nobody else.

Loopback only: beyond it an edge server must know its clients.
"""

import heapq
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
import zmq

from devices.backend import Backend, CancelToken
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.clock import Clock, MonotonicClock
from devices.package import Package
from offload.edf import DeadlineQueue, Job
from offload.errors import ServerError, WireError
from offload.frames import COPY_BELOW_BYTES, Array
from offload.server_settings import ServerSettings
from offload.serving import Answer, load_models
from offload.throttle import Throttle
from offload.wakeup import Wakeup
from offload.watchdog import Watchdog
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
        self._models = load_models(packages, open_backend, self._settings.workers, self._clock)
        self._queue = DeadlineQueue()
        self._results: SimpleQueue[tuple[Job, Answer]] = SimpleQueue()
        self._jobs: dict[tuple[bytes, int], Job] = {}
        self._jobs_of: Counter[bytes] = Counter()
        self._deadlines: list[tuple[float, int, Job]] = []
        self._sequence = itertools.count()
        self._load_us = 0
        self._bytes = 0
        self._stopping = False
        self._watchdog = Watchdog(self._settings.inline_limit_s)
        self._complaints = Throttle(_LOG, self._clock)
        self.counts: Counter[str] = Counter()
        """Replies by code, and "unreachable": replies whose client was gone or did not read."""
        self._wakeup = Wakeup()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._router = self._bind()
        except BaseException:
            self._watchdog.close()
            self._context.term()
            self._wakeup.close()
            raise
        self.endpoint: str = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        """Address it is bound to, with its real port."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models served."""
        return tuple(self._models)

    def stop(self) -> None:
        """Refuse new work, finish what was accepted, then leave `serve`; for any thread and for signal handlers."""
        self._stopping = True
        self._wakeup.set()

    def serve(self) -> None:
        """Serve until stopped; blocks the calling thread, which becomes the I/O thread."""
        workers = [
            threading.Thread(target=self._work, args=(number,), name=f"edge-worker-{number}", daemon=True)
            for number in range(self._settings.workers)
        ]
        for worker in workers:
            worker.start()
        try:
            self._loop()
        finally:
            for job in self._jobs.values():
                job.token.cancel()
            self._queue.close(len(workers))
            for worker in workers:
                worker.join()
            self.close()

    def close(self) -> None:
        """Give the address back; for a server that is not serving. Twice does no harm."""
        self._watchdog.close()
        self._router.close(linger=_FLUSH_MS)
        self._context.term()
        self._wakeup.close()

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
        router.copy_threshold = COPY_BELOW_BYTES
        try:
            router.bind(settings.bind)
        except zmq.ZMQError as error:
            router.close()
            raise ServerError(f"cannot bind {settings.bind}: {error.strerror}; choose another port, or 0") from error
        return router

    def _work(self, number: int) -> None:
        while (job := self._queue.take()) is not None:
            self._results.put((job, self._compute(number, job)))
            self._wakeup.set()

    def _compute(self, worker: int, job: Job) -> Answer:
        try:
            return self._models[job.request.model].run(worker, job)
        except Exception:
            _LOG.exception("request %d on model %r failed", job.request.id, job.request.model)
            text = "the server failed; its log says why"
            return Answer(Reply(id=job.request.id, code=Code.UNAVAILABLE, message=text))

    def _compute_here(self, job: Job) -> bool:
        """Compute on the I/O thread and answer; False if that took too long and was stopped: a worker must do it."""
        self._watchdog.arm(job.token)
        answer = self._compute(0, job)
        self._watchdog.disarm()
        if job.token.cancelled:
            job.token = CancelToken()
            if answer.reply.code is not Code.OK:
                return False
        self._reply(job.client, answer)
        return True

    def _loop(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._wakeup.fileno(), zmq.POLLIN)
        give_up_s: float | None = None
        while True:
            now_s = self._clock.now_s()
            if self._stopping and give_up_s is None:
                give_up_s = now_s + self._settings.drain_s
                _LOG.info("draining: %d requests are left", len(self._jobs))
            if give_up_s is not None and (not self._jobs or now_s >= give_up_s):
                return
            ready = dict(poller.poll(self._timeout_ms(now_s, give_up_s)))
            if self._wakeup.fileno() in ready:
                self._wakeup.clear()
                self._collect()
            if self._router in ready:
                self._receive()
            self._expire()

    def _timeout_ms(self, now_s: float, give_up_s: float | None) -> int:
        while self._deadlines and not self._is_open(self._deadlines[0][-1]):
            heapq.heappop(self._deadlines)
        times = [self._deadlines[0][0]] if self._deadlines else []
        if give_up_s is not None:
            times.append(give_up_s)
        # Never for ever: a signal that arrives just before the poll is only seen when the poll returns.
        return max(0, min(_LONGEST_POLL_MS, int(1e3 * (min(times) - now_s)) + 1)) if times else _LONGEST_POLL_MS

    def _receive(self) -> None:
        for _ in range(_BATCH):
            try:
                identity, *frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            client = bytes(identity.buffer)
            try:
                message, tensors = decode_from_vehicle(frames, self._settings.limits)
                if isinstance(message, Request):
                    self._request(client, message, tensors)
                elif isinstance(message, Cancel):
                    self._cancel(client, message.id)
                elif isinstance(message, Ping):
                    self._send_plain(
                        client, Pong(number=message.number, load_us=self._load_us, ready=not self._stopping)
                    )
                elif isinstance(message, Hello):
                    self._send_plain(client, Welcome(server=self._settings.name, models=self.models))
            except WireError as error:
                self._refuse(client, error.request_id, Code.INVALID, str(error))

    def _request(self, client: bytes, request: Request, tensors: dict[str, Array]) -> None:
        if self._stopping:
            self._refuse(client, request.id, Code.UNAVAILABLE, "the server is draining: go elsewhere")
            return
        model = self._models.get(request.model)
        if model is None:
            raise WireError(f"no model is called {request.model!r}: there are {', '.join(self._models)}", request.id)
        times = model.times(model.range_of(request))
        if (client, request.id) in self._jobs:
            raise WireError(f"request id {request.id} is in use: a new request needs a new id", request.id)
        size = sum(array.nbytes for array in tensors.values())
        full = self._why_full(client, size)
        if full:
            self._refuse(client, request.id, Code.RESOURCE_EXHAUSTED, full)
            return
        now_s = self._clock.now_s()
        job = Job(client, request, tensors, size, now_s, now_s + 1e-6 * request.time_left_us)
        is_quick = times is not None and times.p99_s < self._settings.inline_s
        if is_quick and not self._jobs and self._compute_here(job):
            return
        job.expected_us = round(1e6 * times.mean_s) if times else 0
        self._accept(job)

    def _accept(self, job: Job) -> None:
        self._jobs[job.client, job.request.id] = job
        self._jobs_of[job.client] += 1
        self._load_us += job.expected_us
        self._bytes += job.size
        if len(self._deadlines) > 2 * len(self._jobs) + _BATCH:  # most are of jobs answered long before their deadline
            self._deadlines = [entry for entry in self._deadlines if self._is_open(entry[-1])]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (job.deadline_s, next(self._sequence), job))
        self._queue.put(job)

    def _why_full(self, client: bytes, size: int) -> str:
        settings, mine = self._settings, self._jobs_of[client]
        if len(self._jobs) >= settings.queue_jobs or mine >= settings.client_jobs:
            most = f"at most {settings.queue_jobs} and {settings.client_jobs} are taken"
            return f"{len(self._jobs)} requests are open, {mine} of them yours: {most}"
        if self._bytes + size > settings.queue_bytes:
            return f"open requests hold {self._bytes} bytes: with {size} more they exceed {settings.queue_bytes}"
        return ""

    def _is_open(self, job: Job) -> bool:
        return self._jobs.get((job.client, job.request.id)) is job

    def _close(self, job: Job) -> None:
        del self._jobs[job.client, job.request.id]
        self._load_us -= job.expected_us
        self._bytes -= job.size
        job.inputs = {}
        self._jobs_of[job.client] -= 1
        if not self._jobs_of[job.client]:
            del self._jobs_of[job.client]

    def _cancel(self, client: bytes, request_id: int) -> None:
        job = self._jobs.get((client, request_id))
        if job is None:
            return  # answered meanwhile: the reply is on its way
        if self._queue.discard(job):
            self._close(job)
            self._refuse(client, request_id, Code.CANCELLED, "taken from the queue")
        else:
            job.token.cancel()

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

    def _collect(self) -> None:
        while True:
            try:
                job, answer = self._results.get_nowait()
            except Empty:
                return
            self._close(job)
            self._reply(job.client, answer)

    def _reply(self, client: bytes, answer: Answer) -> None:
        reply = msgspec.structs.replace(answer.reply, load_us=self._load_us)
        if reply.code is Code.INVALID:
            self._complaints.warn(f"refused: {reply.message}")
        self.counts[reply.code] += 1
        try:
            self._send(client, encode_with(reply, answer.outputs, self._settings.limits))
        except WireError as error:
            message = f"the answer does not fit the wire: {error}"
            self._send_plain(client, Reply(id=reply.id, code=Code.UNAVAILABLE, message=message[:1024]))

    def _refuse(self, client: bytes, request_id: int, code: Code, message: str) -> None:
        if code is Code.INVALID:
            self._complaints.warn(f"refused: {message}")
        self.counts[code] += 1
        self._send_plain(client, Reply(id=request_id, code=code, message=message[:1024], load_us=self._load_us))

    def _send_plain(self, client: bytes, message: FromEdge) -> None:
        self._send(client, encode(message))

    def _send(self, client: bytes, frames: Sequence[Any]) -> None:
        try:
            self._router.send_multipart([client, *frames], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self.counts["unreachable"] += 1
