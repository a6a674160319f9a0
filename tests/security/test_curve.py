"""Edge servers that know their clients, in processes of their own: who is let in, who is told why not, and how fast."""

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import zmq
from onnx import TensorProto, helper

from devices.clock import VirtualClock
from devices.package import Exit, SegmentSource, write_package
from offload.client import ClientSettings, EdgeClient, Outcome, Status
from offload.client.connection import Connection
from offload.errors import ClientError
from offload.security.curve import ClientSecurity
from offload.security.keys import KeyPair, allow, disallow, new_keys, write_keys
from offload.wire import Code
from tests.processes import COMMAND, PATIENCE_S, run, wait_for

ROOT = Path(__file__).resolve().parents[2]
X = np.array([[1.0, -2.0, 3.0, 0.5]], np.float32)
SHORT_S = 3.0  # a busy machine may let a request of a burst pass its deadline; the next burst tells


@dataclass(frozen=True)
class Guarded:
    """An edge server with keys, and its allow-list."""

    endpoint: str
    keys: KeyPair
    allowed: Path
    log: Path

    def security(self, mine: KeyPair, server: str | None = None) -> ClientSettings:
        return ClientSettings(security=ClientSecurity(mine, {"": server or self.keys.public}), silence_s=10.0)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "echo"
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "echo",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    write_package(
        folder, name="echo", version="1", segments=[SegmentSource("all", made)], exits=[Exit("e", "all", "y")]
    )
    return folder


@contextmanager
def guarded(package: Path, folder: Path, *flags: str) -> Iterator[Guarded]:
    """Start an edge server that nobody is let into yet; on every address of this machine."""
    keys, allowed, log = new_keys(), folder / "allowed", folder / "edge.log"
    write_keys(folder / "edge.key", keys)
    allow(allowed, new_keys().public, "somebody")
    options = ("--keys", str(folder / "edge.key"), "--allow", str(allowed), "--package", str(package), *flags)
    command = [*COMMAND, "edge", "--bind", "tcp://0.0.0.0:0", *options]
    with log.open("w") as told, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True) as process:
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["endpoint"].rpartition(":")[2]
            yield Guarded(f"tcp://127.0.0.1:{port}", keys, allowed, log)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def edge(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(package, tmp_path_factory.mktemp("edge")) as started:
        yield started


def reason_of(client: EdgeClient, text: str) -> float:
    """Wait until the reason why the server is lost holds `text`; return how long that took since the start [s]."""
    began_s = time.monotonic()
    wait_for(lambda: text in client.state.reason)
    return time.monotonic() - began_s


def ask(client: EdgeClient) -> Code:
    return client.ask("echo", {"x": X}, time.monotonic() + PATIENCE_S).code


def burst(client: EdgeClient) -> set[Code]:
    """Send as many requests at once as may be open, and return how they ended."""
    handles = [client.submit("echo", {"x": X}, time.monotonic() + SHORT_S) for _ in range(64)]
    ended: list[Outcome] = []
    while len(ended) < len(handles):
        ended += client.wait(PATIENCE_S)  # each ends by its deadline
    return {outcome.code for outcome in ended}


def test_a_client_on_the_list_is_served_and_one_off_it_is_told(edge: Guarded) -> None:
    mine = new_keys()
    with EdgeClient(edge.endpoint, edge.security(mine)) as client:
        reason_of(client, "rejected this client's key")
        assert client.state.status is Status.LOST
        outcome = client.ask("echo", {"x": X}, time.monotonic() + PATIENCE_S)
        assert outcome.code is Code.UNAVAILABLE
        assert "rejected this client's key" in outcome.message
        wait_for(lambda: mine.public in edge.log.read_text())  # told once a second, whoever knocked
        allow(edge.allowed, mine.public, "car-7")  # it is let in at its next attempt, by itself
        assert client.wait_for(Status.CONNECTED, PATIENCE_S)
        assert ask(client) is Code.OK


def test_the_reason_outlasts_the_pause_after_a_rejection(edge: Guarded) -> None:
    clock, reasons = VirtualClock(), list[str]()
    watched = select.epoll()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    connection = Connection(
        context,
        lambda fd: watched.register(fd, select.EPOLLIN),
        watched.unregister,
        edge.endpoint,
        edge.security(new_keys()),
        clock,
        lambda told: reasons.append(told.state.reason),
    )
    try:
        for _ in range(5):  # the pauses double: from the fourth on each is longer than a peer may be silent
            while connection.fileno >= 0:
                assert watched.poll(PATIENCE_S)
                connection.tick()
            while connection.fileno < 0:
                clock.advance(0.05)
                connection.tick()
    finally:
        connection.close()
        context.destroy(linger=0)
        watched.close()
    assert len(reasons) == 1
    assert "rejected this client's key" in reasons[0]


def test_who_is_taken_off_the_list_is_out_though_connected(edge: Guarded) -> None:
    mine = new_keys()
    allow(edge.allowed, mine.public, "car-8")
    with EdgeClient(edge.endpoint, edge.security(mine)) as client:
        assert client.wait_for(Status.CONNECTED, PATIENCE_S)
        assert ask(client) is Code.OK
        disallow(edge.allowed, "car-8")
        wait_for(lambda: ask(client) is Code.UNAUTHORIZED)


def test_another_server_cannot_stand_in_for_the_known_one(edge: Guarded) -> None:
    mine = new_keys()
    allow(edge.allowed, mine.public, "car-9")
    with EdgeClient(edge.endpoint, edge.security(mine, new_keys().public)) as client:
        reason_of(client, "another key than the one known here")
        assert client.state.status is Status.LOST


def test_a_client_without_a_key_is_told(edge: Guarded) -> None:
    with EdgeClient(edge.endpoint) as client:
        reason_of(client, "wants a key")
        assert client.state.status is Status.LOST


def test_a_server_of_unknown_key_is_refused_at_once(edge: Guarded) -> None:
    settings = ClientSettings(security=ClientSecurity(new_keys(), {"tcp://10.0.0.1:1": edge.keys.public}))
    with pytest.raises(ClientError, match="is not known"):
        EdgeClient(edge.endpoint, settings)


def test_a_silent_host_becomes_a_visible_state() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        EdgeClient(f"tcp://127.0.0.1:{listener.getsockname()[1]}") as client,
    ):
        reason_of(client, "unreachable, or frozen")
        assert ask(client) is Code.UNAVAILABLE


