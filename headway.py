"""Client of a Headway daemon and its guard: one file on numpy, pyzmq and msgpack, Python 3.9 and later.

Ask a model::

    with headway.Client("/run/user/1000/headway.sock") as client:
        answer = client.infer("driving", {"frame": frame}, deadline_s=0.03)
        answer.outputs["answer"], answer.exit_id, answer.time_left_s

Drive a vehicle, one call a tick::

    with headway.Session("/run/user/1000/headway.sock", "/run/user/1000/headway-guard.sock") as session:
        while True:
            applied = session.step(pose, obstacles, frame)
            vehicle.steer(applied.control.beta_rad)

`step` never raises because a process is gone: the applier keeps the last certified control with the time until which
it may be held, and the backup manoeuvre that takes over after it.

Errors::

    HeadwayError
    ├── UnavailableError  nobody answers at the socket
    ├── NoAnswerError     the answer did not come in the time given
    └── RequestError      the daemon refused the request; `code` says how, the text says why

Units: metres, radians counter-clockwise, seconds; stamps are CLOCK_MONOTONIC, since both ends are one host.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import msgpack
import numpy as np
import zmq

__all__ = [
    "Answer",
    "Applied",
    "Applier",
    "Client",
    "Control",
    "Decision",
    "HeadwayError",
    "NoAnswerError",
    "Obstacle",
    "Pose",
    "RequestError",
    "Session",
    "UnavailableError",
    "Window",
]

CLOCK_GRAIN_S = 1e-6
"""Times closer than this are one time; what the guard certifies covers it."""

_DTYPES = {
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
}


class HeadwayError(Exception):
    """Base of every error of this client."""


class UnavailableError(HeadwayError):
    """Nobody answers at the socket."""


class NoAnswerError(HeadwayError):
    """The answer did not come in the time given."""


class RequestError(HeadwayError):
    """The daemon refused a request; `code` is one of the codes in docs/api.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__("%s: %s" % (code, message))
        self.code = code


@dataclass(frozen=True)
class Pose:
    """Where the vehicle is [m, rad], the slip angle it holds [rad] and its speed [m/s] (None: not measured)."""

    x_m: float
    y_m: float
    heading_rad: float
    beta_rad: float = 0.0
    speed_mps: Optional[float] = None


@dataclass(frozen=True)
class Obstacle:
    """A round obstacle: centre [m], radius [m], top speed [m/s]."""

    x_m: float
    y_m: float
    radius_m: float
    speed_max_mps: float = 0.0


@dataclass(frozen=True)
class Control:
    """What the vehicle does: hold this slip angle [rad], drive at this speed [m/s], or brake until it stands."""

    beta_rad: float
    speed_mps: float
    brake: bool = False


@dataclass(frozen=True)
class Decision:
    """One decision of the guard; see docs/api.md for every field."""

    id: int
    stamp_s: float
    mode: str
    reason: str
    control: Control
    apply_by_s: float
    hold_until_s: float
    backup: Optional[Control]
    backup_manoeuvre: Optional[str]
    deadline_s: float
    barrier_deadline_s: Optional[float]
    limited_by: str
    intervened: bool
    proposed_beta_rad: Optional[float]
    shortfall_s: float
    switch_time_s: float


@dataclass(frozen=True)
class Applied:
    """What is in force at one instant.

    `source` is "held", "backup" or "none"; `certified` is False only when nothing certified covers the instant: the
    applier then brakes, which is the best that is left.
    """

    control: Control
    source: str
    certified: bool
    decision_id: int


@dataclass(frozen=True)
class Window:
    """What the daemon did in one 20 ms window, and what it cost."""

    window: int
    action: str
    exit_id: Optional[str]
    place: Optional[str]
    energy_mj: float
    energy_exit_scaled_mj: float
    deadline_s: Optional[float]
    latency_s: Optional[float]
    reason: str


