"""Real edge servers in processes of their own: answered, abused, killed, frozen, restarted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from offload.client import ClientSettings, EdgeClient, Outcome, Status
from offload.link import EmulatedLink, Fixed, LinkModel
from offload.radio import MEGABIT
from offload.wire import Code, Reply, Request, encode_with
from tests.offload.conftest import ROOT, EdgeProcess, Packages, Peer, edge_process

PATIENT = ClientSettings(silence_s=10.0, heartbeat_ms=10_000)
X = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32)


def in_s(seconds: float) -> float:
    return time.monotonic() + seconds


def ended(client: EdgeClient) -> Outcome:
    (outcome,) = client.wait(15.0)
    return outcome


def ask(client: EdgeClient, model: str = "driver", **changes: Any) -> Outcome:
    client.submit(model, changes.pop("inputs", {"x": X}), in_s(15.0), **changes)
    return ended(client)


@pytest.fixture
def client(edge: EdgeProcess) -> Iterator[EdgeClient]:
    with EdgeClient(edge.endpoint, PATIENT) as made:
        assert made.wait_for(Status.CONNECTED, 15.0)
        yield made


def test_it_announces_what_it_serves(edge: EdgeProcess, client: EdgeClient) -> None:
    assert edge.endpoint.startswith("tcp://127.0.0.1:")
    assert edge.models == list(client.state.models) == ["driver", "slow", "identity"]
    assert os.getpriority(os.PRIO_PROCESS, edge.process.pid) >= 10


def test_the_whole_model_answers_with_its_deepest_exit(client: EdgeClient) -> None:
    outcome = ask(client, version="1")
    assert (outcome.code, outcome.exit_id) == (Code.OK, "final")
    assert np.allclose(outcome.outputs["answer"], 10.0 * X)
    assert outcome.compute_s > 0.0


def test_a_head_and_a_tail_make_the_whole(client: EdgeClient) -> None:
    head = ask(client, last_segment="stem")
    assert head.exit_id is None
    assert np.allclose(head.outputs["features"], 2.0 * X)
    tail = ask(client, inputs={"features": head.outputs["features"]}, first_segment="tail")
    assert (tail.code, tail.exit_id) == (Code.OK, "final")
    assert np.allclose(tail.outputs["answer"], 10.0 * X)


def test_many_requests_all_end(client: EdgeClient) -> None:
    handles = {client.submit("driver", {"x": number * X}, in_s(15.0)).id: number for number in range(40)}
    while handles:
        for outcome in client.wait(15.0):
            assert outcome.code is Code.OK
            assert np.allclose(outcome.outputs["answer"], 10.0 * handles.pop(outcome.handle.id) * X)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "pilot"}, "no model is called 'pilot': there are driver, slow, identity"),
        ({"version": "2"}, "version '2' is not served: version '1' is"),
        ({"first_segment": "neck"}, "no segment 'neck': there are stem, head, tail"),
        ({"first_segment": "tail", "last_segment": "stem"}, "'tail' comes after the last, 'stem'"),
        ({"inputs": {"x": X[0]}}, "has shape (4,)"),
        ({"inputs": {"x": X.astype(np.float64)}}, "has dtype float64: must be float32"),
        ({"inputs": {"y": X}}, "lacks ['x']"),
        ({"inputs": {}}, "lacks ['x']"),
        ({"inputs": {"x": X * np.nan}}, "must be finite"),
    ],
)
def test_bad_requests_are_refused_with_their_reason(client: EdgeClient, changes: dict[str, Any], reason: str) -> None:
    outcome = ask(client, **changes)
    assert outcome.code is Code.INVALID
    assert reason in outcome.message
    assert ask(client).code is Code.OK


GOOD = encode_with(Request(id=5, model="driver", time_left_us=100_000_000), {"x": X})
HEADER, DATA = bytes(GOOD[0]), bytes(np.asarray(GOOD[1]))


@pytest.mark.parametrize(
    ("frames", "number", "reason"),
    [
        ([b"\xc1 not msgpack"], 0, "invalid opcode"),
        ([b""], 0, "truncated"),
        ([HEADER[:-4], DATA], 0, "truncated"),
        ([HEADER], 5, "0 tensor frames"),
        ([HEADER, DATA, DATA], 5, "2 tensor frames"),
        ([HEADER, DATA[:-1]], 5, "has 15 bytes: must have 16"),
        ([HEADER + bytes(70_000), DATA], 0, "at most 65536"),
        ([msgspec.msgpack.encode({"kind": "request/7", "id": 9})], 9, "this side speaks version 1"),
        ([msgspec.msgpack.encode({"kind": "reply/1", "id": 9, "code": "OK"})], 9, "reply/1"),
    ],
)
def test_damaged_messages_are_refused_with_their_reason(
    edge: EdgeProcess, client: EdgeClient, peer: Callable[[str], Peer], frames: list[bytes], number: int, reason: str
) -> None:
    connected = peer(edge.endpoint)
    connected.send(frames)
    reply, _ = connected.receive()
    assert isinstance(reply, Reply)
    assert (reply.id, reply.code) == (number, Code.INVALID)
    assert reason in reply.message
    connected.send(GOOD)
    reply, _ = connected.receive()
    assert isinstance(reply, Reply)
    assert (reply.id, reply.code) == (5, Code.OK)


def test_a_giant_frame_costs_its_sender_the_connection(
    edge: EdgeProcess, client: EdgeClient, peer: Callable[[str], Peer]
) -> None:
    giant = peer(edge.endpoint)
    giant.send([HEADER, bytes(33 * 2**20)])
    assert ask(client).code is Code.OK
    giant.send(GOOD)
    reply, _ = giant.receive()
    assert isinstance(reply, Reply)
    assert reply.code is Code.OK


def test_cancelling_frees_the_device(client: EdgeClient) -> None:
    # Neither the I/O thread nor the one worker comes back from such a run by itself.
    for _ in range(3):
        handle = client.submit("slow", {"x": X}, in_s(1000.0))
        client.cancel(handle)
        assert ended(client).code is Code.CANCELLED
        assert ask(client).code is Code.OK


def test_at_the_deadline_the_deepest_finished_exit_answers(edge: EdgeProcess, peer: Callable[[str], Peer]) -> None:
    connected = peer(edge.endpoint)
    connected.send(encode_with(Request(id=1, model="slow", time_left_us=3_000_000), {"x": X}))
    reply, outputs = connected.receive()
    assert isinstance(reply, Reply)
    assert (reply.code, reply.exit_id) == (Code.OK, "early")
    assert np.allclose(outputs["answer_early"], 2.0 * X)


def test_a_real_request_takes_the_time_of_its_link(edge: EdgeProcess) -> None:
    model = LinkModel(rate=Fixed(20.0 * MEGABIT), rtt=Fixed(0.004))
    image = {"x": np.ones((1, 37500), np.float32)}
    with EdgeClient(edge.endpoint, PATIENT, link=EmulatedLink(model)) as client:
        assert client.wait_for(Status.CONNECTED, 15.0)
        outcome = ask(client, "identity", inputs=image)
    sent = outcome.handle.transmission
    assert outcome.code is Code.OK
    assert sent is not None
    assert outcome.latency_s >= 150_000 * 8 / (20.0 * MEGABIT) + 0.004
    assert sum(item.duration_s for item in sent.airtimes) == pytest.approx(150_000 * 8 / (20.0 * MEGABIT))


def test_a_killed_server_is_lost_and_its_successor_found(packages: Packages) -> None:
    with edge_process([packages.slow.folder]) as first, EdgeClient(first.endpoint, PATIENT) as client:
        assert client.wait_for(Status.CONNECTED, 15.0)
        client.submit("slow", {"x": X}, in_s(1000.0))
        first.kill()
        assert ended(client).code is Code.UNAVAILABLE
        assert client.state.status is Status.LOST
        with edge_process([packages.driver.folder], first.endpoint):
            assert client.wait_for(Status.CONNECTED, 15.0)
            assert ask(client).code is Code.OK


def test_a_frozen_server_is_lost_until_it_thaws(packages: Packages) -> None:
    with (
        edge_process([packages.driver.folder]) as frozen,
        EdgeClient(frozen.endpoint, ClientSettings(silence_s=2.0, heartbeat_ms=10_000)) as client,
    ):
        assert client.wait_for(Status.CONNECTED, 15.0)
        frozen.send_signal(signal.SIGSTOP)
        client.submit("driver", {"x": X}, in_s(1000.0))
        outcome = ended(client)
        assert outcome.code is Code.UNAVAILABLE
        assert "has not answered for" in outcome.message
        assert client.state.status is Status.LOST
        frozen.send_signal(signal.SIGCONT)
        assert client.wait_for(Status.CONNECTED, 15.0)
        assert ask(client).code is Code.OK


def test_sigterm_drains_and_exits_with_zero(packages: Packages) -> None:
    with edge_process([packages.driver.folder]) as started:
        started.send_signal(signal.SIGTERM)
        assert started.process.wait(15.0) == 0


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (["--bind", "tcp://0.0.0.0:0"], 78, "beyond loopback"),
        ([], 78, "nothing to serve"),
        (["--package", "nowhere"], 78, "nowhere does not exist"),
        (["--colour", "red"], 2, "No such option"),
    ],
)
def test_a_server_that_cannot_start_says_why(flags: list[str], code: int, reason: str) -> None:
    command = [sys.executable, "-m", "runtime.cli.main", "edge", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60.0, check=False)
    assert ended.returncode == code
    assert reason in ended.stderr
    assert ended.stdout == ""
