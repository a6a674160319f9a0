"""The daemon: one thread that owns every ZeroMQ socket, device workers behind it, a guard beside it.

The thread takes what comes by the local sockets (`api/`), hands requests to the service (`service.py`) and sends the
replies that workers put into the mailbox. HTTP and gRPC (`fronts.py`) have a thread of their own before it.
"""

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import zmq

from offload.client import Status
from runtime.config import Config
from runtime.execute.executor import Executor
from runtime.execute.worker import Device
from runtime.observe.metrics.server import open_metrics
from runtime.observe.recorder.taps import tell_decisions
from runtime.repository import ModelRepository
from runtime.serve.assembly import LocalSockets, Models, Told, guard_command, open_service
from runtime.serve.bound import GuardBound
from runtime.serve.companions import check_companions, companions
from runtime.serve.controller import ControllerSettings
from runtime.serve.cover import covering_certificate
from runtime.serve.devices import configured_packages, open_devices, open_plans, placements
from runtime.serve.events import Topic
from runtime.serve.fronts import check_free, open_fronts
from runtime.serve.guard_link import GuardLink
from runtime.serve.mailbox import Mailbox
from runtime.serve.notify import notifier
from runtime.serve.oip.access import open_access
from runtime.serve.patience import Patience
from runtime.serve.pilot import Pilot
from runtime.serve.plans.edges import open_edges
from runtime.serve.realtime import Promptness, keep_together, messenger_core, raise_file_limit, step_back
from runtime.serve.reload import Reloader
from runtime.serve.sockets import runtime_folder
from runtime.serve.uplink import Offloading
from shield.vehicle import load_vehicle

_log = logging.getLogger("headway.daemon")
_POLL_MS = 50
_DRAIN_S = 2.0
_DRAIN_POLL_MS = 5
_REPLAN_S = 0.25
_SWITCH_INTERVAL_S = 5e-4  # threads that hand work to each other wait for the interpreter no longer than this


