"""The edge server: runs model packages for vehicles, earliest deadline first.

One I/O thread owns the ROUTER and every decision; worker threads compute; a loader thread loads. Work goes to the
workers through a deadline queue and comes back through a queue and an eventfd in the same poller. With nothing else to
do and a model that takes less than half a millisecond, the I/O thread computes itself and spares both hand-overs;
should such a run take long after all, a watchdog stops it and a worker takes over.

A request whose time has passed is answered DEADLINE_EXCEEDED and never computed; one that runs is stopped where it is.

Models are replaced while serving: the new ones are loaded and warmed up first, requests accepted before finish on the
old ones.

Beyond loopback an edge server must know its clients: see `offload.security`.
"""

import logging
import os
import select
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import zmq

from devices.backend import Backend
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.clock import Clock, MonotonicClock
from devices.package import Package
from offload.security.gate import Gate
from offload.server.clients import Clients
from offload.server.computing import Computer
from offload.server.desk import Desk, Parts
from offload.server.models import ServedModel, load_models
from offload.server.pace import Pace
from offload.server.queue import DeadlineQueue
from offload.server.router import Router
from offload.server.settings import ServerSettings
from offload.server.tally import Tally
from offload.server.traced import Traced
from offload.server.watchdog import Watchdog
from offload.wakeup import Wakeup