def test_a_flood_is_refused_and_nobody_else_suffers(package: Path, tmp_path: Path) -> None:
    flood, calm = new_keys(), new_keys()
    with guarded(package, tmp_path, "--client-messages", "60") as edge:
        allow(edge.allowed, flood.public, "flood")
        allow(edge.allowed, calm.public, "calm")
        with (
            EdgeClient(edge.endpoint, edge.security(flood)) as loud,
            EdgeClient(edge.endpoint, edge.security(flood)) as twin,
            EdgeClient(edge.endpoint, edge.security(calm)) as quiet,
        ):
            for client in (loud, twin, quiet):
                assert client.wait_for(Status.CONNECTED, PATIENCE_S)
            codes = set[Code]()

            def refused_is(other: EdgeClient) -> bool:
                codes.update(burst(loud))
                return other.ask("echo", {"x": X}, time.monotonic() + SHORT_S).code is Code.RESOURCE_EXHAUSTED

            wait_for(lambda: refused_is(loud))
            wait_for(lambda: refused_is(twin))  # one key, one bucket
            assert ask(quiet) is Code.OK
            assert {Code.OK, Code.RESOURCE_EXHAUSTED} <= codes


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (("--bind", "tcp://0.0.0.0:0"), 78, "must know its clients"),
        (("--keys", "edge.key"), 2, "go together"),
        (("--keys", "nowhere.key", "--allow", "nowhere"), 78, "cannot read the key file nowhere.key"),
        (("--client-mb", "-1"), 78, "bytes_per_s = -1000000.0: must be positive"),
    ],
)
def test_a_server_that_may_not_start_says_why(package: Path, flags: tuple[str, ...], code: int, reason: str) -> None:
    ended = run("edge", "--package", str(package), *flags)
    assert (ended.returncode, reason in ended.stderr) == (code, True), ended.stderr


def test_the_doorkeeper_leaves_no_thread_and_no_socket(tmp_path: Path) -> None:
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "import zmq\n"
        "from devices.clock import MonotonicClock\n"
        "from offload.security.curve import Doorkeeper, ServerSecurity\n"
        "from offload.security.keys import allow, new_keys\n"
        "keys = new_keys(); allow(Path(sys.argv[1]), keys.public, 'me')\n"
        "context = zmq.Context()\n"
        "keeper = Doorkeeper(context, ServerSecurity(keys, Path(sys.argv[1])), MonotonicClock())\n"
        "keeper.close(); keeper.close(); context.term()\n"
        "print(threading.active_count())\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "allowed")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=ROOT)
    assert (ended.stdout.strip(), ended.stderr) == ("1", "")
