"""Counts of what became of a model's requests, and how long they took; sums since the start, never reset."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from devices.clock import NS_PER_S
from runtime.execute.request import Reply, Status
from runtime.serve.histogram import Histogram

LATENCIES_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SLACKS_S = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What one version of a model did since it was loaded.

    Args:
        replies: Replies by status.
        exits: Answers by exit.
        queued_ns, run_ns: Time that answered requests waited for their device, and that it took [ns].
        failed_ns: Time that requests without an answer took, waiting included [ns].
        inferences: Samples answered: the first dimension of each request's first input.
        last_ns: When the last request was answered, time of day [ns]; 0 before the first.
        endings: Answers by why the run ended where it did.
        segments: Segments of answers by the device that ran them.
        latency, slack: Answers that took, and had left of their deadline, at most so many seconds, as a Prometheus
            histogram counts. A slack of 0 or less is late.
        latency_s, slack_s: Sums of both [s].
    """

    replies: Mapping[Status, int]
    exits: Mapping[str, int]
    queued_ns: int
    run_ns: int
    failed_ns: int
    inferences: int
    last_ns: int
    endings: Mapping[str, int]
    segments: Mapping[str, int]
    latency: Mapping[str, int]
    slack: Mapping[str, int]
    latency_s: float
    slack_s: float

    @property
    def succeeded(self) -> int:
        """Requests that were answered."""
        return self.replies.get(Status.OK, 0)

    @property
    def failed(self) -> int:
        """Requests that got no answer, whatever the reason."""
        return sum(self.replies.values()) - self.succeeded


@dataclass(slots=True)
class Tally:
    """The counters behind `ModelStatistics`; whoever adds and looks holds the owner's lock."""

    replies: Counter[Status] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    queued_s: float = 0.0
    run_s: float = 0.0
    failed_s: float = 0.0
    inferences: int = 0
    last_ns: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    segments: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=lambda: Histogram(LATENCIES_S))
    slack: Histogram = field(default_factory=lambda: Histogram(SLACKS_S))

    def add(self, reply: Reply, samples: int, now_ns: int) -> None:
        """Count one reply to a request of `samples` samples, given at the time of day `now_ns` [ns]."""
        self.replies[reply.status] += 1
        if reply.status is Status.OK:
            self.exits[reply.exit_id or ""] += 1
            self.queued_s += reply.queued_s
            self.run_s += reply.run_s
            self.inferences += samples
            self.last_ns = now_ns
            self.endings[reply.ending or ""] += 1
            for part in reply.segments:
                self.segments[part.device] += 1
            self.latency.add(reply.queued_s + reply.run_s)
            if reply.time_left_s is not None:
                self.slack.add(reply.time_left_s)
        else:
            self.failed_s += reply.queued_s + reply.run_s

    def look(self) -> ModelStatistics:
        """Return the counts of now."""
        return ModelStatistics(
            replies=dict(self.replies),
            exits=dict(self.exits),
            queued_ns=round(self.queued_s * NS_PER_S),
            run_ns=round(self.run_s * NS_PER_S),
            failed_ns=round(self.failed_s * NS_PER_S),
            inferences=self.inferences,
            last_ns=self.last_ns,
            endings=dict(self.endings),
            segments=dict(self.segments),
            latency=self.latency.counts(),
            slack=self.slack.counts(),
            latency_s=self.latency.sum,
            slack_s=self.slack.sum,
        )
