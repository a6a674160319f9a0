"""The vehicle's side of offloading: requests out, outcomes back, every one exactly once.

    with EdgeClient(["tcp://10.0.0.5:5555", "tcp://10.0.0.6:5555"]) as client:
        outcome = client.ask("driver", {"image": image}, deadline_s=time.monotonic() + 0.05)

`submit` and `cancel` never wait. Outcomes are taken with `take` once `fileno()` is readable, which suits a daemon's
poller, or waited for with `wait` or `ask`. Each request ends in one outcome: a server's reply, or DEADLINE_EXCEEDED at
its deadline, CANCELLED on `cancel`, UNAVAILABLE as soon as nobody is left who could answer in time. What a server still
says afterwards is counted and dropped, and the server is told to stop. A server is told how much time is left less the
way back. With several servers, see `offload.client.dispatch` for who gets what.

A thread of the client's own pings the servers, watches the deadlines and reads replies while nobody waits for them. A
caller that waits reads them itself, so that a reply wakes one thread and not two: the sockets belong to whoever holds
the lock, and while a caller waits the thread does not watch them.

With an `EmulatedLink` the real bytes of a request are held back until the declared link would have carried them, and
those of the reply likewise; pings, cancels and the greeting take its time too, ahead of payloads, and none of them
passes while it is out.
"""

import itertools
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import zmq

from devices.clock import Clock, MonotonicClock
from offload.client.connection import Connection
from offload.client.dispatch import Dispatcher, Pending
from offload.client.readers import Readers
from offload.client.settings import ClientSettings, PeerState, Status
from offload.client.timers import KEPT
from offload.errors import ClientError
from offload.estimate import LinkEstimator
from offload.frames import Array, sent_bytes, tensor_frames
from offload.link import EmulatedLink
from offload.outcome import Handle, Outcome, payload_bits
from offload.wakeup import Wakeup
from offload.wire import Code, Request

if TYPE_CHECKING:
    from offload.codec import Encoded
    from offload.codec.choose import CodecChooser

__all__ = ["EdgeClient", "Handle", "Outcome", "payload_bits"]

_LOG = logging.getLogger("headway.offload")
_LONGEST_SLEEP_S = 1.0
_LEARN_TOGETHER = 16  # answers: learning from each at once would take longer than reading it
_FINE_S = 1e-3  # a poll counts in milliseconds, too coarse for an emulated link


