"""What is asked of the executor and what it answers.

Every request gets exactly one reply. Its status says what became of it:

OK                  an answer, that of the deepest exit which finished in time
DEADLINE_EXCEEDED   the deadline fell before any acceptable exit had finished
CANCELLED           it was cancelled
RESOURCE_EXHAUSTED  refused before it started: the time left is too short, or the queue is full
INVALID             the request itself is wrong; the message says what would be right
UNAVAILABLE         the executor is draining or closed, or a segment failed before any exit had finished
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from devices.chain import SegmentTime
from devices.tensor import Array


class Status(StrEnum):
    """What became of a request."""

    OK = "OK"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    INVALID = "INVALID"
    UNAVAILABLE = "UNAVAILABLE"


class Ending(StrEnum):
    """Why a run ended where it did."""

    COMPLETE = "complete"  # the deepest exit that is run answered
    CONFIDENT = "confident"  # an exit reached its threshold
    DEADLINE = "deadline"  # the deadline fell, or the next exit could not have finished before it
    FAILURE = "failure"  # a segment failed behind the exit that answered


class Span(Protocol):
    """What a trace tells of a request."""

    traceparent: str
    """Its W3C trace context."""

    def end(self, attributes: Mapping[str, str | int | float | bool], failure: str = "") -> None:
        """End it now; with `failure`, as one that failed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One inference asked for.

    Args:
        id: Unlike that of any other request in flight.
        model: Name of a loaded model.
        inputs: Its input tensors by name; must not change until the reply.
        deadline_ns: When the reply must be there, on the executor's clock [ns]; None: whenever it is ready.
        priority: Decides between equal deadlines; higher goes first.
        least_exit: Shallowest exit whose answer is acceptable; None: any. It is run even where the model's plan ends
            before it.
        version: Version of the model; None: the one loaded last.
        here: Nothing of it may leave this board: what is placed on an edge server runs on its spare.
        span: What a trace tells of it, which edge servers go on with; None: it is not traced.
    """

    id: Hashable
    model: str
    inputs: Mapping[str, Array]
    deadline_ns: int | None = None
    priority: int = 0
    least_exit: str | None = None
    version: str | None = None
    here: bool = False
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request.

    Args:
        id: The request's.
        status: See the module.
        message: Why there is no answer, or why it is a shallow one; empty if all went well.
        model, version: The model that answered; empty if none did.
        exit_id: Exit that answered; None without an answer.
        confidence: Least confidence of that exit; None if it has none.
        outputs: Tensors the exit hands out, by name.
        ending: Why the run ended where it did; None without an answer.
        segments: The segments behind the answer, each with its device and times.
        queued_s: Time spent waiting for the device, pauses for more urgent requests included [s].
        run_s: Time the device spent on it until the answer [s].
        time_left_s: What was left of the deadline [s], negative when late; None without a deadline.
    """

    id: Hashable
    status: Status
    message: str = ""
    model: str = ""
    version: str = ""
    exit_id: str | None = None
    confidence: float | None = None
    outputs: Mapping[str, Array] = field(default_factory=dict)
    ending: Ending | None = None
    segments: tuple[SegmentTime, ...] = ()
    queued_s: float = 0.0
    run_s: float = 0.0
    time_left_s: float | None = None