class Applier:
    """Keeps (control, hold-until, backup) and switches by itself; no clock of its own, no input but decisions.

    Before `hold_until_s` the control of the last accepted decision is in effect, from then on its backup, whether the
    guard answers or not. Every time passed in is the time at which a control takes effect at the vehicle.

    Args:
        at_rest: Whether the vehicle is known to stand until the first decision; standing needs no certificate.
    """

    def __init__(self, at_rest: bool = True) -> None:
        self._at_rest = at_rest
        self._decision: Any = None
        self._in_force: Any = None
        self._hold_until_s = math.inf
        self._switched = False
        self._overdue = False
        self.refused = 0

    @property
    def decision(self) -> Optional[Decision]:
        """The last decision accepted, None before the first."""
        decision: Optional[Decision] = self._decision
        return decision

    @property
    def applied_id(self) -> int:
        """Its id, 0 before the first: what the next observation reports."""
        return 0 if self._decision is None else int(self._decision.id)

    @property
    def hold_until_s(self) -> float:
        """When the stored backup takes over by itself [s]."""
        return self._hold_until_s

    def accept(self, decision: Any, effect_s: float) -> bool:
        """Store `decision`, a Decision or its like, if it may take effect at `effect_s` [s]; else keep what is stored.

        Refused are: one that would take effect after its `apply_by_s`; one not newer than the last accepted; one with a
        value that is not a number. A decision of mode "backup" starts the stored backup, whatever backup it names,
        because only that one fits the arc the vehicle is on.
        """
        if decision.id <= self.applied_id:
            return False
        if not effect_s <= decision.apply_by_s + CLOCK_GRAIN_S:
            self.refused += 1
            return False
        if decision.mode == "backup":
            self._decision = decision
            self._hold_until_s = min(self._hold_until_s, effect_s)
            return True
        if not _whole(decision):
            self.refused += 1
            return False
        self._decision = self._in_force = decision
        self._hold_until_s = decision.hold_until_s
        self._switched = self._overdue = False
        return True

    def control_at(self, time_s: float) -> Applied:
        """Return the control in effect at `time_s` [s]; ask in the order of time, once for each control applied.

        A backup is certified to start no later than the decision's `switch_time_s` after `hold_until_s`. Where the
        first question after that comes later still, the vehicle side itself was stalled with the old control in
        effect, and what follows is not certified until the next decision.
        """
        pair = self._in_force
        if pair is None or pair.backup is None:
            return Applied(Control(0.0, 0.0, True), "none", self._at_rest, self.applied_id)
        if time_s < self._hold_until_s:
            return Applied(pair.control, "held", not self._overdue, self.applied_id)
        if not self._switched:
            latest_s = self._hold_until_s + pair.switch_time_s + CLOCK_GRAIN_S
            self._switched, self._overdue = True, not time_s <= latest_s
        return Applied(pair.backup, "backup", not self._overdue, self.applied_id)


def _whole(decision: Any) -> bool:
    if decision.backup is None or math.isnan(decision.hold_until_s):
        return False
    numbers = (
        decision.control.beta_rad,
        decision.control.speed_mps,
        decision.backup.beta_rad,
        decision.backup.speed_mps,
    )
    return all(map(math.isfinite, numbers))


@dataclass(frozen=True)
class Answer:
    """A model's answer.

    Args:
        outputs: Tensors by name.
        exit_id: The exit that answered; `confidence` is its own estimate, in 0..1; None if it makes none, as the last.
        status: "OK".
        parts: Each segment's name, device, start and duration [s], in the order in which they ran.
        time_left_s: Time left until the deadline when the answer was made; None without a deadline.
    """

    outputs: Dict[str, np.ndarray]
    exit_id: str
    confidence: Optional[float]
    status: str
    parts: List[Dict[str, Any]] = field(default_factory=list)
    time_left_s: Optional[float] = None


