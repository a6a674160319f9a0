"""The vehicle's side of offloading: requests out, outcomes back, every one exactly once.

An `EdgeClient` has an I/O thread of its own that owns the socket. `submit` and `cancel` never block: they hand over to
that thread through a queue and an eventfd. Outcomes come back the same way: `fileno()` becomes readable and `take()`
returns them, so a daemon registers the descriptor in its own poller and a script calls `wait()`.

Each request ends in one outcome: the server's reply, or DEADLINE_EXCEEDED at its deadline, CANCELLED on `cancel`,
UNAVAILABLE as soon as the peer is lost. What the server still says afterwards is counted and dropped, and the server is
told to stop. A server is told how much time is left less the way back.

With an `EmulatedLink` the real bytes of a request are held back until the declared link would have carried them, and
those of the reply likewise; pings and cancels are not.
"""

import heapq
import itertools
import logging
import math
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

import msgspec
import zmq

from devices.clock import Clock, MonotonicClock
from offload.connection import ClientSettings, Connection, PeerState, Status
from offload.errors import ClientError
from offload.frames import Array, tensor_frames
from offload.link import EmulatedLink, Transmission
from offload.wakeup import Wakeup
from offload.wire import Cancel, Code, Reply, Request, encode

_LOG = logging.getLogger("headway.offload")
_LONGEST_US = 3_600_000_000
_KEPT_IDS = 256