_LOG = logging.getLogger("headway.edge")
_BATCH = 64  # messages read in a row before results and timers get their turn
_LONGEST_POLL_S = 0.25
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
        models = self._load(packages)
        self.tally = Tally()
        """What has been counted."""
        self._pace = Pace()
        self._computer = Computer(self._clock, self.tally)
        self._queue = DeadlineQueue(self._computer.batch_limit)
        self._done: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._to_load: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._stopping = False
        self._turned_s = -float("inf")
        self._wakeup = Wakeup()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._gate: Gate | None = None
        try:
            if self._settings.security is not None or self._settings.client_limits is not None:
                self._gate = Gate(self._context, self._settings.security, self._settings.client_limits, self._clock)
            self._router = Router(self._context, self._settings, self._gate, self._clock)
        except BaseException:
            if self._gate is not None:
                self._gate.close()
            self._context.term()
            self._wakeup.close()
            raise
        self.endpoint: str = self._router.endpoint
        """Address it is bound to, with its real port."""
        self._watchdog = Watchdog(self._settings.inline_limit_s)
        parts = Parts(self._router, self._gate, self._queue, self._computer, self._pace, self.tally, self._watchdog)
        self._desk = Desk(parts, models, self._settings, self._clock, self._to_load.put, self._tell)

    def tell_traced(self, take: Callable[[Traced], None]) -> None:
        """Have `take` told, on the I/O thread, of each computed request that carries a trace context."""
        self._desk.on_traced = take

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models served."""
        return tuple(self._desk.models)

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the models served, by name."""
        return {name: model.package.version for name, model in self._desk.models.items()}

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker."""
        return len(self._queue)

    @property
    def open_requests(self) -> int:
        """Requests accepted and not answered."""
        return len(self._desk.agenda)

    @property
    def load_s(self) -> float:
        """Work accepted and not finished [s]."""
        return 1e-6 * self._desk.agenda.load_us

    @property
    def clients(self) -> Clients:
        """Who is connected."""
        return self._router.clients

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
        if self.open_requests >= self._settings.queue_jobs:
            return f"{self.open_requests} requests are open: no more are taken"
        return ""

    def stop(self) -> None:
        """Refuse new work, finish what was accepted, then leave `serve`; for any thread and for signal handlers."""
        self._stopping = True
        self._desk.draining = True
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
            self._desk.stop()
            self._queue.close()
            self._to_load.put(None)
            for thread in (loader, *workers):
                thread.join()
            self.close()

    def close(self) -> None:
        """Give the address back; for a server that is not serving. Twice does no harm."""
        self._watchdog.close()
        self._router.close()
        if self._gate is not None:
            self._gate.close()
        self._context.term()
        self._wakeup.close()

    def _load(self, packages: Sequence[Package]) -> dict[str, ServedModel]:
        settings = self._settings
        return load_models(packages, self._open_backend, settings.workers, self._clock, settings.batch)

    # What follows runs on the workers and the loader.

    def _work(self, number: int) -> None:
        cores = self._settings.worker_cores
        if cores:
            os.sched_setaffinity(0, {cores[number % len(cores)]})
        while (jobs := self._queue.take()) is not None:
            answers, again = self._computer.compute(number, jobs)
            self._tell(lambda answers=answers, again=again: self._desk.computed(answers, again))  # type: ignore[misc]
            expected_us = 0 if again else sum(job.expected_us for job in jobs)
            self._pace.ended(number, self._clock.now_s(), expected_us, more=len(self._queue) > 0)

    def _bring(self) -> None:
        while (action := self._to_load.get()) is not None:
            action()

    def _reload(self, read: Callable[[], Sequence[Package]]) -> None:
        try:
            models = self._load(read())
        except Exception:
            _LOG.exception(
                "the models could not be loaded anew: those served so far stay", extra={"code": "reload_failed"}
            )
            self.tally.reloads["failed"] += 1
            return
        self._tell(lambda: self._replace(models))

    def _tell(self, action: Callable[[], None]) -> None:
        """Have the I/O thread do something."""
        self._done.put(action)
        self._wakeup.set()

    # What follows runs on the I/O thread.

    def _replace(self, models: dict[str, ServedModel]) -> None:
        self._desk.models = models
        self.tally.reloads["done"] += 1
        served = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        _LOG.info("loaded anew: %s", served, extra={"code": "reloaded"})

    def _loop(self) -> None:
        desk, clients, now = self._desk, self._router.clients, self._clock.now_s
        wakeup, monitor = self._wakeup.fileno(), int(clients.monitor.get(zmq.FD))
        give_up_s: float | None = None
        with select.epoll() as epoll:
            for fd in (self._router.fileno, wakeup, monitor):
                epoll.register(fd, select.EPOLLIN)
            more = True
            while True:
                self._turned_s = now_s = now()
                if self._stopping and give_up_s is None:
                    give_up_s = now_s + self._settings.drain_s
                    _LOG.info("draining: %d requests are left", self.open_requests, extra={"code": "draining"})
                if give_up_s is not None and (not self.open_requests or now_s >= give_up_s):
                    return
                ready = False
                for fd, _ in epoll.poll(0.0 if more else self._timeout_s(now_s, give_up_s)):
                    if fd == wakeup:
                        self._wakeup.clear()
                        self._collect()
                    elif fd == monitor:
                        clients.watch()
                    else:
                        ready = True
                more = (ready or self._router.holds_message) and self._receive()
                if desk.agenda.next_s is not None:
                    desk.expire(now())
                if clients.next_s is not None:
                    clients.tick()

    def _timeout_s(self, now_s: float, give_up_s: float | None) -> float:
        # Never for ever: a signal that arrives just before the poll is only seen when the poll returns.
        until_s = now_s + _LONGEST_POLL_S
        for time_s in (self._desk.agenda.next_s, self._router.clients.next_s, give_up_s):
            if time_s is not None and time_s < until_s:
                until_s = time_s
        return max(0.0, until_s - now_s + 1e-4)

    def _receive(self) -> bool:
        """Deal with the messages that are there; return whether there are more."""
        receive, take_in = self._router.receive, self._desk.take_in
        for _ in range(_BATCH):
            message = receive()
            if message is not None:
                take_in(*message)
            if not self._router.holds_message:
                return False
        return True

    def _collect(self) -> None:
        while True:
            try:
                action = self._done.get_nowait()
            except Empty:
                return
            action()