class Daemon:
    """Serves models on a unix socket and drives one vehicle through its guard.

    Args:
        config: Everything that can be configured.
        reread: Returns the configuration as it is by then, for SIGHUP; None: it stays `config`.
    Raises:
        ConfigurationError: no package is given, or a value of the configuration cannot be used.
        UnavailableError: an address of HTTP or gRPC is taken.
    """

    def __init__(self, config: Config, reread: Callable[[], Config] | None = None) -> None:
        self._config = config
        self._reread = reread or (lambda: config)
        self._access = open_access(config.front)
        check_free(config.front)
        check_companions(config.observe)
        self._vehicle = load_vehicle(config.guard.vehicle)
        covering_certificate(self._vehicle, config.guard.certificate, uncertified=config.guard.uncertified)
        self._repository = None if config.serve.repository is None else ModelRepository(Path(config.serve.repository))
        self._packages = configured_packages(config.serve, self._repository)
        placements(config.serve, self._packages)  # wrong names are told before anything starts
        self._devices, lost = open_devices(config.serve, self._packages)
        self._edges = open_edges(config.plans, config.offload)
        self._plans = open_plans(config, self._packages, lost, self._edges)
        self._path = Path(config.serve.socket) if config.serve.socket else runtime_folder() / "headway.sock"
        self._guard_path = Path(config.guard.socket or self._path.with_name("headway-guard.sock"))
        self._started_s = time.monotonic()
        self._running = True
        self._ready = False
        self._reload_asked = False
        self._replanning: Future[None] | None = None
        self._replan_s = 0.0
        self._bound = GuardBound()
        self._metrics: str | None = None
        self._edge_status: Status | None = None
        self._exceeded = ""

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then answer what is in flight and leave; the guard lives on.

        SIGHUP has the configuration read again (`reload.py`); a service manager is told how it goes (`notify.py`).

        Raises:
            UnavailableError: another daemon owns the socket, or no guard could be had.
            ConfigurationError: the socket cannot be made, or the running guard guards another vehicle.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGHUP, self._hang_up)
        raise_file_limit()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        with ExitStack() as stack:
            self._notifier = stack.enter_context(notifier())
            self._notifier.status("loading models")
            context = stack.enter_context(zmq.Context())
            self._poller = zmq.Poller()
            serve = self._config.serve
            self._patience = Patience(self._poller, min(_POLL_MS, serve.keep_warm_ms or _POLL_MS), serve.busy_poll_us)
            sockets = LocalSockets(stack, context, self._poller, serve, self._path)
            self._mailbox = Mailbox()
            stack.callback(self._mailbox.close)
            self._poller.register(self._mailbox.fileno(), zmq.POLLIN)
            self._guard = GuardLink(
                context,
                self._poller,
                self._vehicle,
                guard_command(self._config.guard, self._guard_path),
                self._on_report,
            )
            stack.callback(self._guard.close)
            self._guard.seek()  # it starts while the models are loaded
            self._executor = self._open_executor(stack)
            self._guard.open()
            self._promptness = Promptness()
            self._promptness.calm()
            self._pilot = self._open_pilot(stack)
            told = Told(self._status, self._told_plans)
            self._api = sockets.open(self._service, self._pilot, self._vehicle, self._guard_path, self._mailbox, told)
            self._guard.resume()  # loading may have taken seconds
            self._ready = True
            self._fronts = stack.enter_context(open_fronts(self._config.front, self._access, self._service))
            self._observe(stack)
            names = ", ".join(package.name for package in self._packages)
            _log.info("ready at %s: %s", self._path, names, extra={"code": "ready", "pid": os.getpid()})
            self._pin()
            gc.freeze()  # what is here to stay, looked through in the middle of a request, would hold it up
            self._notifier.ready(self._summary())
            while self._running:
                self._turn()
            self._drain()

    def _observe(self, stack: ExitStack) -> None:
        """Show how the daemon fares, where and how it is configured."""
        section = self._config.observe
        self._executor.on_decision = tell_decisions(self._service.events)
        self._companions = stack.enter_context(companions(section, self._path, guard=self._guard_path))
        if section.metrics is not None:
            guard = self._guard_path
            self._metrics = stack.enter_context(open_metrics(section.metrics, guard, self._service, self._status))

    def _open_executor(self, stack: ExitStack) -> Executor:
        """Load the models; all threads that infer are started by one that has stepped back."""
        executor = Executor([Device(each.backend, each.cores) for each in self._devices], edges=self._edges)
        stack.callback(executor.close)
        if self._plans is not None:
            stack.callback(self._plans.close)
        polite = step_back if self._config.serve.polite else None
        self._loader = ThreadPoolExecutor(1, "headway-load", initializer=polite)
        stack.callback(self._loader.shutdown)
        self._loader.submit(executor.start).result()
        models = Models(self._packages, self._repository, self._plans)
        self._service, library = open_service(
            self._config.serve, models, executor, self._loader, self._bound, self._why_not_ready
        )
        self._loader.submit(library.begin).result()
        self._reloader = Reloader(self._config, self._reread, library, self._loader, self._reloaded)
        return executor

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
            _log.error("the plans could not be looked at: %s", error, extra={"code": "plans_unseen"})
        self._replanning = self._loader.submit(self._plans.consider, self._executor)

    def _open_pilot(self, stack: ExitStack) -> Pilot:
        offloading = Offloading(self._config.offload)
        offloading.tell_decisions(self._service.events)
        if self._config.observe.otlp is not None:
            from runtime.observe.trace.tracing import tracing

            self._service.tracing = offloading.tracing = stack.enter_context(
                tracing(self._config.observe.otlp, "headway")
            )
        stack.callback(offloading.close)
        self._client = offloading.client
        if self._client is not None:
            self._poller.register(self._client.fileno(), zmq.POLLIN)
        aims = ControllerSettings(self._vehicle.l_r_m, self._vehicle.beta_max_rad)
        parts = (self._executor, self._mailbox, aims, offloading)
        return Pilot(self._packages[0], *parts, self._propose, watch=self._service.delivered)

    def _pin(self) -> None:
        core = messenger_core(core for device in self._devices for core in device.cores or ())
        if self._config.serve.pin_messages and core is not None:
            keep_together(core)

    def _stop(self, *_: object) -> None:
        self._running = False

    def _hang_up(self, *_: object) -> None:
        self._reload_asked = True

    def _turn(self, most_ms: int = _POLL_MS) -> None:
        """Do once what is to be done for whoever speaks to the daemon."""
        ready = self._patience.wait(most_ms)
        if not ready and self._config.serve.keep_warm_ms is not None:
            self._service.keep_warm()
            self._api.keep_warm()
        if self._guard.socket in ready:
            self._guard.receive()
        if self._mailbox.fileno() in ready:
            self._mailbox.drain()
        if self._api.attend(ready):
            self._patience.stay()
        self._replan()
        if self._client is not None and self._client.fileno() in ready:
            self._pilot.take_outcomes()
        if self._client is not None and self._client.state.status is not self._edge_status:
            self._tell_edge(self._client.state.status)
        self._guard.attend(ready)
        self._companions.attend(time.monotonic())
        self._notifier.alive()
        if self._reload_asked and self._reloader.begin():
            self._reload_asked = False
            self._notifier.reloading()
        self._reloader.attend()
        self._promptness.attend(self._executor.busy, time.monotonic())

    def _drain(self) -> None:
        """Finish what was begun, for at most 2 s; whoever asks meanwhile is told UNAVAILABLE."""
        until_s = time.monotonic() + _DRAIN_S
        self._notifier.stopping("draining")
        _log.info("draining", extra={"code": "draining"})
        while not (drained := self._executor.drain(0.0)) and time.monotonic() < until_s:
            self._turn(_DRAIN_POLL_MS)
        self._turn(0)
        self._mailbox.drain()
        _log.info("drained" if drained else "left what was not done in time", extra={"code": "drained", "all": drained})

    def _reloaded(self, error: str) -> None:
        """Tell the service manager how a reload ended."""
        self._notifier.ready(f"{self._summary()}; the last reload was refused: {error}" if error else self._summary())

    def _summary(self) -> str:
        served = sorted({model.package.name for model in self._service.models})
        certificate = "no guard answers" if self._guard.welcome is None else self._guard.welcome.certificate
        return f"serving {', '.join(served)}; guard {self._vehicle.name}: {certificate or 'uncertified'}"

    def _propose(self, stamp_ns: int, beta_rad: float, speed_mps: float) -> None:
        self._guard.propose(stamp_ns, beta_rad, speed_mps)

    def _on_report(self, report: Any) -> None:
        if self._ready:
            self._promptness.attend(True, time.monotonic())  # a vehicle is driven: its controls may pass here
            self._bound.hear(report)
            self._pilot.hear(report)
            if report.exceeded != self._exceeded:
                self._exceeded = report.exceeded
                told = {"exceeded": report.exceeded or None, "stamp_ns": report.stamp_ns, "mode": report.mode}
                self._service.events.publish(Topic.BOUND, told)
            if self._service.events.wanted(Topic.GUARD):
                self._service.events.publish(Topic.GUARD, msgspec.structs.asdict(report))

    def _tell_edge(self, status: Status) -> None:
        """Tell the edge server's state, which has changed."""
        self._edge_status = status
        edge = self._pilot.status()["edge"]
        told = {"code": "edge", "endpoint": edge["endpoint"], "state": edge["state"]}
        _log.info("edge server %s is %s", edge["endpoint"], edge["state"], extra=told)
        self._service.events.publish(Topic.EDGE, edge)

    def _told_plans(self) -> dict[str, Any] | None:
        return None if self._plans is None else self._plans.describe()

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
            "requests": self._api.requests,
            "refused": self._api.refused,
            "queued": dict(stats.queued),
            "replies": {str(status): count for status, count in stats.replies.items()},
            "drift": self._service.drift(),
            "reload": self._reloader.status(),
            "guard": guard,
            "fronts": {"http": self._fronts.http, "grpc": self._fronts.grpc},
            "metrics": self._metrics,
            "companions": self._companions.status(),
            **({} if self._plans is None else {"plan": self._plans.status()}),
            **self._pilot.status(),
        }
