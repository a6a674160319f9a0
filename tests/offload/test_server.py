"""The edge server's decisions, on a device that runs as long as the test wants."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zmq

from devices.errors import SegmentError
from offload.errors import ServerError
from offload.server import EdgeServer
from offload.server.settings import ServerSettings
from offload.wire import Cancel, Code, Hello, Ping, Pong, Reply, Request, Welcome, encode, encode_with
from tests.offload.conftest import Gate, Packages, Peer, Served

Serve = Callable[..., Served]
Connect = Callable[[str], Peer]


def ask(peer: Peer, number: int, value: float = 0.0, left_s: float = 100.0, **changes: Any) -> None:
    fields: dict[str, Any] = {"id": number, "model": "driver", "time_left_us": int(1e6 * left_s)}
    request = Request(**(fields | changes))
    peer.send(encode_with(request, {"x": np.full((1, 4), value, np.float32)}))


def reply_of(peer: Peer) -> Reply:
    message, _ = peer.receive()
    assert isinstance(message, Reply)
    return message


def pong_of(peer: Peer) -> Pong:
    peer.send(encode(Ping(number=1)))
    message, _ = peer.receive()
    assert isinstance(message, Pong)
    return message


def test_it_introduces_itself(serve: Serve, peer: Connect) -> None:
    connected = peer(serve(name="garage").server.endpoint)
    connected.send(encode(Hello(client="car")))
    welcome, _ = connected.receive()
    assert isinstance(welcome, Welcome)
    assert (welcome.server, welcome.models) == ("garage", ("driver",))
    assert pong_of(connected) == Pong(number=1, load_us=0, ready=True)


@pytest.mark.parametrize("inline_s", [0.0, 1000.0])
def test_a_request_is_answered_with_its_exit(serve: Serve, peer: Connect, inline_s: float) -> None:
    connected = peer(serve(inline_s=inline_s).server.endpoint)
    ask(connected, 3)
    message, outputs = connected.receive()
    assert isinstance(message, Reply)
    assert (message.id, message.code, message.exit_id) == (3, Code.OK, "final")
    assert list(outputs) == ["answer"]
    assert outputs["answer"].shape == (1, 4)


def test_the_most_urgent_runs_first(serve: Serve, peer: Connect) -> None:
    served = serve()
    connected = peer(served.server.endpoint)
    ask(connected, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(connected, 2, value=2.0, left_s=90.0)
    ask(connected, 3, value=3.0, left_s=50.0)
    ask(connected, 4, value=4.0, left_s=50.0, priority=1)
    pong_of(connected)
    served.gate.open.set()
    assert {reply_of(connected).id for _ in range(4)} == {1, 2, 3, 4}
    assert [value for value in served.gate.ran if value] == [1.0, 3.0, 4.0, 2.0]


def test_a_cancelled_request_leaves_the_queue_or_the_device(serve: Serve, peer: Connect) -> None:
    served = serve()
    connected = peer(served.server.endpoint)
    ask(connected, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(connected, 2, value=2.0)
    connected.send(encode(Cancel(id=2)))
    queued = reply_of(connected)
    connected.send(encode(Cancel(id=1)))
    running = reply_of(connected)
    assert (queued.id, queued.code, running.id, running.code) == (2, Code.CANCELLED, 1, Code.CANCELLED)
    assert served.gate.ran == [1.0]
    ask(connected, 3)
    assert reply_of(connected).code is Code.OK


def test_cancelling_what_is_not_there_does_nothing(serve: Serve, peer: Connect) -> None:
    served = serve()
    mine, other = peer(served.server.endpoint), peer(served.server.endpoint)
    ask(mine, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    other.send(encode(Cancel(id=1)))
    pong_of(other)
    served.gate.open.set()
    assert reply_of(mine).code is Code.OK


def test_what_is_late_is_not_computed(serve: Serve, peer: Connect) -> None:
    served = serve()
    connected = peer(served.server.endpoint)
    ask(connected, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(connected, 2, value=2.0, left_s=0.01)
    late = reply_of(connected)
    assert (late.id, late.code) == (2, Code.DEADLINE_EXCEEDED)
    assert "not computed" in late.message
    served.gate.open.set()
    assert reply_of(connected).id == 1
    ask(connected, 3, left_s=0.0)
    assert reply_of(connected).code is Code.DEADLINE_EXCEEDED
    assert served.gate.ran == [1.0]


def test_what_runs_is_stopped_at_its_deadline(serve: Serve, peer: Connect) -> None:
    served = serve()
    connected = peer(served.server.endpoint)
    ask(connected, 1, value=1.0, left_s=2.0)
    stopped = reply_of(connected)
    assert (stopped.code, stopped.message[:20]) == (Code.DEADLINE_EXCEEDED, "no exit was finished")
    assert served.gate.ran == [1.0]


def test_a_client_and_the_queue_have_their_limits(serve: Serve, peer: Connect) -> None:
    served = serve(client_jobs=2, queue_jobs=3)
    mine, other = peer(served.server.endpoint), peer(served.server.endpoint)
    ask(mine, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(mine, 2)
    ask(mine, 3)
    refused = reply_of(mine)
    assert (refused.id, refused.code) == (3, Code.RESOURCE_EXHAUSTED)
    assert "2 of them yours: at most 3 and 2" in refused.message
    ask(other, 1)
    ask(other, 2)
    assert reply_of(other).code is Code.RESOURCE_EXHAUSTED
    served.gate.open.set()
    assert [reply_of(mine).code, reply_of(mine).code, reply_of(other).code] == [Code.OK] * 3


def test_the_queue_holds_so_many_bytes(serve: Serve, peer: Connect) -> None:
    served = serve(queue_bytes=20)
    connected = peer(served.server.endpoint)
    ask(connected, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(connected, 2)
    refused = reply_of(connected)
    assert refused.code is Code.RESOURCE_EXHAUSTED
    assert "hold 16 bytes: with 16 more they exceed 20" in refused.message
    served.gate.open.set()
    assert reply_of(connected).code is Code.OK
    ask(connected, 3)
    assert reply_of(connected).code is Code.OK


def test_an_id_in_use_is_refused(serve: Serve, peer: Connect) -> None:
    served = serve()
    connected = peer(served.server.endpoint)
    ask(connected, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    ask(connected, 1)
    assert "request id 1 is in use" in reply_of(connected).message
    served.gate.open.set()
    assert reply_of(connected).code is Code.OK


@pytest.mark.parametrize("inline_s", [0.0, 1000.0])
def test_what_is_not_finite_is_refused(serve: Serve, peer: Connect, inline_s: float) -> None:
    connected = peer(serve(inline_s=inline_s).server.endpoint)
    ask(connected, 1, value=np.nan)
    refused = reply_of(connected)
    assert refused.code is Code.INVALID
    assert "every value must be finite" in refused.message


def test_a_run_that_holds_up_the_server_is_handed_to_a_worker(serve: Serve, peer: Connect) -> None:
    served = serve(inline_s=1000.0, inline_limit_s=0.001)
    connected = peer(served.server.endpoint)
    ask(connected, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    assert served.gate.entered.acquire(timeout=15.0)
    assert pong_of(connected).ready
    served.gate.open.set()
    assert reply_of(connected).code is Code.OK
    assert served.gate.ran == [1.0, 1.0]


@pytest.mark.parametrize("inline_s", [0.0, 1000.0])
@pytest.mark.parametrize(("value", "reason"), [(-1.0, "the device is on fire"), (-2.0, "its log says why")])
def test_a_failing_model_fails_one_request(
    serve: Serve, peer: Connect, value: float, reason: str, inline_s: float
) -> None:
    connected = peer(serve(inline_s=inline_s).server.endpoint)
    ask(connected, 1, value=value)
    failed = reply_of(connected)
    assert failed.code is Code.UNAVAILABLE
    assert reason in failed.message
    ask(connected, 2)
    assert reply_of(connected).code is Code.OK


def test_it_drains_what_it_accepted_and_refuses_the_rest(serve: Serve, peer: Connect) -> None:
    served = serve(drain_s=15.0)
    connected = peer(served.server.endpoint)
    ask(connected, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    served.server.stop()
    assert not pong_of(connected).ready
    ask(connected, 2)
    assert reply_of(connected).code is Code.UNAVAILABLE
    served.gate.open.set()
    assert reply_of(connected).code is Code.OK
    served.thread.join(15.0)
    assert not served.thread.is_alive()


def test_it_stops_what_does_not_end_while_draining(serve: Serve, peer: Connect) -> None:
    served = serve(drain_s=0.0)
    ask(peer(served.server.endpoint), 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    served.server.stop()
    served.thread.join(15.0)
    assert not served.thread.is_alive()


def test_a_client_that_left_is_nobody_s_trouble(
    serve: Serve, peer: Connect, context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    served = serve()
    gone = Peer(context, served.server.endpoint)
    ask(gone, 1, value=1.0)
    assert served.gate.entered.acquire(timeout=15.0)
    gone.socket.close()
    served.gate.open.set()
    connected = peer(served.server.endpoint)
    ask(connected, 1)
    assert reply_of(connected).code is Code.OK


@pytest.mark.parametrize(
    ("bind", "reason"),
    [
        ("tcp://0.0.0.0:5555", "beyond loopback an edge server must know its clients"),
        ("tcp://*:5555", "beyond loopback"),
        ("tcp://192.168.1.5:5555", "beyond loopback"),
        ("tcp://[::]:5555", "beyond loopback"),
        ("tcp://example.org:5555", "beyond loopback"),
        ("tcp://127.0.0.1", "must be a TCP address with a port"),
        ("tcp://127.0.0.1:99999", "Port out of range"),
        ("ipc:///tmp/edge", "must be a TCP address"),
        ("", "must be a TCP address"),
    ],
)
def test_addresses_beyond_loopback_are_refused(bind: str, reason: str) -> None:
    with pytest.raises(ServerError, match=reason):
        ServerSettings(bind=bind)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ServerError, match="workers = 0"):
        ServerSettings(workers=0)


def test_an_address_in_use_is_named(serve: Serve, packages: Packages) -> None:
    endpoint = serve().server.endpoint
    with pytest.raises(ServerError, match=f"cannot bind {endpoint}"):
        EdgeServer([packages.driver], ServerSettings(bind=endpoint), open_backend=Gate)


def test_nothing_or_one_name_twice_is_not_served(packages: Packages) -> None:
    with pytest.raises(ServerError, match="no package"):
        EdgeServer([], open_backend=Gate)
    with pytest.raises(ServerError, match="two packages are called 'driver'"):
        EdgeServer([packages.driver, packages.driver], open_backend=Gate)


def test_a_model_that_fails_while_warming_up_is_not_served(packages: Packages) -> None:
    class Broken(Gate):
        def load(self, segment: object, model: bytes) -> Any:
            raise SegmentError("no such operator")

    with pytest.raises(SegmentError, match="no such operator"):
        EdgeServer([packages.driver], open_backend=Broken)
