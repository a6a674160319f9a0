"""The client in one file: its applier, and that an old interpreter can read it."""

import ast
import asyncio
import dataclasses
import math
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

import headway
from runtime.serve.guard_messages import DecisionMessage
from tests.processes import PATIENCE_S, wait_for

HELD = headway.Control(0.1, 10.0)
BRAKE = headway.Control(0.0, 0.0, True)


def decision(number: int = 1, stamp_s: float = 0.0, **changes: object) -> headway.Decision:
    plain = headway.Decision(
        id=number,
        stamp_s=stamp_s,
        mode="admit",
        reason="proposal_certified",
        control=HELD,
        apply_by_s=stamp_s + 0.02,
        hold_until_s=stamp_s + 0.5,
        backup=BRAKE,
        backup_manoeuvre="brake",
        deadline_s=1.0,
        barrier_deadline_s=None,
        limited_by="cap",
        intervened=False,
        proposed_beta_rad=0.1,
        shortfall_s=0.0,
        switch_time_s=0.04,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_it_parses_on_python_3_9() -> None:
    source = Path(headway.__file__).read_text()
    ast.parse(source, feature_version=(3, 9))


def test_it_stands_on_numpy_pyzmq_and_msgpack_alone() -> None:
    imported = set()
    for node in ast.walk(ast.parse(Path(headway.__file__).read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names == {"msgpack", "numpy", "zmq"}


def test_before_the_first_decision_only_standing_is_certified() -> None:
    assert headway.Applier().control_at(0.0) == headway.Applied(BRAKE, "none", True, 0)
    assert not headway.Applier(at_rest=False).control_at(0.0).certified


def test_time_alone_moves_a_pair_from_held_to_backup() -> None:
    applier = headway.Applier()
    assert applier.accept(decision(), 0.01)
    assert applier.control_at(0.499) == headway.Applied(HELD, "held", True, 1)
    assert applier.control_at(0.5) == headway.Applied(BRAKE, "backup", True, 1)
    assert applier.control_at(9.0) == headway.Applied(BRAKE, "backup", True, 1)


def test_a_switch_that_comes_too_late_is_not_certified() -> None:
    applier = headway.Applier()
    applier.accept(decision(), 0.01)
    applier.control_at(0.49)
    assert applier.control_at(0.541) == headway.Applied(BRAKE, "backup", False, 1)
    applier.accept(decision(2, 0.53), 0.541)
    assert applier.control_at(0.541).certified


@pytest.mark.parametrize(
    "refused",
    [
        decision(3, 0.02, apply_by_s=0.029),
        decision(3, 0.02, hold_until_s=math.nan),
        decision(3, 0.02, control=headway.Control(math.nan, 1.0)),
        decision(3, 0.02, backup=None),
        decision(3, 0.02, apply_by_s=math.nan),
    ],
    ids=["late", "hold-until is no number", "control is no number", "no backup", "apply-by is no number"],
)
def test_what_may_not_take_effect_leaves_the_stored_pair(refused: headway.Decision) -> None:
    applier = headway.Applier()
    applier.accept(decision(2), 0.01)
    assert not applier.accept(refused, 0.03)
    assert applier.refused == 1
    assert applier.control_at(0.1) == headway.Applied(HELD, "held", True, 2)


def test_an_older_decision_changes_nothing_and_is_no_refusal() -> None:
    applier = headway.Applier()
    applier.accept(decision(2), 0.01)
    assert not applier.accept(decision(2), 0.01)
    assert not applier.accept(decision(1), 0.01)
    assert applier.refused == 0


def test_a_backup_decision_starts_the_stored_backup_not_its_own() -> None:
    applier = headway.Applier()
    applier.accept(decision(1), 0.01)
    named = headway.Control(0.4, 5.0)
    assert applier.accept(decision(2, 0.02, mode="backup", backup=named, control=named, apply_by_s=math.inf), 0.03)
    assert applier.control_at(0.029).control == HELD
    assert applier.control_at(0.03) == headway.Applied(BRAKE, "backup", True, 2)


def test_a_backup_decision_never_makes_a_hold_longer() -> None:
    applier = headway.Applier()
    applier.accept(decision(1, hold_until_s=0.1), 0.0)
    assert applier.accept(decision(2, mode="backup", apply_by_s=math.inf), 0.3)
    assert applier.hold_until_s == 0.1


def test_a_fresh_pair_ends_a_backup() -> None:
    applier = headway.Applier()
    applier.accept(decision(1, hold_until_s=0.01), 0.0)
    assert applier.control_at(0.05).source == "backup"
    assert applier.accept(decision(2, 0.05), 0.06)
    assert applier.control_at(0.06) == headway.Applied(HELD, "held", True, 2)


def test_a_time_that_is_no_number_gives_the_backup_uncertified() -> None:
    applier = headway.Applier()
    applier.accept(decision(1), 0.0)
    assert applier.control_at(math.nan) == headway.Applied(BRAKE, "backup", False, 1)
    assert not applier.accept(decision(2, 0.02), math.nan)


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.0, 5.0), st.floats(0.0, 0.1)), max_size=30))
def test_once_a_pair_is_stored_every_instant_asked_in_time_is_certified(events: list[tuple[int, float, float]]) -> None:
    applier = headway.Applier(at_rest=False)
    applier.accept(decision(1), 0.0)
    time_s = 0.0
    pending = sorted(events, key=lambda event: event[1])
    while time_s < 6.0:
        while pending and pending[0][1] <= time_s:
            number, stamp_s, delay_s = pending.pop(0)
            applier.accept(decision(number, stamp_s), max(time_s, stamp_s + delay_s))
        assert applier.control_at(time_s).certified
        time_s += 0.01


