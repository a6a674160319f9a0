"""An edge server's metrics and readiness, over HTTP on loopback.

    /metrics   Prometheus text format
    /readyz    200, or 503 with the reason why a request sent now would not be computed in time
    /livez     200 while this thread runs

Nothing is measured for the metrics' sake: a scrape reads what the server counts anyway, in a registry of its own.
"""

import ipaddress
import threading
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from offload.errors import ServerError
from offload.server import EdgeServer
from offload.server.tally import Histogram


class EdgeCollector(Collector):
    """Reads one server's counts at each scrape."""

    def __init__(self, server: EdgeServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        server, tally = self._server, self._server.tally
        yield _counters("replies", "Replies by code, and those whose client was gone", "code", tally.replies)
        yield _counters("batches", "Runs on the workers by how many jobs ran together", "jobs", tally.batches)
        yield _counters("reloads", "Replacements of the models", "result", tally.reloads)
        yield _counters("gate", "What the gate let in and refused, by what happened", "event", server.gate_counts)
        yield CounterMetricFamily("headway_edge_inline_runs", "Runs on the I/O thread", value=tally.inline)
        yield CounterMetricFamily("headway_edge_reruns", "Jobs run again after their batch was stopped", tally.rerun)
        yield CounterMetricFamily(
            "headway_edge_connections_shut", "Connections shut for their number", server.clients.shut
        )
        yield _histogram("queue", "Time that computed requests waited", tally.queue)
        yield _histogram("compute", "Time that requests were computed", tally.compute)
        for name, text, value in (
            ("open_requests", "Requests accepted and not answered", server.open_requests),
            ("waiting_requests", "Requests that wait for a worker", server.waiting),
            ("load_seconds", "Work accepted and not finished", server.load_s),
            ("clients", "Clients taken", len(server.clients)),
            ("clients_limit", "Most clients to take", server.clients.most),
            ("connections", "Connections open", server.clients.connections),
            ("ready", "Whether a request sent now would be computed in time", float(not server.why_not_ready())),
        ):
            yield GaugeMetricFamily(f"headway_edge_{name}", text, value=value)
        models = InfoMetricFamily("headway_edge_model", "Models served", labels=["model"])
        for model, version in server.versions.items():
            models.add_metric([model], {"version": version})
        yield models


class EdgeHttp:
    """Serves metrics and readiness on threads of its own until closed.

    Args:
        server: Whose.
        host: A loopback address.
        port: 0 takes a free one.
    Raises:
        ServerError: not a loopback address, or it is in use.
    """

    def __init__(self, server: EdgeServer, host: str = "127.0.0.1", port: int = 0) -> None:
        if not _is_loopback(host):
            raise ServerError(f"http host = {host!r}: must be a loopback address, such as 127.0.0.1")
        registry = CollectorRegistry()
        registry.register(EdgeCollector(server))
        metrics = make_wsgi_app(registry)

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            if path == "/metrics":
                body: Iterable[bytes] = metrics(environ, start)
                return body
            status, text = HTTPStatus.NOT_FOUND, "there are /metrics, /readyz and /livez"
            if path == "/livez":
                status, text = HTTPStatus.OK, "alive"
            elif path == "/readyz":
                reason = server.why_not_ready()
                status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
                text = reason or "ready"
            start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{text}\n".encode()]

        try:
            self._http = make_server(host, port, answer, _Threaded, _Silent)
        except OSError as error:
            raise ServerError(f"cannot bind http {host}:{port}: {error.strerror}; choose another port, or 0") from error
        self.url = f"http://{host}:{self._http.server_port}"
        """Where it is served."""
        self._thread = threading.Thread(target=self._http.serve_forever, name="edge-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    timeout = 5.0  # a client that says nothing

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a scrape every few seconds is no news."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _counters(name: str, text: str, label: str, counts: dict[Any, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"headway_edge_{name}", text, labels=[label])
    for value, count in sorted(dict(counts).items()):
        family.add_metric([str(value)], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(
        f"headway_edge_{name}_seconds", text, buckets=histogram.buckets(), sum_value=histogram.sum_s
    )
