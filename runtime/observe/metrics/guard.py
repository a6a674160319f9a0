"""Metrics of a guard, asked of it at each scrape: the guard itself counts and serves nothing but its socket."""

from collections.abc import Iterator
from pathlib import Path

import zmq
from prometheus_client.core import HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.errors import MessageError
from runtime.observe.metrics.families import PREFIX, add_histogram, counter, gauge, total
from runtime.serve.guard_messages import GuardStatus, StatusQuery, decode_reply, encode
from runtime.serve.sockets import ipc_address

_WAIT_MS = 300


class GuardCollector(Collector):
    """Asks a guard how it fares.

    Args:
        path: Its unix socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; `headway_guard_up` alone where no guard answers."""
        status = ask_guard(self._path)
        yield gauge("guard_up", "Whether a guard answers", float(status is not None))
        if status is None:
            return
        about = InfoMetricFamily(PREFIX + "guard", "Whom it guards, and by which certificate")
        certificate = status.certificate or ""
        about.add_metric([], {"vehicle": status.vehicle, "certificate": certificate, **status.realtime})
        yield about
        yield gauge("guard_uptime_seconds", "Time since its start", status.uptime_s)
        yield counter("guard_decisions", "Decisions by mode", "mode", status.modes)
        yield counter("guard_reasons", "Decisions by reason", "reason", status.reasons)
        yield total("guard_interventions", "Decisions other than proposed", status.interventions)
        yield total("guard_proposals", "Proposals received", status.proposals)
        yield total("guard_late_controls", "Decisions sent after they could have taken effect", status.late)
        yield total("guard_backups", "Times that it went over to the backup manoeuvre", status.backups)
        yield counter("guard_bounds_exceeded", "Observations beyond a declared bound", "bound", status.exceeded)
        yield gauge(
            "guard_conservative", "Whether an exceeded bound has it slow down", float(bool(status.conservative))
        )
        family = HistogramMetricFamily(PREFIX + "guard_tick_seconds", "Time from an observation to its answer")
        add_histogram(family, (), status.tick_buckets, status.tick_sum_s)
        yield family
        family = HistogramMetricFamily(PREFIX + "guard_deadline_seconds", "Tolerable deadline at each tick")
        add_histogram(family, (), status.deadline_buckets, status.deadline_sum_s)
        yield family


def ask_guard(path: Path, wait_ms: int = _WAIT_MS) -> GuardStatus | None:
    """Return how the guard at `path` fares; None where none answers within `wait_ms` [ms]."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(ipc_address(path))
        socket.send(encode(StatusQuery()))
        if not socket.poll(wait_ms):
            return None
        try:
            reply = decode_reply(socket.recv())
        except MessageError:
            return None
    return reply if isinstance(reply, GuardStatus) else None
