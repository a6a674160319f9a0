"""Whatever edge and link do, the guard's control is in time, nothing is hit, the reason stands in log and counts, and
the edge answers again by itself when the fault is over. Every drive asserts the first two and the last, every test the
reason in the daemon's log and in its counts."""

import signal
import socket
from collections import Counter

from offload.security.keys import allow, new_keys, write_keys
from tests.faults.conftest import Rig
from tests.processes import wait_for


def reason(rig: Rig) -> str:
    return str(rig.status()["edge"]["reason"])


def failures(seen: Counter[str]) -> int:
    return seen["DEADLINE_EXCEEDED"] + seen["UNAVAILABLE"] + seen["CANCELLED"]


def through(rig: Rig, *words: str, fault_s: float = 0.4) -> Counter[str]:
    _, seen = rig.drive_through(lambda: rig.misbehave(*words), lambda: rig.misbehave("pass"), fault_s=fault_s)
    return seen


def test_a_killed_server(rig: Rig) -> None:
    _, seen = rig.drive_through(lambda: rig.kill("front"), rig.start_front)
    assert seen["lost"] == 1
    assert "closed the connection" in rig.log


def test_a_frozen_server(rig: Rig) -> None:
    _, seen = rig.drive_through(
        lambda: rig.send_signal("front", signal.SIGSTOP), lambda: rig.send_signal("front", signal.SIGCONT), fault_s=0.6
    )
    assert seen["lost"] >= 1
    assert "has not answered for" in rig.log or "missed its heartbeats" in rig.log


def test_a_slow_server(rig: Rig) -> None:
    seen = through(rig, "slow", "0.03")
    assert seen["OK"] > 2
    assert seen["lost"] == 0
    assert seen["slow"] > 0
    assert "more than the link and the server's own figures tell" in rig.log


def test_replies_after_the_deadline(rig: Rig) -> None:
    seen = through(rig, "slow", "0.3", fault_s=0.6)
    assert seen["late"] + seen["stray"] > 0
    assert failures(seen) > 0
    assert "no answer: " in rig.log


def test_a_server_that_lies_about_its_load(rig: Rig) -> None:
    seen = through(rig, "lie", "1000")
    assert seen["OK"] > 2
    assert seen["lost"] == 0
    assert seen["load_disbelieved"] > 0
    assert "is not believed: it tells of 1000.0 s of work" in rig.log


def test_a_wrong_model_version(rig: Rig) -> None:
    seen = through(rig, "version", "999")
    assert seen["INVALID"] > 0
    assert "version '999' is not served" in rig.log


def test_wrong_shapes(rig: Rig) -> None:
    seen = through(rig, "shapes")
    assert seen["unusable"] > 0
    assert "answered with a wrong shape" in rig.log


def test_replayed_replies(rig: Rig) -> None:
    seen = through(rig, "replay")
    assert seen["replayed"] > 2
    assert seen["lost"] == 0
    assert "repeats replies" in rig.log


def test_a_frame_of_a_gigabyte(rig: Rig) -> None:
    seen = through(rig, "giant")
    assert seen["lost"] >= 1
    assert "closed the connection" in rig.log


def test_a_half_open_connection(rig: Rig) -> None:
    host, port = rig.endpoint.removeprefix("tcp://").split(":")
    silent: list[socket.socket] = []

    def begin() -> None:
        rig.kill("front")
        silent.append(socket.create_server((host, int(port))))

    def stop() -> None:
        silent[0].close()
        rig.start_front()

    _, seen = rig.drive_through(begin, stop, fault_s=0.7)
    assert seen["lost"] >= 1
    assert "unreachable, or frozen" in rig.log or "does not finish the handshake" in rig.log


def test_a_clock_that_jumps(rig: Rig) -> None:
    """A daemon that is stopped finds its clock ahead when it goes on."""
    record, seen = rig.drive_through(
        lambda: rig.send_signal("daemon", signal.SIGSTOP), lambda: rig.send_signal("daemon", signal.SIGCONT)
    )
    assert "proposal_stale" in {decision.reason for decision in record.decisions}
    assert seen["proposal_stale"] > 0
    assert "proposal_stale" in rig.log


def test_thirty_percent_loss(rig: Rig) -> None:
    seen = through(rig, "loss", "0.3", fault_s=1.0)
    assert failures(seen) > 0
    assert "is slow: its answer took" in rig.log or "no answer: " in rig.log


def test_an_outage_of_five_seconds(rig: Rig) -> None:
    seen = through(rig, "outage", fault_s=5.0)
    assert seen["lost"] >= 1
    assert "has not answered for" in rig.log


def test_keys_that_do_not_match(bare_rig: Rig) -> None:
    rig = bare_rig
    server, mine, allowed = new_keys(), new_keys(), rig.folder / "allowed"
    write_keys(rig.folder / "edge.key", server)
    write_keys(rig.folder / "car.key", mine)
    allow(allowed, new_keys().public, "somebody")
    rig.start_edge("--keys", str(rig.folder / "edge.key"), "--allow", str(allowed))
    config = f'[offload]\nkeys = "{rig.folder / "car.key"}"\nserver_key = "{server.public}"\n'
    rig.start_daemon(rig.edge_endpoint, config=config)
    wait_for(lambda: "rejected this client's key" in reason(rig))

    let_in: list[bool] = []

    def on_tick(time_s: float) -> bool:
        if time_s >= 0.4 and not let_in:
            let_in.append(allow(allowed, mine.public, "car"))
        return bool(let_in) and rig.outcomes()["OK"] > 0

    record, report = rig.drive(on_tick)
    assert (report.collisions, record.late_controls) == (0, 0)
    assert rig.outcomes()["OK"] > 0
    assert "rejected this client's key" in (rig.folder / "daemon.log").read_text()
    assert 'headway_edge_gate_total{event="rejected"}' in rig.edge_metrics()
    assert 'headway_edge_gate_total{event="admitted"} 1.0' in rig.edge_metrics()
    assert mine.public in (rig.folder / "edge.log").read_text()
