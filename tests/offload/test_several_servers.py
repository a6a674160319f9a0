"""One client and two servers that say whatever the test wants."""

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import zmq

from offload.client import ClientSettings, EdgeClient, Outcome, Status
from offload.client.choice import HedgeBudget
from offload.errors import ClientError
from offload.wire import (
    Cancel,
    Code,
    FromVehicle,
    Hello,
    Ping,
    Pong,
    Reply,
    Request,
    Welcome,
    decode_from_vehicle,
    encode,
    encode_with,
)

PATIENT = ClientSettings(silence_s=10.0, ping_s=0.02, heartbeat_ms=10_000)
INPUTS = {"x": np.ones((1, 4), np.float32)}


class Pair:
    """Two ROUTERs read by hand in one loop; they greet and answer pings with the load that is set."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.sockets: list[zmq.Socket[bytes]] = []
        self.endpoints: list[str] = []
        self.loads_us = [0, 0]
        self._clients = [b"", b""]
        self._poller = zmq.Poller()
        for _ in range(2):
            socket = context.socket(zmq.ROUTER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind("tcp://127.0.0.1:0")
            self._poller.register(socket, zmq.POLLIN)
            self.sockets.append(socket)
            self.endpoints.append(socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def send(self, server: int, frames: list[bytes]) -> None:
        self.sockets[server].send_multipart([self._clients[server], *frames])

    def next(self, kind: type[FromVehicle], until: Callable[[], bool] = lambda: False) -> tuple[int, FromVehicle]:
        """Return the next message of a kind and who got it; stop with the first server's Ping when `until` holds."""
        end_s = time.monotonic() + 15.0
        while time.monotonic() < end_s:
            for socket, _ in self._poller.poll(10):
                server = self.sockets.index(socket)
                identity, *frames = socket.recv_multipart(copy=False)
                self._clients[server] = identity.bytes
                message, _ = decode_from_vehicle(frames)
                if isinstance(message, Hello):
                    self.send(server, encode(Welcome(server=f"s{server}", models=("driver",))))
                if isinstance(message, Ping):
                    self.send(server, encode(Pong(number=message.number, load_us=self.loads_us[server], ready=True)))
                if isinstance(message, kind):
                    return server, message
            if until():
                return 0, Ping(number=0)
        raise AssertionError(f"no {kind.__name__} came")

    def answer(self, server: int, request: FromVehicle, code: Code = Code.OK, message: str = "") -> None:
        assert isinstance(request, Request)
        outputs = {"y": np.full(2, float(server))} if code is Code.OK else {}
        reply = Reply(id=request.id, code=code, message=message, compute_us=1000)
        frames = [
            bytes(np.asarray(item).tobytes()) if not isinstance(item, bytes) else item
            for item in encode_with(reply, outputs)
        ]
        self.send(server, frames)

    def next_of(self, kind: type[Request | Cancel], least_id: int) -> tuple[int, Request | Cancel]:
        """Return the next message of a kind that is not about an earlier request, and who got it."""
        while True:
            server, message = self.next(kind)
            if isinstance(message, Request | Cancel) and message.id >= least_id:
                return server, message

    def until_loads_are_known(self, client: EdgeClient) -> None:
        """Go on until the client has heard of the loads that are set; copies of requests that ended are dropped."""

        def known() -> bool:
            return [item.service.load_s for item in client._connections] == [1e-6 * load for load in self.loads_us]

        while not known():
            self.next(Request, known)


@pytest.fixture
def pair(context: "zmq.Context[zmq.Socket[bytes]]") -> Iterator[Pair]:
    made = Pair(context)
    yield made
    for socket in made.sockets:
        socket.close()


@pytest.fixture
def client(pair: Pair) -> Iterator[EdgeClient]:
    with EdgeClient(pair.endpoints, PATIENT) as made:
        pair.next(Request, lambda: all(state.connected for state in made.states.values()))
        yield made


def in_s(seconds: float) -> float:
    return time.monotonic() + seconds


def one(client: EdgeClient) -> Outcome:
    (outcome,) = client.wait(15.0)
    return outcome


@pytest.mark.parametrize("busy", [0, 1])
def test_a_request_goes_where_it_is_done_first(pair: Pair, client: EdgeClient, busy: int) -> None:
    pair.loads_us[busy] = 5_000_000
    pair.until_loads_are_known(client)
    client.submit("driver", INPUTS, in_s(10.0))
    server, request = pair.next(Request)
    assert server == 1 - busy
    pair.answer(server, request)
    outcome = one(client)
    assert (outcome.code, outcome.endpoint) == (Code.OK, pair.endpoints[server])


@pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE])
def test_what_one_server_refuses_goes_to_the_other(pair: Pair, client: EdgeClient, code: Code) -> None:
    handle = client.submit("driver", INPUTS, in_s(10.0))
    first, request = pair.next(Request)
    pair.answer(first, request, code, "full")
    second, again = pair.next(Request)
    assert second == 1 - first
    pair.answer(second, again)
    outcome = one(client)
    assert (outcome.handle, outcome.code) == (handle, Code.OK)
    assert client.counts["retried"] == 1


def test_what_both_refuse_ends_with_the_last_reason(pair: Pair, client: EdgeClient) -> None:
    client.submit("driver", INPUTS, in_s(10.0))
    for _ in range(2):
        server, request = pair.next(Request)
        pair.answer(server, request, Code.RESOURCE_EXHAUSTED, "full")
    outcome = one(client)
    assert (outcome.code, outcome.message) == (Code.RESOURCE_EXHAUSTED, "full")


def test_nothing_is_sent_again_that_could_not_be_in_time(pair: Pair, client: EdgeClient) -> None:
    pair.loads_us[1] = 60_000_000
    pair.until_loads_are_known(client)
    client.submit("driver", INPUTS, in_s(5.0))
    server, request = pair.next(Request)
    assert server == 0
    pair.answer(0, request, Code.UNAVAILABLE, "on fire")
    assert one(client).message == "on fire"
    assert client.counts["retried"] == 0


def test_an_invalid_request_is_not_tried_elsewhere(pair: Pair, client: EdgeClient) -> None:
    client.submit("driver", INPUTS, in_s(10.0))
    server, request = pair.next(Request)
    pair.answer(server, request, Code.INVALID, "no such segment")
    assert one(client).code is Code.INVALID


def test_what_a_lost_server_worked_on_goes_to_the_other(pair: Pair, client: EdgeClient) -> None:
    client.submit("driver", INPUTS, in_s(10.0))
    first, _ = pair.next(Request)
    pair._poller.unregister(pair.sockets[first])
    pair.sockets[first].close()
    second, again = pair.next(Request)
    assert second == 1 - first
    pair.answer(second, again)
    assert one(client).code is Code.OK
    assert client.state.status is Status.CONNECTED
    assert client.states[pair.endpoints[first]].status is Status.LOST


def test_a_late_answer_is_asked_for_elsewhere_and_the_first_counts(pair: Pair, client: EdgeClient) -> None:
    for number in range(64):  # both servers need a history; whatever copies come meanwhile are answered too
        if number % 32 == 0:
            pair.loads_us = [9_000_000, 0] if number else [0, 9_000_000]
            pair.until_loads_are_known(client)
        client.submit("driver", INPUTS, in_s(10.0))
        while not client._outcomes:
            server, message = pair.next(Request, lambda: bool(client._outcomes))
            if isinstance(message, Request):
                pair.answer(server, message)
        assert one(client).code is Code.OK
    pair.loads_us = [0, 0]
    pair.until_loads_are_known(client)
    client._dispatcher._hedges = HedgeBudget()  # copies that came meanwhile may have used it up
    handle = client.submit("driver", INPUTS, in_s(10.0))
    slow, request = pair.next_of(Request, handle.id)
    quick, copy = pair.next_of(Request, handle.id)
    assert quick == 1 - slow
    pair.answer(quick, copy)
    outcome = one(client)
    assert (outcome.code, outcome.endpoint) == (Code.OK, pair.endpoints[quick])
    assert client.counts["hedged"] >= 1
    server, cancel = pair.next_of(Cancel, handle.id)
    assert (server, cancel.id) == (slow, request.id)


def test_ask_returns_its_own_outcome_and_keeps_others(pair: Pair, client: EdgeClient) -> None:
    other = client.submit("driver", INPUTS, in_s(0.01))
    outcome = client.ask("driver", INPUTS, in_s(0.05), priority=1)
    assert outcome.handle is not other
    assert outcome.code is Code.DEADLINE_EXCEEDED
    assert [item.handle for item in client.take()] == [other]


def test_addresses_are_checked() -> None:
    for endpoints in ([], ["tcp://127.0.0.1:1", "tcp://127.0.0.1:1"]):
        with pytest.raises(ClientError, match="at least one address, and none twice"):
            EdgeClient(endpoints)
