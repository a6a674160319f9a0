"""What every front end asks of the daemon: models, requests, statistics, events. Any thread may call it.

The local socket, HTTP and gRPC are front ends of this one object. A front end makes a request, submits it, sends the
reply and then says that it has left:

    request = service.request(service.new_id(), "driving", {"frame": frame}, deadline_ns=deadline_ns, priority=1)
    service.submit(request, on_done)        # on_done(reply), once, on some thread; quick, must not raise
    ...
    service.delivered(request, reply)       # the reply is on its way: later ones are made early enough

A request to a model that the vehicle waits for is due by the guard's deadline at the latest: a client may only shorten
it.
"""

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from devices.package import Package
from devices.tensor import Array
from runtime.execute.errors import ClosedError
from runtime.execute.executor import Executor, ExecutorStats
from runtime.execute.model import ServedModel
from runtime.execute.request import Reply, Request, Span, Status
from runtime.observe.recorder.taps import tell_choices
from runtime.observe.watch import DriftWatch
from runtime.serve.bound import GuardBound
from runtime.serve.events import EventHub, Topic
from runtime.serve.library import Library, Listed
from runtime.serve.plans import Plans
from runtime.serve.statistics import ModelStatistics, Tally

if TYPE_CHECKING:
    from runtime.observe.trace.tracing import Tracing

