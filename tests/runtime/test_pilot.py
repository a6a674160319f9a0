"""A vehicle's windows on a virtual clock: what runs where, what the guard's deadline cuts short, what it costs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import carla_bridge
from devices.chain import SegmentTime
from devices.clock import VirtualClock
from devices.package import load_package
from offload.client import Handle, Outcome
from offload.estimate import Estimate
from offload.link import Airtime, Transmission
from offload.policy import Action, PolicySettings, make_policy
from offload.radio import MEGABIT, load_radio
from offload.wire import Code
from runtime.errors import MessageError
from runtime.execute.executor import Executor
from runtime.execute.request import Reply, Request, Status
from runtime.serve.api.messages import Step, WindowReport
from runtime.serve.controller import ControllerSettings
from runtime.serve.guard_messages import Report
from runtime.serve.mailbox import Mailbox
from runtime.serve.pilot import Pilot
from runtime.serve.uplink import Offloading

PACKAGE = load_package(Path(carla_bridge.__file__).parent / "models" / "driving" / "1")
FRAME = np.zeros((80, 160, 3), np.uint8)
LOCAL_J = 0.11348
ANSWER = np.array([[0.5, 0.0, 0.0, 0.0, 0.0, 20.0]], np.float32)
SENT = Airtime(0, 0.0, 0.01, 20.0 * MEGABIT)


class Device:
    """Takes requests and answers when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Request, Callable[[Reply], None]]] = []

    def submit(self, request: Request, on_done: Callable[[Reply], None]) -> None:
        self.waiting.append((request, on_done))

    def answer(self, exit_id: str = "exit1") -> None:
        request, on_done = self.waiting.pop(0)
        ran = tuple(SegmentTime(name, "cpu", 0.0, 0.001) for name in ("trunk1", "exit1"))
        on_done(Reply(request.id, Status.OK, exit_id=exit_id, outputs={"answer1": ANSWER}, segments=ran))

    def refuse(self) -> None:
        request, on_done = self.waiting.pop(0)
        on_done(Reply(request.id, Status.RESOURCE_EXHAUSTED, "no time left"))


class Uplink:
    """A policy with an edge server that answers when told to."""

    def __init__(self, policy: str) -> None:
        self.name = policy
        self.radio = load_radio("wifi")
        self.local_energy_j = LOCAL_J
        self._settings = PolicySettings(LOCAL_J)
        self._policy = make_policy(policy, self._settings)
        self.sent: list[Handle] = []
        self.cancelled: list[Handle] = []
        self.outcomes: list[Outcome] = []

    def begin(self) -> None:
        self._policy = make_policy(self.name, self._settings)

    def begin_window(self, index: int, deadline_s: float, now_s: float, bits: float) -> Action:
        return self._policy.begin(index, deadline_s, Estimate(0.01, 0.05))

    def wait_s(self, deadline_s: float) -> float:
        return (self._settings.windows(deadline_s) - 1) * 0.02

    def submit(self, model: str, inputs: Any, deadline_s: float) -> Handle:
        handle = Handle(len(self.sent) + 1, 0.0, deadline_s)
        handle.transmission = Transmission(1.0, 0.0, 0.01, (SENT,), 0.0, 0.0)
        self.sent.append(handle)
        return handle

    def cancel(self, handle: Handle) -> None:
        self.cancelled.append(handle)

    def reply(self, window: int) -> bool:
        return self._policy.reply(window)

    def failed(self, window: int) -> bool:
        return self._policy.failed(window)

    def take(self) -> list[Outcome]:
        taken, self.outcomes = self.outcomes, []
        return taken


class Drive:
    """A pilot, its surroundings, and the windows it has reported."""

    def __init__(self, policy: str = "uniform") -> None:
        self.clock = VirtualClock()
        self.clock.advance(1.0)
        self.device, self.uplink, self.mailbox = Device(), Uplink(policy), Mailbox()
        self.proposals: list[tuple[int, float, float]] = []
        self.pilot = Pilot(
            PACKAGE,
            cast(Executor, self.device),
            self.mailbox,
            ControllerSettings(1.6, 0.8),
            cast(Offloading, self.uplink),
            lambda *proposal: self.proposals.append(proposal),
            self.clock,
        )
        self.reports: list[WindowReport] = []
        self._start_s = self.clock.now_s()
        self._ticks = 0

    def tick(self, deadline_s: float = 1.0, peer: bytes = b"car", frame: Any = FRAME, x_m: float = 0.0) -> None:
        stamp_s = self._start_s + self._ticks * 0.02
        if stamp_s > self.clock.now_s():
            self.clock.advance(stamp_s - self.clock.now_s())
        self._ticks += 1
        stamp_ns = round(stamp_s * 1e9)
        self.pilot.hear(Report(1, stamp_ns, "admit", "proposal_certified", deadline_s, None, "cap", 0.0, False))
        step = Step(stamp_ns=stamp_ns, x_m=x_m, y_m=0.0, heading_rad=0.0, beta_rad=0.0, speed_mps=5.0)
        self.reports += self.pilot.step(peer, step, frame)

    def answer_here(self) -> None:
        self.device.answer()
        self.mailbox.drain()

    def answer_there(self, code: Code = Code.OK) -> None:
        outcome = Outcome(self.uplink.sent[-1], code, "", self.clock.now_s(), "exit1", {"answer1": ANSWER})
        self.uplink.outcomes.append(outcome)
        self.pilot.take_outcomes()

    def actions(self, count: int) -> list[str]:
        """Report `count` windows by ticking on, and return what they were for."""
        while len(self.reports) < count:
            self.tick()
        return [report.action for report in self.reports[:count]]


