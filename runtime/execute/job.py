"""One request on its way through the executor.

A job ends once. Whoever ends it (the worker, the deadline's timer, a cancel, the closing executor) first claims it, and
only the one that got the claim replies; so the answer at the deadline doesn't wait for the segment that is still being
stopped.
"""

from collections.abc import Callable
from typing import Any, Protocol

from devices.backend import CancelToken
from devices.chain import ExitAnswer
from devices.clock import NS_PER_S, Clock, TimerHandle
from runtime.execute.decisions import Admission, ExitReached, Verdict, end_at
from runtime.execute.model import Recorder, ServedModel
from runtime.execute.queue import EdfQueue, Entry, Urgency, urgency
from runtime.execute.request import Ending, Reply, Request, Status

OnDone = Callable[[Reply], None]
OnDecision = Callable[["Job", Admission | ExitReached, Verdict | Ending | None], None]


class Owner(Protocol):
    """What a job needs of the executor."""

    @property
    def on_decision(self) -> "OnDecision | None":
        """Told of each exit and whether the run ends there."""
        ...

    def finished(self, job: "Job", reply: Reply) -> None:
        """Take note that the job has ended, and hand out its reply."""
        ...


class Job:
    """A request with its model, its place in the queue and what has come of it.

    Args:
        request: What was asked.
        model: What will run.
        first_exit: Place of the shallowest exit wanted.
        on_done: Takes the reply.
        owner: The executor.
        clock: Its clock.
    """

    __slots__ = (
        "_answered_s",
        "_claim",
        "_clock",
        "_owner",
        "_paused_ns",
        "_recorder",
        "_started_ns",
        "_submitted_ns",
        "deepest",
        "ended_ns",
        "entries",
        "first_exit",
        "interruptions",
        "key",
        "model",
        "on_done",
        "request",
        "timer",
        "token",
        "trial",
    )

    def __init__(
        self, request: Request, model: ServedModel, first_exit: int, on_done: OnDone, owner: Owner, clock: Clock
    ) -> None:
        self.request = request
        self.model = model
        self.first_exit = first_exit
        self.on_done = on_done
        self.key: Urgency = urgency(request.deadline_ns, request.priority)
        self.token = CancelToken()
        self.deepest: ExitAnswer | None = None
        self.entries: list[tuple[EdfQueue[Any], Entry[Any]]] = []  # its places in the queues of devices
        self.timer: TimerHandle | None = None
        self.trial = False  # taken although its estimate says no
        self.interruptions = 0  # how often a segment of it was stopped for a more urgent request
        self.ended_ns: int | None = None
        self._recorder = Recorder(model.latency, first_exit)
        self._owner = owner
        self._clock = clock
        self._claim = [True]
        self._submitted_ns = clock.now_ns()
        self._started_ns: int | None = None
        self._paused_ns = 0
        self._answered_s = 0.0

    @property
    def open(self) -> bool:
        """Whether nobody has ended the job yet."""
        return bool(self._claim)

    def time_left_s(self) -> float | None:
        """Return the time until the deadline [s], negative if it has passed; None without a deadline."""
        deadline_ns = self.request.deadline_ns
        return None if deadline_ns is None else (deadline_ns - self._clock.now_ns()) / NS_PER_S

    @property
    def last_exit(self) -> int:
        """Place of the deepest exit wanted."""
        return max(self.first_exit, self.model.last_exit)

    @property
    def first_p99_s(self) -> float:
        """What the shallowest exit wanted takes, by its p99 [s]."""
        return self.model.latency.first[self.first_exit].p99_s

    @property
    def started(self) -> bool:
        """Whether a device has begun with it."""
        return self._started_ns is not None

    def start(self) -> None:
        """Note that a device has begun with it."""
        if self._started_ns is None:
            self._started_ns = self._clock.now_ns()

    def paused(self, duration_ns: int) -> None:
        """Note that the device did something more urgent for `duration_ns` [ns]."""
        self._paused_ns += duration_ns

    def offer(self, answer: ExitAnswer) -> None:
        """Take note that an exit has finished; the deadline may make its answer the reply."""
        deepest = self.deepest
        if deepest is None or answer.index > deepest.index:
            self.deepest = answer

    def take_exit(self, answer: ExitAnswer, reserve_s: float) -> bool:
        """Note an exit's answer; return True when the run must end with it.

        Args:
            answer: What the exit says.
            reserve_s: Time to keep for the reply [s].
        """
        self._answered_s = answer.elapsed_s - self._paused_ns / NS_PER_S
        self._recorder.note(answer.index, self._answered_s)
        self.offer(answer)
        if not self.open:
            return True
        threshold = self.model.package.exits[answer.index].threshold
        steps, following = self.model.latency.step, answer.index + 1
        least_s = steps[following].least_s if following < len(steps) else 0.0
        reached = ExitReached(
            answer.index, self.last_exit, answer.confidence, threshold, self.time_left_s(), reserve_s, least_s
        )
        ending = end_at(reached)
        if self._owner.on_decision is not None:
            self._owner.on_decision(self, reached, ending)
        if ending is None:
            return False
        if ending is Ending.DEADLINE:
            why = "the next exit would not finish before the deadline"
            return self.answer(self.deepest or answer, ending, why)
        return self.answer(answer, ending)

    def expire(self) -> None:
        """End the job because its deadline has fallen: with the deepest finished exit, if there is one."""
        if self.deepest is not None:
            self.answer(self.deepest, Ending.DEADLINE, "the deadline fell before a deeper exit finished")
        elif self._started_ns is None:
            self.end(Status.DEADLINE_EXCEEDED, f"the deadline fell while the request waited for {self.model.device}")
        else:
            wanted = self.model.package.exits[self.first_exit].id
            self.end(Status.DEADLINE_EXCEEDED, f"the deadline fell before exit {wanted!r} finished")

    def fail(self, reason: str) -> None:
        """End the job because a segment failed: with the deepest finished exit, if there is one."""
        if self.deepest is not None:
            self.answer(self.deepest, Ending.FAILURE, reason)
        else:
            self.end(Status.UNAVAILABLE, reason)

    def answer(self, answer: ExitAnswer, ending: Ending, message: str = "") -> bool:
        """End the job with an exit's answer; return True."""
        if self._take_claim():
            self._reply(
                Reply(
                    id=self.request.id,
                    status=Status.OK,
                    message=message,
                    model=self.model.package.name,
                    version=self.model.package.version,
                    exit_id=answer.exit_id,
                    confidence=answer.confidence,
                    outputs=answer.outputs,
                    ending=ending,
                    segments=answer.segments,
                    queued_s=self._queued_s(),
                    run_s=self._answered_s,
                    time_left_s=self.time_left_s(),
                )
            )
        return True

    def end(self, status: Status, message: str) -> bool:
        """End the job without an answer; return whether it was still open."""
        if not self._take_claim():
            return False
        package = self.model.package
        self._reply(
            Reply(
                id=self.request.id,
                status=status,
                message=message,
                model=package.name,
                version=package.version,
                queued_s=self._queued_s(),
                run_s=self._run_s(),
                time_left_s=self.time_left_s(),
            )
        )
        return True

    def _take_claim(self) -> bool:
        try:
            self._claim.pop()
        except IndexError:
            return False
        self.ended_ns = self._clock.now_ns()
        return True

    def _reply(self, reply: Reply) -> None:
        self.token.cancel()  # frees the device if somebody else than the worker ended the job
        if self.timer is not None:
            self.timer.cancel()
        self._owner.finished(self, reply)

    def _queued_s(self) -> float:
        until_ns = self._clock.now_ns() if self._started_ns is None else self._started_ns
        return (until_ns - self._submitted_ns + self._paused_ns) / NS_PER_S

    def _run_s(self) -> float:
        if self._started_ns is None:
            return 0.0
        return (self._clock.now_ns() - self._started_ns - self._paused_ns) / NS_PER_S
