"""What ties a part on an edge server to its request: it is sent with what is left of the deadline, and watched.

The spare, the same segments here, begins at the last moment at which it can still answer by the deadline,

    deadline - reserve - 1.5 p99 of the deepest exit that fits - 2 ms,

at once where the server is lost or refuses, and not at all where it could add nothing any more. The server's answer
counts until then and after, as long as it is there first.
"""

import logging
from collections.abc import Callable, Iterable

from devices.clock import NS_PER_S, Clock, Timers
from devices.errors import BackendError, InputError
from devices.tensor import check_finite
from offload.errors import OffloadError
from offload.outcome import Outcome
from offload.throttle import Throttle
from offload.wire import Code
from runtime.execute.edge import open_failed
from runtime.execute.edge_unit import EdgeUnit
from runtime.execute.flow import Flow
from runtime.execute.job import Job
from runtime.execute.request import Status
from runtime.execute.reserve import Reserve
from runtime.execute.spread import Unit
from runtime.execute.worker import Part

_log = logging.getLogger(__name__)
PATIENCE_S = 10.0  # how long a request without a deadline waits for a server that neither answers nor is lost
_WARM_UP_RUNS = 2
_LOADING_S = 1.0  # no longer, or a link that is down would keep the next plan waiting

Push = Callable[[str, Part, float], None]


class EdgeRuns:
    """Sends the parts of requests that are for edge servers.

    Args:
        clock, timers, reserve: The executor's.
    """

    def __init__(self, clock: Clock, timers: Timers, reserve: Reserve) -> None:
        self._clock = clock
        self._timers = timers
        self._reserve = reserve
        self._complaints = Throttle(_log, clock)

    def send(self, job: Job, flow: Flow, place: int, unit: EdgeUnit, push: Push) -> None:
        """Send a part; `push` puts the spare into the queue of its device."""
        if not job.started:
            try:
                check_finite(job.request.inputs)
            except InputError as error:
                job.end(Status.INVALID, str(error))
                return
            job.start()
        inputs, begin_s = flow.sends(place)
        now_s, left_s = self._clock.now_s(), job.time_left_s()
        useful_s = PATIENCE_S if left_s is None else left_s - self._reserve.total_s
        started: list[bool] = []

        def begin_spare() -> None:
            if unit.spare is not None and not started and not flow.token.cancelled:
                started.append(True)
                push(unit.spare.device, Part(job, flow, place, spare=True), unit.spare.p99_s(job.first_exit))

        def go_without(why: str) -> None:
            if not started and not flow.token.cancelled:
                if self._spare_helps(job, flow, place, unit):
                    begin_spare()
                else:
                    flow.unanswered(place, why)

        def on_outcome(outcome: Outcome) -> None:
            why = self._replied(flow, place, unit, begin_s, outcome)
            if why is not None:
                go_without(why)

        if job.request.here:
            go_without(f"{unit.device} was not asked: the request may not leave this board")
            return
        self._watch(job, flow, place, unit, useful_s, begin_spare)
        try:
            until_s, span = now_s + max(0.0, useful_s), job.request.span
            traceparent = None if span is None else span.traceparent
            give_up = unit.edge.submit(
                unit.package, unit.segment_ids, inputs, until_s, on_outcome, traceparent=traceparent
            )
        except OffloadError as error:
            go_without(open_failed(error, unit.device))
            return
        flow.token.bind(give_up)

    def _watch(
        self, job: Job, flow: Flow, place: int, unit: EdgeUnit, useful_s: float, begin_spare: Callable[[], None]
    ) -> None:
        """Have the spare begun at the last moment at which it helps."""
        if job.request.deadline_ns is None or unit.spare is None:
            return
        answers_s = useful_s - flow.ahead_s(place)
        takes_s = unit.spare.deepest_p99_s(job.first_exit, flow.last_exit, answers_s)
        if takes_s is None:
            if job.deepest is not None or (unit.busy.count and unit.busy.p99_s <= useful_s):
                return  # there is an answer already, or the server's will be there
            takes_s = answers_s
        at_ns = self._clock.now_ns() + round((answers_s - takes_s) * NS_PER_S)
        timer = self._timers.call_at(at_ns, begin_spare)
        flow.token.bind(timer.cancel)

    def _spare_helps(self, job: Job, flow: Flow, place: int, unit: EdgeUnit) -> bool:
        """Whether the spare may still add to what there is."""
        left_s = job.time_left_s()
        if unit.spare is None or left_s is None or job.deepest is None:
            return unit.spare is not None
        left_s -= self._reserve.total_s + flow.ahead_s(place)
        return unit.spare.deepest_p99_s(job.first_exit, flow.last_exit, left_s) is not None

    def _replied(self, flow: Flow, place: int, unit: EdgeUnit, begin_s: float, outcome: Outcome) -> str | None:
        """Take in an outcome; return why there is no answer, None where there is one or nobody wants it."""
        if flow.token.cancelled:
            return None
        if outcome.code is not Code.OK:
            return f"the backend of {unit.device} failed: {outcome.code} {outcome.message}"
        try:
            index = unit.check(outcome)
        except InputError as error:
            self._complaints.warn(f"{unit.device}: an answer does not fit: {error}")
            return f"the backend of {unit.device} failed: the answer does not fit: {error}"
        names = {*unit.makes, *(unit.package.exit_outputs(outcome.exit_id) if outcome.exit_id else ())}
        flow.replied(place, index, {name: array for name, array in outcome.outputs.items() if name in names}, begin_s)
        return None


def warm_edges(units: Iterable[Unit | EdgeUnit], clock: Clock) -> None:
    """Have the servers load what they will be asked for; a server that is away is none's fault.

    Raises:
        BackendError: A server refuses it for good.
    """
    for unit in units:
        if not isinstance(unit, EdgeUnit) or unit.edge.lost is not None:
            continue
        for _ in range(_WARM_UP_RUNS):
            outcome = unit.edge.ask(unit.package, unit.segment_ids, unit.zeros(), clock.now_s() + _LOADING_S)
            if outcome.code in (Code.INVALID, Code.UNAUTHORIZED):
                raise BackendError(f"the backend of {unit.device} failed: {outcome.code} {outcome.message}")
            if outcome.code is not Code.OK:
                break