@pytest.fixture
def drive() -> Drive:
    return Drive()


def test_an_answer_from_here_makes_a_proposal_and_costs_a_local_run() -> None:
    drive = Drive("local")
    drive.tick()
    assert drive.proposals == []
    drive.answer_here()
    assert len(drive.proposals) == 1
    drive.actions(1)
    report = drive.reports[0]
    assert (report.action, report.place, report.exit_id) == ("local", "local", "exit1")
    assert report.energy_mj == pytest.approx(113.48)
    share = (56_448_000 + 618_272) / sum(segment.macs for segment in PACKAGE.segments)
    assert report.energy_exit_scaled_mj == pytest.approx(113.48 * share)


def test_every_window_proposes_once_anything_was_answered(drive: Drive) -> None:
    drive.tick()
    drive.answer_there()
    before = len(drive.proposals)
    drive.tick()
    drive.tick()
    assert len(drive.proposals) == before + 2


def test_an_interval_offloads_once_then_idles_at_the_radio_s_cost(drive: Drive) -> None:
    drive.tick(deadline_s=0.1)
    drive.answer_there()
    drive.actions(5)
    assert [report.action for report in drive.reports[:5]] == ["offload", "idle", "idle", "idle", "idle"]
    sending_mj = load_radio("wifi").up_w(SENT.rate_bps) * SENT.duration_s * 1e3
    assert [report.energy_mj for report in drive.reports[:5]] == pytest.approx([sending_mj, 0.0, 0.0, 0.0, 0.0])
    assert (drive.reports[0].place, drive.reports[0].exit_id) == ("edge", "exit1")


def test_without_a_reply_the_last_window_runs_here_and_the_request_is_given_up(
    drive: Drive, caplog: pytest.LogCaptureFixture
) -> None:
    drive.tick(deadline_s=0.06)
    drive.tick()
    drive.tick()
    assert drive.uplink.cancelled == drive.uplink.sent
    assert "no answer: given up, the tolerable deadline leaves" in caplog.text
    assert len(drive.device.waiting) == 1
    assert drive.actions(3) == ["offload", "transit", "failsafe_local"]


def test_a_deadline_that_shrinks_while_a_request_is_out_gives_it_up(drive: Drive) -> None:
    drive.tick(deadline_s=0.2)
    drive.tick(deadline_s=0.2)
    assert drive.uplink.cancelled == []
    drive.tick(deadline_s=0.03)
    assert drive.uplink.cancelled == drive.uplink.sent * 2
    assert drive.actions(3) == ["offload", "transit", "failsafe_local"]


def test_a_deadline_that_shrinks_while_idle_brings_a_run_here(drive: Drive) -> None:
    drive.tick(deadline_s=0.2)
    drive.answer_there()
    drive.tick(deadline_s=0.2)
    drive.tick(deadline_s=0.01)
    assert drive.actions(3) == ["offload", "idle", "local"]
    assert "shrank" in drive.reports[2].reason


def test_a_request_known_to_have_failed_runs_here_in_the_next_window(drive: Drive) -> None:
    drive.tick(deadline_s=0.2)
    drive.answer_there(Code.UNAVAILABLE)
    drive.tick(deadline_s=0.2)
    assert drive.actions(2) == ["offload", "failsafe_local"]
    assert "UNAVAILABLE" in drive.reports[0].reason


def test_an_answer_to_an_older_frame_than_the_last_is_not_used(drive: Drive) -> None:
    drive.tick(deadline_s=0.06)
    drive.tick()
    drive.tick()
    drive.answer_here()
    proposals = len(drive.proposals)
    drive.answer_there()
    assert len(drive.proposals) == proposals


def test_a_run_that_gets_no_answer_says_why(drive: Drive) -> None:
    drive.tick(deadline_s=0.0)
    drive.device.refuse()
    drive.mailbox.drain()
    drive.actions(1)
    assert drive.reports[0].reason == "RESOURCE_EXHAUSTED: no time left"
    assert drive.proposals == []


def test_one_daemon_drives_one_vehicle_until_it_is_silent(drive: Drive) -> None:
    drive.tick()
    with pytest.raises(MessageError, match="one daemon drives one vehicle"):
        drive.tick(peer=b"other")
    drive.clock.advance(1.5)
    drive.tick(peer=b"other")


@pytest.mark.parametrize(
    ("frame", "x_m", "message"),
    [
        (FRAME[:40], 0.0, "does not fit the model 'driving'"),
        (FRAME.astype(np.float32), 0.0, "must be uint8"),
        (FRAME, float("nan"), "every value must be finite"),
    ],
    ids=["shape", "dtype", "odometry"],
)
def test_a_step_that_cannot_be_used_is_refused(drive: Drive, frame: Any, x_m: float, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        drive.tick(frame=frame, x_m=x_m)


def test_windows_that_the_vehicle_skipped_count_as_passed(drive: Drive) -> None:
    drive.tick(deadline_s=0.2)
    drive._ticks += 30
    drive.tick(deadline_s=0.2)
    drive.actions(2)
    assert [report.window for report in drive.reports[:2]] == [0, 31]
    assert drive.reports[1].action == "failsafe_local"
