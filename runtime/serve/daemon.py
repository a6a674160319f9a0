"""The daemon: one thread that owns every socket, device workers behind it, a guard beside it.

The thread takes requests from the unix socket, hands them to the executor and sends the replies that the workers put
into the mailbox. A request that its device could answer at once is run on this thread. What a client sends wrong is
answered to that client; nothing that a client sends ends the daemon or another client's work.
"""

import logging
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import zmq

from devices.package import Package
from devices.tensor import Array
from offload.errors import WireError
from runtime.config import Config
from runtime.errors import MessageError
from runtime.execute.executor import Executor
from runtime.execute.request import Reply, Request, Status
from runtime.execute.worker import Device
from runtime.observe.watch import DriftWatch
from runtime.repository import ModelRepository
from runtime.serve import messages
from runtime.serve.bound import GuardBound
from runtime.serve.controller import ControllerSettings
from runtime.serve.cover import covering_certificate
from runtime.serve.devices import configured_packages, open_devices, open_plans, placements
from runtime.serve.events import EventHub
from runtime.serve.fronts import open_fronts
from runtime.serve.guard_link import GuardCommand, GuardLink, guard_arguments
from runtime.serve.library import MEGABYTE, Library
from runtime.serve.mailbox import Mailbox
from runtime.serve.oip.access import open_access
from runtime.serve.pilot import Pilot
from runtime.serve.realtime import answer_promptly, raise_file_limit, step_back
from runtime.serve.service import Parts, Service, parts_of
from runtime.serve.sockets import owned_router, runtime_folder
from runtime.serve.uplink import Offloading
from shield.vehicle import load_vehicle

_log = logging.getLogger("headway.daemon")
_POLL_MS = 50
_DRAIN_S = 2.0
_REPLAN_S = 0.25
_OLDEST_NS = 10_000_000_000  # nothing waits longer in a local socket; a larger age is another clock's
_SWITCH_INTERVAL_S = 5e-4  # threads that hand work to each other wait for the interpreter no longer than this