class EdgeClient:
    """Talks to one or several edge servers; every method may be called from any one thread at a time.

    Args:
        endpoints: Address of the edge server, such as tcp://127.0.0.1:5555, or of several; none need be there yet.
        settings: How to behave.
        clock: Passed in for tests; must go on by itself.
        codecs: Chooses what tensors are sent as, among what every server that answers reads; None: as they are.
        link: Emulated link that the bytes are held back for; None: none. Its origin is on the same clock.
    Raises:
        ClientError: an address is none, or there is no address.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        settings: ClientSettings | None = None,
        *,
        clock: Clock | None = None,
        link: EmulatedLink | None = None,
        codecs: "CodecChooser | None" = None,
    ) -> None:
        addresses = [endpoints] if isinstance(endpoints, str) else list(endpoints)
        if not addresses or len(set(addresses)) < len(addresses):
            raise ClientError(f"endpoints = {addresses}: give at least one address, and none twice")
        self.endpoint = ", ".join(addresses)
        self._settings = settings or ClientSettings()
        self._clock = clock or MonotonicClock()
        self._link = link
        self._codecs = codecs
        self.estimator = LinkEstimator()
        """What the client has measured of its uplink."""
        self._ids = itertools.count(1)
        self._outcomes: deque[Outcome] = deque()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._unlearned: deque[Outcome] = deque()
        self._wakes_s = -math.inf
        self._ready = Wakeup()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dispatcher = Dispatcher(
            self._settings, self._clock, link, next_id=self._ids.__next__, end=self._on_outcome
        )
        self._connections = self._dispatcher.connections
        self._readers = Readers(self._connections)
        self._states: dict[str, PeerState] = {}
        try:
            for address in addresses:
                connection = Connection(
                    self._context,
                    self._readers.watch,
                    self._readers.unwatch,
                    address,
                    self._settings,
                    self._clock,
                    self._on_state,
                    link,
                    lambda time_s, action: self._dispatcher.timers.at(time_s, KEPT, action),
                    lambda rtt_s: self.estimator.pinged(rtt_s, self._clock.now_s()),
                )
                self._connections.append(connection)
                self._states[address] = connection.state
        except ClientError:
            self._give_back()
            self._readers.close()
            self._ready.close()
            raise
        self._thread = threading.Thread(target=self._run, name="edge-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> "EdgeClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def states(self) -> Mapping[str, PeerState]:
        """Whether each edge server answers, and if not why, by address."""
        return dict(self._states)

    @property
    def state(self) -> PeerState:
        """The state of the first edge server that answers; of the first one if none does."""
        states = list(self._states.values())
        return next((state for state in states if state.connected), states[0])

    @property
    def rtt_s(self) -> float:
        """Round-trip time of the last ping to the quickest server that answers [s]."""
        services = [item.service for item in self._connections if item.state.connected]
        return min((service.rtt_s for service in services), default=self._connections[0].service.rtt_s)

    @property
    def load_s(self) -> float:
        """Work that the least loaded server last said it has accepted and not finished [s]."""
        services = [item.service for item in self._connections if item.state.connected]
        return min((service.load_s for service in services), default=0.0)

    @property
    def counts(self) -> Counter[str]:
        """Outcomes by code; "lost": times a server was lost; "late", "replayed" and "stray": replies that came after
        the deadline, a second time, and to no open request; "retried" and "hedged": copies sent to another server."""
        return self._dispatcher.counts

    @property
    def damaged(self) -> int:
        """Messages of the servers that could not be read."""
        return sum(item.damaged for item in self._connections)

    def fileno(self) -> int:
        """Return the descriptor that is readable while outcomes wait to be taken."""
        return self._ready.fileno()

    def submit(
        self,
        model: str,
        inputs: Mapping[str, Array],
        deadline_s: float,
        *,
        version: str | None = None,
        first_segment: str | None = None,
        last_segment: str | None = None,
        priority: int = 5,
        traceparent: str | None = None,
    ) -> Handle:
        """Send a request; returns at once.

        Args:
            model: Name of the package; `version` the one wanted, None: whichever is served.
            inputs: Tensors by name. They are not copied: leave them alone until the outcome.
            deadline_s: When the answer stops being of use, on the client's clock [s].
            first_segment, last_segment: Ends of the range to run; None: from the first, to the last.
            priority: 1 is the highest; breaks ties between equal deadlines.
            traceparent: W3C trace context.
        Raises:
            ClientError: the client is closed.
            WireError: the tensors don't fit the wire.
            ValueError: `deadline_s` is not finite.
        """
        handle, pending = self._prepare(
            model, inputs, deadline_s, version, first_segment, last_segment, priority, traceparent
        )
        with self._lock:
            self._dispatcher.start(pending)
            self._readers.watch_replies(True)
            self._after_sending()
        return handle

    def ask(
        self,
        model: str,
        inputs: Mapping[str, Array],
        deadline_s: float,
        *,
        version: str | None = None,
        first_segment: str | None = None,
        last_segment: str | None = None,
        priority: int = 5,
        traceparent: str | None = None,
    ) -> Outcome:
        """Send a request and wait for its outcome; the options are those of `submit`.

        The quickest way for one request at a time: the calling thread sends, reads the reply and returns it.

        Raises:
            ClientError, WireError, ValueError: as `submit`.
        """
        handle, pending = self._prepare(
            model, inputs, deadline_s, version, first_segment, last_segment, priority, traceparent
        )
        handle.awaited = True
        with self._lock:
            self._readers.lead()
            self._dispatcher.start(pending)
            self._after_sending()
        try:
            while handle.outcome is None:
                self._read_on(math.inf)
        finally:
            self._follow()
        return handle.outcome

    def cancel(self, handle: Handle) -> None:
        """Give a request up: it ends CANCELLED unless it has ended, its bytes stop, and the server is told to stop."""
        with self._lock:
            self._dispatcher.cancel(handle)
            self._read()

    def take(self) -> list[Outcome]:
        """Return the outcomes since the last call, in the order in which they came."""
        self._ready.clear()
        taken = []
        while self._outcomes:
            taken.append(self._outcomes.popleft())
        return taken

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Return outcomes as soon as there are any, or none after `timeout_s` [s]."""
        if self._outcomes:
            return self.take()
        end_s = self._clock.now_s() + timeout_s
        with self._lock:
            self._readers.lead()
        try:
            while not self._outcomes and not self._closing and self._clock.now_s() < end_s:
                self._read_on(end_s)
        finally:
            self._follow()
        return self.take() if self._outcomes else []

    def wait_for(self, status: Status, timeout_s: float) -> bool:
        """Wait until the status of `state` is `status`; False after `timeout_s` [s]."""
        with self._changed:
            return self._changed.wait_for(lambda: self.state.status is status, timeout_s)

    def close(self) -> None:
        """End every open request as CANCELLED and leave; twice does no harm."""
        self._closing = True
        self._readers.wakeup.set()
        self._thread.join()
        with self._lock:  # a caller that still waits clears them under it
            self._readers.close()
            self._ready.close()

    def _encode(self, name: str, array: Array) -> "tuple[str, Encoded] | None":
        known = [set(state.codecs) for state in self._states.values() if state.connected]
        return self._codecs.encode(name, array, set.intersection(*known)) if self._codecs and known else None

    def _prepare(
        self,
        model: str,
        inputs: Mapping[str, Array],
        deadline_s: float,
        version: str | None,
        first_segment: str | None,
        last_segment: str | None,
        priority: int,
        traceparent: str | None,
    ) -> tuple[Handle, Pending]:
        if self._closing:
            raise ClientError(f"the client of {self.endpoint} is closed: make a new one")
        if not math.isfinite(deadline_s):
            raise ValueError(f"deadline_s = {deadline_s!r}: must be a time on the client's clock")
        now_s = self._clock.now_s()
        request_id = next(self._ids)
        encode = None if self._codecs is None else self._encode
        headers, data = tensor_frames(inputs, self._settings.limits, request_id, encode)
        request = Request(
            id=request_id,
            model=model,
            time_left_us=0,
            version=version,
            first_segment=first_segment,
            last_segment=last_segment,
            priority=priority,
            traceparent=traceparent,
            tensors=headers,
        )
        bits = 8 * sent_bytes(data)
        handle = Handle(request_id, now_s, deadline_s, bits=bits)
        return handle, Pending(handle, request, data, bits)

    def _read_on(self, until_s: float) -> None:
        """Wait until there is something to read or to do, or until a time [s], and do it; for a caller that leads."""
        timers, now_s = self._dispatcher.timers, self._clock.now_s()
        self._sleep(self._readers.as_caller, min(until_s - now_s, timers.next_s - now_s, _LONGEST_SLEEP_S))
        with self._lock:
            self._readers.begin()
            self._read(expected=len(self._connections) == 1)
            now_s = self._clock.now_s()
            if timers.next_s <= now_s:
                timers.fire(now_s)
            self._readers.end(again=not self._closing)

    def _follow(self) -> None:
        """Give the reading back, unless there is nothing to read: then the next request or the thread does."""
        with self._lock:
            self._readers.follow(watched=not self._dispatcher.idle)

    def _sleep(self, poll: Callable[[int], object], left_s: float) -> None:
        left_s = max(0.0, left_s)
        if self._link is not None:
            if left_s < _FINE_S:
                time.sleep(left_s)
                left_s = 0.0
            poll(int(1e3 * left_s))
        else:
            poll(math.ceil(1e3 * left_s))

    # What follows holds the lock.

    def _after_sending(self) -> None:
        """Learn, while the request is on its way, and look at the sockets: sending may have taken in what they got."""
        if len(self._unlearned) >= _LEARN_TOGETHER:
            self._learn()
            self._dispatcher.settle()
        self._read()
        if self._dispatcher.timers.next_s < self._wakes_s:
            self._readers.wakeup.set()

    def _learn(self) -> None:
        while self._unlearned:
            outcome = self._unlearned.popleft()
            parts = (outcome.latency_s, outcome.queue_s, outcome.compute_s)
            self.estimator.answered(outcome.handle.bits, *parts, outcome.ended_s)

    def _read(self, *, expected: bool = False) -> None:
        for connection in self._connections:
            self._dispatcher.receive(connection, expected=expected)

    def _on_outcome(self, outcome: Outcome) -> None:
        if outcome.code is Code.OK:
            self._unlearned.append(outcome)
        if outcome.handle.awaited:
            outcome.handle.outcome = outcome
        else:
            self._outcomes.append(outcome)
            self._ready.set()
        self._readers.nudge()

    def _on_state(self, connection: Connection) -> None:
        state = connection.state
        if not state.connected and self._states[connection.endpoint].connected:
            self._dispatcher.counts["lost"] += 1
        self._states[connection.endpoint] = state
        self._changed.notify_all()
        if not state.connected:
            self._dispatcher.lost(connection)

    # What follows runs on the client's own thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                with self._lock:
                    self._turn()
                self._sleep(self._readers.as_thread, self._wakes_s - self._clock.now_s())
        except Exception:
            _LOG.exception(
                "the client of %s failed",
                self.endpoint,
                extra={"code": "edge_client_failed", "endpoint": self.endpoint},
            )
        finally:
            with self._lock:
                failed = not self._closing
                self._closing = True
                if failed:
                    for endpoint in self._states:
                        text = "the client's thread failed; the log says why"
                        self._states[endpoint] = PeerState(Status.LOST, text, self._clock.now_s())
                self._dispatcher.cancel_all("the client was closed")
                self._ready.set()
                self._changed.notify_all()
                self._give_back()

    def _turn(self) -> None:
        self._readers.wakeup.clear()
        if not self._readers.leading:
            self._readers.watch_replies(True)
        self._learn()
        self._dispatcher.settle()
        self._read()
        self._dispatcher.timers.fire(self._clock.now_s())
        for connection in self._connections:
            connection.tick()
        self._read()  # whoever has sent on a socket must look whether it holds something
        ticks_s = min(connection.next_tick_s for connection in self._connections)
        self._wakes_s = min(ticks_s, self._dispatcher.timers.next_s)

    def _give_back(self) -> None:
        for connection in self._connections:
            connection.close()
        self._context.term()
        self._readers.stop()