class _Channel:
    """One DEALER to one unix socket: maps out, maps and tensor frames in."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Union[str, "os.PathLike[str]"]) -> None:
        self.path = os.fspath(path)
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 64)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        self.socket.connect("ipc://" + self.path)

    def send(self, message: Mapping[str, Any], tensors: Sequence[np.ndarray] = ()) -> bool:
        """Send without waiting; False when nobody is there to take it."""
        frames: List[Any] = [msgpack.packb(message)]
        frames += [np.ascontiguousarray(tensor).data.cast("B") if tensor.size else b"" for tensor in tensors]
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK, copy=not tensors)
        except zmq.Again:
            return False
        return True

    def receive(self) -> Optional[Tuple[Dict[str, Any], List[Any]]]:
        """Return the next message that is already here, None when there is none."""
        try:
            parts = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        return msgpack.unpackb(parts[0].buffer), parts[1:]

    def close(self) -> None:
        self.socket.close()


def _describe(tensors: Mapping[str, np.ndarray]) -> List[Dict[str, Any]]:
    described = []
    for name, tensor in tensors.items():
        if tensor.dtype.name not in _DTYPES:
            raise TypeError("tensor %r has dtype %s: use one of %s" % (name, tensor.dtype, ", ".join(sorted(_DTYPES))))
        described.append({"name": name, "dtype": tensor.dtype.name, "shape": list(tensor.shape)})
    return described


def _tensors(specs: Sequence[Mapping[str, Any]], frames: Sequence[Any]) -> Dict[str, np.ndarray]:
    return {
        spec["name"]: np.frombuffer(frame.buffer, dtype=spec["dtype"]).reshape(spec["shape"])
        for spec, frame in zip(specs, frames)  # noqa: B905 - strict= came with Python 3.10
    }


class Client:
    """Blocking calls to a daemon: infer, models, status. One thread at a time.

    Args:
        path: The daemon's unix socket.
        timeout_s: How long a call waits for its answer [s].
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"], timeout_s: float = 5.0) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._channel = _Channel(self._context, path)
        self._timeout_s = timeout_s
        self._ids = itertools.count(1)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._channel.close()
        self._context.term()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        deadline_s: Optional[float] = None,
        priority: int = 0,
        least_exit: Optional[str] = None,
        timeout_s: Optional[float] = None,
    ) -> Answer:
        """Return the best answer that `model` has when `deadline_s` [s] from now has passed.

        Args:
            model: A name that `models` lists.
            inputs: Tensors by name; shapes and dtypes as `models` tells.
            deadline_s: Time allowed [s]; None: as long as it takes.
            priority: 1 is highest; 0 means the default.
            least_exit: The shallowest exit whose answer is of use.
        Raises:
            RequestError: DEADLINE_EXCEEDED, CANCELLED, RESOURCE_EXHAUSTED, UNAVAILABLE or INVALID, with the reason.
            NoAnswerError: no answer in `timeout_s`.
            UnavailableError: nobody listens at the socket.
        """
        message: Dict[str, Any] = {
            "kind": "infer/1",
            "model": model,
            "deadline_us": None if deadline_s is None else int(deadline_s * 1e6),
            "sent_ns": time.monotonic_ns(),
            "priority": priority,
            "least_exit": least_exit,
            "tensors": _describe(inputs),
        }
        reply, frames = self._call(message, list(inputs.values()), timeout_s)
        time_left_us = reply["time_left_us"]
        return Answer(
            outputs=_tensors(reply["tensors"], frames),
            exit_id=reply["exit_id"],
            confidence=reply["confidence"],
            status=reply["status"],
            parts=reply["parts"],
            time_left_s=None if time_left_us is None else time_left_us * 1e-6,
        )

    def models(self) -> List[Dict[str, Any]]:
        """Return the models the daemon serves: name, version, inputs, outputs, exits."""
        models: List[Dict[str, Any]] = self._call({"kind": "models/1"}, [], None)[0]["models"]
        return models

    def status(self) -> Dict[str, Any]:
        """Return how the daemon, its guard and its edge server fare."""
        status: Dict[str, Any] = self._call({"kind": "status/1"}, [], None)[0]["status"]
        return status

    def _call(
        self, message: Dict[str, Any], tensors: Sequence[np.ndarray], timeout_s: Optional[float]
    ) -> Tuple[Dict[str, Any], List[Any]]:
        until = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        number = next(self._ids)
        message["id"] = number
        self._wait(
            zmq.POLLOUT, until, UnavailableError("nobody listens at %s: is the daemon running?" % self._channel.path)
        )
        self._channel.send(message, tensors)
        while True:
            self._wait(zmq.POLLIN, until, NoAnswerError("no answer from %s in time" % self._channel.path))
            received = self._channel.receive()
            if received is None or received[0].get("id") != number:
                continue
            reply = received[0]
            if reply["kind"] == "error/1":
                raise RequestError(reply["code"], reply["error"])
            return received

    def _wait(self, event: int, until: float, otherwise: HeadwayError) -> None:
        left_ms = max(0, int((until - time.monotonic()) * 1e3))
        if not self._channel.socket.poll(left_ms, event):
            raise otherwise