DEFAULT_PRIORITY = 5
LOWEST_PRIORITY = 9
WARM_LIMIT_S = 0.003
WARM_SLOW_S = 0.05


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service is made of.

    Args:
        executor: Runs requests.
        library: Its models.
        loader: The one thread that loads and unloads.
        events: Where what happens is told.
        drift: Watches the exits of answers.
        plans: Places models; None: nothing does.
        bound: The deadline that the guard gives.
        guarded: Names of the models that the vehicle waits for.
    """

    executor: Executor
    library: Library
    loader: ThreadPoolExecutor
    events: EventHub
    drift: DriftWatch
    plans: Plans | None = None
    bound: GuardBound | None = None
    guarded: frozenset[str] = frozenset()


class Service:
    """Models and requests of one daemon.

    Args:
        parts: What it is made of.
        why_not_ready: Returns why the daemon is not ready; "" once it is.
    """

    def __init__(self, parts: Parts, why_not_ready: Callable[[], str] = lambda: "") -> None:
        self._executor = parts.executor
        self._library = parts.library
        self._loader = parts.loader
        self._drift = parts.drift
        self._plans = parts.plans
        self._bound = parts.bound or GuardBound()
        self._guarded = parts.guarded
        self._why_not_ready = why_not_ready
        self._tallies: dict[tuple[str, str], Tally] = {}
        self.tracing: Tracing | None = None
        """Where each request of a client is told as a span; None: nowhere."""
        self._lock = threading.Lock()  # over tallies, drift and plans: what replies are counted in
        self._ids = itertools.count(1)
        self._warm_s = 0.0
        self.events = parts.events
        self._library.on_change = self._changed
        if self._plans is not None:
            self._plans.on_switch = partial(self.events.publish, Topic.PLAN)
            self._plans.on_choice = tell_choices(self.events)

    # Models

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """All loaded models and versions; of each name, the one served by default comes last."""
        return self._executor.models

    def package(self, name: str, version: str | None = None) -> Package:
        """Return the package of a loaded model, of the version served by default if none is named.

        Raises:
            ModelNotFoundError: It is not loaded.
        """
        return self._executor.model(name, version).package

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the loaded versions of a model, the default last; none if it is not loaded."""
        return tuple(model.package.version for model in self._executor.models if model.package.name == name)

    def index(self) -> tuple[Listed, ...]:
        """Return every model that is loaded or lies in the repository."""
        return self._library.index()

    def footprint_bytes(self, name: str, version: str) -> float:
        """Return what a loaded model takes of the memory budget [B]; 0 if it is not loaded."""
        return self._library.footprints.get((name, version), 0.0)

    def load(self, name: str, version: str | None = None, *, replace: bool = True) -> "Future[ServedModel]":
        """Load a model of the repository; the future raises what `Library.load` raises."""
        return self._loader.submit(self._library.load, name, version, replace=replace)

    def unload(self, name: str, version: str | None = None) -> "Future[None]":
        """Unload a model; the future raises what `Library.unload` raises."""
        return self._loader.submit(self._library.unload, name, version)

    @property
    def why_not_ready(self) -> str:
        """Why the daemon is not ready: models load, or no guard answers; "" once it is."""
        return self._why_not_ready()

    # Requests

    def new_id(self) -> int:
        """Return an id that no other request in flight has; a front end may use its own hashable ones as well."""
        return next(self._ids)

    def request(
        self,
        request_id: Hashable,
        model: str,
        inputs: Mapping[str, Array],
        *,
        deadline_ns: int | None = None,
        priority: int = 0,
        least_exit: str | None = None,
        version: str | None = None,
        traceparent: str | None = None,
    ) -> Request:
        """Return a request, due by the guard's deadline where that falls before the one asked for.

        Args:
            request_id: Unlike that of any other request in flight, as from `new_id`.
            model: Name of a model.
            inputs: Its tensors by name; must not change until the reply. Checked by the executor.
            deadline_ns: When the reply is due, CLOCK_MONOTONIC [ns]; None: whenever it is ready.
            priority: 1 is highest, 9 lowest; 0: the default, 5.
            least_exit: Shallowest exit of use; None: any.
            version: None: the default one.
            traceparent: W3C trace context that it belongs to; None: its own.
        """
        if self._plans is not None:
            left_s = None if deadline_ns is None else max(0.0, 1e-9 * (deadline_ns - time.monotonic_ns()))
            self._plans.asked(model, left_s, least_exit)
        if model in self._guarded:
            falls_ns = self._bound.falls_ns()
            if falls_ns is not None:
                deadline_ns = falls_ns if deadline_ns is None else min(deadline_ns, falls_ns)
        return Request(
            id=request_id,
            model=model,
            inputs=inputs,
            deadline_ns=deadline_ns,
            priority=-(priority or DEFAULT_PRIORITY),
            least_exit=least_exit,
            version=version,
            span=None if self.tracing is None else self.tracing.asked(model, traceparent),
        )

    def submit(self, request: Request, on_done: Callable[[Reply], None]) -> None:
        """Run a request; `on_done` gets its one reply, on another thread or, where it is refused, on this one.

        Raises:
            ClosedError: The daemon has ended.
        """
        watched = on_done if self._plans is None else partial(self._pass_on, request, on_done)
        self._executor.submit(request, watched)

    def _pass_on(self, request: Request, on_done: Callable[[Reply], None], reply: Reply) -> None:
        """Give a reply on; where a device has failed, run the request on a plan without it first, as time is left."""
        instead = self._instead_of(reply)
        if self._plans is None or instead is None:
            on_done(reply)
            return
        self._plans.take(reply)

        def better_of_both(second: Reply) -> None:
            on_done(second if second.status is Status.OK else reply)

        try:
            self._executor.submit(request, better_of_both, instead)
        except ClosedError:
            on_done(reply)

    def _instead_of(self, reply: Reply) -> ServedModel | None:
        failed = reply.status is Status.UNAVAILABLE and (reply.time_left_s is None or reply.time_left_s > 0.0)
        return self._plans.instead_of(reply) if failed and self._plans is not None else None

    def run_inline(self, request: Request) -> Reply | None:
        """Run a quick request on this thread if its device is idle; None if it should be submitted instead.

        For a front end whose one thread has nothing better to do; saves two thread switches.
        """
        reply = self._executor.run_inline(request)
        # What a device has failed is submitted instead: then it is run elsewhere.
        return None if reply is not None and self._instead_of(reply) is not None else reply

    def keep_warm(self) -> None:
        """Run quick models on zeros where their devices are idle; for the thread that would run them inline.

        Those of up to 3 ms are run by the thread that loads, less often; slower ones are hardly slower after a pause.
        """
        self._executor.rehearse()
        now_s = time.monotonic()
        if now_s >= self._warm_s:
            self._warm_s = now_s + WARM_SLOW_S
            inline_s = self._executor.settings.inline_limit_s
            self._loader.submit(self._executor.rehearse, inline_s, WARM_LIMIT_S)

    def cancel(self, request_id: Hashable) -> bool:
        """End a request, its reply being CANCELLED; return whether it was still in flight."""
        return self._executor.cancel(request_id)

    def delivered(self, request: Request, reply: Reply) -> None:
        """Be told, once a request, that its reply has left the process or had nobody left to go to; counts it."""
        self._executor.delivered(request, reply)
        if request.span is not None:
            _end_span(request.span, reply)
        first = next(iter(request.inputs.values()), None)
        samples = first.shape[0] if first is not None and first.ndim else 1
        with self._lock:
            if reply.model:
                key = (reply.model, reply.version)
                tally = self._tallies.get(key) or self._tallies.setdefault(key, Tally())
                tally.add(reply, samples, time.time_ns())
            drifted = self._drift.take(request, reply)
        if drifted is not None:
            self.events.publish(Topic.DRIFT, drifted)
        if self._plans is not None:
            self._plans.take(reply)
        if self.events.wanted(Topic.REQUEST):
            self.events.publish(Topic.REQUEST, told(request, reply))

    # What became of them

    def statistics(self, name: str, version: str | None = None) -> ModelStatistics:
        """Return the counts of a loaded model.

        Raises:
            ModelNotFoundError: It is not loaded.
        """
        package = self.package(name, version)
        with self._lock:
            return self._tallies.get((package.name, package.version), Tally()).look()

    def executor_stats(self) -> ExecutorStats:
        """Return queues and replies of all models together."""
        return self._executor.stats()

    def drift(self) -> dict[str, Any]:
        """Return what is known of drift, by model."""
        with self._lock:
            return self._drift.status()

    def _changed(self, what: str, package: Package) -> None:
        ended = None
        with self._lock:
            if what == "loaded":
                ended = self._drift.begin(package)
            elif not self.versions(package.name):
                ended = self._drift.end(package.name)
            self._tallies.pop((package.name, package.version), None)
        if ended is not None:
            self.events.publish(Topic.DRIFT, ended)
        self.events.publish(Topic.MODEL, {"what": what, "model": package.name, "version": package.version})