class Daemon:
    """Serves models on a unix socket and drives one vehicle through its guard.

    Args:
        config: Everything that can be configured.
    Raises:
        ConfigurationError: no package is given, or a value of the configuration cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._access = open_access(config.front)
        self._vehicle = load_vehicle(config.guard.vehicle)
        guard_section = config.guard
        covering_certificate(self._vehicle, guard_section.certificate, uncertified=guard_section.uncertified)
        self._repository = None if config.serve.repository is None else ModelRepository(Path(config.serve.repository))
        self._packages = configured_packages(config.serve, self._repository)
        self._placements = placements(config.serve, self._packages)
        self._devices, lost = open_devices(config.serve, self._packages)
        self._plans = open_plans(config.serve, self._packages, lost)
        self._path = Path(config.serve.socket) if config.serve.socket else runtime_folder() / "headway.sock"
        guard = config.guard.socket
        self._guard_path = Path(guard) if guard else self._path.with_name("headway-guard.sock")
        self._started_s = time.monotonic()
        self._running = True
        self._ready = False
        self._replanning: Future[None] | None = None
        self._replan_s = 0.0
        self._refused = 0
        self._requests = 0

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then answer what is in flight and leave; the guard lives on.

        Raises:
            UnavailableError: another daemon owns the socket, or no guard could be had.
            ConfigurationError: the socket cannot be made, or the running guard guards another vehicle.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        raise_file_limit()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context())
            self._router = stack.enter_context(owned_router(context, self._path))
            self._poller = zmq.Poller()
            self._poller.register(self._router, zmq.POLLIN)
            self._mailbox = Mailbox()
            stack.callback(self._mailbox.close)
            self._poller.register(self._mailbox.fileno(), zmq.POLLIN)
            self._guard = GuardLink(context, self._poller, self._vehicle, self._guard_command(), self._on_report)
            stack.callback(self._guard.close)
            self._guard.open()
            self._executor = self._open_executor(stack)
            answer_promptly()
            self._pilot = self._open_pilot(stack)
            self._guard.resume()  # loading may have taken seconds
            self._ready = True
            self._fronts = stack.enter_context(open_fronts(self._config.front, self._access, self._service))
            _log.info("ready at %s: %s", self._path, ", ".join(package.name for package in self._packages))
            self._serve()
            self._executor.drain(_DRAIN_S)
            self._mailbox.drain()

    def _open_executor(self, stack: ExitStack) -> Executor:
        """Load the models; all threads that infer are started by one that has stepped back."""
        executor = Executor([Device(each.backend, each.cores) for each in self._devices])
        stack.callback(executor.close)
        polite = step_back if self._config.serve.polite else None
        self._loader = ThreadPoolExecutor(1, "headway-load", initializer=polite)
        stack.callback(self._loader.shutdown)
        self._loader.submit(executor.start).result()
        self._service = self._open_service(executor)
        self._loader.submit(self._library.begin).result()
        return executor

    def _open_service(self, executor: Executor) -> Service:
        section, first = self._config.serve, self._packages[0].name
        self._library = Library(
            executor,
            self._packages,
            placements=self._placements,
            repository=self._repository,
            budget_bytes=None if section.memory_mb is None else MEGABYTE * section.memory_mb,
            placer=self._plans,
            pinned=first,
        )
        self._bound = GuardBound()
        parts = Parts(
            executor=executor,
            library=self._library,
            loader=self._loader,
            events=EventHub(),
            drift=DriftWatch([], self._walk_p99_s, every=section.drift_every),
            plans=self._plans,
            bound=self._bound,
            guarded=frozenset((first,) if section.guarded is None else section.guarded),
        )
        return Service(parts, self._why_not_ready)

    def _why_not_ready(self) -> str:
        if not self._ready:
            return "models are being loaded"
        if not self._running:
            return "the daemon is draining"
        return "" if self._guard.welcome is not None else "no guard answers"

    def _replan(self) -> None:
        """Have the plans looked at, by the thread that loads, unless it still does."""
        now_s = time.monotonic()
        if self._plans is None or now_s < self._replan_s or (self._replanning and not self._replanning.done()):
            return
        self._replan_s = now_s + _REPLAN_S
        if self._replanning is not None and (error := self._replanning.exception()) is not None:
            _log.error("the plans could not be looked at: %s", error)
        self._replanning = self._loader.submit(self._plans.consider, self._executor)

    def _open_pilot(self, stack: ExitStack) -> Pilot:
        offloading = Offloading(self._config.offload)
        stack.callback(offloading.close)
        self._client = offloading.client
        if self._client is not None:
            self._poller.register(self._client.fileno(), zmq.POLLIN)
        aims = ControllerSettings(self._vehicle.l_r_m, self._vehicle.beta_max_rad)
        parts = (self._executor, self._mailbox, aims, offloading)
        return Pilot(self._packages[0], *parts, self._propose, watch=self._service.delivered)

    def _walk_p99_s(self, model: str) -> float:
        return self._executor.model(model).latency.complete_p99_s()

    def _guard_command(self) -> GuardCommand:
        guard = self._config.guard
        extra: list[str] = ["--proposal-max-age-s", str(guard.proposal_max_age_s)]
        if guard.certificate is not None:
            extra += ["--certificate", guard.certificate]
        if guard.uncertified:
            extra.append("--uncertified")
        if not guard.fifo:
            extra.append("--no-fifo")
        arguments = guard_arguments(self._guard_path, guard.vehicle, extra=tuple(extra)) if guard.start else ()
        return GuardCommand(self._guard_path, arguments)

    def _stop(self, *_: object) -> None:
        self._running = False

    def _serve(self) -> None:
        while self._running:
            ready = dict(self._poller.poll(_POLL_MS))
            self._guard.receive()
            self._mailbox.drain()
            self._replan()
            if self._client is not None and self._client.fileno() in ready:
                self._pilot.take_outcomes()
            if self._router in ready:
                self._receive_all()
            self._guard.attend(ready)

    def _receive_all(self) -> None:
        while True:
            try:
                peer, *frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                message, tensors = messages.decode_from_client(frames)
                self._handle(peer.bytes, message, tensors)
            except WireError as error:
                self._refuse(peer.bytes, error.request_id, str(error))
            except MessageError as error:
                self._refuse(peer.bytes, 0, str(error))

    def _handle(self, peer: bytes, message: messages.FromClient, tensors: dict[str, Array]) -> None:
        match message:
            case messages.Infer():
                self._infer(peer, message, tensors)
            case messages.Step():
                self._step(peer, message, tensors)
            case messages.Cancel():
                self._service.cancel((peer, message.id))
            case messages.Models():
                self._send(
                    peer,
                    messages.ModelsList(id=message.id, models=[_described(m.package) for m in self._service.models]),
                )
            case messages.Status():
                self._send(peer, messages.StatusReport(id=message.id, status=self._status()))

    def _infer(self, peer: bytes, message: messages.Infer, tensors: dict[str, Array]) -> None:
        self._requests += 1
        deadline_ns = None if message.deadline_us is None else _begun_ns(message.sent_ns) + message.deadline_us * 1000
        request = self._service.request(
            (peer, message.id),
            message.model,
            tensors,
            deadline_ns=deadline_ns,
            priority=message.priority,
            least_exit=message.least_exit,
        )
        reply = self._service.run_inline(request)
        if reply is None:
            self._service.submit(request, lambda done: self._mailbox.put(partial(self._answer, request, done)))
        else:
            self._answer(request, reply)

    def _answer(self, request: Request, reply: Reply) -> None:
        peer, number = cast(tuple[bytes, int], reply.id)
        if reply.status is not Status.OK:
            self._send(peer, messages.Error(id=number, code=reply.status, error=reply.message))
            self._service.delivered(request, reply)
            return
        answer = messages.Answer(
            id=number,
            status=reply.status,
            exit_id=reply.exit_id or "",
            confidence=reply.confidence,
            parts=parts_of(reply),
            time_left_us=None if reply.time_left_s is None else round(reply.time_left_s * 1e6),
        )
        self._send(peer, answer, dict(reply.outputs))
        self._service.delivered(request, reply)

    def _step(self, peer: bytes, message: messages.Step, tensors: dict[str, Array]) -> None:
        frame = tensors.get("frame")
        if frame is None:
            raise MessageError('a step carries one tensor "frame", the camera\'s image of this tick')
        for report in self._pilot.step(peer, message, frame):
            self._send(peer, report)

    def _propose(self, stamp_ns: int, beta_rad: float, speed_mps: float) -> None:
        self._guard.propose(stamp_ns, beta_rad, speed_mps)

    def _on_report(self, report: Any) -> None:
        if self._ready:
            self._bound.hear(report)
            self._pilot.hear(report)

    def _refuse(self, peer: bytes, number: int, why: str) -> None:
        self._refused += 1
        self._send(peer, messages.Error(id=number, code=Status.INVALID, error=why))

    def _send(self, peer: bytes, message: messages.FromDaemon, tensors: dict[str, Array] | None = None) -> None:
        """Send without waiting: a client that is gone or does not read loses its reply, nobody else's time."""
        frames: list[Any] = [peer, *messages.encode_to_client(message, tensors)]
        try:
            self._router.send_multipart(frames, zmq.NOBLOCK, copy=tensors is None)
        except zmq.ZMQError as error:
            _log.info("a reply was dropped: %s", error)

    def _status(self) -> dict[str, Any]:
        welcome = self._guard.welcome
        guard = None
        if welcome is not None:
            guard = {
                "pid": welcome.pid,
                "vehicle": welcome.vehicle,
                "certificate": welcome.certificate,
                "adopted": self._guard.adopted,
                "restarts": self._guard.restarts,
            }
        stats = self._executor.stats()
        return {
            "ready": self._ready and guard is not None,
            "pid": os.getpid(),
            "uptime_s": time.monotonic() - self._started_s,
            "models": [model.package.name for model in self._service.models],
            "requests": self._requests,
            "refused": self._refused,
            "queued": dict(stats.queued),
            "replies": {str(status): count for status, count in stats.replies.items()},
            "drift": self._service.drift(),
            "guard": guard,
            "fronts": {"http": self._fronts.http, "grpc": self._fronts.grpc},
            **({} if self._plans is None else {"plan": self._plans.status()}),
            **self._pilot.status(),
        }


def _begun_ns(sent_ns: int | None) -> int:
    """Return from when a request's deadline counts [ns]; a time no message can have been sent at is not believed."""
    now_ns = time.monotonic_ns()
    return sent_ns if sent_ns is not None and now_ns - _OLDEST_NS <= sent_ns <= now_ns else now_ns


def _described(package: Package) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.version,
        "inputs": [{"name": i.name, "dtype": i.dtype, "shape": list(i.shape)} for i in package.inputs],
        "exits": [{"id": e.id, "kind": e.kind, "answer": e.answer, "threshold": e.threshold} for e in package.exits],
    }
