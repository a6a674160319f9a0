"""What becomes of a client's requests: which server each goes to, when it is repeated, how it ends.

Every request ends in exactly one outcome. It is sent to the server that is predicted to finish it first. If that server
refuses it or is lost, it goes to another one as long as that one can still be in time; if it stays silent longer than
95 of 100 answers took, a second server is asked as well. The first answer counts, and whoever still works on another
copy is told to stop.

Pure bookkeeping on top of the connections: no thread, no lock, the clock is passed in.
"""

import logging
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from devices.clock import Clock
from offload.client.choice import HedgeBudget, two_of
from offload.client.connection import Connection
from offload.client.settings import ClientSettings
from offload.client.timers import Timers
from offload.frames import Array
from offload.link import EmulatedLink, Transmission
from offload.outcome import Handle, Outcome
from offload.throttle import Throttle
from offload.wire import Cancel, Code, Reply, Request, encode_header

_LOG = logging.getLogger("headway.offload")
_LONGEST_US = 3_600_000_000
_KEPT_IDS = 256
_ELSEWHERE = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


@dataclass(slots=True, eq=False)
class Attempt:
    """One copy of a request on its way to one server."""

    id: int
    pending: "Pending"
    connection: Connection
    transmission: Transmission | None
    predicted_s: float = 0.0
    sent_s: float = math.inf


@dataclass(slots=True, eq=False)
class Pending:
    """A request that has not ended.

    Args:
        request: Its header; id and time left are filled in for each copy.
        frames: Its tensors.
        bits: Size for the emulated link.
    """

    handle: Handle
    request: Request
    frames: Sequence[bytes | Array]
    bits: int
    attempts: list[Attempt] = field(default_factory=list)
    tried: list[Connection] = field(default_factory=list)