def _end_span(span: Span, reply: Reply) -> None:
    told: dict[str, str | int | float | bool] = {
        "headway.status": str(reply.status),
        "headway.exit": reply.exit_id or "",
        "headway.queue_s": reply.queued_s,
        "headway.run_s": reply.run_s,
    }
    span.end(told, failure="" if reply.status is Status.OK else reply.message)


def told(request: Request, reply: Reply) -> dict[str, Any]:
    """Return what an event tells of a request and its reply."""
    return {
        "model": reply.model or request.model,
        "version": reply.version,
        "status": str(reply.status),
        "message": reply.message,
        "exit_id": reply.exit_id,
        "confidence": reply.confidence,
        "ending": None if reply.ending is None else str(reply.ending),
        "priority": -request.priority,
        "queued_s": reply.queued_s,
        "run_s": reply.run_s,
        "time_left_s": reply.time_left_s,
        "parts": parts_of(reply),
    }


def parts_of(reply: Reply) -> list[dict[str, Any]]:
    """Return where each segment of an answer ran, and when, as every front end tells it."""
    return [
        {
            "segment": part.segment_id,
            "device": part.device,
            "begin_us": round(part.begin_s * 1e6),
            "run_us": round(part.elapsed_s * 1e6),
        }
        for part in reply.segments
    ]
