"""The client against a server that says whatever the test wants."""

import math
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zmq

from devices.clock import VirtualClock
from offload.client import ClientSettings, EdgeClient, Outcome, Status, payload_bits
from offload.client.connection import Connection
from offload.errors import ClientError, WireError
from offload.link import EmulatedLink, Fixed, LinkModel
from offload.radio import MEGABIT
from offload.wire import (
    Cancel,
    Code,
    FromEdge,
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
from tests.processes import wait_for

PATIENT = ClientSettings(silence_s=10.0, heartbeat_ms=10_000)
INPUTS = {"x": np.ones((1, 4), np.float32)}


class ScriptedServer:
    """A ROUTER that the test reads and writes by hand; reading on, it greets and answers pings."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 15_000)
        self.socket.bind("tcp://127.0.0.1:0")
        self.endpoint: str = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.client = b""

    def send(self, message: FromEdge) -> None:
        self.socket.send_multipart([self.client, *encode(message)])

    def send_frames(self, frames: Any) -> None:
        self.socket.send_multipart([self.client, *frames])

    def answer(self, number: int, value: float = 7.0) -> None:
        reply = Reply(id=number, code=Code.OK, exit_id="final")
        self.send_frames(encode_with(reply, {"y": np.full(2, value)}))

    def next(self, kind: type[FromVehicle]) -> FromVehicle:
        """Return the next message of a kind, greeting and answering pings on the way."""
        while True:
            message = self._take()
            if isinstance(message, kind):
                return message

    def serve_until(self, holds: Callable[[], bool]) -> None:
        """Greet and answer pings until `holds`."""

        def served() -> bool:
            while self.socket.poll(0):
                self._take()
            return holds()

        wait_for(served)

    def _take(self) -> FromVehicle:
        identity, *frames = self.socket.recv_multipart(copy=False)
        self.client = bytes(identity.buffer)
        message, _ = decode_from_vehicle(frames)
        if isinstance(message, Hello):
            self.send(Welcome(server="scripted", models=("driver",)))
        if isinstance(message, Ping):
            self.send(Pong(number=message.number, load_us=1500, ready=True))
        return message


@pytest.fixture
def server(context: "zmq.Context[zmq.Socket[bytes]]") -> Iterator[ScriptedServer]:
    made = ScriptedServer(context)
    yield made
    made.socket.close()


@pytest.fixture
def connect(server: ScriptedServer) -> Iterator[Callable[..., EdgeClient]]:
    """Connect clients to the scripted server and close them after the test."""
    made: list[EdgeClient] = []

    def start(settings: ClientSettings = PATIENT, link: LinkModel | None = None) -> EdgeClient:
        client = EdgeClient(server.endpoint, settings, link=None if link is None else EmulatedLink(link))
        made.append(client)
        server.next(Hello)
        assert client.wait_for(Status.CONNECTED, 15.0)
        return client

    yield start
    for client in made:
        client.close()


def one(client: EdgeClient) -> Outcome:
    (outcome,) = client.wait(15.0)
    return outcome


def in_s(seconds: float) -> float:
    return time.monotonic() + seconds


def test_a_reply_becomes_an_outcome(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    client = connect()
    assert (client.state.server, client.state.models, client.state.reason) == ("scripted", ("driver",), "")
    handle = client.submit("driver", INPUTS, in_s(10.0), first_segment="stem", priority=1)
    request = server.next(Request)
    assert isinstance(request, Request)
    assert (request.id, request.model, request.first_segment, request.priority) == (handle.id, "driver", "stem", 1)
    assert 5_000_000 < request.time_left_us <= 10_000_000
    server.answer(request.id)
    outcome = one(client)
    assert outcome.handle is handle
    assert (outcome.code, outcome.exit_id) == (Code.OK, "final")
    assert np.array_equal(outcome.outputs["y"], [7.0, 7.0])
    assert outcome.latency_s > 0.0
    assert client.take() == []


def test_pings_bring_load_and_round_trip(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    client = connect()
    server.next(Ping)
    wait_for(lambda: client.load_s > 0.0 and client.rtt_s > 0.0)
    assert client.load_s == pytest.approx(1.5e-3)


def test_the_deadline_ends_a_request_and_tells_the_server(
    server: ScriptedServer, connect: Callable[..., EdgeClient]
) -> None:
    client = connect()
    handle = client.submit("driver", INPUTS, in_s(2.0))
    request = server.next(Request)
    assert isinstance(request, Request)
    outcome = one(client)
    assert (outcome.handle, outcome.code) == (handle, Code.DEADLINE_EXCEEDED)
    assert server.next(Cancel) == Cancel(id=request.id)
    server.answer(request.id)
    wait_for(lambda: client.counts["late"] == 1)
    assert client.take() == []


def test_a_deadline_already_past_is_never_sent(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    client = connect()
    client.submit("driver", INPUTS, in_s(-1.0))
    assert one(client).code is Code.DEADLINE_EXCEEDED
    second = client.submit("driver", INPUTS, in_s(10.0))
    request = server.next(Request)
    assert isinstance(request, Request)
    assert request.id == second.id


def test_cancelling_ends_a_request_and_tells_the_server(
    server: ScriptedServer, connect: Callable[..., EdgeClient]
) -> None:
    client = connect()
    handle = client.submit("driver", INPUTS, in_s(10.0))
    server.next(Request)
    client.cancel(handle)
    assert one(client).code is Code.CANCELLED
    assert server.next(Cancel) == Cancel(id=handle.id)
    client.cancel(handle)
    server.answer(handle.id)
    wait_for(lambda: client.counts["stray"] == 1)
    assert client.take() == []


def test_replayed_unknown_and_damaged_replies_are_counted_and_dropped(
    server: ScriptedServer, connect: Callable[..., EdgeClient]
) -> None:
    client = connect()
    handle = client.submit("driver", INPUTS, in_s(10.0))
    server.next(Request)
    server.answer(999)
    server.send_frames([b"\xc1"])
    server.send_frames(encode(Ping(number=1)))
    server.answer(handle.id)
    server.answer(handle.id)
    assert one(client).code is Code.OK
    wait_for(lambda: client.counts["replayed"] == 1)
    assert client.take() == []
    assert (client.counts["stray"], client.counts["replayed"]) == (1, 1)
    assert client.damaged == 2


def test_a_server_that_falls_silent_is_lost_and_found_again(
    server: ScriptedServer, connect: Callable[..., EdgeClient]
) -> None:
    client = connect(ClientSettings(silence_s=2.0, heartbeat_ms=10_000))
    given_up = server.client
    client.submit("driver", INPUTS, in_s(100.0))
    assert client.wait_for(Status.LOST, 15.0)
    assert "has not answered for" in client.state.reason
    outcome = one(client)
    assert outcome.code is Code.UNAVAILABLE
    assert "has not answered for" in outcome.message
    assert client.counts["lost"] == 1
    server.serve_until(lambda: client.state.connected)
    server.serve_until(lambda: server.client != given_up)  # pings of the connection that was given up may come last


def test_a_server_that_answers_is_not_lost(server: ScriptedServer, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    clock, states, pongs = VirtualClock(), list[Status](), list[float]()
    connection = Connection(
        context,
        lambda fd: None,
        lambda fd: None,
        server.endpoint,
        ClientSettings(ping_s=0.05, silence_s=0.2, heartbeat_ms=10_000),
        clock,
        lambda told: states.append(told.state.status),
        on_pong=pongs.append,
    )

    def has_taken_in(count: int) -> bool:
        connection.receive(lambda *reply: None)
        return len(states) + len(pongs) == count

    def has_sent() -> bool:
        connection.tick()
        return bool(server.socket.poll(1))

    try:
        wait_for(has_sent)
        server.next(Hello)
        wait_for(lambda: has_taken_in(1))
        for count in range(20):
            clock.advance(0.06)
            wait_for(has_sent)
            server.next(Ping)
            wait_for(lambda count=count: has_taken_in(count + 2))  # type: ignore[misc]
        assert states == [Status.CONNECTED]
        for _ in range(5):
            clock.advance(0.06)
            connection.tick()
        assert states == [Status.CONNECTED, Status.LOST]
    finally:
        connection.close()


def test_a_server_that_leaves_is_lost_at_once(
    server: ScriptedServer, connect: Callable[..., EdgeClient], context: "zmq.Context[zmq.Socket[bytes]]"
) -> None:
    client = connect()
    client.submit("driver", INPUTS, in_s(100.0))
    server.socket.close()
    assert client.wait_for(Status.LOST, 15.0)
    assert one(client).code is Code.UNAVAILABLE
    again = client.submit("driver", INPUTS, in_s(100.0))
    refused = one(client)
    assert (refused.handle, refused.code) == (again, Code.UNAVAILABLE)


def test_where_nobody_listens_the_reason_says_so(context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    server = ScriptedServer(context)
    server.socket.close()
    with EdgeClient(server.endpoint) as client:
        wait_for(
            lambda: client.state.reason == f"nobody answers at {server.endpoint}: is an edge server running there?"
        )


def test_open_requests_are_limited(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    client = connect(replace(PATIENT, open_requests=2))
    handles = [client.submit("driver", INPUTS, in_s(10.0)) for _ in range(3)]
    outcome = one(client)
    assert (outcome.handle, outcome.code) == (handles[2], Code.RESOURCE_EXHAUSTED)


def test_closing_ends_what_is_open(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    client = connect()
    client.submit("driver", INPUTS, in_s(10.0))
    client.close()
    assert client.counts == {"CANCELLED": 1}
    with pytest.raises(ClientError, match="is closed"):
        client.submit("driver", INPUTS, in_s(10.0))


def test_the_link_holds_the_bytes_back_both_ways(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    model = LinkModel(rate=Fixed(0.01 * MEGABIT), rtt=Fixed(0.04), queue=Fixed(0.03))
    client = connect(link=model)
    handle = client.submit("driver", INPUTS, in_s(10.0))
    sent = handle.transmission
    assert sent is not None
    assert sent.bits == payload_bits(INPUTS) == 128
    assert sent.sent_s - sent.start_s == pytest.approx(128 / (0.01 * MEGABIT))
    request = server.next(Request)
    assert isinstance(request, Request)
    server.answer(request.id)
    outcome = one(client)
    assert outcome.code is Code.OK
    assert outcome.latency_s >= sent.reply_s - sent.start_s
    # The server is told to be done before the way back begins.
    arrived_s = handle.deadline_s - 1e-6 * request.time_left_us - sent.reply_delay_s
    assert arrived_s >= sent.arrival_s


def test_a_link_too_slow_for_the_deadline_sends_nothing_and_stops(
    server: ScriptedServer, connect: Callable[..., EdgeClient]
) -> None:
    client = connect(link=LinkModel(rate=Fixed(0.02 * MEGABIT)))
    handle = client.submit("driver", {"x": np.zeros((1, 50_000), np.float32)}, in_s(0.1))
    assert one(client).code is Code.DEADLINE_EXCEEDED
    assert handle.transmission is not None
    assert handle.transmission.sent_s == math.inf
    assert sum(item.duration_s for item in handle.transmission.airtimes) < 5.0
    server.next(Ping)
    client.close()
    assert client.counts == {"DEADLINE_EXCEEDED": 1}


def test_cancelling_stops_the_bytes(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    client = connect(link=LinkModel(rate=Fixed(1e-3 * MEGABIT)))
    handle = client.submit("driver", {"x": np.ones((1, 200), np.float32)}, in_s(10.0))  # six seconds on the link
    whole = handle.transmission
    client.cancel(handle)
    assert whole is not None
    assert handle.transmission is not None
    assert sum(item.duration_s for item in handle.transmission.airtimes) < whole.sent_s - whole.start_s
    assert one(client).code is Code.CANCELLED


def test_what_cannot_be_sent_is_refused_at_once(connect: Callable[..., EdgeClient]) -> None:
    client = connect()
    with pytest.raises(ValueError, match="deadline_s = nan"):
        client.submit("driver", INPUTS, math.nan)
    with pytest.raises(WireError, match="complex128"):
        client.submit("driver", {"x": np.zeros(3, complex)}, in_s(1.0))
    with pytest.raises(ClientError, match="cannot connect to 'nowhere'"):
        EdgeClient("nowhere")
    with pytest.raises(ClientError, match=r"ping_s = 0\.0"):
        ClientSettings(ping_s=0.0)
    with pytest.raises(ClientError, match="reconnect_max_ms = 1"):
        ClientSettings(reconnect_max_ms=1)


def test_asking_leaves_the_outcomes_of_others_to_be_taken(
    server: ScriptedServer, connect: Callable[..., EdgeClient]
) -> None:
    client = connect()
    other = client.submit("driver", INPUTS, in_s(10.0))
    assert isinstance(server.next(Request), Request)
    asked: list[Outcome] = []
    asking = threading.Thread(target=lambda: asked.append(client.ask("driver", INPUTS, in_s(10.0), priority=1)))
    asking.start()
    request = server.next(Request)
    assert isinstance(request, Request)
    assert request.priority == 1
    server.answer(other.id)
    server.answer(request.id, 3.0)
    asking.join(15.0)
    assert [outcome.outputs["y"][0] for outcome in asked] == [3.0]
    readable, _, _ = select.select([client], [], [], 15.0)
    assert readable == [client]
    (taken,) = client.take()
    assert taken.handle is other
    assert select.select([client], [], [], 0.0)[0] == []


def test_asking_ends_with_the_server(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    client = connect()
    asked: list[Outcome] = []
    asking = threading.Thread(target=lambda: asked.append(client.ask("driver", INPUTS, in_s(60.0))))
    asking.start()
    server.next(Request)
    server.socket.close()
    asking.join(15.0)
    assert [outcome.code for outcome in asked] == [Code.UNAVAILABLE]


def test_asking_ends_with_the_client(server: ScriptedServer, connect: Callable[..., EdgeClient]) -> None:
    client = connect()
    asked: list[Outcome] = []
    asking = threading.Thread(target=lambda: asked.append(client.ask("driver", INPUTS, in_s(60.0))))
    asking.start()
    server.next(Request)
    client.close()
    asking.join(15.0)
    assert [outcome.code for outcome in asked] == [Code.CANCELLED]
