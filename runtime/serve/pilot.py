"""One vehicle's windows: each 20 ms, decide where the perception runs, and propose a control from what it last said.

A step brings odometry and a camera frame. The window's policy says what the window is for: run the model here, send
the frame to the edge server, wait for its reply, or do nothing. Whatever answers last, from wherever, feeds the
controller; between answers the controller goes by odometry, so that every window proposes a control.

The tolerable deadline is the guard's, counted down since its stamp. It belongs to one held control: each tick of the
guard issues it anew, and a request that is out is given up, or an idle interval cut short, as soon as what is left no
longer covers another window.

Everything happens on the daemon's socket thread: replies of workers and of the edge client are handed to it.
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from devices.clock import Clock, MonotonicClock
from devices.errors import InputError
from devices.package import Package
from devices.tensor import Array, check_finite, check_inputs
from offload.client import Handle, Outcome, payload_bits
from offload.energy import sending_j
from offload.link import WINDOW_S
from offload.policy import Action
from offload.throttle import Throttle
from offload.wire import Code
from runtime.errors import MessageError
from runtime.execute.executor import Executor
from runtime.execute.request import Reply, Request, Status
from runtime.serve.api.messages import Step, WindowReport
from runtime.serve.controller import Controller, ControllerSettings
from runtime.serve.guard_messages import Report
from runtime.serve.mailbox import Mailbox
from runtime.serve.uplink import Offloading
from shield.guard import Reason
from shield.state import State

_log = logging.getLogger("headway.daemon")
_VEHICLE_SILENT_S = 1.0
_NS = 1e-9
_GUARD_CONTENT = {str(Reason.PROPOSAL_CERTIFIED), str(Reason.PROPOSAL_FILTERED), str(Reason.START_AT_REST)}


@dataclass(slots=True)
class _Window:
    """One window until it is reported: what it was for, what answered in it, what it cost."""

    index: int
    action: Action
    deadline_s: float
    reason: str = ""
    exit_id: str | None = None
    place: str | None = None
    latency_s: float | None = None
    local_share: float | None = None
    radio_j: float = 0.0


@dataclass(slots=True)
class _Request:
    """A frame that is out at the edge server."""

    handle: Handle
    window: int
    charged: int = 0


@dataclass(slots=True)
class _Vehicle:
    """The vehicle that this daemon drives: who it is, and where it was when each frame was taken."""

    peer: bytes
    first_s: float
    seen_s: float
    poses: dict[int, tuple[State, float]] = field(default_factory=dict)


class Pilot:
    """Drives one vehicle's windows.

    Args:
        package: The perception model; its first input takes the camera's frame.
        executor: Runs it here.
        mailbox: Through which the executor's replies come back to this thread.
        aims: What the controller aims for, which turns answers and odometry into a control.
        offloading: Policy, link and edge client.
        propose: Hands a control to the guard: stamp [ns], slip angle [rad], speed [m/s].
        clock: The clock of the stamps; monotonic unless given.
        watch: Takes each request run here and its reply.
    """

    def __init__(
        self,
        package: Package,
        executor: Executor,
        mailbox: Mailbox,
        aims: ControllerSettings,
        offloading: Offloading,
        propose: Callable[[int, float, float], None],
        clock: Clock | None = None,
        watch: Callable[[Request, Reply], None] | None = None,
    ) -> None:
        self._package = package
        self._input = package.inputs[0].name
        self._answers = {exit_.id: exit_.answer for exit_ in package.exits}
        self._macs = {segment.id: segment.macs for segment in package.segments}
        self._complaints = Throttle(_log, clock or MonotonicClock())
        self._executor = executor
        self._mailbox = mailbox
        self._aims = aims
        self._controller = Controller(aims)
        self._offloading = offloading
        self._propose = propose
        self._watch = watch
        self._clock = clock or MonotonicClock()
        self._vehicle: _Vehicle | None = None
        self._step: Step | None = None
        self._windows: deque[_Window] = deque()
        self._out: _Request | None = None
        self._deadline: tuple[float, float] = (0.0, 0.0)
        self._has_answer = False
        self._counts: Counter[str] = Counter()
        self._radio_j = self._local_j = 0.0
        self._guard_reason = ""
        self._guard_reasons: Counter[str] = Counter()
        self._guard_complaints = Throttle(_log, clock or MonotonicClock())

    def hear(self, report: Report) -> None:
        """Take in the guard's tick: the tolerable deadline of the control in force."""
        self._deadline = (report.stamp_ns * _NS, report.deadline_s)
        before, self._guard_reason = self._guard_reason, report.reason
        self._guard_reasons[report.reason] += 1
        if report.reason not in _GUARD_CONTENT and report.reason != before:
            text = f"the guard goes on by itself, {report.mode}: {report.reason}"
            self._guard_complaints.warn(text, kind=report.reason, code="fail_safe")

    def step(self, peer: bytes, step: Step, frame: Array) -> list[WindowReport]:
        """Open the window of this tick, propose a control, and return the windows that are complete.

        Raises:
            MessageError: another vehicle is driven at present, or the frame does not fit the model.
        """
        batch = frame[None] if frame.ndim == 3 else frame
        self._check(step, batch)
        now_s = self._clock.now_s()
        vehicle = self._admit(peer, step, now_s)
        pose = State(step.x_m, step.y_m, step.heading_rad)
        self._step = step
        self._propose_control()
        index = self._open_window(vehicle, step, pose, batch, now_s)
        return self._complete_before(index - 1)

    def take_outcomes(self) -> None:
        """Take in what the edge client has to say; call when its descriptor is readable."""
        for outcome in self._offloading.take():
            self._on_outcome(outcome)

    def status(self) -> dict[str, Any]:
        """Return what `headway status` tells of windows and edge server."""
        return {
            "policy": self._offloading.name,
            "windows": dict(self._counts),
            "energy_j": {"local": self._local_j, "radio": self._radio_j},
            "edge": self._offloading.status(),
            "guard_reasons": dict(self._guard_reasons),
        }

    def _check(self, step: Step, batch: Array) -> None:
        numbers = (step.x_m, step.y_m, step.heading_rad, step.beta_rad, step.speed_mps or 0.0)
        if not all(map(math.isfinite, numbers)):
            raise MessageError(f"the step's odometry is {numbers}: every value must be finite")
        try:
            check_inputs(self._package.inputs, {self._input: batch})
        except InputError as error:
            raise MessageError(f"the step's frame does not fit the model {self._package.name!r}: {error}") from error

    def _admit(self, peer: bytes, step: Step, now_s: float) -> _Vehicle:
        stamp_s = step.stamp_ns * _NS
        vehicle = self._vehicle
        if vehicle is None or (vehicle.peer != peer and now_s - vehicle.seen_s > _VEHICLE_SILENT_S):
            vehicle = self._vehicle = _Vehicle(peer, stamp_s, now_s)
            self._offloading.begin()
            self._controller = Controller(self._aims)
            self._windows.clear()
            self._has_answer = False
        elif vehicle.peer != peer:
            raise MessageError("this daemon drives another vehicle at present: one daemon drives one vehicle")
        vehicle.seen_s = now_s
        return vehicle

    def _open_window(self, vehicle: _Vehicle, step: Step, pose: State, frame: Array, now_s: float) -> int:
        stamp_s = step.stamp_ns * _NS
        last = self._windows[-1].index if self._windows else -1
        index = max(last + 1, round((stamp_s - vehicle.first_s) / WINDOW_S))
        vehicle.poses[index] = (pose, stamp_s)
        vehicle.poses.pop(index - 64, None)
        self._charge_radio(now_s)
        left_s = self._deadline[0] + self._deadline[1] - now_s
        self._give_up_in_time(index, left_s)
        action = self._offloading.begin_window(index, left_s, now_s, payload_bits({self._input: frame}))
        reason = ""
        if action is Action.IDLE and left_s < WINDOW_S:
            action, reason = Action.LOCAL, "the tolerable deadline shrank while idle"
        window = _Window(index, action, left_s, reason)
        self._windows.append(window)
        self._counts[action] += 1
        if action in (Action.LOCAL, Action.FAILSAFE_LOCAL):
            self._run_here(window, frame, now_s)
        elif action is Action.OFFLOAD:
            deadline_s = now_s + self._offloading.wait_s(left_s)
            self._out = _Request(self._offloading.submit(self._package.name, {self._input: frame}, deadline_s), index)
        return index

    def _give_up_in_time(self, index: int, left_s: float) -> None:
        """Cancel the request that is out when the deadline, issued anew, leaves this window and a local run alone."""
        if self._out is not None and left_s < 2.0 * WINDOW_S and self._offloading.failed(index):
            self._give_up(self._out, left_s)

    def _give_up(self, out: _Request, left_s: float) -> None:
        text = f"no answer: given up, the tolerable deadline leaves {left_s:.3f} s"
        self._complaints.warn(text, kind="given up", code="given_up")
        self._offloading.cancel(out.handle)

    def _run_here(self, window: _Window, frame: Array, now_s: float) -> None:
        if self._out is not None:
            self._give_up(self._out, window.deadline_s)
        window.local_share = 1.0
        request = Request(
            id=("pilot", window.index),
            model=self._package.name,
            inputs={self._input: frame},
            deadline_ns=round((now_s + WINDOW_S) / _NS),
            here=True,  # whether a frame is sent is the policy's choice, not a plan's
        )
        self._executor.submit(
            request, lambda reply: self._mailbox.put(partial(self._on_local, window, now_s, request, reply))
        )

    def _on_local(self, window: _Window, began_s: float, request: Request, reply: Reply) -> None:
        if self._watch is not None:
            self._watch(request, reply)
        if reply.status is not Status.OK or reply.exit_id is None:
            window.reason = f"{reply.status}: {reply.message}"
            return
        ran = {part.segment_id for part in reply.segments}
        window.local_share = sum(self._macs[name] for name in ran) / max(1, sum(self._macs.values()))
        self._answered(window, window.index, reply.exit_id, reply.outputs[self._answers[reply.exit_id]], "local")
        window.latency_s = self._clock.now_s() - began_s

    def _on_outcome(self, outcome: Outcome) -> None:
        out = self._out
        if out is None or outcome.handle is not out.handle or not self._windows:
            return
        window = self._windows[-1]
        self._charge_radio(outcome.ended_s)
        self._out = None
        reason = f"{outcome.code}: {outcome.message}"
        if outcome.code is Code.OK:
            reason = self._why_unusable(outcome)
            if reason:
                self._offloading.unusable()
        if reason or outcome.exit_id is None:
            window.reason = window.reason or reason
            self._offloading.failed(window.index)
            return
        if not self._offloading.reply(window.index):
            return
        answer = outcome.outputs[self._answers[outcome.exit_id]]
        self._answered(window, out.window, outcome.exit_id, answer, "edge")
        window.latency_s = outcome.latency_s

    def _why_unusable(self, outcome: Outcome) -> str:
        """Return what is wrong with an edge server's answer, "" where nothing is: a server may be another's, or lie."""
        if outcome.exit_id is None or outcome.exit_id not in self._answers:
            self._complaints.warn(f"{outcome.endpoint} answered by exit {outcome.exit_id!r}, which the model lacks")
            return f"INVALID: there is no exit {outcome.exit_id!r}"
        name = self._answers[outcome.exit_id]
        given = {name: outcome.outputs[name]} if name in outcome.outputs else {}
        try:
            check_inputs([self._package.tensors[name]], given)
            check_finite(given)
        except InputError as error:
            self._complaints.warn(f"{outcome.endpoint} answered with a wrong shape, type or value: {error}")
            return f"INVALID: the answer does not fit: {error}"
        return ""

    def _answered(self, window: _Window, of: int, exit_id: str, answer: Array, place: str) -> None:
        """Note that `window` saw the answer to the frame of window `of`, and propose anew from it."""
        window.exit_id, window.place = exit_id, place
        if self._vehicle is None or of not in self._vehicle.poses:
            return
        pose, stamp_s = self._vehicle.poses[of]
        if self._controller.update_answer(answer.reshape(-1).tolist(), pose, stamp_s):
            self._has_answer = True
            self._propose_control()

    def _propose_control(self) -> None:
        step = self._step
        if step is None or not self._has_answer:
            return
        now_s = self._clock.now_s()
        pose = State(step.x_m, step.y_m, step.heading_rad)
        beta_rad, speed_mps = self._controller.propose(pose, step.speed_mps or 0.0, now_s)
        self._propose(step.stamp_ns, beta_rad, speed_mps)

    def _charge_radio(self, now_s: float) -> None:
        """Charge the newest window with the airtime that the request out has begun and nobody was charged for."""
        out = self._out
        if out is None or out.handle.transmission is None or not self._windows:
            return
        for airtime in out.handle.transmission.airtimes[out.charged :]:
            if airtime.start_s < now_s:
                self._windows[-1].radio_j += sending_j(self._offloading.radio, airtime)
                out.charged += 1

    def _complete_before(self, index: int) -> list[WindowReport]:
        """Return the reports of windows before `index`: by then their runs have met their deadlines."""
        complete = []
        while self._windows and self._windows[0].index < index:
            complete.append(self._report(self._windows.popleft()))
        return complete

    def _report(self, window: _Window) -> WindowReport:
        local_mj = 1e3 * self._offloading.local_energy_j
        radio_mj = 1e3 * window.radio_j
        self._radio_j += window.radio_j
        self._local_j += 0.0 if window.local_share is None else 1e-3 * local_mj
        return WindowReport(
            window=window.index,
            action=window.action,
            exit_id=window.exit_id,
            place=window.place,
            energy_mj=radio_mj + (0.0 if window.local_share is None else local_mj),
            energy_exit_scaled_mj=radio_mj + (window.local_share or 0.0) * local_mj,
            deadline_s=window.deadline_s,
            latency_s=window.latency_s,
            reason=window.reason,
        )
