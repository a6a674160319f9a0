"""Metrics of the daemon: what it counts anyway, read at each scrape."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from runtime.observe.metrics.families import PREFIX, add_histogram, counter, gauge
from runtime.serve.service import Service
from runtime.serve.statistics import ModelStatistics

_MODEL = ["model", "version"]


class DaemonCollector(Collector):
    """Reads one daemon.

    Args:
        service: Its models.
        status: What `headway status` tells.
    """

    def __init__(self, service: Service, status: Callable[[], dict[str, Any]]) -> None:
        self._service = service
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield from self._models()
        told = self._status()
        yield gauge("ready", "Whether models are warm and a guard answers", float(told["ready"]))
        yield gauge("uptime_seconds", "Time since the daemon's start", told["uptime_s"])
        queue = GaugeMetricFamily(PREFIX + "queue_requests", "Requests that wait for a device", labels=["device"])
        for device, waiting in told["queued"].items():
            queue.add_metric([device], waiting)
        yield queue
        stats = self._service.executor_stats()
        yield gauge("requests_in_flight", "Requests without a reply yet", stats.in_flight)
        replies = {str(status): count for status, count in stats.replies.items()}
        yield counter("replies", "Replies of all models by status", "status", replies)
        yield counter("windows", "Windows of the vehicle by what they were for", "action", told["windows"])
        yield counter("energy_joules", "Energy of the vehicle's windows by where it went", "place", told["energy_j"])
        yield counter("heard_guard_reasons", "Ticks of the guard by reason", "reason", told["guard_reasons"])
        yield gauge("guard_restarts", "Guards started anew by this daemon", (told["guard"] or {}).get("restarts", 0))
        yield from _edge(told["edge"])
        yield from _drift(told["drift"])
        yield from _plan(told.get("plan"))

    def _models(self) -> Iterator[Metric]:
        looks = [
            ([model.package.name, model.package.version], self._look(model.package.name, model.package.version))
            for model in self._service.models
        ]
        latency = HistogramMetricFamily(PREFIX + "request_seconds", "Time that answers took", labels=_MODEL)
        slack = HistogramMetricFamily(PREFIX + "slack_seconds", "Time left at answers; 0 or less: late", labels=_MODEL)
        for labels, look in looks:
            add_histogram(latency, labels, look.latency, look.latency_s)
            add_histogram(slack, labels, look.slack, look.slack_s)
        yield latency
        yield slack
        for name, text, label, field in (
            ("requests", "Requests by what became of them", "status", "replies"),
            ("answers", "Answers by exit", "exit", "exits"),
            ("endings", "Answers by why the run ended there", "ending", "endings"),
            ("segments", "Segments of answers by the device that ran them", "device", "segments"),
        ):
            family = CounterMetricFamily(PREFIX + name, text, labels=[*_MODEL, label])
            for labels, look in looks:
                for value, count in getattr(look, field).items():
                    family.add_metric([*labels, str(value)], count)
            yield family
        memory = GaugeMetricFamily(PREFIX + "model_bytes", "Memory that a loaded model takes", labels=_MODEL)
        for labels, _ in looks:
            memory.add_metric(labels, self._service.footprint_bytes(*labels))
        yield memory

    def _look(self, name: str, version: str) -> ModelStatistics:
        return self._service.statistics(name, version)


def _edge(edge: dict[str, Any] | None) -> Iterator[Metric]:
    yield gauge(
        "edge_connected", "Whether the edge server is connected", float((edge or {}).get("state") == "connected")
    )
    if edge is not None:
        yield gauge("edge_rtt_seconds", "Round trip to the edge server", 1e-3 * edge["rtt_ms"])
        yield counter("edge_outcomes", "Requests to the edge server by outcome", "code", edge["outcomes"])


def _drift(drift: dict[str, Any]) -> Iterator[Metric]:
    flags = GaugeMetricFamily(PREFIX + "drift", "Whether inputs drifted from calibration", labels=["model"])
    shares = GaugeMetricFamily(
        PREFIX + "exit_share", "Share of answers by exit, as drift sees it", labels=["model", "exit"]
    )
    for model, told in drift.items():
        if "unwatched" in told:
            continue
        flags.add_metric([model], float(told["flag"] is not None))
        for exit_id, share in told["shares"].items():
            shares.add_metric([model, exit_id], share)
    yield flags
    yield shares


def _plan(plan: dict[str, Any] | None) -> Iterator[Metric]:
    if plan is None:
        return
    about = InfoMetricFamily(PREFIX + "plan", "The plan in force")
    about.add_metric([], {"name": str(plan["in_force"])})
    yield about
    yield gauge("plan_fits", "Whether the plan in force keeps the deadline", float(plan["fits"]))
    yield CounterMetricFamily(PREFIX + "plan_switches", "Switches of plans", value=plan["switches"])
