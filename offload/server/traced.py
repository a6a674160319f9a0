"""What is told of a request that carried a trace context, for whoever draws traces."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traced:
    """A request that was computed.

    Args:
        traceparent: Its W3C trace context.
        model: What it ran.
        code: How it ended.
        exit_id: The exit that answered; None: none did.
        queue_s, compute_s: How long it waited, and was computed [s].
    """

    traceparent: str
    model: str
    code: str
    exit_id: str | None
    queue_s: float
    compute_s: float