class Session:
    """A vehicle's side of the daemon and the guard: observations out, certified controls in.

    Args:
        daemon: The daemon's unix socket; None drives with the guard alone.
        guard: The guard's unix socket.
        applier: Kept across sessions where one must outlive another.
        patience_s: How long to wait for the sockets to be there [s]; a session opens without them all the same.
    """

    def __init__(
        self,
        daemon: Optional[Union[str, "os.PathLike[str]"]],
        guard: Union[str, "os.PathLike[str]"],
        applier: Optional[Applier] = None,
        patience_s: float = 1.0,
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._guard = _Channel(self._context, guard)
        self._daemon = None if daemon is None else _Channel(self._context, daemon)
        self._poller = zmq.Poller()
        self._poller.register(self._guard.socket, zmq.POLLIN)
        if self._daemon is not None:
            self._poller.register(self._daemon.socket, zmq.POLLIN)
        self.applier = applier or Applier()
        self.windows: Deque[Window] = deque(maxlen=4096)
        self.decisions: Deque[Decision] = deque(maxlen=4096)
        self.refusals: Deque[str] = deque(maxlen=64)
        until_s = time.monotonic() + patience_s
        for channel in filter(None, (self._guard, self._daemon)):
            channel.socket.poll(max(0, int((until_s - time.monotonic()) * 1e3)), zmq.POLLOUT)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the sockets back; the applier lives on."""
        self._guard.close()
        if self._daemon is not None:
            self._daemon.close()
        self._context.term()

    def step(
        self,
        pose: Pose,
        obstacles: Iterable[Obstacle],
        frame: Optional[np.ndarray] = None,
        wait_s: float = 0.01,
    ) -> Applied:
        """Report one tick and return the control to apply now.

        Args:
            pose: Measured pose, held slip angle and speed.
            obstacles: Everything the sensors see, each a disc.
            frame: The camera's frame (80, 160, 3) uint8, where there is a new one.
            wait_s: How long to wait for the guard's decision [s]; without one the stored pair stays in force.
        """
        stamp_s = time.monotonic()
        self.report(pose, obstacles, frame, stamp_s)
        self.listen(stamp_s + wait_s, stop_at_decision=True)
        return self.applier.control_at(time.monotonic())

    def report(self, pose: Pose, obstacles: Iterable[Obstacle], frame: Optional[np.ndarray], stamp_s: float) -> None:
        """Send one tick to the guard and, with its frame, to the daemon; never waits."""
        stamp_ns = int(stamp_s * 1e9)
        where = {
            "stamp_ns": stamp_ns,
            "x_m": pose.x_m,
            "y_m": pose.y_m,
            "heading_rad": pose.heading_rad,
            "beta_rad": pose.beta_rad,
            "speed_mps": pose.speed_mps,
        }
        discs = [(o.x_m, o.y_m, o.radius_m, o.speed_max_mps) for o in obstacles]
        self._guard.send(dict(where, kind="observe/1", obstacles=discs, applied_id=self.applier.applied_id))
        if self._daemon is not None:
            tensors = {} if frame is None else {"frame": frame}
            message = dict(where, kind="step/1", tensors=_describe(tensors))
            self._daemon.send(message, list(tensors.values()))

    def listen(self, until_s: float, effect_s: Optional[float] = None, stop_at_decision: bool = False) -> None:
        """Take in what arrives until `until_s` [s].

        Args:
            effect_s: When a control taken now takes effect at the vehicle [s]; None: at once.
            stop_at_decision: Return as soon as the guard has decided.
        """
        while True:
            left_ms = max(0, int((until_s - time.monotonic()) * 1e3))
            ready = dict(self._poller.poll(left_ms))
            if self._daemon is not None and self._daemon.socket in ready:
                self._take_windows(self._daemon)
            if self._guard.socket in ready and self._take_decisions(effect_s) and stop_at_decision:
                return
            if time.monotonic() >= until_s:
                return

    def _take_decisions(self, effect_s: Optional[float]) -> bool:
        taken = False
        received = self._guard.receive()
        while received is not None:
            message = received[0]
            if message["kind"] == "decision/1":
                decision = _decision(message)
                self.applier.accept(decision, time.monotonic() if effect_s is None else effect_s)
                self.decisions.append(decision)
                taken = True
            elif message["kind"] == "refused/1":
                self.refusals.append(message["error"])
            received = self._guard.receive()
        return taken

    def _take_windows(self, daemon: _Channel) -> None:
        received = daemon.receive()
        while received is not None:
            message = received[0]
            if message["kind"] == "window/1":
                self.windows.append(_window(message))
            elif message["kind"] == "error/1":
                self.refusals.append(message["error"])
            received = daemon.receive()


def _decision(message: Mapping[str, Any]) -> Decision:
    backup = message["backup"]
    return Decision(
        id=message["id"],
        stamp_s=_seconds(message["stamp_ns"]),
        mode=message["mode"],
        reason=message["reason"],
        control=Control(message["beta_rad"], message["speed_mps"], message["brake"]),
        apply_by_s=_seconds(message["apply_by_ns"]),
        hold_until_s=_seconds(message["hold_until_ns"]),
        backup=None if backup is None else Control(*backup),
        backup_manoeuvre=message["backup_manoeuvre"],
        deadline_s=message["deadline_s"],
        barrier_deadline_s=message["barrier_deadline_s"],
        limited_by=message["limited_by"],
        intervened=message["intervened"],
        proposed_beta_rad=message["proposed_beta_rad"],
        shortfall_s=message["shortfall_s"],
        switch_time_s=message["switch_time_s"],
    )


def _seconds(time_ns: Optional[int]) -> float:
    """Return a time of the wire [s]; None stands for no limit."""
    return math.inf if time_ns is None else time_ns * 1e-9


def _window(message: Mapping[str, Any]) -> Window:
    return Window(**{name: message[name] for name in Window.__dataclass_fields__})