def answer_of_a_guard(number: int) -> bytes:
    standing = DecisionMessage(
        id=number,
        stamp_ns=0,
        mode="hold",
        reason="start_at_rest",
        beta_rad=0.0,
        speed_mps=0.0,
        brake=True,
        apply_by_ns=None,
        hold_until_ns=None,
        backup=(0.0, 0.0, True),
        backup_manoeuvre="brake",
        deadline_s=10.0,
        barrier_deadline_s=None,
        limited_by="rest",
        intervened=False,
        proposed_beta_rad=None,
        shortfall_s=0.0,
        switch_time_s=0.0,
    )
    return msgspec.msgpack.encode(standing)


def test_a_step_does_not_take_the_last_tick_s_decision_for_its_own(tmp_path: Path) -> None:
    pose = headway.Pose(0.0, 0.0, 0.0, 0.0, 0.0)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as guard:
        guard.bind(f"ipc://{tmp_path / 'g'}")
        with headway.Session(None, tmp_path / "g") as session:

            def reported() -> bool:
                session.step(pose, [], wait_s=0.0)
                return guard.poll(20) > 0

            wait_for(reported)
            peer = guard.recv_multipart()[0]
            guard.send_multipart([peer, answer_of_a_guard(1)])  # after that tick's wait
            assert session._guard.socket.poll(int(1e3 * PATIENCE_S))

            before_ns = time.monotonic_ns()

            def answer() -> None:
                while msgspec.msgpack.decode(guard.recv_multipart()[1])["stamp_ns"] < before_ns:
                    pass  # there may be several of those reports
                guard.send_multipart([peer, answer_of_a_guard(2)])

            other = threading.Thread(target=answer)
            other.start()
            session.step(pose, [], wait_s=PATIENCE_S)
            other.join()
            assert [taken.id for taken in session.decisions] == [1, 2]


def test_a_guard_is_told_from_a_daemon(tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as guard:
        guard.setsockopt(zmq.LINGER, 0)
        guard.bind(f"ipc://{tmp_path / 'g'}")

        def refuse(clients: int) -> None:
            for _ in range(clients):
                peer, _ = guard.recv_multipart()
                guard.send_multipart([peer, msgspec.msgpack.encode({"kind": "refused/1", "error": "no request"})])

        other = threading.Thread(target=refuse, args=(2,))
        other.start()
        with (
            headway.Client(tmp_path / "g", timeout_s=PATIENCE_S) as client,
            pytest.raises(headway.UnavailableError, match="answers a guard, not a daemon"),
        ):
            client.status()

        async def ask() -> None:
            async with headway.AsyncClient(tmp_path / "g", timeout_s=PATIENCE_S) as client:
                await client.status()

        with pytest.raises(headway.UnavailableError, match="answers a guard, not a daemon"):
            asyncio.run(ask())
        other.join()


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"inputs": {"x": [1]}}, TypeError, "input 'x' is a list: must be a numpy array"),
        ({"deadline_s": math.nan}, ValueError, "deadline_s = nan: must be a finite number"),
        ({"deadline_s": math.inf}, ValueError, "deadline_s = inf: must be a finite number"),
        ({"deadline_s": "1"}, ValueError, "deadline_s = '1': must be a finite number"),
        ({"inputs": {"x": np.zeros(70 << 20, np.uint8)}}, headway.RequestError, "73400320 bytes: at most 33554432"),
    ],
)
def test_what_cannot_be_asked_is_told_at_once(
    tmp_path: Path, asked: dict[str, Any], error: type[Exception], told: str
) -> None:
    with headway.Client(tmp_path / "nobody", shared_memory=False) as client, pytest.raises(error, match=told):
        client.infer("m", **{"inputs": {}, **asked})


def test_a_path_that_is_too_long_is_told() -> None:
    with pytest.raises(headway.UnavailableError, match="File name too long"):
        headway.Client("/tmp/" + 150 * "x")
