"""Whatever edge and link do, the guard's control is in time, nothing is hit, the reason stands in log and counts, and
the edge answers again by itself when the fault is over. Every drive asserts the first two and the last, every test the
reason in the daemon's log and in its counts."""

import re
import signal
import socket
from collections import Counter
from collections.abc import Callable

import pytest

import headway
from carla_bridge.loop import Tick
from offload.security.keys import allow, new_keys, write_keys
from tests.faults.conftest import Rig
from tests.processes import PATIENCE_S, wait_for

pytestmark = pytest.mark.timeout(120)  # a vehicle drives in real time, until the fault has been seen and is over
_NO_HANDSHAKE = "hangs up in the handshake, or does not finish it"


def reason(rig: Rig) -> str:
    return str(rig.status()["edge"]["reason"])


def failures(seen: Counter[str]) -> int:
    return seen["DEADLINE_EXCEEDED"] + seen["UNAVAILABLE"] + seen["CANCELLED"]


def through(rig: Rig, *words: str, seen: Callable[[Counter[str]], bool], least_s: float = 0.0) -> None:
    """Drive through a fault of the front that lasts until the daemon's counts have `seen` it."""
    rig.drive_through(
        lambda: rig.misbehave(*words), lambda: rig.misbehave("pass"), lambda: seen(rig.since()), least_s=least_s
    )


def test_a_killed_server(rig: Rig) -> None:
    rig.drive_through(lambda: rig.kill("front"), rig.start_front, lambda: rig.is_lost)
    assert rig.says("lost: .* (closed the connection|has not answered for)")


def test_whoever_subscribed_hears_of_the_edge_server(rig: Rig) -> None:
    with headway.Client(rig.folder / "daemon.sock", timeout_s=PATIENCE_S) as client:
        states = (event.data["state"] for event in client.events("edge", timeout_s=PATIENCE_S))
        rig.kill("front")
        assert any(state != "connected" for state in states)
        rig.start_front()
        assert "connected" in states


def test_a_frozen_server(rig: Rig) -> None:
    rig.drive_through(
        lambda: rig.send_signal("front", signal.SIGSTOP),
        lambda: rig.send_signal("front", signal.SIGCONT),
        lambda: rig.is_lost,
    )
    assert rig.says("lost: .* (has not answered for|missed its heartbeats)")


def test_a_slow_server(rig: Rig) -> None:
    through(rig, "slow", "0.03", seen=lambda seen: seen["slow"] > 1)
    assert rig.says("is slow: .* more than the link and the server's own figures tell")


def test_replies_after_the_deadline(rig: Rig) -> None:
    through(rig, "slow", "0.8", seen=lambda seen: failures(seen) > 0 and seen["late"] + seen["stray"] > 0)
    assert rig.says("no answer: (DEADLINE_EXCEEDED|UNAVAILABLE|given up)")


def test_a_server_that_lies_about_its_load(rig: Rig) -> None:
    through(rig, "lie", "1000", seen=lambda seen: seen["load_disbelieved"] > 1 and seen["OK"] > 1)
    assert rig.says("is not believed: it tells of 1000.0 s of work")


def test_a_wrong_model_version(rig: Rig) -> None:
    through(rig, "version", "999", seen=lambda seen: seen["INVALID"] > 0)
    assert rig.says("no answer: INVALID .*version '999' is not served")


def test_wrong_shapes(rig: Rig) -> None:
    through(rig, "shapes", seen=lambda seen: seen["unusable"] > 0)
    assert rig.says("answered with a wrong shape")


def test_replayed_replies(rig: Rig) -> None:
    through(rig, "replay", seen=lambda seen: seen["replayed"] > 2 and seen["OK"] > 1)
    assert rig.says("repeats replies")


def test_a_frame_of_a_gigabyte(rig: Rig) -> None:
    closed = "closed the connection"  # not one lost because this machine was held up
    through(rig, "giant", seen=lambda seen: seen["lost"] > 0 and closed in rig.log)
    assert rig.says(closed)


def test_a_half_open_connection(rig: Rig) -> None:
    host, port = rig.endpoint.removeprefix("tcp://").split(":")
    silent: list[socket.socket] = []

    def begin() -> None:
        rig.kill("front")
        silent.append(socket.create_server((host, int(port))))

    def stop() -> None:
        silent[0].close()
        rig.start_front()

    def seen() -> bool:
        return rig.is_lost and any(text in reason(rig) for text in ("unreachable, or frozen", _NO_HANDSHAKE))

    rig.drive_through(begin, stop, seen)
    assert rig.says(f"not connected: .* (unreachable, or frozen|{_NO_HANDSHAKE})")


def test_a_clock_that_jumps(rig: Rig) -> None:
    """A daemon that is stopped finds its clock ahead when it goes on."""
    rig.drive_through(
        lambda: rig.send_signal("daemon", signal.SIGSTOP),
        lambda: rig.send_signal("daemon", signal.SIGCONT),
        lambda: "proposal_stale" in rig.heard,
    )
    wait_for(lambda: rig.since()["proposal_stale"] > 0)
    assert rig.says("the guard goes on by itself, (hold|backup): proposal_stale")


def test_thirty_percent_loss(rig: Rig) -> None:
    through(rig, "loss", "0.3", seen=lambda seen: failures(seen) + seen["slow"] > 2)
    assert rig.says("is slow: its answer took|no answer: (DEADLINE_EXCEEDED|UNAVAILABLE|given up)")


def test_an_outage_of_five_seconds(rig: Rig) -> None:
    through(rig, "outage", seen=lambda seen: rig.is_lost, least_s=5.0)
    assert rig.says("has not answered for")


def test_keys_that_do_not_match(bare_rig: Rig) -> None:
    rig = bare_rig
    server, mine, allowed = new_keys(), new_keys(), rig.folder / "allowed"
    write_keys(rig.folder / "edge.key", server)
    write_keys(rig.folder / "car.key", mine)
    allow(allowed, new_keys().public, "somebody")
    rig.start_edge("--keys", str(rig.folder / "edge.key"), "--allow", str(allowed))
    config = f'keys = "{rig.folder / "car.key"}"\nserver_key = "{server.public}"\n'
    rig.start_daemon(rig.edge_endpoint, config=config)
    wait_for(lambda: "rejected this client's key" in reason(rig))

    let_in: list[bool] = []

    def on_tick(now: Tick) -> bool:
        if now.time_s >= 0.4 and not let_in:
            let_in.append(allow(allowed, mine.public, "car"))
        return bool(let_in) and rig.outcomes()["OK"] > 0

    record, report = rig.drive(on_tick)
    assert (report.collisions, record.late_controls) == (0, 0)
    assert rig.outcomes()["OK"] > 0
    assert "rejected this client's key" in (rig.folder / "daemon.log").read_text()
    assert 'headway_edge_gate_total{event="rejected"}' in rig.edge_metrics()
    assert re.search(r'headway_edge_gate_total{event="admitted"} [1-9]', rig.edge_metrics())
    assert mine.public in (rig.folder / "edge.log").read_text()
