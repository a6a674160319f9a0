"""What an operator does with an edge server: replace models, watch it, fill it up, split a model over it."""

import json
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.errors import InputError, PackageError
from devices.package import Exit, Package, SegmentSource, write_package
from offload.client import ClientSettings, EdgeClient, Status
from offload.client.split import SplitModel
from offload.errors import ServerError
from offload.server import EdgeServer
from offload.server.clients import most_clients
from offload.server.metrics import EdgeHttp
from offload.server.settings import ServerSettings
from offload.wire import Cancel, Code, Hello, Ping, Pong, Reply, Request, Welcome, encode, encode_with
from tests.offload.conftest import ROOT, EdgeProcess, Packages, Peer, Served, scale_by

Serve = Callable[..., Served]
Connect = Callable[[str], Peer]
PATIENT = ClientSettings(silence_s=10.0, heartbeat_ms=10_000)
X = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32)


def in_s(seconds: float) -> float:
    return time.monotonic() + seconds


def ask(peer: Peer, number: int, value: float = 0.0, **changes: Any) -> None:
    fields: dict[str, Any] = {"id": number, "model": "driver", "time_left_us": 100_000_000}
    peer.send(encode_with(Request(**(fields | changes)), {"x": np.full((1, 4), value, np.float32)}))


def reply_of(peer: Peer) -> Reply:
    message, _ = peer.receive()
    assert isinstance(message, Reply)
    return message


def scaling(folder: Path, version: str, factor: float) -> Package:
    segments = [SegmentSource("all", scale_by("all", "x", "y", factor))]
    return write_package(folder, name="scale", version=version, segments=segments, exits=[Exit("final", "all", "y")])


@contextmanager
def serving(server: EdgeServer) -> Iterator[EdgeServer]:
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(15.0)
        assert not thread.is_alive()


def until(true: Callable[[], bool]) -> None:
    end_s = in_s(15.0)
    pause = threading.Event()
    while not true():
        assert time.monotonic() < end_s
        pause.wait(0.005)


def test_models_are_replaced_while_requests_go_on(tmp_path: Path) -> None:
    packages = [scaling(tmp_path / "1", "1", 2.0)]
    read = threading.Event()
    go_on = threading.Event()

    def newer() -> list[Package]:
        read.set()
        assert go_on.wait(15.0)
        return [scaling(tmp_path / "2", "2", 3.0)]

    with serving(EdgeServer(packages)) as server, EdgeClient(server.endpoint, PATIENT) as client:
        assert client.wait_for(Status.CONNECTED, 15.0)
        server.reload(newer)
        assert read.wait(15.0)
        before = client.ask("scale", {"x": X}, in_s(15.0))
        assert np.allclose(before.outputs["y"], 2.0 * X)
        go_on.set()
        until(lambda: server.versions == {"scale": "2"})
        after = client.ask("scale", {"x": X}, in_s(15.0), version="2")
        assert np.allclose(after.outputs["y"], 3.0 * X)
        assert client.ask("scale", {"x": X}, in_s(15.0), version="1").code is Code.INVALID
        assert server.tally.reloads == {"done": 1}


def test_what_cannot_be_loaded_leaves_the_old_models(tmp_path: Path) -> None:
    def broken() -> list[Package]:
        raise PackageError("headway.json is gone")

    with serving(EdgeServer([scaling(tmp_path / "1", "1", 2.0)])) as server:
        server.reload(broken)
        server.reload(list)
        until(lambda: server.tally.reloads["failed"] == 2)
        assert server.versions == {"scale": "1"}