@dataclass(slots=True, eq=False)
class Handle:
    """A request under way.

    Args:
        id: Unique on its client.
        submitted_s, deadline_s: When it was submitted, and when its answer stops being of use [s].
        transmission: Its way up the emulated link, cut short where it was given up; None without a link.
    """

    id: int
    submitted_s: float
    deadline_s: float
    transmission: Transmission | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended.

    Args:
        handle: The request.
        code: OK, or why there is no answer; `message` then says what happened.
        exit_id: Exit that gave the answer; None where the range of segments holds none.
        outputs: Tensors by name, read-only; empty unless OK.
        queue_s, compute_s: Time the server had it wait, and computed it [s].
        load_s: Work the server had accepted and not finished [s].
        ended_s: When it ended, on the client's clock [s].
    """

    handle: Handle
    code: Code
    message: str
    ended_s: float
    exit_id: str | None = None
    outputs: Mapping[str, Array] = field(default_factory=dict)
    queue_s: float = 0.0
    compute_s: float = 0.0
    load_s: float = 0.0

    @property
    def latency_s(self) -> float:
        """Time from `submit` to the end [s]."""
        return self.ended_s - self.handle.submitted_s


@dataclass(slots=True, eq=False)
class _Pending:
    handle: Handle
    request: Request
    frames: list[Any]
    sent: bool = False


def payload_bits(inputs: Mapping[str, Array]) -> int:
    """Return what the emulated link carries for a request: the bits of its tensors, as the published payload counts."""
    return 8 * sum(array.nbytes for array in inputs.values())


class EdgeClient:
    """Talks to one edge server; every method may be called from any one thread at a time.

    Args:
        endpoint: Address of the edge server, such as tcp://127.0.0.1:5555; it need not be there yet.
        settings: How to behave.
        clock: Passed in for tests; must go on by itself.
        link: Emulated link that the bytes are held back for; None: none. Its origin is on the same clock.
    Raises:
        ClientError: the address is none.
    """

    def __init__(
        self,
        endpoint: str,
        settings: ClientSettings | None = None,
        *,
        clock: Clock | None = None,
        link: EmulatedLink | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._settings = settings or ClientSettings()
        self._clock = clock or MonotonicClock()
        self._link = link
        self._link_lock = threading.Lock()
        self._ids = itertools.count(1)
        self._sequence = itertools.count()
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._outcomes: deque[Outcome] = deque()
        self._open: dict[int, _Pending] = {}
        self._expired_ids: deque[int] = deque(maxlen=_KEPT_IDS)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._closing = False
        self.counts: Counter[str] = Counter()
        """Outcomes by code; "lost": times the peer was lost; "late" and "stray": replies that came after the deadline,
        and to no open request."""
        self._wakeup = Wakeup()
        self._ready = Wakeup()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._poller.register(self._wakeup.fileno(), zmq.POLLIN)
        try:
            self._connection = Connection(
                self._context, self._poller, endpoint, self._settings, self._clock, self._on_state
            )
        except ClientError:
            self._context.term()
            self._wakeup.close()
            self._ready.close()
            raise
        self._state = self._connection.state
        self._thread = threading.Thread(target=self._run, name="edge-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> "EdgeClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> PeerState:
        """Whether the edge server answers, and if not why."""
        return self._state

    @property
    def rtt_s(self) -> float:
        """Round-trip time of the last ping, without the emulated link [s]."""
        return self._connection.rtt_s

    @property
    def load_s(self) -> float:
        """Work the server last said it has accepted and not finished [s]."""
        return self._connection.load_s

    @property
    def damaged(self) -> int:
        """Messages of the server that could not be read."""
        return self._connection.damaged

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
        if self._closing:
            raise ClientError(f"the client of {self.endpoint} is closed: make a new one")
        if not math.isfinite(deadline_s):
            raise ValueError(f"deadline_s = {deadline_s!r}: must be a time on the client's clock")
        now_s = self._clock.now_s()
        request_id = next(self._ids)
        headers, data = tensor_frames(inputs, self._settings.limits, request_id)
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
        handle = Handle(request_id, now_s, deadline_s)
        pending = _Pending(handle, request, data)
        if self._link is not None and self._state.connected:
            with self._link_lock:
                handle.transmission = self._link.send(payload_bits(inputs), now_s)
        self._command(lambda: self._start(pending))
        return handle

    def cancel(self, handle: Handle) -> None:
        """Give a request up: it ends CANCELLED unless it has ended, its bytes stop, and the server is told to stop."""
        self._stop_sending(handle)
        self._command(lambda: self._give_up(handle.id, Code.CANCELLED, "cancelled"))

    def take(self) -> list[Outcome]:
        """Return the outcomes since the last call, in the order in which they came."""
        self._ready.clear()
        taken = []
        while self._outcomes:
            taken.append(self._outcomes.popleft())
        return taken

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Return outcomes as soon as there are any, or none after `timeout_s` [s]."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        poll.poll(1e3 * timeout_s)
        return self.take()

    def wait_for(self, status: Status, timeout_s: float) -> bool:
        """Wait until the peer's status is `status`; False after `timeout_s` [s]."""
        with self._changed:
            return self._changed.wait_for(lambda: self._state.status is status, timeout_s)

    def close(self) -> None:
        """End every open request as CANCELLED and leave; twice does no harm."""
        self._closing = True
        self._wakeup.set()
        self._thread.join()
        self._wakeup.close()
        self._ready.close()

    def _command(self, action: Callable[[], None]) -> None:
        self._commands.put(action)
        self._wakeup.set()

    # From here on everything runs on the I/O thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                ready = self._poll()
                if self._wakeup.fileno() in ready:
                    self._wakeup.clear()
                    self._obey()
                for reply, tensors in self._connection.receive(ready):
                    self._on_reply(reply, tensors)
                self._fire()
                self._connection.tick(ready)
        except Exception:
            _LOG.exception("the client of %s failed", self.endpoint)
            self._closing = True
            self._on_state(PeerState(Status.LOST, "the client's I/O thread failed; the log says why", 0.0))
        finally:
            self._obey()
            for request_id in list(self._open):
                self._give_up(request_id, Code.CANCELLED, "the client was closed")
            self._connection.close()
            self._context.term()

    def _poll(self) -> dict[Any, int]:
        next_s = min(self._connection.next_tick_s, self._timers[0][0] if self._timers else math.inf)
        left_s = max(0.0, next_s - self._clock.now_s())
        if self._link is None:
            return dict(self._poller.poll(math.ceil(1e3 * left_s)))
        if left_s < 1e-3:
            time.sleep(left_s)  # a poll counts in milliseconds, too coarse for an emulated link
            left_s = 0.0
        return dict(self._poller.poll(int(1e3 * left_s)))

    def _obey(self) -> None:
        while True:
            try:
                action = self._commands.get_nowait()
            except Empty:
                return
            action()

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= self._clock.now_s():
            heapq.heappop(self._timers)[-1]()

    def _at(self, time_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time_s, next(self._sequence), action))

    def _start(self, pending: _Pending) -> None:
        handle = pending.handle
        self._open[handle.id] = pending
        if not self._state.connected:
            self._give_up(handle.id, Code.UNAVAILABLE, self._state.reason)
        elif len(self._open) > self._settings.open_requests:
            text = f"{len(self._open) - 1} requests are open: at most {self._settings.open_requests} may be"
            self._give_up(handle.id, Code.RESOURCE_EXHAUSTED, text)
        else:
            self._at(handle.deadline_s, lambda: self._expire(handle.id))
            arrival_s = handle.transmission.arrival_s if handle.transmission else -math.inf
            if arrival_s <= self._clock.now_s():
                self._send(pending)
            elif arrival_s < handle.deadline_s:
                self._at(arrival_s, lambda: self._send(pending))

    def _send(self, pending: _Pending) -> None:
        handle = pending.handle
        if handle.id not in self._open:
            return
        way_back_s = self._connection.rtt_s / 2.0
        if handle.transmission is not None:
            way_back_s += handle.transmission.reply_delay_s
        left_s = handle.deadline_s - self._clock.now_s() - way_back_s
        if left_s <= 0.0:
            return  # no reply could be in time: the deadline ends it
        left_us = min(_LONGEST_US, int(1e6 * min(left_s, 1e4)))
        request = msgspec.structs.replace(pending.request, time_left_us=left_us)
        pending.sent = self._connection.send([*encode(request), *pending.frames])
        if not pending.sent:
            self._give_up(handle.id, Code.UNAVAILABLE, f"{self.endpoint} does not take more requests")

    def _on_reply(self, reply: Reply, tensors: dict[str, Array]) -> None:
        pending = self._open.get(reply.id)
        if pending is None:
            self.counts["late" if reply.id in self._expired_ids else "stray"] += 1
            return
        transmission = pending.handle.transmission
        if transmission is None:
            self._answer(reply, tensors)
        else:
            delay_s = transmission.reply_delay_s
            self._at(self._clock.now_s() + delay_s, lambda: self._answer(reply, tensors))

    def _answer(self, reply: Reply, tensors: dict[str, Array]) -> None:
        pending = self._open.pop(reply.id, None)
        if pending is None:
            self.counts["late" if reply.id in self._expired_ids else "stray"] += 1
            return
        self._end(
            Outcome(
                pending.handle,
                reply.code,
                reply.message,
                self._clock.now_s(),
                reply.exit_id,
                tensors,
                1e-6 * reply.queue_us,
                1e-6 * reply.compute_us,
                1e-6 * reply.load_us,
            )
        )

    def _expire(self, request_id: int) -> None:
        if request_id in self._open:
            self._expired_ids.append(request_id)
            self._give_up(request_id, Code.DEADLINE_EXCEEDED, "no reply came by the deadline")

    def _give_up(self, request_id: int, code: Code, message: str) -> None:
        pending = self._open.pop(request_id, None)
        if pending is None:
            return
        self._stop_sending(pending.handle)
        if pending.sent and self._state.connected:
            self._connection.send(encode(Cancel(id=request_id)))
        self._end(Outcome(pending.handle, code, message, self._clock.now_s()))

    def _stop_sending(self, handle: Handle) -> None:
        if self._link is not None and handle.transmission is not None:
            with self._link_lock:
                handle.transmission = self._link.cancel(handle.transmission, self._clock.now_s())

    def _end(self, outcome: Outcome) -> None:
        self.counts[outcome.code] += 1
        self._outcomes.append(outcome)
        self._ready.set()

    def _on_state(self, state: PeerState) -> None:
        if not state.connected and self._state.connected:
            self.counts["lost"] += 1
        with self._changed:
            self._state = state
            self._changed.notify_all()
        if not state.connected:
            for request_id in list(self._open):
                self._give_up(request_id, Code.UNAVAILABLE, state.reason)
