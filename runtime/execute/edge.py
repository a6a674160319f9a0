"""An edge server as a device of the executor: parts of requests go out over the link and their outcomes come back.

Requests are sent by whoever has a part ready; one thread takes the outcomes in and hands each to whom it belongs. What
the outcomes tell of the link and of the server is kept for whoever chooses plans:

    rate     bits / (latency - queue - computation - median round trip) of an answer
    at most  bits / (waited - median round trip) where none came in time: a link that stalls is seen at once
    way      half the round-trip time of the pings
    server   computation and queue of each answer, by the segments it ran
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

from devices.clock import Clock, MonotonicClock
from devices.package.graph import Package
from devices.tensor import Array
from offload.client import EdgeClient, Status
from offload.errors import OffloadError
from offload.estimate import Window
from offload.outcome import Handle, Outcome
from offload.wire import Code

_log = logging.getLogger(__name__)
_WAIT_S = 0.25
_SOON_S = 0.01
_LEAST_BITS = 65_536  # less tells of the rate only where it took long
_LONG_S = 0.02
_LOW = 0.05  # share of measured rates below the one to count with
_HIGH = 0.95
_KEPT_RUNS = 64
_LEAST_SILENCES = 2  # one may have any reason
_SILENT = (Code.DEADLINE_EXCEEDED, Code.CANCELLED)
_REFUSED = (Code.INVALID, Code.UNAUTHORIZED, Code.RESOURCE_EXHAUSTED)
_MOST_REFUSALS = 3

OnOutcome = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class EdgeRun:
    """One answer of the server: what it ran, and how long that took and waited there [s]."""

    model: str
    segment_ids: tuple[str, ...]
    compute_s: float
    queue_s: float


@dataclass(frozen=True, slots=True)
class LinkNow:
    """The way to a server as it is now.

    Args:
        rate_bps: Goodput that 19 of 20 of the last transfers had [bit/s]; None where none was measured.
        at_most_bps: What the rate can't be above, as requests went unanswered [bit/s].
        latency_s: Half the round-trip time that 19 of 20 of the last pings kept [s]; None where none was answered.
    """

    rate_bps: float | None = None
    at_most_bps: float = math.inf
    latency_s: float | None = None


class EdgeDevice:
    """A connection to one or several edge servers that serve the same models.

    Args:
        name: What placements call it.
        client: The connection; closed with the device.
        clock: The client's clock.
        remembered_s: How long a measurement of the rate counts [s].
    """

    def __init__(self, name: str, client: EdgeClient, clock: Clock | None = None, *, remembered_s: float = 5.0) -> None:
        self.name = name
        self.client = client
        self._clock = clock or MonotonicClock()
        self._open: dict[int, tuple[Handle, OnOutcome]] = {}
        self._refusals: list[str] = []
        self._lock = threading.Lock()
        self._remembered_s = remembered_s
        self._rates = Window(remembered_s)
        self._bounds: deque[tuple[float, float]] = deque(maxlen=_KEPT_RUNS)
        self._runs: deque[EdgeRun] = deque(maxlen=_KEPT_RUNS)
        self._last: dict[tuple[str, tuple[str, ...]], dict[str, Array]] = {}
        self.used_s = self._clock.now_s()
        """When a request was last sent [s]."""
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name=f"headway-{name}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> str | None:
        """Why no server answers, or that it refuses everything; None while one answers."""
        state = self.client.state
        if not state.connected:
            return state.reason or "no server has answered yet"
        refusals = self._refusals
        if len(refusals) >= _MOST_REFUSALS:
            return f"it refused {_MOST_REFUSALS} requests in a row: {refusals[-1]}"
        return None

    def await_connected(self, timeout_s: float) -> bool:
        """Wait until a server answers; False after `timeout_s` [s]."""
        return self.client.wait_for(Status.CONNECTED, timeout_s)

    def submit(
        self,
        package: Package,
        segment_ids: Sequence[str],
        inputs: Mapping[str, Array],
        deadline_s: float,
        on_outcome: OnOutcome,
        *,
        learn: bool = True,
        traceparent: str | None = None,
    ) -> Callable[[], None]:
        """Have consecutive segments run by the server.

        Args:
            inputs: The tensors that they read and don't make.
            deadline_s: When the answer stops being of use, on the client's clock [s].
            on_outcome: Gets the one outcome, on the device's thread.
            learn: Whether it tells of link and server; not while that still loads.
            traceparent: W3C trace context.
        Returns:
            What gives the request up; harmless once it has ended.
        Raises:
            OffloadError: The client is closed, or the tensors don't fit the wire.
        """
        key = (package.name, tuple(segment_ids))
        with self._lock:  # an outcome must find whom it belongs to
            handle = self.client.submit(
                package.name,
                inputs,
                deadline_s,
                version=package.version,
                first_segment=segment_ids[0],
                last_segment=segment_ids[-1],
                traceparent=traceparent,
            )
            take = partial(self._ended, key, on_outcome) if learn else on_outcome
            self._open[handle.id] = (handle, take)
            if learn:
                self._last[key] = dict(inputs)
                self.used_s = self._clock.now_s()
        return partial(self.client.cancel, handle)

    def ask(
        self, package: Package, segment_ids: Sequence[str], inputs: Mapping[str, Array], deadline_s: float
    ) -> Outcome:
        """Have segments run and wait for the outcome; not on the device's own thread.

        Raises:
            OffloadError: As `submit`.
        """
        outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self.submit(package, segment_ids, inputs, deadline_s, outcomes.put, learn=False)
        return outcomes.get()

    def probe(
        self, package: Package, segment_ids: Sequence[str], inputs: Mapping[str, Array], deadline_s: float
    ) -> None:
        """Measure the link and the server with a request whose answer nobody waits for; `inputs` unless it had some.

        Raises:
            OffloadError: As `submit`.
        """
        last = self._last.get((package.name, tuple(segment_ids)))
        self.submit(package, segment_ids, last or inputs, deadline_s, lambda _: None)

    def link(self) -> LinkNow:
        """Return how the way to the server is now."""
        with self._lock:
            state, now_s = self.client.state, self._clock.now_s()
            since_s = state.since_s if state.connected else -math.inf  # before, it was the server or an outage
            self._rates.age(now_s)
            rate_bps = self._rates.quantile(_LOW) if len(self._rates) else None
            bounds = [bps for at_s, bps in self._bounds if at_s >= max(since_s, now_s - self._remembered_s)]
        at_most_bps = sorted(bounds)[_LEAST_SILENCES - 1] if len(bounds) >= _LEAST_SILENCES else math.inf
        pings = self.client.estimator.rtt_s
        return LinkNow(rate_bps, at_most_bps, 0.5 * pings.quantile(_HIGH) if len(pings) else None)

    def runs(self) -> list[EdgeRun]:
        """Return the server's runs since the last call, oldest first."""
        found = []
        while self._runs:
            found.append(self._runs.popleft())
        return found

    def close(self) -> None:
        """Give up what is open and leave; twice does no harm."""
        if self._closing:
            return
        self._closing = True
        while self._open:  # their outcomes wake the thread
            with self._lock:
                handles = [handle for handle, _ in self._open.values()]
            for handle in handles:
                self.client.cancel(handle)
            self._thread.join(_SOON_S)
        self._thread.join()
        self.client.close()

    def _serve(self) -> None:
        while not self._closing or self._open:
            self._hand_out(self.client.wait(_WAIT_S))

    def _hand_out(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            with self._lock:
                _, take = self._open.pop(outcome.handle.id)
            try:
                take(outcome)
            except Exception:  # whoever waits for the others must still get theirs
                _log.exception(
                    "the outcome of a request to %s could not be taken", self.name, extra={"code": "callback_failed"}
                )

    def _ended(self, key: tuple[str, tuple[str, ...]], on_outcome: OnOutcome, outcome: Outcome) -> None:
        self._learn(outcome)
        if outcome.code is Code.OK:
            self._runs.append(EdgeRun(*key, outcome.compute_s, outcome.queue_s))
            self._refusals = []
        elif outcome.code in _REFUSED:
            self._refusals = [*self._refusals, f"{outcome.code} {outcome.message}"][-_MOST_REFUSALS:]
        on_outcome(outcome)

    def _learn(self, outcome: Outcome) -> None:
        """Note what an outcome tells of the uplink's rate."""
        pings = self.client.estimator.rtt_s
        sent_s = outcome.latency_s - (pings.quantile(0.5) if len(pings) else 0.0)
        if outcome.code is Code.OK:
            sent_s -= outcome.queue_s + outcome.compute_s
        elif outcome.code not in _SILENT:
            return
        bits = outcome.handle.bits
        if not sent_s > 0.0 or (bits < _LEAST_BITS and sent_s < _LONG_S):
            return
        with self._lock:
            if outcome.code is Code.OK:
                self._rates.add(bits / sent_s, outcome.ended_s)
            else:
                self._bounds.append((outcome.ended_s, bits / sent_s))


def open_failed(error: OffloadError, name: str) -> str:
    """Return why nothing could be sent to an edge device, worded as backends word their failures."""
    return f"the backend of {name} failed: {error}"