class Dispatcher:
    """The open requests of one client.

    Args:
        connections: The servers; filled in by the owner after construction.
        next_id: Makes ids for further copies.
        end: Called with each outcome.
    """

    def __init__(
        self,
        settings: ClientSettings,
        clock: Clock,
        link: EmulatedLink | None,
        next_id: Callable[[], int],
        end: Callable[[Outcome], None],
    ) -> None:
        self.connections: list[Connection] = []
        self.timers = Timers()
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._clock = clock
        self._link = link
        self._next_id = next_id
        self._end_with = end
        self._open: dict[int, Pending] = {}
        self._attempts: dict[int, Attempt] = {}
        self._expired_ids: deque[int] = deque(maxlen=_KEPT_IDS)
        self._answered_ids: deque[int] = deque(maxlen=_KEPT_IDS)
        self._unlearned: deque[tuple[Attempt, float, float]] = deque()
        self._hedges = HedgeBudget()
        self._complaints = Throttle(_LOG, clock)
        self._rng = random.Random()

    def start(self, pending: Pending) -> None:
        """Send a request to the server that is predicted to finish it first."""
        handle = pending.handle
        self._open[handle.id] = pending
        if len(self._open) > self._settings.open_requests:
            text = f"{len(self._open) - 1} requests are open: at most {self._settings.open_requests} may be"
            self._finish(pending, Code.RESOURCE_EXHAUSTED, text)
            return
        connection = self._choose(pending, math.inf)
        if connection is None:
            self._finish(pending, Code.UNAVAILABLE, "; ".join(item.state.reason for item in self.connections))
            return
        # First of all the bytes: what follows passes while they are on their way.
        self._attempt(pending, connection, handle.id)
        if handle.id in self._open:
            self.timers.at(handle.deadline_s, handle.id, partial(self._expire, handle.id))
        if self._chooses:
            self._hedges.earn()
            self.settle()

    def settle(self) -> None:
        """Learn from the answers that came since the last call, and sweep up; kept out of the way of answers."""
        while self._unlearned:
            attempt, compute_s, now_s = self._unlearned.popleft()
            attempt.connection.service.answered(
                attempt.pending.request.model, compute_s, now_s - attempt.sent_s, attempt.predicted_s, now_s
            )
        self.timers.sweep(self._open)

    @property
    def _chooses(self) -> bool:
        """Whether there is more than one server, and so a use for knowing how quick each is."""
        return len(self.connections) > 1

    @property
    def idle(self) -> bool:
        """Whether no request is open."""
        return not self._open

    def cancel(self, handle: Handle) -> None:
        """End a request as CANCELLED, unless it has ended."""
        pending = self._open.get(handle.id)
        if pending is not None:
            self._finish(pending, Code.CANCELLED, "cancelled")

    def cancel_all(self, reason: str) -> None:
        """End every request as CANCELLED."""
        for pending in list(self._open.values()):
            self._finish(pending, Code.CANCELLED, reason)

    def receive(self, connection: Connection, *, expected: bool = False) -> None:
        """Take in what a server has sent; see `Connection.receive`."""
        connection.receive(self._on_reply, expected=expected)

    def lost(self, connection: Connection) -> None:
        """Take in that a server is gone: what it was working on goes elsewhere, or ends UNAVAILABLE."""
        gone = [item for item in self._attempts.values() if item.connection is connection]
        for attempt in gone:
            self._failed(attempt, Code.UNAVAILABLE, connection.state.reason)

    def _choose(self, pending: Pending, until_s: float) -> Connection | None:
        """Return where to send a request next; None if nobody not tried yet can answer it by `until_s`."""
        if len(self.connections) == 1:
            only = self.connections[0]
            return only if only.state.connected and not pending.tried else None
        model = pending.request.model
        free = [item for item in self.connections if item.state.connected and item not in pending.tried]
        if len(free) > 1:
            free = [item for item in free if model in item.state.models] or free
        if not free:
            return None
        now_s = self._clock.now_s()
        soonest = min(two_of(free, self._rng), key=lambda item: item.service.latency_s(model, now_s))
        return soonest if now_s + soonest.service.latency_s(model, now_s) <= until_s else None

    def _attempt(self, pending: Pending, connection: Connection, number: int) -> None:
        handle, now_s = pending.handle, self._clock.now_s()
        transmission = None
        if self._link is not None:
            transmission = self._link.send(pending.bits, now_s)
            if number == handle.id:
                handle.transmission = transmission
            else:
                handle.repeats.append(transmission)
        attempt = Attempt(number, pending, connection, transmission)
        if self._chooses:
            attempt.predicted_s = connection.service.latency_s(pending.request.model, now_s)
        pending.attempts.append(attempt)
        pending.tried.append(connection)
        self._attempts[number] = attempt
        arrival_s = -math.inf if transmission is None else transmission.arrival_s
        if arrival_s <= now_s:
            self._send(attempt)
        elif arrival_s < handle.deadline_s:
            self.timers.at(arrival_s, handle.id, partial(self._send, attempt))

    def _send(self, attempt: Attempt) -> None:
        pending, connection = attempt.pending, attempt.connection
        if attempt.id not in self._attempts:
            return
        now_s = self._clock.now_s()
        if attempt.transmission is None:
            way_back_s = connection.service.rtt_s / 2.0
        else:
            way_back_s = attempt.transmission.reply_delay_s
        left_s = pending.handle.deadline_s - now_s - way_back_s
        if left_s <= 0.0:
            return  # no reply could be in time: the deadline ends it
        left_us = min(_LONGEST_US, int(1e6 * min(left_s, 1e4)))
        header = msgspec.structs.replace(pending.request, id=attempt.id, time_left_us=left_us)
        if not connection.send(encode_header(header), pending.frames):
            self._failed(attempt, Code.UNAVAILABLE, f"{connection.endpoint} does not take more requests")
            return
        attempt.sent_s = now_s
        if self._chooses:
            connection.service.sent()
            at_s = now_s + connection.service.p95_s(pending.request.model)
            if at_s < pending.handle.deadline_s:
                self.timers.at(at_s, pending.handle.id, partial(self._hedge, attempt))

    def _hedge(self, attempt: Attempt) -> None:
        pending = attempt.pending
        if attempt.id not in self._attempts or len(pending.attempts) > 1:
            return
        connection = self._choose(pending, pending.handle.deadline_s)
        if connection is not None and self._hedges.spend():
            self.counts["hedged"] += 1
            self._attempt(pending, connection, self._next_id())

    def _on_reply(self, connection: Connection, reply: Reply, tensors: dict[str, Array]) -> None:
        now_s = self._clock.now_s()
        connection.service.report(1e-6 * reply.load_us, now_s)
        attempt = self._attempts.get(reply.id)
        if attempt is None or attempt.connection is not connection:
            self._unexpected(connection, reply.id)
        elif attempt.transmission is None:
            self._answer(attempt, reply, tensors, now_s)
        else:
            at_s = now_s + attempt.transmission.reply_delay_s
            if self._link is not None:
                at_s = self._link.open_s(at_s)
            self.timers.at(at_s, attempt.pending.handle.id, partial(self._answer, attempt, reply, tensors))

    def _answer(self, attempt: Attempt, reply: Reply, tensors: dict[str, Array], now_s: float | None = None) -> None:
        if attempt.id not in self._attempts:
            self._unexpected(attempt.connection, attempt.id)
            return
        pending, code = attempt.pending, reply.code
        now_s = self._clock.now_s() if now_s is None else now_s
        if self._chooses and code is Code.OK:
            self._unlearned.append((attempt, 1e-6 * reply.compute_us, now_s))
        others = len(pending.attempts) > 1
        if code in _ELSEWHERE or (others and code is Code.DEADLINE_EXCEEDED):
            self._failed(attempt, code, reply.message)
            return
        self._drop(attempt)
        self._answered_ids.append(attempt.id)
        if others:
            self._leave(pending)
        else:
            del self._open[pending.handle.id]
        self._end(
            Outcome(
                pending.handle,
                code,
                reply.message,
                now_s,
                reply.exit_id,
                tensors,
                1e-6 * reply.queue_us,
                1e-6 * reply.compute_us,
                1e-6 * reply.load_us,
                attempt.connection.endpoint,
            )
        )

    def _unexpected(self, connection: Connection, number: int) -> None:
        """Count a reply that nobody waits for, and tell of one that came before."""
        if number in self._answered_ids:
            self.counts["replayed"] += 1
            self._complaints.warn(f"{connection.endpoint} repeats replies: dropped", kind="replayed")
        else:
            self.counts["late" if number in self._expired_ids else "stray"] += 1

    def _failed(self, attempt: Attempt, code: Code, reason: str) -> None:
        """Give one copy up; send another if that can help, and end the request if no copy is left."""
        pending = attempt.pending
        if attempt.id not in self._attempts:
            return
        self._stop_sending(attempt)
        self._drop(attempt)
        if pending.attempts:
            return
        connection = self._choose(pending, pending.handle.deadline_s)
        if connection is None:
            self._finish(pending, code, reason)
            return
        _LOG.debug("request %d goes elsewhere: %s %s", pending.handle.id, code, reason)
        self.counts["retried"] += 1
        self._attempt(pending, connection, self._next_id())

    def _expire(self, request_id: int) -> None:
        pending = self._open.get(request_id)
        if pending is not None:
            self._expired_ids.extend(attempt.id for attempt in pending.attempts)
            self._finish(pending, Code.DEADLINE_EXCEEDED, "no reply came by the deadline")

    def _finish(self, pending: Pending, code: Code, message: str) -> None:
        self._leave(pending)
        self._end(Outcome(pending.handle, code, message, self._clock.now_s()))

    def _leave(self, pending: Pending) -> None:
        """Tell whoever still works on a request to stop, and forget it."""
        for attempt in pending.attempts:
            self._stop_sending(attempt)
            del self._attempts[attempt.id]
            if attempt.sent_s < math.inf and attempt.connection.state.connected:
                attempt.connection.send_control(encode_header(Cancel(id=attempt.id)))
        pending.attempts.clear()
        del self._open[pending.handle.id]

    def _drop(self, attempt: Attempt) -> None:
        del self._attempts[attempt.id]
        attempt.pending.attempts.remove(attempt)

    def _stop_sending(self, attempt: Attempt) -> None:
        if self._link is None or attempt.transmission is None:
            return
        handle, whole = attempt.pending.handle, attempt.transmission
        attempt.transmission = self._link.cancel(whole, self._clock.now_s())
        if handle.transmission is whole:
            handle.transmission = attempt.transmission
        else:
            handle.repeats[handle.repeats.index(whole)] = attempt.transmission

    def _end(self, outcome: Outcome) -> None:
        code = outcome.code
        self.counts[code] += 1
        if code is not Code.OK and code is not Code.CANCELLED:
            self._complaints.warn(f"no answer: {code} {outcome.message}", kind=code)
        self._end_with(outcome)
