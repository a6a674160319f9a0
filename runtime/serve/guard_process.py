"""The guard as a process: one thread, one socket, one tick for every observation, fifty a second.

The vehicle's observation makes the tick: it is answered at once with the decision to apply. When none comes in time
the guard ticks by itself, so that silence has a named reason and the watchers learn of it. The daemon's proposal is
kept until the next tick. Nothing here waits for the daemon.

Process layout: `headway guard` runs this; the daemon starts one when there is none, in a session of its own, so that
a signal to the daemon's group does not reach the guard.
"""

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import zmq

from runtime.errors import MessageError
from runtime.serve.bound_watch import BoundWatch
from runtime.serve.guard_messages import (
    DecisionMessage,
    Follow,
    GuardStatus,
    Observe,
    Propose,
    Refused,
    Reply,
    Report,
    Request,
    StatusQuery,
    Watch,
    Welcome,
    decode_request,
    encode,
)
from runtime.serve.guard_tally import GuardTally
from runtime.serve.guard_ticks import Followed, Memory, Tick, memory_of, observation_of, proposal_of
from runtime.serve.notify import notifier
from runtime.serve.realtime import become_punctual
from runtime.serve.sockets import owned_router
from shield.guard import Decision, Guard, GuardSettings, Observation
from shield.vehicle import Vehicle

_WATCHER_SILENT_S = 2.0
_VEHICLE_SILENT_S = 1.0
_MEMORY_EVERY = 50

_log = logging.getLogger("headway.guard")


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """How a guard process runs.

    Args:
        socket: Path of its unix socket.
        certificate: Id of the certificate that covers the vehicle; None: it runs without one, and says so.
        fifo: Whether to ask for SCHED_FIFO.
    """

    socket: Path
    certificate: str | None = None
    fifo: bool = True


