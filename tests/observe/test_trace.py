"""Traces of a real daemon and a real edge server, at an OTLP receiver that decodes them."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import headway
from tests.observe.drives import PACKAGE, driven
from tests.processes import end, run, start, wait_for
from tests.runtime.test_daemon_plans_edge import FRAME, Rig

service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

pytestmark = pytest.mark.timeout(120)  # a daemon, a guard, an edge server and a drive start for them
_PATIENCE_S = 60.0


class Receiver:
    """What an OTLP receiver was sent: spans, by service."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Any]] = {"headway": [], "headway-edge": []}

    def take(self, body: bytes) -> None:
        for resource in service.ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans[names["service.name"]].extend(scope.spans)

    def joined(self) -> list[tuple[Any, Any]]:
        """Return each span of the edge server with the vehicle's that it belongs to."""
        mine = {(span.trace_id, span.span_id): span for span in tuple(self.spans["headway"])}
        theirs = tuple(self.spans["headway-edge"])
        return [
            (mine[each.trace_id, each.parent_span_id], each)
            for each in theirs
            if (each.trace_id, each.parent_span_id) in mine
        ]


@contextmanager
def receiving() -> Iterator[tuple[Receiver, str]]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf":
                receiver.take(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_frame_s_spans_are_joined_across_vehicle_and_edge(tmp_path: Path) -> None:
    with receiving() as (receiver, url):
        edge = start("edge", "--package", str(PACKAGE), "--otlp", url)
        try:
            assert edge.stdout is not None
            endpoint = json.loads(edge.stdout.readline())["endpoint"]
            with driven(tmp_path, "--edge", endpoint, "--policy", "eager", "--otlp", url) as running:
                stop = threading.Event()

                def drive() -> None:
                    while not stop.is_set():
                        running.drive(2.0)

                driving = threading.Thread(target=drive)
                driving.start()
                try:
                    wait_for(lambda: any(_in_time(there) for _, there in receiver.joined()), _PATIENCE_S)
                finally:
                    stop.set()
                    driving.join()
        finally:
            end(edge)
    here, there = next(pair for pair in receiver.joined() if _in_time(pair[1]))
    assert (here.name, there.name) == ("offload", "edge")
    assert (here.kind, there.kind) == (here.SPAN_KIND_CLIENT, there.SPAN_KIND_SERVER)
    assert not here.parent_span_id
    told = {each.key: each.value for each in there.attributes}
    assert told["headway.model"].string_value == "driving"
    assert told["headway.code"].string_value == "OK"
    assert told["headway.compute_s"].double_value > 0.0
    assert 0 < there.start_time_unix_nano <= there.end_time_unix_nano
    assert here.start_time_unix_nano <= here.end_time_unix_nano


def _in_time(there: Any) -> bool:
    """Did the edge server answer in time? On a busy machine it may not, and its span says so."""
    return any(each.key == "headway.code" and each.value.string_value == "OK" for each in there.attributes)


TRACES = {"socket": "a" * 32, "http": "b" * 32, "grpc": "c" * 32}
CALLER = "d" * 16
DEADLINE_S = 5.0


@contextmanager
def _fronts(status: dict[str, Any]) -> Iterator[dict[str, Callable[[str], Any]]]:
    """Yield what asks by each front end, with a trace context."""
    from tests.runtime.oip.clients import GrpcClient, HttpClient, Served

    served = Served(status["fronts"]["http"], status["fronts"]["grpc"], None)
    timeout_us = round(1e6 * DEADLINE_S)

    by_http, by_grpc = HttpClient(served), GrpcClient(served)

    def by(client: HttpClient | GrpcClient) -> Callable[[str], Any]:
        return lambda parent: client.infer(
            "driving", {"frame": FRAME}, headers={"traceparent": parent}, timeout=timeout_us
        )

    try:
        yield {"http": by(by_http), "grpc": by(by_grpc)}
    finally:
        by_http.raw.close()
        by_grpc.raw.close()


def test_a_client_s_request_goes_on_with_its_trace_by_socket_http_and_grpc(tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.grpc", reason="tritonclient[all] is not installed")
    pytest.importorskip("tritonclient.http", reason="tritonclient[all] is not installed")
    with receiving() as (receiver, url):
        more = f'[observe]\notlp = "{url}"\n[front]\nhttp = "127.0.0.1:0"\ngrpc = "127.0.0.1:0"\n'
        rig = Rig(tmp_path, more, fits_s=DEADLINE_S, edge=("--otlp", url))
        try:
            client = rig.client
            assert client is not None

            def by_socket(parent: str) -> headway.Answer:
                return client.infer("driving", {"frame": FRAME}, DEADLINE_S, traceparent=parent)

            with _fronts(client.status()) as fronts:
                asks = {"socket": by_socket, **fronts}

                def joined() -> bool:
                    for name, trace in TRACES.items():
                        asks[name](f"00-{trace}-{CALLER}-01")
                    by_socket("not one")
                    return {here.trace_id.hex() for here, _ in receiver.joined()} >= set(TRACES.values())

                wait_for(joined, _PATIENCE_S)
            wait_for(lambda: any(not each.parent_span_id for each in tuple(receiver.spans["headway"])), _PATIENCE_S)
        finally:
            rig.close()
    for name, trace in TRACES.items():
        here, there = next(pair for pair in receiver.joined() if pair[0].trace_id.hex() == trace)
        assert (here.name, there.name, here.parent_span_id.hex()) == ("infer", "edge", CALLER), name
        assert (here.kind, there.kind) == (here.SPAN_KIND_SERVER, there.SPAN_KIND_SERVER)
        told = {each.key: each.value for each in here.attributes}
        assert (told["headway.model"].string_value, told["headway.status"].string_value) == ("driving", "OK")
        assert here.start_time_unix_nano <= here.end_time_unix_nano


def test_what_is_no_address_is_told(tmp_path: Path) -> None:
    arguments = ("--package", str(PACKAGE), "--otlp", "localhost")
    ended = run("edge", *arguments, timeout_s=_PATIENCE_S)
    assert ended.returncode == 78
    assert "must be an address as http://127.0.0.1:4318" in ended.stderr


def test_without_it_nothing_of_opentelemetry_is_loaded() -> None:
    code = "import sys, runtime.serve.daemon, runtime.cli.edge, offload.server; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert "runtime.serve.uplink" in ended.stdout.split()
    assert "opentelemetry" not in ended.stdout