def test_an_accepted_request_finishes_on_the_model_it_came_for(serve: Serve, peer: Connect, packages: Packages) -> None:
    served = serve()
    connected = peer(served.server.endpoint)
    ask(connected, 1, 1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    served.server.reload(lambda: [packages.identity])
    until(lambda: served.server.models == ("identity",))
    served.gate.open.set()
    assert reply_of(connected).code is Code.OK
    ask(connected, 2)
    assert "no model is called 'driver'" in reply_of(connected).message


def test_a_range_is_loaded_beside_the_work(serve: Serve, peer: Connect) -> None:
    served = serve()
    connected = peer(served.server.endpoint)
    ask(connected, 1, 1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(connected, 2, last_segment="stem")
    (model,) = served.server._desk.models.values()
    until(lambda: model.loaded(("stem", "stem")) is not None)
    served.gate.open.set()
    assert [reply_of(connected).code for _ in range(2)] == [Code.OK, Code.OK]


def test_a_request_for_a_range_can_be_cancelled_while_it_loads(serve: Serve, peer: Connect) -> None:
    served = serve()
    connected = peer(served.server.endpoint)
    (model,) = served.server._desk.models.values()
    with model._lock:
        ask(connected, 1, last_segment="stem")
        connected.send(encode(Cancel(id=1)))
        assert reply_of(connected).code is Code.CANCELLED
    ask(connected, 2, last_segment="stem")
    assert reply_of(connected).code is Code.OK


def test_a_head_here_and_a_tail_there_is_one_request(packages: Packages) -> None:
    weak = packages.driver
    with serving(EdgeServer([weak])) as server, EdgeClient(server.endpoint, PATIENT) as client:
        assert client.wait_for(Status.CONNECTED, 15.0)
        split = SplitModel(weak, OnnxRuntimeBackend(), client, "head")
        assert split.sends == ("features",)
        unsure = 0.1 * X
        request = split.submit({"x": unsure}, in_s(15.0))
        assert request.head is not None
        assert request.head.exit_id == "early"
        assert request.sent_bytes == 16
        (outcome,) = client.wait(15.0)
        assert outcome.handle is request.handle
        assert (outcome.code, outcome.exit_id) == (Code.OK, "final")
        assert np.allclose(outcome.outputs["answer"], 10.0 * unsure)
        sure = split.submit({"x": X}, in_s(15.0))
        assert sure.handle is None
        assert sure.head is not None
        assert np.allclose(sure.head.answer, 2.0 * X)
        with pytest.raises(InputError, match="lacks"):
            split.submit({}, in_s(15.0))
        for last_here in ("tail", "neck"):
            with pytest.raises(ValueError, match="must be one of stem, head"):
                SplitModel(weak, OnnxRuntimeBackend(), client, last_here)


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_and_readiness_tell_the_truth(serve: Serve, peer: Connect) -> None:
    served = serve(queue_jobs=1, drain_s=15.0)
    http = EdgeHttp(served.server)
    try:
        connected = peer(served.server.endpoint)
        ask(connected, 1)
        assert reply_of(connected).code is Code.OK
        assert fetch(f"{http.url}/readyz") == (200, "ready\n")
        assert fetch(f"{http.url}/livez")[0] == 200
        assert fetch(f"{http.url}/else")[0] == 404
        ask(connected, 2, 1.0)
        assert served.gate.entered.acquire(timeout=15.0)
        status, text = fetch(f"{http.url}/metrics")
        assert status == 200
        for row in (
            'headway_edge_replies_total{code="OK"} 1.0',
            "headway_edge_open_requests 1.0",
            "headway_edge_clients 1.0",
            'headway_edge_model_info{model="driver",version="1"} 1.0',
            "headway_edge_compute_seconds_count 1.0",
            "headway_edge_ready 0.0",
        ):
            assert row in text
        assert fetch(f"{http.url}/readyz") == (503, "1 requests are open: no more are taken\n")
        served.server.stop()
        assert fetch(f"{http.url}/readyz") == (503, "draining\n")
        served.gate.open.set()
        assert reply_of(connected).code is Code.OK
    finally:
        http.close()


def test_metrics_stay_on_loopback(packages: Packages) -> None:
    server = EdgeServer([packages.identity])
    for host in ("0.0.0.0", "example.org"):
        with pytest.raises(ServerError, match="must be a loopback address"):
            EdgeHttp(server, host)
    http = EdgeHttp(server)
    with pytest.raises(ServerError, match="choose another port"):
        EdgeHttp(server, port=int(http.url.rsplit(":", 1)[1]))
    assert fetch(f"{http.url}/readyz")[1].startswith("not serving")
    http.close()
    server.close()


def test_above_its_limit_newcomers_are_told(serve: Serve, peer: Connect) -> None:
    served = serve(clients=2)
    first, second, third = (peer(served.server.endpoint) for _ in range(3))
    for connected in (first, second):
        connected.send(encode(Hello(client="car")))
        assert isinstance(connected.receive()[0], Welcome)
    third.send(encode(Hello(client="car")))
    refused = reply_of(third)
    assert (refused.id, refused.code) == (0, Code.RESOURCE_EXHAUSTED)
    assert "2 clients are connected: no more are taken" in refused.message
    ask(third, 7)
    refused = reply_of(third)
    assert (refused.id, refused.code) == (7, Code.RESOURCE_EXHAUSTED)
    first.send(encode(Ping(number=1)))
    assert isinstance(first.receive()[0], Pong)


def test_a_refused_client_says_why_and_gets_the_place_that_falls_free(
    serve: Serve, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    served = serve(clients=1)
    guest = Peer(context, served.server.endpoint)
    guest.send(encode(Hello(client="car")))
    assert isinstance(guest.receive()[0], Welcome)
    with EdgeClient(served.server.endpoint, PATIENT) as client:
        until(lambda: "RESOURCE_EXHAUSTED: 1 clients are connected" in client.state.reason)
        guest.socket.close()
        assert client.wait_for(Status.CONNECTED, 15.0)


@pytest.mark.parametrize("limit", [64, 100, 1024, 20_000, -1])
def test_some_descriptors_are_kept_back(limit: int) -> None:
    most = most_clients(limit, opened=20)
    whole = 2**20 if limit < 0 else limit
    assert 1 <= most <= max(1, whole - 20 - whole // 8)


@pytest.fixture
def narrow(packages: Packages) -> Iterator[EdgeProcess]:
    """A real edge server that may open 80 files."""
    command = [sys.executable, "-m", "runtime.cli.main", "edge", "--package", str(packages.driver.folder)]

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=few_files) as process:
        try:
            assert process.stdout is not None
            line = json.loads(process.stdout.readline())
            yield EdgeProcess(process, line["endpoint"], line["models"])
        finally:
            process.kill()
            process.wait()


def test_where_files_run_out_everybody_gets_a_word(narrow: EdgeProcess, peer: Connect) -> None:
    codes: list[Code] = []
    while codes.count(Code.RESOURCE_EXHAUSTED) < 5:
        connected = peer(narrow.endpoint)
        ask(connected, len(codes) + 1)
        codes.append(reply_of(connected).code)
    taken = codes.count(Code.OK)
    assert 5 <= taken < 80
    assert codes == [Code.OK] * taken + [Code.RESOURCE_EXHAUSTED] * 5
    used = Path(f"/proc/{narrow.process.pid}/fd")
    until(lambda: len(list(used.iterdir())) < 80)


def test_sighup_reads_the_repository_again(tmp_path: Path) -> None:
    scaling(tmp_path / "scale" / "1", "1", 2.0)
    command = [sys.executable, "-m", "runtime.cli.main", "edge", "--repository", str(tmp_path), "--http", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = json.loads(process.stdout.readline())
            scaling(tmp_path / "scale" / "2", "2", 3.0)
            process.send_signal(signal.SIGHUP)
            until(lambda: 'version="2"' in fetch(f"{line['http']}/metrics")[1])
            process.send_signal(signal.SIGTERM)
            assert process.wait(15.0) == 0
        finally:
            process.kill()


def test_cores_are_checked() -> None:
    with pytest.raises(ServerError, match=r"worker_cores = \(4096,\): this process may not use \[4096\]"):
        ServerSettings(worker_cores=(4096,))
    with pytest.raises(ServerError, match="clients = 0"):
        ServerSettings(clients=0)


def test_what_cannot_be_done_in_time_is_refused_with_the_numbers(serve: Serve, peer: Connect, tmp_path: Path) -> None:
    segments = [SegmentSource("stem", scale_by("stem", "x", "y", 2.0))]
    package = write_package(
        tmp_path / "one", name="one", version="1", segments=segments, exits=[Exit("final", "stem", "y")]
    )
    served = serve()
    served.server.reload(lambda: [package])
    until(lambda: served.server.models == ("one",))
    (model,) = served.server._desk.models.values()
    (whole,) = model._ranges.values()
    for _ in range(300):
        whole.times.of(1).add(1.0)
    connected = peer(served.server.endpoint)
    ask(connected, 1, 1.0, model="one", time_left_us=20_000_000)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(connected, 2, 1.0, model="one", time_left_us=30_000_000)
    ask(connected, 3, 1.0, model="one", time_left_us=40_000_000)
    # With 41 s left there is room for 40 s of more urgent work; what is itself the most urgent waits for nobody.
    for number in range(4, 43):
        ask(connected, number, 1.0, model="one", time_left_us=41_000_000)
    refused = reply_of(connected)
    assert (refused.id, refused.code) == (42, Code.RESOURCE_EXHAUSTED)
    assert refused.message == "41000000 us of more urgent work and 1000000 us of its own: 41000000 us are left"
    ask(connected, 43, 1.0, model="one", time_left_us=5_000_000)
    served.gate.open.set()
    assert {reply_of(connected).code for _ in range(42)} == {Code.OK}
