"""Puts the daemon's parts together from its configuration."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from devices.package import Package
from offload.security.limits import ClientLimits
from runtime.config import GuardSection, ServeSection
from runtime.execute.executor import Executor
from runtime.observe.watch import DriftWatch
from runtime.repository import ModelRepository
from runtime.serve.api.admin import Administration
from runtime.serve.api.lives import Lives
from runtime.serve.api.local import LocalApi, Rooms
from runtime.serve.api.questions import Questions
from runtime.serve.api.quota import Quota, Quotas
from runtime.serve.api.relay import GuardRelay
from runtime.serve.api.segments import SharedSegments, owned_listener
from runtime.serve.bound import GuardBound
from runtime.serve.devices import placements
from runtime.serve.events import EventHub
from runtime.serve.guard_link import GuardCommand, guard_arguments
from runtime.serve.library import MEGABYTE, Library
from runtime.serve.mailbox import Mailbox
from runtime.serve.pilot import Pilot
from runtime.serve.plans import Plans
from runtime.serve.service import Parts, Service
from runtime.serve.sockets import loopback_router, owned_router
from shield.vehicle import Vehicle


@dataclass(frozen=True, slots=True)
class Models:
    """What the daemon serves, by its configuration.

    Args:
        packages: Loaded at the start; the first one drives the vehicle.
        repository: Where others are found.
        plans: Places some of them.
    """

    packages: Sequence[Package]
    repository: ModelRepository | None
    plans: Plans | None


def open_service(
    serve: ServeSection,
    models: Models,
    executor: Executor,
    loader: ThreadPoolExecutor,
    bound: GuardBound,
    why_not_ready: Callable[[], str],
) -> tuple[Service, Library]:
    """Return the service, and its library with nothing loaded yet."""
    first = models.packages[0].name
    library = Library(
        executor,
        models.packages,
        placements=placements(serve, models.packages),
        repository=models.repository,
        budget_bytes=None if serve.memory_mb is None else MEGABYTE * serve.memory_mb,
        placer=models.plans,
        pinned=first,
        driving=bound.driven,
    )

    def walk_p99_s(model: str) -> float:
        return executor.model(model).latency.complete_p99_s()

    parts = Parts(
        executor=executor,
        library=library,
        loader=loader,
        events=EventHub(),
        drift=DriftWatch([], walk_p99_s, every=serve.drift_every),
        plans=models.plans,
        bound=bound,
        guarded=frozenset((first,) if serve.guarded is None else serve.guarded),
    )
    return Service(parts, why_not_ready), library


class LocalSockets:
    """The local sockets, bound at once, so that a second daemon is told; answered once there is a service.

    Args:
        stack: Closes them.
        context: ZeroMQ's.
        poller: Where they are registered.
        config: The configuration.
        path: The unix socket.
    """

    def __init__(
        self,
        stack: ExitStack,
        context: "zmq.Context[zmq.Socket[bytes]]",
        poller: zmq.Poller,
        serve: ServeSection,
        path: Path,
    ) -> None:
        self._stack = stack
        self._context = context
        self._poller = poller
        self._serve = serve
        self._routers = [stack.enter_context(owned_router(context, path))]
        if serve.tcp is not None:
            self._routers.append(stack.enter_context(loopback_router(context, serve.tcp)))
        self._listener = stack.enter_context(owned_listener(path))

    def open(
        self, service: Service, pilot: Pilot, vehicle: Vehicle, guard: Path, mailbox: Mailbox, told: "Told"
    ) -> LocalApi:
        """Return what answers them from now on."""
        for router in self._routers:
            self._poller.register(router, zmq.POLLIN)
        relay = GuardRelay(self._context, self._poller, guard)
        self._stack.callback(relay.close)
        questions = Questions(vehicle)
        self._stack.callback(questions.close)
        segments = SharedSegments(self._listener, self._poller)
        self._stack.callback(segments.close)
        admin = Administration(service, mailbox, told.status, told.plans)
        lives = Lives(self._poller, service.cancel)
        self._stack.callback(lives.close)
        rooms = Rooms(service, pilot, relay, admin, questions, segments, mailbox, lives)
        rate = self._serve.client_messages
        rates = None if rate is None else ClientLimits(rate, math.inf)
        api = LocalApi(self._routers, rooms, Quotas(Quota(requests=self._serve.client_requests, rates=rates)))
        self._stack.callback(api.close)
        return api


@dataclass(frozen=True, slots=True)
class Told:
    """What the daemon tells of itself when asked.

    Args:
        status: Returns its state.
        plans: Returns what is known of plans; None where there are none.
    """

    status: Callable[[], dict[str, Any]]
    plans: Callable[[], dict[str, Any] | None]


def guard_command(guard: GuardSection, path: Path) -> GuardCommand:
    """Return how a guard at `path` is started."""
    extra: list[str] = ["--proposal-max-age-s", str(guard.proposal_max_age_s)]
    if guard.certificate is not None:
        extra += ["--certificate", guard.certificate]
    if guard.uncertified:
        extra.append("--uncertified")
    if not guard.fifo:
        extra.append("--no-fifo")
    return GuardCommand(path, guard_arguments(path, guard.vehicle, extra=tuple(extra)) if guard.start else ())
