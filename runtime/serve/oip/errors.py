"""What is answered where there is no answer, in the terms of both transports of the Open Inference Protocol.

RunError
└── OipError   a request that is not answered; `cause` names its row of the table

| cause | HTTP | gRPC |
|---|---|---|
| INVALID | 400 | INVALID_ARGUMENT |
| UNAUTHENTICATED | 401 | UNAUTHENTICATED |
| FORBIDDEN | 403 | PERMISSION_DENIED |
| NOT_FOUND | 404 | NOT_FOUND |
| SLOW | 408 | DEADLINE_EXCEEDED |
| TOO_LARGE | 413 | RESOURCE_EXHAUSTED |
| EXHAUSTED | 429 | RESOURCE_EXHAUSTED |
| CANCELLED | 499 | CANCELLED |
| INTERNAL | 500 | INTERNAL |
| UNSUPPORTED | 501 | UNIMPLEMENTED |
| UNAVAILABLE | 503 | UNAVAILABLE |
| DEADLINE | 504 | DEADLINE_EXCEEDED |
"""

from enum import Enum

from runtime.errors import RunError
from runtime.execute.request import Status


class Cause(Enum):
    """Why there is no answer: the HTTP status, and the name of the gRPC status code."""

    INVALID = (400, "INVALID_ARGUMENT")
    UNAUTHENTICATED = (401, "UNAUTHENTICATED")
    FORBIDDEN = (403, "PERMISSION_DENIED")
    NOT_FOUND = (404, "NOT_FOUND")
    SLOW = (408, "DEADLINE_EXCEEDED")
    TOO_LARGE = (413, "RESOURCE_EXHAUSTED")
    EXHAUSTED = (429, "RESOURCE_EXHAUSTED")
    CANCELLED = (499, "CANCELLED")
    INTERNAL = (500, "INTERNAL")
    UNSUPPORTED = (501, "UNIMPLEMENTED")
    UNAVAILABLE = (503, "UNAVAILABLE")
    DEADLINE = (504, "DEADLINE_EXCEEDED")

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[0]

    @property
    def grpc(self) -> str:
        """The name of the gRPC status code."""
        return self.value[1]


class OipError(RunError):
    """A request that gets no answer.

    Args:
        cause: The kind of failure.
        message: What was wrong, and what would be right.
    """

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


CAUSES = {
    Status.DEADLINE_EXCEEDED: Cause.DEADLINE,
    Status.CANCELLED: Cause.CANCELLED,
    Status.RESOURCE_EXHAUSTED: Cause.EXHAUSTED,
    Status.INVALID: Cause.INVALID,
    Status.UNAVAILABLE: Cause.UNAVAILABLE,
}
"""The cause by the status of an executor's reply that is not OK."""