class GuardProcess:
    """Serves one vehicle, any number of watching daemons, and whoever asks for status.

    Args:
        vehicle: Vehicle with its declared bounds.
        settings: What the guard may choose.
        options: How the process runs.
        clock: The time that the vehicle's stamps are on [s].
    """

    def __init__(
        self,
        vehicle: Vehicle,
        settings: GuardSettings,
        options: GuardOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vehicle = vehicle
        self._options = options
        self._guard = Guard(vehicle, settings)
        self._tick_s = settings.tick_s
        self._overdue_s = settings.tick_s + vehicle.bounds.jitter_s
        self._settings = settings
        self._proposal: Propose | None = None
        self._vehicle_peer: bytes | None = None
        self._vehicle_seen_s = 0.0
        self._self_tick_s = math.inf
        self._watchers: dict[bytes, float] = {}
        self._followers: dict[bytes, float] = {}
        self._memory: Memory | None = None
        self._memory_due = 0
        self._bounds = BoundWatch(vehicle, settings)
        self._decision: Decision | None = None
        self._used: Propose | None = None
        self._ticks = 0
        self._clock = clock
        self._tally = GuardTally(vehicle, options.certificate, clock())
        self._running = True

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            UnavailableError: another process owns the socket.
            ConfigurationError: the socket cannot be made.
        """
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        with notifier() as manager, zmq.Context() as context, owned_router(context, self._options.socket) as router:
            self._tally.begin(become_punctual(fifo=self._options.fifo))
            poller = zmq.Poller()
            poller.register(router, zmq.POLLIN)
            manager.ready(f"guards {self._vehicle.name}: {self._options.certificate or 'uncertified'}")
            while self._running:
                manager.alive()
                if poller.poll(self._patience_ms()):
                    self._receive_all(router)
                if self._vehicle_peer is not None:
                    self._tick_if_overdue(router)
            manager.stopping("asked to end")

    def _stop(self, *_: object) -> None:
        self._running = False

    def _patience_ms(self) -> int:
        if self._vehicle_peer is None:
            return 200
        left_s = self._self_tick_s - self._clock()
        return max(0, min(200, math.ceil(left_s * 1e3)))

    def _receive_all(self, router: zmq.Socket[bytes]) -> None:
        while True:
            try:
                parts = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.take(router, parts[0], parts[1:])

    def take(self, router: zmq.Socket[bytes], peer: bytes, frames: list[bytes]) -> None:
        """Handle one message of `peer`; answers leave by `router`."""
        try:
            if len(frames) != 1:
                raise MessageError(f"a guard message is one frame, this one has {len(frames)}")
            self._handle(router, peer, decode_request(frames[0]))
        except MessageError as error:
            self._send(router, peer, Refused(error=str(error)))

    def _handle(self, router: zmq.Socket[bytes], peer: bytes, request: Request) -> None:
        match request:
            case Observe():
                self._observe(router, peer, request)
            case Propose():
                self._tally.proposals += 1
                self._proposal = request
            case Watch():
                self._watch(router, peer)
            case Follow():
                self._follow(router, peer)
            case StatusQuery():
                self._send(router, peer, self._status())

    def _observe(self, router: zmq.Socket[bytes], peer: bytes, request: Observe) -> None:
        now_s = self._clock()
        silent = now_s - self._vehicle_seen_s > _VEHICLE_SILENT_S
        if self._vehicle_peer not in (None, peer) and not silent:
            raise MessageError("this guard serves another vehicle at present: one guard serves one vehicle")
        if peer != self._vehicle_peer:
            self._bounds.forget()
        self._vehicle_peer = peer
        self._vehicle_seen_s = now_s
        self._self_tick_s = now_s + self._overdue_s
        observation = observation_of(request)
        self._watch_bounds(observation)
        decision = self._tick(now_s, observation)
        told = self._told(decision)
        self._send(router, peer, decision_message(told))
        sent_s = self._clock()
        self._tally.answered(sent_s - now_s, late=sent_s > decision.apply_by_s)
        self._tell_watchers(router, told, now_s)
        self._tell_followers(router, request, decision, now_s)

    def _tick_if_overdue(self, router: zmq.Socket[bytes]) -> None:
        now_s = self._clock()
        if now_s < self._self_tick_s:
            return
        self._self_tick_s += self._tick_s
        if now_s - self._vehicle_seen_s > _VEHICLE_SILENT_S:
            self._vehicle_peer = None
        decision = self._tick(now_s, None)
        self._tell_watchers(router, self._told(decision), now_s)
        self._tell_followers(router, None, decision, now_s)

    def _tick(self, now_s: float, observation: Observation | None) -> Decision:
        self._ticks += 1
        if self._followers and self._ticks >= self._memory_due:
            self._memory = memory_of(self._guard)
            self._memory_due = self._ticks + _MEMORY_EVERY
        self._used = self._proposal if self._bounds.latched is None else self._slowing(now_s)
        proposal = None if self._used is None else proposal_of(self._used)
        decision = self._guard.tick(now_s, observation, proposal)
        self._decision = decision
        self._tally.decided(decision)
        return decision

    def _watch_bounds(self, observation: Observation) -> None:
        """Compare the vehicle with its declared bounds, and tell when that takes it to the conservative setting."""
        before = self._bounds.latched
        self._bounds.look(observation, self._decision)
        after = self._bounds.latched
        if before is None and after is not None:
            text = "a declared bound was exceeded, %s; the vehicle slows down and no answer is waited for"
            _log.warning(text, after, extra={"code": "bound_exceeded", "bound": after.bound})
        elif before is not None and after is None:
            text = "the vehicle is within its declared bounds again after %s; proposals count again"
            _log.info(text, before.bound, extra={"code": "bound_kept", "bound": before.bound})

    def _slowing(self, now_s: float) -> Propose:
        """Return what is proposed in the conservative setting: to slow down on the arc that is held."""
        last = self._decision
        return Propose(_ns(now_s), 0.0 if last is None else last.control.beta_rad, 0.0)

    def _told(self, decision: Decision) -> Decision:
        """Return a decision as vehicle and daemon are told it: no time for any answer in the conservative setting."""
        latched = self._bounds.latched
        if latched is None:
            return decision
        return replace(decision, deadline_s=0.0, limited_by=f"exceeded:{latched.bound}", intervened=True)

    def _status(self) -> GuardStatus:
        latched = self._bounds.latched
        status = self._tally.status(self._clock(), len(self._watchers))
        status.exceeded = dict(self._bounds.counts)
        status.conservative = "" if latched is None else str(latched)
        return status

    def _watch(self, router: zmq.Socket[bytes], peer: bytes) -> None:
        _heard(self._watchers, peer, self._clock())
        welcome = Welcome(
            fingerprint=self._vehicle.fingerprint(),
            pid=os.getpid(),
            vehicle=self._vehicle.name,
            certificate=self._options.certificate,
        )
        self._send(router, peer, welcome)

    def _tell_watchers(self, router: zmq.Socket[bytes], decision: Decision, now_s: float) -> None:
        if not self._watchers:
            return
        report = Report(
            id=decision.id,
            stamp_ns=_ns(decision.stamp_s),
            mode=decision.mode,
            reason=decision.reason,
            deadline_s=decision.deadline_s,
            barrier_deadline_s=decision.barrier_deadline_s,
            limited_by=decision.limited_by,
            beta_rad=decision.control.beta_rad,
            intervened=decision.intervened,
            exceeded="" if self._bounds.latched is None else str(self._bounds.latched),
        )
        frame = encode(report)
        for peer, seen_s in list(self._watchers.items()):
            if now_s - seen_s > _WATCHER_SILENT_S or not _sent(router, peer, frame):
                del self._watchers[peer]

    def _follow(self, router: zmq.Socket[bytes], peer: bytes) -> None:
        known = peer in self._followers
        _heard(self._followers, peer, self._clock())
        if known:
            return
        self._memory_due = 0
        vehicle, certificate = self._vehicle, self._options.certificate
        followed = Followed(os.getpid(), vehicle.fingerprint(), certificate, vehicle, self._settings)
        self._send(router, peer, followed)

    def _tell_followers(
        self, router: zmq.Socket[bytes], observed: Observe | None, decision: Decision, now_s: float
    ) -> None:
        if not self._followers:
            return
        exceeded = "" if self._bounds.latched is None else str(self._bounds.latched)
        message = decision_message(decision)
        tick = Tick(os.getpid(), self._ticks, now_s, observed, self._used, message, self._memory, exceeded)
        self._memory = None
        frame = encode(tick)
        for peer, seen_s in list(self._followers.items()):
            if now_s - seen_s > _WATCHER_SILENT_S:
                del self._followers[peer]
            elif not _sent(router, peer, frame):
                self._memory_due = 0  # it goes on from the next memory

    def _send(self, router: zmq.Socket[bytes], peer: bytes, reply: Reply | Followed) -> None:
        _sent(router, peer, encode(reply))


def decision_message(decision: Decision) -> DecisionMessage:
    """Return a decision as the vehicle is told it."""
    backup = decision.backup
    return DecisionMessage(
        id=decision.id,
        stamp_ns=_ns(decision.stamp_s),
        mode=decision.mode,
        reason=decision.reason,
        beta_rad=decision.control.beta_rad,
        speed_mps=decision.control.speed_mps,
        brake=decision.control.brake,
        apply_by_ns=_ns_or_none(decision.apply_by_s),
        hold_until_ns=_ns_or_none(decision.hold_until_s),
        backup=None if backup is None else (backup.beta_rad, backup.speed_mps, backup.brake),
        backup_manoeuvre=decision.backup_manoeuvre,
        deadline_s=decision.deadline_s,
        barrier_deadline_s=decision.barrier_deadline_s,
        limited_by=decision.limited_by,
        intervened=decision.intervened,
        proposed_beta_rad=decision.proposed_beta_rad,
        shortfall_s=decision.shortfall_s,
        switch_time_s=decision.switch_time_s,
    )


def _heard(peers: dict[bytes, float], peer: bytes, now_s: float) -> None:
    """Note that `peer` was heard, and forget those that were silent: while no vehicle is there nothing else does."""
    for other in [other for other, seen_s in peers.items() if now_s - seen_s > _WATCHER_SILENT_S]:
        del peers[other]
    peers[peer] = now_s


def _sent(router: zmq.Socket[bytes], peer: bytes, frame: bytes) -> bool:
    """Send without waiting; a peer that is gone or does not read loses its message, never the guard's time."""
    try:
        router.send_multipart((peer, frame), zmq.NOBLOCK)
    except zmq.ZMQError:
        return False
    return True


def _ns(time_s: float) -> int:
    return round(time_s * 1e9)


def _ns_or_none(time_s: float) -> int | None:
    return _ns(time_s) if math.isfinite(time_s) else None
