"""Choices among plans are recorded with what they were made from, and come out again bit for bit."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headway
from runtime.observe.recorder.channels import DECISION, EVENT
from runtime.observe.recorder.plain import encode_plain
from runtime.observe.recorder.ring import Ring, RingSettings
from runtime.observe.recorder.taps import tell_choices
from runtime.observe.replay.log import Entry, FlightLog, LogError
from runtime.observe.replay.replay import replay
from runtime.observe.replay.scheduler import SchedulerReplay
from runtime.plan.chooser import Asked, PlanChooser
from runtime.plan.conditions import Conditions, Way
from runtime.serve.events import Event, EventHub, Topic
from tests.observe.test_recorder import rewritten
from tests.plan.test_chooser import board, plans
from tests.processes import end, end_owner, run, start, wait_for
from tests.runtime.test_daemon import await_ready
from tests.runtime.test_daemon_plans import FAULTY, FRAME, configured, problem, started
from tests.runtime.test_daemon_plans import plans as write_plans

DEVICES = ("gpu", "cpu", "edge")
ways = st.builds(Way, st.none() | st.floats(1e5, 1e9), st.none() | st.floats(0.0, 1.0))
conditions = st.builds(
    Conditions,
    deadline_s=st.just(math.inf) | st.floats(1e-3, 0.1),
    slowdown=st.dictionaries(st.sampled_from(DEVICES), st.floats(1.0, 10.0)),
    ways=st.dictionaries(st.just("edge"), ways),
    waits_s=st.dictionaries(st.sampled_from(DEVICES), st.floats(0.0, 0.1)),
    lost=st.frozensets(st.sampled_from(DEVICES)),
    avoid=st.dictionaries(st.sampled_from(DEVICES), st.just("it burns")),
    reply_s=st.floats(0.0, 0.01),
)


@dataclass
class Tapped:
    """A chooser whose choices are told, as a recorder would write them."""

    chooser: PlanChooser = field(default_factory=lambda: PlanChooser(board(), plans(board()), settle_s=1.0))
    hub: EventHub = field(default_factory=EventHub)
    written: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._told = tell_choices(self.hub)

    def choose(self, now_s: float, now: Conditions) -> None:
        asked = Asked(now_s, now, self.chooser.memory)
        self._told(self.chooser, asked, self.chooser.choose(now_s, now))

    def write(self, event: Event) -> None:
        self.written.append(encode_plain(event.data))

    def entries(self) -> list[Entry]:
        return [Entry(Path("log"), DECISION.topic, 0, msgspec.json.decode(each)) for each in self.written]


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(st.floats(0.0, 2.0), conditions), min_size=1, max_size=12), late=st.integers(0, 11))
def test_any_choices_come_out_again(steps: list[tuple[float, Conditions]], late: int) -> None:
    tapped, now_s = Tapped(), 0.0
    for number, (later_s, now) in enumerate(steps):
        if number == min(late, len(steps) - 1):
            tapped.hub.subscribe([Topic.DECISION], tapped.write)
        now_s += later_s
        tapped.choose(now_s, now)
    again = SchedulerReplay()
    assert [again.decision(entry) for entry in tapped.entries()] == [None] * len(tapped.written)
    assert (again.repeated["plan"], again.left_out) == (len(steps) - min(late, len(steps) - 1), 0)


def _other(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["decided"].update({name: value})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_other("index", 1), "decided.index was 1, comes out as 2"),
        (_other("p99_s", math.nextafter(4e-3, 1.0)), "decided.p99_s was 0.00400000000000000"),
        (lambda data: data["asked"]["conditions"].update(lost=["edge"]), "decided.index was 2"),
        (lambda data: data["asked"]["before"].update(present=2), "decided.switched was True"),
    ],
)
def test_a_changed_bit_is_told(change: Callable[[dict[str, Any]], None], told: str) -> None:
    tapped = Tapped()
    tapped.hub.subscribe([Topic.DECISION], tapped.write)
    tapped.choose(0.0, Conditions(deadline_s=10e-3))
    basis, choice = tapped.entries()
    change(choice.data)
    again = SchedulerReplay()
    assert again.decision(basis) is None
    assert told in str(again.decision(choice))


def test_choices_whose_plans_were_lost_are_left_out_and_newcomers_are_told_them_again() -> None:
    tapped = Tapped()
    tapped.hub.subscribe([Topic.DECISION], tapped.write)
    tapped.choose(0.0, Conditions())
    tapped.choose(1.0, Conditions(deadline_s=10e-3))
    assert [entry.data["what"] for entry in tapped.entries()] == ["plans", "plan", "plan"]
    again = SchedulerReplay()
    assert [again.decision(entry) for entry in tapped.entries()[1:]] == [None, None]
    assert (again.repeated, again.left_out) == ({}, 2)
    tapped.written.clear()
    tapped.hub.subscribe([Topic.DECISION], lambda event: None)
    tapped.choose(2.0, Conditions())
    assert [entry.data["what"] for entry in tapped.entries()] == ["plans", "plan"]


def _log(folder: Path, tapped: Tapped, *, lasting: bool, choices: bool) -> None:
    """Write what a recorder writes of choices and a switch, into files that hold little."""
    ring = Ring(RingSettings(folder, file_bytes=1 << 16, files=2), {})
    for number in range(3):
        for each, entry in zip(tapped.written, tapped.entries(), strict=True):
            basis = entry.data["what"] == "plans"
            if choices and not (basis and number):
                ring.add(DECISION, each, number, lasting=lasting and basis)
        ring.add(
            EVENT, encode_plain({"topic": "plan", "data": {"x": random.Random(number).randbytes(90_000).hex()}}), number
        )
        ring.flush()
    ring.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("lasting", "choices", "repeated", "left_out", "unrecorded"),
    [(True, True, 2, 0, 0), (False, True, 0, 2, 0), (True, False, 0, 0, 1)],
    ids=["rotated", "without the plans", "of an older recorder"],
)
def test_a_log_that_begins_in_the_middle(
    tmp_path: Path, lasting: bool, choices: bool, repeated: int, left_out: int, unrecorded: int
) -> None:
    tapped = Tapped()
    tapped.hub.subscribe([Topic.DECISION], tapped.write)
    tapped.choose(0.0, Conditions())
    tapped.choose(1.0, Conditions(deadline_s=10e-3))
    _log(tmp_path, tapped, lasting=lasting, choices=choices)
    outcome = replay([tmp_path])
    assert outcome.difference is None
    assert (outcome.decisions.get("plan", 0), outcome.choices_left_out) == (repeated, left_out)
    assert outcome.unrecorded_switches == unrecorded
    told = run("replay", str(tmp_path), timeout_s=30.0).stdout
    assert ("not recorded: the choices behind" in told) == (unrecorded > 0)


@pytest.mark.timeout(240)
def test_what_a_daemon_chose_is_repeated_from_its_recorder_s_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_plans(tmp_path / "plans", problem("cpu:0+f32", "cpu"))
    path = configured(tmp_path, ["cpu:0+f32", "cpu"])
    process = started(tmp_path, FAULTY, str(path))
    recorder = start("record", str(log), "--socket", str(tmp_path / "d.sock"))
    try:
        await_ready(tmp_path / "d.sock")
        with headway.Client(tmp_path / "d.sock", timeout_s=30.0) as client:

            def heard() -> set[str]:
                client.infer("driving", {"frame": FRAME})
                try:
                    return {str(entry.data.get("what")) for entry in FlightLog([log])}
                except LogError:
                    return set()

            wait_for(lambda: "admission" in heard(), 60.0)
            Path(f"{path}.gone").touch()
            wait_for(lambda: {"plans", "plan"} <= heard(), 60.0)
    finally:
        end(process)
        recorder.terminate()
        recorder.wait()
        end(recorder)
        end_owner(tmp_path / "headway-guard.sock")
    repeated = run("replay", str(log), "--json", timeout_s=60.0)
    assert repeated.returncode == 0, repeated.stdout + repeated.stderr
    told = json.loads(repeated.stdout)
    assert (told["difference"], told["decisions"]["plan"] >= 1, told["choices_left_out"]) == (None, True, 0)

    def later(data: dict[str, Any]) -> bool:
        if data["what"] != "plan":
            return False
        data["decided"]["index"] = 7
        return True

    changed = run("replay", str(rewritten(log, tmp_path / "changed", DECISION.topic, later)), timeout_s=60.0)
    assert changed.returncode == 1
    assert "decided.index was 7" in changed.stdout
