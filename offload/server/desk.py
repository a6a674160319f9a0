"""What an edge server decides about each message, on its I/O thread.

A request is computed at once where that is quicker than handing it over, queued where it can be done in time after all
that is more urgent, or refused with the numbers. What is damaged or impossible is answered INVALID with its reason, and
concerns nobody else.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import zmq

from devices.backend import CancelToken
from devices.clock import Clock
from devices.errors import DeviceError, InputError
from offload.codec import available
from offload.errors import WireError
from offload.frames import Array
from offload.security.gate import Gate, RefusedError
from offload.server.agenda import Agenda
from offload.server.computing import Answer, Computer
from offload.server.job import Job
from offload.server.models import Range, ServedModel
from offload.server.pace import Pace
from offload.server.queue import DeadlineQueue
from offload.server.ranges import ServedRange
from offload.server.replies import Replies
from offload.server.router import Router
from offload.server.settings import ServerSettings
from offload.server.tally import Tally
from offload.server.traced import Traced
from offload.server.watchdog import Watchdog
from offload.wire import Cancel, Code, Hello, Ping, Pong, Reply, Request, Welcome, decode_from_vehicle

_LOG = logging.getLogger("headway.edge")


class Parts(NamedTuple):
    """What a desk works with."""

    router: Router
    gate: Gate | None
    queue: DeadlineQueue
    computer: Computer
    pace: Pace
    tally: Tally
    watchdog: Watchdog


class Desk:
    """Decides.

    Args:
        parts: What it works with.
        models: What is served, by name; may be replaced.
        settings: How the server behaves.
        clock: What deadlines are counted by.
        load: Has an action taken by the thread that loads models.
        tell: Has an action taken by the I/O thread.
    """

    def __init__(
        self,
        parts: Parts,
        models: dict[str, ServedModel],
        settings: ServerSettings,
        clock: Clock,
        load: Callable[[Callable[[], None]], None],
        tell: Callable[[Callable[[], None]], None],
    ) -> None:
        self.models = models
        self.agenda = Agenda()
        """What was accepted and not answered."""
        self.draining = False
        """Whether new work is refused."""
        self.on_traced: Callable[[Traced], None] | None = None
        """Told of each computed request that carries a trace context."""
        self._settings = settings
        self._limits = settings.limits
        self._now_s = clock.now_s
        self._router, self._gate, self._queue, self._computer, self._pace, self._tally, self._watchdog = parts
        self._clients = parts.router.clients
        self._replies = Replies(parts.router, self.agenda, parts.tally, settings.limits, clock)
        self._load = load
        self._tell = tell
        self._parked: dict[tuple[ServedModel, Range], list[Job]] = {}

    def take_in(self, client: bytes, frames: list[zmq.Frame]) -> None:
        """Deal with one message."""
        try:
            if self._gate is not None:
                self._gate.check(client, frames)
            message, tensors = decode_from_vehicle(frames, self._limits)
            if client not in self._clients.taken and not self._clients.admit(client, frames[0]):
                self._turn_away(client, message.id if isinstance(message, Request) else 0)
            elif isinstance(message, Request):
                self._request(client, message, tensors)
            elif isinstance(message, Cancel):
                self._cancel(client, message.id)
            elif isinstance(message, Ping):
                load_us = self.agenda.load_us
                self._replies.say(client, Pong(number=message.number, load_us=load_us, ready=not self.draining))
            elif isinstance(message, Hello):
                welcome = Welcome(server=self._settings.name, models=tuple(self.models), codecs=available())
                self._replies.say(client, welcome)
        except WireError as error:
            self._replies.refuse(client, error.request_id, Code.INVALID, str(error))
        except RefusedError as error:
            self._replies.refuse(client, error.request_id, error.code, str(error))

    def expire(self, now_s: float) -> None:
        """Answer, or stop, what was not done by its deadline."""
        for job in self.agenda.fallen(now_s):
            if self._queue.discard(job):
                self.agenda.remove(job)
                self._replies.late(job, now_s)
            elif not job.token.cancelled:
                job.expired = True
                job.token.cancel()
                self._computer.look(job)

    def computed(self, answers: Sequence[Answer], again: Sequence[Job]) -> None:
        """Send what the workers found out, and queue again what they were stopped at."""
        for answer in answers:
            job = answer.job
            self.agenda.remove(job)
            self._answer(job.client, job.request.id, answer)
            if self.on_traced is not None:
                self._trace(job.request, answer.code, answer.exit_id, answer.queue_s, answer.compute_s)
        for job in again:
            self._tally.rerun += 1
            self._queue.put(job)

    def stop(self) -> None:
        """Stop whatever runs."""
        for job in self.agenda.jobs:
            job.token.cancel()
        self._computer.stop()

    def _trace(self, request: Request, code: Code, exit_id: str | None, queue_s: float, compute_s: float) -> None:
        if self.on_traced is not None and request.traceparent is not None:
            self.on_traced(Traced(request.traceparent, request.model, str(code), exit_id, queue_s, compute_s))

    def _answer(self, client: bytes, request_id: int, answer: Answer) -> None:
        if answer.code is Code.OK:
            self._replies.answer(client, request_id, answer.outputs, answer.exit_id, answer.queue_s, answer.compute_s)
            return
        reply = Reply(
            id=request_id,
            code=answer.code,
            message=answer.message,
            queue_us=max(0, int(1e6 * answer.queue_s)),
            compute_us=round(1e6 * answer.compute_s),
            load_us=self.agenda.load_us,
        )
        self._replies.end(client, reply)

    def _turn_away(self, client: bytes, request_id: int) -> None:
        text = f"{len(self._clients)} clients are connected: no more are taken; try another server, or later"
        self._replies.refuse(client, request_id, Code.RESOURCE_EXHAUSTED, text)

    def _request(self, client: bytes, request: Request, tensors: dict[str, Array]) -> None:
        if self.draining:
            self._replies.refuse(client, request.id, Code.UNAVAILABLE, "the server is draining: go elsewhere")
            return
        model = self.models.get(request.model)
        if model is None:
            raise WireError(f"no model is called {request.model!r}: there are {', '.join(self.models)}", request.id)
        wanted = model.range_of(request)
        served = model.loaded(wanted)
        idle = not self.agenda.load_us and not len(self.agenda)
        if served is not None and idle and served.times.alone.p50_s < self._settings.inline_s:
            self._check(served, request, tensors)
            if self._at_once(client, request, tensors, served):
                return
        self._accept(client, request, tensors, model, wanted)

    def _check(self, served: ServedRange, request: Request, tensors: dict[str, Array]) -> None:
        try:
            served.check(tensors)
        except InputError as error:
            raise WireError(f"model {request.model!r}: {error}", request.id) from error

    def _at_once(self, client: bytes, request: Request, tensors: dict[str, Array], served: ServedRange) -> bool:
        """Compute on the I/O thread and answer; False if that took too long and was stopped: a worker must do it."""
        if not request.time_left_us:
            return False
        token = CancelToken()
        began_s = self._now_s()
        self._watchdog.arm(token)
        try:
            computed = served.run(0, tensors, token)
        except DeviceError as error:
            self._replies.refuse(client, request.id, Code.UNAVAILABLE, str(error))
            return True
        except Exception:
            _LOG.exception(
                "request %d on model %r failed",
                request.id,
                request.model,
                extra={"code": "request_failed", "model": request.model},
            )
            self._replies.refuse(client, request.id, Code.UNAVAILABLE, "the server failed; its log says why")
            return True
        finally:
            self._watchdog.disarm()
        took_s = self._now_s() - began_s
        if not computed.cancelled:
            self._replies.answer(client, request.id, computed.outputs, computed.exit_id, 0.0, took_s)
            self._tally.inline += 1
            self._tally.queue.add(0.0)
            self._tally.compute.add(took_s)
            if self.on_traced is not None:
                self._trace(request, Code.OK, computed.exit_id, 0.0, took_s)
        served.took(1, took_s)
        return not computed.cancelled

    def _accept(
        self, client: bytes, request: Request, tensors: dict[str, Array], model: ServedModel, wanted: Range
    ) -> None:
        """Queue a request, or say why not."""
        if self.agenda.find(client, request.id) is not None:
            raise WireError(f"request id {request.id} is in use: a new request needs a new id", request.id)
        owner = client if self._gate is None else self._gate.owner(client)
        size = sum(array.nbytes for array in tensors.values())
        full = self._why_full(owner, size)
        if full:
            self._replies.refuse(client, request.id, Code.RESOURCE_EXHAUSTED, full)
            return
        now_s, served = self._now_s(), model.loaded(wanted)
        deadline_s = now_s + 1e-6 * request.time_left_us
        hopeless = "" if served is None else self._why_hopeless(request, deadline_s, served)
        if hopeless:
            self._replies.refuse(client, request.id, Code.RESOURCE_EXHAUSTED, hopeless)
            return
        job = Job(client, request, tensors, size, now_s, deadline_s, served, owner=owner)
        if served is None:
            self._park(model, wanted, job)
            return
        self._check(served, request, tensors)
        job.expected_us = served.job_us
        self.agenda.add(job)
        self._queue.put(job)

    def _why_full(self, owner: bytes, size: int) -> str:
        settings, agenda = self._settings, self.agenda
        mine = agenda.open_of(owner)
        if len(agenda) >= settings.queue_jobs or mine >= settings.client_jobs:
            most = f"at most {settings.queue_jobs} and {settings.client_jobs} are taken"
            return f"{len(agenda)} requests are open, {mine} of them yours: {most}"
        if agenda.size + size > settings.queue_bytes:
            return f"open requests hold {agenda.size} bytes: with {size} more they exceed {settings.queue_bytes}"
        return ""

    def _why_hopeless(self, request: Request, deadline_s: float, served: ServedRange) -> str:
        """Return why a request cannot be done in time after those more urgent; empty if it can, or may in part.

        A queue longer than what can be done in time would end in nothing but late work, and in no time for batches.
        """
        agenda, left_us = self.agenda, request.time_left_us
        if served.answers_early or not len(agenda):
            return ""
        own_us, share = served.batch_us, self._pace.ratio / self._settings.workers
        if agenda.load_us * share + own_us <= left_us:
            return ""
        before_us = round(agenda.work_until_us(deadline_s) * share)
        if before_us + own_us <= left_us:
            return ""
        return f"{before_us} us of more urgent work and {own_us} us of its own: {left_us} us are left"

    def _park(self, model: ServedModel, wanted: Range, job: Job) -> None:
        """Keep a job until the segments it asks for are loaded."""
        self.agenda.add(job)
        waiting = self._parked.setdefault((model, wanted), [])
        waiting.append(job)
        if len(waiting) == 1:
            self._load(lambda: self._bring(model, wanted))

    def _bring(self, model: ServedModel, wanted: Range) -> None:
        """Load a range of segments; called on the thread that loads."""
        failure = ""
        try:
            model.load(wanted)
        except DeviceError as error:
            failure = str(error)
        except Exception:
            _LOG.exception(
                "segments %s to %s of %r could not be loaded",
                *wanted,
                model.package.name,
                extra={"code": "load_failed", "model": model.package.name},
            )
            failure = "the server failed; its log says why"
        self._tell(lambda: self._unpark(model, wanted, failure))

    def _unpark(self, model: ServedModel, wanted: Range, failure: str) -> None:
        for job in self._parked.pop((model, wanted)):
            if job not in self.agenda or job.discarded:
                continue
            job.served = model.loaded(wanted)
            if job.served is None:
                text = failure or "unloaded again: try again"
                self.agenda.remove(job)
                self._replies.refuse(job.client, job.request.id, Code.UNAVAILABLE, text)
                continue
            try:
                self._check(job.served, job.request, job.inputs)
                self._queue.put(job)
            except WireError as error:
                self.agenda.remove(job)
                self._replies.refuse(job.client, job.request.id, Code.INVALID, str(error))

    def _cancel(self, client: bytes, request_id: int) -> None:
        job = self.agenda.find(client, request_id)
        if job is None:
            return  # answered meanwhile: the reply is on its way
        if self._queue.discard(job):
            self.agenda.remove(job)
            self._replies.refuse(client, request_id, Code.CANCELLED, "taken from the queue")
        else:
            job.token.cancel()
            self._computer.look(job)
