"""Client of a Headway daemon and its guard: one file on numpy, pyzmq and msgpack, Python 3.9 and later.

Ask a model (`AsyncClient` is the same for asyncio)::

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

import asyncio
import itertools
import math
import mmap
import os
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import (
    Any,
    AsyncIterator,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import msgpack
import numpy as np
import zmq

__all__ = [
    "Admitted",
    "Answer",
    "Applied",
    "Applier",
    "AsyncClient",
    "Client",
    "Control",
    "Decision",
    "Event",
    "HeadwayError",
    "NoAnswerError",
    "Obstacle",
    "Pose",
    "RequestError",
    "Session",
    "Tolerable",
    "UnavailableError",
    "Window",
]

CLOCK_GRAIN_S = 1e-6
"""Times closer than this are one time; what the guard certifies covers it."""

_NAMES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DTYPES = {np.dtype(name).newbyteorder("<"): name for name in (*_NAMES, "float16", "float32", "float64")}
_SHARED_FROM_BYTES = 65536
_MOST_TENSOR_BYTES = 1 << 25  # docs/api.md; of what is far above it the daemon never hears
_LEAST_SHARED_BYTES = 1 << 23
_MOST_MEMORIES = 4
_MOST_HELD = 256
_ALIGNMENT = 64
_LEAST_ROOM = 4096
_SHARE_PATIENCE_S = 1.0
_RETRY_S = 0.01
_SPIN_S = 0.001
_NOBLOCK, _NOBLOCK_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)  # combining flags costs as much as sending
_COPY_BELOW_BYTES = 1 << 20  # for smaller frames a copy is quicker than telling when ours may be freed


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
        model, version: The model that answered.
    """

    outputs: Dict[str, np.ndarray]
    exit_id: str
    confidence: Optional[float]
    status: str
    parts: List[Dict[str, Any]] = field(default_factory=list)
    time_left_s: Optional[float] = None
    model: str = ""
    version: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened in the daemon; docs/api.md names the keys of each topic's data.

    Args:
        topic: guard, window, request, model, plan, bound, drift, edge, frame or decision.
        number: Counts all events of the daemon.
        at_s: When it happened, CLOCK_MONOTONIC [s].
        data: What happened.
        missed: Events before it that were lost because this client did not read.
    """

    topic: str
    number: int
    at_s: float
    data: Dict[str, Any]
    missed: int = 0


@dataclass(frozen=True)
class Tolerable:
    """How long a slip angle may be held [s], what limits that, and the manoeuvre that rescues at its end."""

    deadline_s: float
    limited_by: str
    manoeuvre: Optional[str]


@dataclass(frozen=True)
class Admitted:
    """The admissible slip angle nearest to the one asked for [rad]; None where there is none.

    `status` is nominal, filtered, infeasible, outside or invalid; `intervals` are the admissible slip angles [rad].
    """

    status: str
    beta_rad: Optional[float]
    limited_by: str
    intervals: List[Tuple[float, float]]


class _Channel:
    """One DEALER to one socket: maps out, maps and tensor frames in."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Union[str, "os.PathLike[str]"]) -> None:
        self.path = os.fspath(path)
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, 64)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        self.socket.setsockopt(zmq.IMMEDIATE, 1)
        try:
            self.socket.connect(self.path if "://" in self.path else "ipc://" + self.path)
        except zmq.ZMQError as error:
            context.destroy(0)
            raise UnavailableError(
                "cannot connect to %s: %s; give a path of at most 107 bytes, or tcp://HOST:PORT" % (self.path, error)
            ) from None

    def send(self, message: Mapping[str, Any], tensors: Sequence[np.ndarray] = ()) -> bool:
        """Send without waiting; False when nobody is there to take it."""
        header = msgpack.packb(message)
        try:
            if not tensors:
                self.socket.send(header, _NOBLOCK)
                return True
            self.socket.send(header, _NOBLOCK_MORE)
            last = len(tensors) - 1
            for number, tensor in enumerate(tensors):
                data = np.ascontiguousarray(tensor).data.cast("B") if tensor.size else b""
                flags = _NOBLOCK if number == last else _NOBLOCK_MORE
                self.socket.send(data, flags, copy=len(data) < _COPY_BELOW_BYTES)
        except zmq.Again:
            return False
        return True

    def receive(self, flags: int = int(zmq.NOBLOCK)) -> Optional[Tuple[Dict[str, Any], List[Any]]]:
        """Return the next message; None when there is none, by default at once."""
        try:
            frame = self.socket.recv(flags, copy=False)
        except zmq.Again:
            return None
        header, frames = frame, []
        while frame.more:
            frame = self.socket.recv(copy=False)
            frames.append(frame)
        return msgpack.unpackb(header.buffer), frames

    def close(self) -> None:
        self.socket.close()


_Reply = Tuple[Dict[str, Any], List[Any], List["_Lease"]]


class _Lease:
    """A piece of shared memory that arrays lie in; given back when the last of them is gone."""

    def __init__(self, memory: "_Memory", offset: int, size: int) -> None:
        self.memory = memory
        self.offset = offset
        self.size = size

    @property
    def __array_interface__(self) -> Dict[str, Any]:
        return {
            "version": 3,
            "typestr": "|u1",
            "shape": (self.size,),
            "data": (self.memory.address + self.offset, False),
        }

    def array(self, dtype: Any, shape: Sequence[int], offset: Optional[int] = None) -> np.ndarray:
        """Return an array that lies here, from `offset` of the segment on."""
        begin = 0 if offset is None else offset - self.offset
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if begin < 0 or begin + size > self.size:
            raise HeadwayError("the daemon names a place beyond the memory that it was given")
        found: np.ndarray = np.asarray(self)[begin : begin + size].view(kind).reshape(shape)
        return found

    def __del__(self) -> None:
        self.memory.given_back.append((self.offset, self.size))


class _Memory:
    """Memory shared with the daemon: a file without a name, sealed against shrinking; it ends with its connection."""

    def __init__(self, path: str, size: int) -> None:
        import ctypes
        import fcntl

        file = os.memfd_create("headway", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(file, size)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._connection.settimeout(_SHARE_PATIENCE_S)
            try:
                self._connection.connect(path + ".shm")
                hello = msgpack.packb({"kind": "share/1", "bytes": size})
                socket.send_fds(self._connection, [hello], [file])
                answer = msgpack.unpackb(self._connection.recv(4096))
            except BaseException:
                self._connection.close()
                raise
            self._mapped = mmap.mmap(file, size)
        finally:
            os.close(file)
        if answer["kind"] != "shared/1":
            self._connection.close()
            raise RequestError(answer["code"], answer["error"])
        self._connection.settimeout(None)
        self._waits_s = 0.0
        self.segment = int(answer["segment"])
        self.size = size
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapped))
        self.given_back: Deque[Tuple[int, int]] = deque()  # appended to wherever the last array happens to die
        self._free = [(0, size)]

    @property
    def alive(self) -> bool:
        """Whether the daemon still holds it."""
        try:
            self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def send(self, header: bytes) -> None:
        """Send a request by this connection; OSError where the daemon is gone."""
        self._connection.send(header, socket.MSG_NOSIGNAL)

    def receive(self, until_s: float, awake_s: float = 0.0) -> Optional[bytes]:
        """Return the next answer; nothing at the daemon's end, None at `until_s`; sleeps from `awake_s` on [s]."""
        while time.monotonic() < awake_s:
            try:
                return self._connection.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                os.sched_yield()
            except OSError:
                return b""
        left_s = max(0.001, until_s - time.monotonic())
        if not left_s <= self._waits_s <= 1.02 * left_s + 0.002:  # setting it each time would cost
            seconds, rest = divmod(left_s, 1.0)
            timeval = struct.pack("@ll", int(seconds), int(rest * 1e6))
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
            self._waits_s = left_s
        try:
            return self._connection.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def take(self, size: int) -> Optional[_Lease]:
        """Return a free piece of at least `size` bytes; None where there is none."""
        while self.given_back:
            self._free.append(self.given_back.popleft())
            self._merge()
        size = -(-size // _ALIGNMENT) * _ALIGNMENT
        for number, (offset, length) in enumerate(self._free):
            if length >= size:
                if length == size:
                    del self._free[number]
                else:
                    self._free[number] = (offset + size, length - size)
                return _Lease(self, offset, size)
        return None

    def _merge(self) -> None:
        if len(self._free) < 2:
            return
        merged: List[Tuple[int, int]] = []
        for offset, length in sorted(self._free):
            if merged and merged[-1][0] + merged[-1][1] == offset:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((offset, length))
        self._free = merged

    def close(self) -> None:
        """Let the daemon go; arrays that lie here stay valid."""
        self._connection.close()


class _Awake:
    """How long to look for an answer before sleeping: waking takes longer than what quick models take to answer.

    Costs a millisecond of processor time a request at most, and none where answers take longer or there is one core.
    """

    def __init__(self) -> None:
        self._took_s: Dict[str, float] = {}
        self._able = hasattr(os, "sched_yield") and hasattr(os, "sched_getaffinity") and os.cpu_count() != 1

    def until_s(self, model: str, now_s: float) -> float:
        """Return until when to stay awake for an answer that is asked for at `now_s` [s]; 0: sleep at once."""
        took_s = self._took_s.get(model, math.inf)
        return now_s + min(2.0 * took_s, _SPIN_S) if self._able and took_s < _SPIN_S else 0.0

    def note(self, model: str, took_s: float) -> None:
        """Take in how long an answer took [s]."""
        self._took_s[model] = 0.9 * self._took_s.get(model, took_s) + 0.1 * took_s


class _Shared:
    """The shared memory of one client: made when the first large tensor comes, anew when the daemon was."""

    def __init__(self, path: str, wanted: bool) -> None:
        self._path = path
        self._wanted = wanted and "://" not in path and hasattr(os, "memfd_create") and hasattr(socket, "send_fds")
        self._memories: List[_Memory] = []
        self._again_s = 0.0
        self._look_s = 0.0

    def take(self, size: int) -> Optional[_Lease]:
        """Return a piece of `size` bytes, None where a frame has to do."""
        if not self._wanted:
            return None
        for memory in self._memories:
            lease = memory.take(size)
            if lease is not None:
                return lease
        return self._more(size)

    def find(self, array: np.ndarray) -> Optional[Tuple[int, int]]:
        """Return segment and offset of an array that lies in shared memory already."""
        if not self._memories or not array.flags.c_contiguous:
            return None
        address = array.__array_interface__["data"][0]
        for memory in self._memories:
            offset = address - memory.address
            if 0 <= offset <= memory.size - array.nbytes and offset % _ALIGNMENT == 0:
                return memory.segment, offset
        return None

    def look(self) -> None:
        """Drop the memory if the daemon that shared it is gone; asks no more than once a second."""
        now_s = time.monotonic()
        if now_s >= self._look_s:
            self._look_s = now_s + 1.0
            if not all(memory.alive for memory in self._memories):
                self.close()

    def _more(self, size: int) -> Optional[_Lease]:
        wanted = max(_LEAST_SHARED_BYTES, 1 << (4 * size - 1).bit_length())
        if len(self._memories) >= _MOST_MEMORIES or time.monotonic() < self._again_s:
            return None
        try:
            self._memories.append(_Memory(self._path, wanted))
        except (OSError, HeadwayError):  # no such daemon, or it shares no more: frames do as well
            self._again_s = time.monotonic() + 1.0
            return None
        return self._memories[-1].take(size)

    def close(self) -> None:
        """Let the daemon go."""
        for memory in self._memories:
            memory.close()
        self._memories = []


class _Calls:
    """Requests and replies as maps and frames, for the blocking and the asyncio client alike."""

    def __init__(self, path: Union[str, "os.PathLike[str]"], shared_memory: bool) -> None:
        self.shared = _Shared(os.fspath(path), shared_memory)
        self._ids = itertools.count(1)
        self._held: Dict[int, List[_Lease]] = {}  # until the daemon reads them no more: also after a timeout
        self._answer_room: Dict[str, int] = {}

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        deadline_s: Optional[float],
        priority: int,
        least_exit: Optional[str],
        version: Optional[str],
        traceparent: Optional[str],
    ) -> Tuple[Dict[str, Any], List[np.ndarray]]:
        """Return the message of a request and the tensors that follow it as frames."""
        for name, tensor in inputs.items():
            if not isinstance(tensor, np.ndarray):
                raise TypeError("input %r is a %s: must be a numpy array" % (name, type(tensor).__name__))
        number = next(self._ids)
        message: Dict[str, Any] = {"kind": "infer/1", "id": number, "model": model, "sent_ns": time.monotonic_ns()}
        if deadline_s is not None:
            message["deadline_us"] = _microseconds("deadline_s", deadline_s)
        if priority:
            message["priority"] = priority
        if least_exit is not None:
            message["least_exit"] = least_exit
        if version is not None:
            message["version"] = version
        if traceparent is not None:
            message["traceparent"] = traceparent
        held: List[_Lease] = []
        frames: List[np.ndarray] = []
        self.shared.look()
        least = min(map(_size, inputs.values()), default=0) if self._direct(model, inputs) else _SHARED_FROM_BYTES
        message["tensors"] = [self._tensor(name, tensor, held, frames, least) for name, tensor in inputs.items()]
        room = self._answer_room.get(model, 0)
        lease = self.shared.take(room) if room and (held or room > _SHARED_FROM_BYTES) else None
        if lease is not None:
            message["answer_at"] = {"segment": lease.memory.segment, "offset": lease.offset, "bytes": lease.size}
            held.append(lease)
        if held:
            if len(self._held) >= _MOST_HELD:  # of daemons that died before they answered
                self._held = {key: kept for key, kept in self._held.items() if kept[0].memory.alive}
            self._held[number] = held
        return message, frames

    def _direct(self, model: str, inputs: Mapping[str, np.ndarray]) -> bool:
        """Whether all tensors should lie in shared memory, so that the request can go the shortest way."""
        return model in self._answer_room and any(tensor.nbytes >= _SHARED_FROM_BYTES for tensor in inputs.values())

    def ask(self, kind: str, fields: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the message of any other call."""
        return dict(fields, kind=kind, id=next(self._ids))

    def memory(self, number: int) -> _Memory:
        """Return the memory in which the answer of a request finds room."""
        return self._held[number][-1].memory

    def forget(self, number: int) -> None:
        """Let go of all shared memory: the daemon that shared it is gone."""
        self._held.pop(number, None)
        self.shared.close()

    def no_room(self, model: str) -> None:
        """Learn anew what room the answers of a model take."""
        self._answer_room.pop(model, None)

    def end(self, reply: Mapping[str, Any]) -> List[_Lease]:
        """Return the shared memory that the request of `reply` held, and hold it no more."""
        return self._held.pop(reply.get("id", 0), [])

    def answer(self, reply: Mapping[str, Any], frames: Sequence[Any], held: Sequence[_Lease]) -> Answer:
        """Return an answer; its outputs lie where they came in."""
        outputs: Dict[str, np.ndarray] = {}
        following = iter(frames)
        room = 0
        for spec in reply["tensors"]:
            at = spec.get("at")
            if at is None:
                tensor = np.frombuffer(next(following), dtype=spec["dtype"]).reshape(spec["shape"])
            else:
                tensor = held[-1].array(spec["dtype"], spec["shape"], at["offset"])
            room += tensor.nbytes + _ALIGNMENT
            outputs[spec["name"]] = tensor
        if room > self._answer_room.get(reply["model"], 0):
            self._answer_room[reply["model"]] = max(room, _LEAST_ROOM)
        left_us = reply["time_left_us"]
        return Answer(
            outputs=outputs,
            exit_id=reply["exit_id"],
            confidence=reply["confidence"],
            status=reply["status"],
            parts=reply["parts"],
            time_left_s=None if left_us is None else left_us * 1e-6,
            model=reply["model"],
            version=reply["version"],
        )

    def _tensor(
        self, name: str, tensor: np.ndarray, held: List[_Lease], frames: List[np.ndarray], least: int
    ) -> Dict[str, Any]:
        described: Dict[str, Any] = {"name": name, "dtype": _dtype_name(name, tensor), "shape": tensor.shape}
        if tensor.nbytes >= least and tensor.nbytes:
            place = self.shared.find(tensor)
            if place is None:
                lease = self.shared.take(tensor.nbytes)
                if lease is not None:
                    np.copyto(lease.array(tensor.dtype, tensor.shape), tensor)
                    held.append(lease)
                    place = lease.memory.segment, lease.offset
            if place is not None:
                described["at"] = {"segment": place[0], "offset": place[1]}
                return described
        if tensor.nbytes > _MOST_TENSOR_BYTES:
            raise RequestError(
                "INVALID", "tensor %r has %d bytes: at most %d travel" % (name, tensor.nbytes, _MOST_TENSOR_BYTES)
            )
        frames.append(tensor)
        return described


def _size(tensor: np.ndarray) -> int:
    return tensor.nbytes


def _of_a_guard(path: str) -> UnavailableError:
    return UnavailableError("at %s answers a guard, not a daemon: give the daemon's socket" % path)


def _microseconds(name: str, seconds: Any) -> int:
    if not isinstance(seconds, (int, float, np.integer, np.floating)) or not math.isfinite(seconds):
        raise ValueError("%s = %r: must be a finite number of seconds, or None" % (name, seconds))
    return max(0, round(float(seconds) * 1e6))


def _dtype_name(name: str, tensor: np.ndarray) -> str:
    known = _DTYPES.get(tensor.dtype)
    if known is None:
        wanted = ", ".join(sorted(set(_DTYPES.values())))
        raise TypeError("tensor %r has dtype %s: use one of %s, little-endian" % (name, tensor.dtype, wanted))
    return known


def _situation(pose: Pose, obstacles: Iterable[Obstacle]) -> Dict[str, Any]:
    return {
        "x_m": pose.x_m,
        "y_m": pose.y_m,
        "heading_rad": pose.heading_rad,
        "beta_rad": pose.beta_rad,
        "speed_mps": pose.speed_mps,
        "obstacles": [(o.x_m, o.y_m, o.radius_m, o.speed_max_mps) for o in obstacles],
    }


def _event(message: Mapping[str, Any]) -> Event:
    return Event(message["topic"], message["number"], message["at_ns"] * 1e-9, message["data"], message["missed"])


def _tolerable(reply: Mapping[str, Any]) -> Tolerable:
    return Tolerable(reply["deadline_s"], reply["limited_by"], reply["manoeuvre"])


def _admitted(reply: Mapping[str, Any]) -> Admitted:
    intervals = [(low, high) for low, high in reply["intervals"]]
    return Admitted(reply["status"], reply["beta_rad"], reply["limited_by"], intervals)


class Client:
    """Blocking calls to a daemon. One thread at a time.

    A daemon that was restarted is found again by the next call. Tensors of 64 KiB and more travel by shared memory
    where both ends can.

    Args:
        path: The daemon's unix socket, or tcp://HOST:PORT.
        timeout_s: How long a call waits for its answer [s].
        shared_memory: Whether large tensors may travel by shared memory.
    """

    def __init__(
        self, path: Union[str, "os.PathLike[str]"], timeout_s: float = 5.0, shared_memory: bool = True
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._channel = _Channel(self._context, path)
        self._timeout_s = timeout_s
        self._waits_ms = -1
        self._awake = _Awake()
        self._calls = _Calls(path, shared_memory)
        self._events: Dict[int, Deque[Event]] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back; arrays of answers stay valid."""
        self._channel.close()
        self._context.term()
        self._calls.shared.close()

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """Return an array for inputs, in shared memory where there is any: what is written there is not copied.

        It must not be written to while a request with it is under way.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        lease = self._calls.shared.take(size) if size else None
        return np.empty(shape, dtype) if lease is None else lease.array(dtype, shape)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        deadline_s: Optional[float] = None,
        priority: int = 0,
        least_exit: Optional[str] = None,
        timeout_s: Optional[float] = None,
        version: Optional[str] = None,
        traceparent: Optional[str] = None,
    ) -> Answer:
        """Return the best answer that `model` has when `deadline_s` [s] from now has passed.

        Args:
            model: A name that `models` lists.
            inputs: Tensors by name; shapes and dtypes as `models` tells.
            deadline_s: Time allowed [s]; None: as long as it takes.
            priority: 1 is highest; 0 means the default.
            least_exit: The shallowest exit whose answer is of use; None: any.
            timeout_s: How long to wait for the reply [s]; None: the client's.
            version: Of the model; None: the one loaded last.
            traceparent: W3C trace context that the request belongs to, where the daemon traces; None: its own.
        Raises:
            UnavailableError: nobody is there to take the request.
            NoAnswerError: no reply came in time.
            RequestError: the daemon refused, and says why.
        """
        began_s = time.monotonic()
        until_s = began_s + (self._timeout_s if timeout_s is None else timeout_s)
        asked = (model, inputs, deadline_s, priority, least_exit, version, traceparent)
        message, tensors = self._calls.infer(*asked)
        direct = not tensors and "answer_at" in message
        answer = self._direct(message, began_s, until_s) if direct else None
        if answer is None:
            if direct:
                message, tensors = self._calls.infer(*asked)
            reply, frames, held = self._call(message, tensors, until_s - time.monotonic())
            answer = self._calls.answer(reply, frames, held)
        return answer

    def _direct(self, message: Dict[str, Any], began_s: float, until_s: float) -> Optional[Answer]:
        """Ask by the connection of the shared memory; None where the daemon that held it is gone, or the room is small.

        Raises:
            UnavailableError, NoAnswerError, RequestError: as `infer`.
        """
        number = message["id"]
        memory = self._calls.memory(number)
        awake_s = min(until_s, self._awake.until_s(message["model"], began_s))
        try:
            memory.send(msgpack.packb(message))
        except OSError:
            self._calls.forget(number)
            return None
        while True:
            answer = memory.receive(until_s, awake_s)
            if answer is None:
                raise NoAnswerError("no answer from %s in time" % self._channel.path)
            if not answer:
                self._calls.forget(number)
                raise UnavailableError("the daemon at %s ended before it answered" % self._channel.path)
            reply = msgpack.unpackb(answer)
            held = self._calls.end(reply)
            if reply["id"] == number:
                break
        if reply["kind"] != "error/1":
            self._awake.note(message["model"], time.monotonic() - began_s)
            return self._calls.answer(reply, (), held)
        if reply["code"] != "ANSWER_TOO_LARGE":
            raise RequestError(reply["code"], reply["error"])
        self._calls.no_room(message["model"])
        return None

    def models(self, every: bool = False) -> List[Dict[str, Any]]:
        """Return the models the daemon serves: name, version, inputs, exits; with `every` also those it could load."""
        models: List[Dict[str, Any]] = self._ask("models/1", every=every)["models"]
        return models

    def load(self, model: str, version: Optional[str] = None, timeout_s: float = 120.0) -> str:
        """Have a model of the repository served, once it is warm in place of its other versions; return its version."""
        loaded: str = self._ask("load/1", timeout_s, model=model, version=version)["version"]
        return loaded

    def unload(self, model: str, version: Optional[str] = None) -> None:
        """Have a model, or one version of it, served no more."""
        self._ask("unload/1", model=model, version=version)

    def plans(self) -> Optional[Dict[str, Any]]:
        """Return which plan is in force and why; None where the daemon has no plans."""
        plans: Optional[Dict[str, Any]] = self._ask("plans/1")["plans"]
        return plans

    def status(self) -> Dict[str, Any]:
        """Return how the daemon, its guard and its edge server fare."""
        status: Dict[str, Any] = self._ask("status/1")["status"]
        return status

    def deadline(
        self, pose: Pose, obstacles: Iterable[Obstacle], method: str = "backup", cap_s: float = 10.0
    ) -> Tolerable:
        """Return how long `pose.beta_rad` may be held; method is backup, barrier or published."""
        return _tolerable(self._ask("deadline/1", method=method, cap_s=cap_s, **_situation(pose, obstacles)))

    def filter(self, pose: Pose, obstacles: Iterable[Obstacle], hold_s: float = 0.0) -> Admitted:
        """Return the admissible slip angle nearest to `pose.beta_rad`, lasting `hold_s` [s] beyond the next tick."""
        return _admitted(self._ask("filter/1", hold_s=hold_s, **_situation(pose, obstacles)))

    def events(self, *topics: str, timeout_s: Optional[float] = None) -> Iterator[Event]:
        """Yield what happens in the daemon from now on; `topics` as of `Event`, which docs/api.md explains.

        Other calls may be made meanwhile. Ends when the iterator is closed, or after `timeout_s` [s] without an event;
        None: never.
        """
        message = self._calls.ask("subscribe/1", {"topics": topics})
        number, queue = message["id"], self._events.setdefault(message["id"], deque())
        lease_s = self._call(dict(message), (), None)[0]["lease_s"]
        return self._yield_events(message, number, queue, lease_s, timeout_s)

    def _yield_events(
        self, message: Dict[str, Any], number: int, queue: Deque[Event], lease_s: float, timeout_s: Optional[float]
    ) -> Iterator[Event]:
        renew_s = time.monotonic() + 0.3 * lease_s
        quiet_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        try:
            while time.monotonic() < quiet_s:
                if time.monotonic() >= renew_s and self._channel.send(message):
                    renew_s = time.monotonic() + 0.3 * lease_s
                if not queue:
                    self._wait(min(quiet_s, renew_s, time.monotonic() + 1.0))
                    self._sort(self._channel.receive())
                while queue:
                    yield queue.popleft()
                    quiet_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        finally:
            self._events.pop(number, None)
            if not self._channel.socket.closed:
                self._channel.send({"kind": "unsubscribe/1", "id": number})

    def _ask(self, kind: str, timeout_s: Optional[float] = None, **fields: Any) -> Dict[str, Any]:
        return self._call(self._calls.ask(kind, fields), (), timeout_s)[0]

    def _call(
        self, message: Dict[str, Any], tensors: Sequence[np.ndarray], timeout_s: Optional[float]
    ) -> Tuple[Dict[str, Any], List[Any], List[_Lease]]:
        until_s = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        number, channel = message["id"], self._channel
        while not channel.send(message, tensors):
            left_ms = int((until_s - time.monotonic()) * 1e3)
            if left_ms <= 0 or not channel.socket.poll(left_ms, zmq.POLLOUT):
                self._calls.end(message)
                raise UnavailableError("nobody listens at %s: is the daemon running?" % channel.path)
        while True:
            self._wait(until_s)
            received = channel.receive(0)
            if received is None:
                if time.monotonic() < until_s:
                    continue
                raise NoAnswerError("no answer from %s in time" % channel.path)
            reply, frames = received
            if reply["kind"] == "refused/1":
                raise _of_a_guard(channel.path)
            held = self._sort(received)
            if reply.get("id") == number and reply["kind"] != "event/1":
                if reply["kind"] == "error/1":
                    raise RequestError(reply["code"], reply["error"])
                return reply, frames, held

    def _wait(self, until_s: float) -> None:
        """Have `receive` wait until then; the option is set only where it changes by much, since that costs."""
        left_ms = max(0, math.ceil((until_s - time.monotonic()) * 1e3))
        if not left_ms <= self._waits_ms <= 1.02 * left_ms + 2:
            self._channel.socket.setsockopt(zmq.RCVTIMEO, left_ms)
            self._waits_ms = left_ms

    def _sort(self, received: Optional[Tuple[Dict[str, Any], List[Any]]]) -> List[_Lease]:
        """Put an event into its queue, and return the shared memory that a reply gives free."""
        if received is None:
            return []
        message = received[0]
        if message["kind"] != "event/1":
            return self._calls.end(message)
        queue = self._events.get(message["id"])
        if queue is not None:
            queue.append(_event(message))
        return []


class AsyncClient:
    """The same calls for asyncio; any number of them at a time, on one event loop.

    A cancelled `infer` is cancelled in the daemon as well.

    Args:
        path, timeout_s, shared_memory: As of `Client`.
    """

    def __init__(
        self, path: Union[str, "os.PathLike[str]"], timeout_s: float = 5.0, shared_memory: bool = True
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._channel = _Channel(self._context, path)
        self._timeout_s = timeout_s
        self._calls = _Calls(path, shared_memory)
        self._waiting: Dict[int, asyncio.Future[_Reply]] = {}
        self._events: Dict[int, asyncio.Queue[Event]] = {}
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back; calls under way end as `UnavailableError`."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(int(self._channel.socket.get(zmq.FD)))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(UnavailableError("the client was closed"))
        self._waiting.clear()
        self._channel.close()
        self._context.term()
        self._calls.shared.close()

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, np.ndarray],
        deadline_s: Optional[float] = None,
        priority: int = 0,
        least_exit: Optional[str] = None,
        timeout_s: Optional[float] = None,
        version: Optional[str] = None,
        traceparent: Optional[str] = None,
    ) -> Answer:
        """Return the best answer that `model` has when `deadline_s` [s] from now has passed; see `Client.infer`."""
        message, tensors = self._calls.infer(model, inputs, deadline_s, priority, least_exit, version, traceparent)
        try:
            return self._calls.answer(*await self._call(message, tensors, timeout_s))
        except asyncio.CancelledError:
            self._channel.send({"kind": "cancel/1", "id": message["id"]})
            raise

    async def models(self, every: bool = False) -> List[Dict[str, Any]]:
        """Return the models; see `Client.models`."""
        models: List[Dict[str, Any]] = (await self._ask("models/1", every=every))["models"]
        return models

    async def load(self, model: str, version: Optional[str] = None, timeout_s: float = 120.0) -> str:
        """Have a model served; see `Client.load`."""
        loaded: str = (await self._ask("load/1", timeout_s, model=model, version=version))["version"]
        return loaded

    async def unload(self, model: str, version: Optional[str] = None) -> None:
        """Have a model served no more."""
        await self._ask("unload/1", model=model, version=version)

    async def plans(self) -> Optional[Dict[str, Any]]:
        """Return which plan is in force and why; None where the daemon has no plans."""
        plans: Optional[Dict[str, Any]] = (await self._ask("plans/1"))["plans"]
        return plans

    async def status(self) -> Dict[str, Any]:
        """Return how the daemon, its guard and its edge server fare."""
        status: Dict[str, Any] = (await self._ask("status/1"))["status"]
        return status

    async def deadline(
        self, pose: Pose, obstacles: Iterable[Obstacle], method: str = "backup", cap_s: float = 10.0
    ) -> Tolerable:
        """Return how long `pose.beta_rad` may be held; see `Client.deadline`."""
        fields = _situation(pose, obstacles)
        return _tolerable(await self._ask("deadline/1", method=method, cap_s=cap_s, **fields))

    async def filter(self, pose: Pose, obstacles: Iterable[Obstacle], hold_s: float = 0.0) -> Admitted:
        """Return the admissible slip angle nearest to `pose.beta_rad`; see `Client.filter`."""
        return _admitted(await self._ask("filter/1", hold_s=hold_s, **_situation(pose, obstacles)))

    async def events(self, *topics: str) -> AsyncIterator[Event]:
        """Yield what happens in the daemon from now on; see `Client.events`."""
        message = self._calls.ask("subscribe/1", {"topics": topics})
        queue = self._events.setdefault(message["id"], asyncio.Queue())
        try:
            while True:
                lease_s = (await self._call(dict(message), (), None))[0]["lease_s"]
                renew_s = time.monotonic() + 0.3 * lease_s
                while time.monotonic() < renew_s:
                    try:
                        yield await asyncio.wait_for(queue.get(), renew_s - time.monotonic())
                    except asyncio.TimeoutError:
                        break
        finally:
            self._events.pop(message["id"], None)
            if not self._channel.socket.closed:
                self._channel.send({"kind": "unsubscribe/1", "id": message["id"]})

    async def _ask(self, kind: str, timeout_s: Optional[float] = None, **fields: Any) -> Dict[str, Any]:
        return (await self._call(self._calls.ask(kind, fields), (), timeout_s))[0]

    async def _call(
        self, message: Dict[str, Any], tensors: Sequence[np.ndarray], timeout_s: Optional[float]
    ) -> "_Reply":
        until_s = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        loop = self._listen()
        waiting: asyncio.Future[_Reply] = loop.create_future()
        self._waiting[message["id"]] = waiting
        try:
            await self._send(message, tensors, until_s)
            reply, frames, held = await asyncio.wait_for(waiting, max(0.0, until_s - time.monotonic()))
        except asyncio.TimeoutError:
            raise NoAnswerError("no answer from %s in time" % self._channel.path) from None
        finally:
            self._waiting.pop(message["id"], None)
        if reply["kind"] == "error/1":
            raise RequestError(reply["code"], reply["error"])
        return reply, frames, held

    async def _send(self, message: Dict[str, Any], tensors: Sequence[np.ndarray], until_s: float) -> None:
        while not self._channel.send(message, tensors):
            if time.monotonic() >= until_s:
                self._calls.end(message)
                raise UnavailableError("nobody listens at %s: is the daemon running?" % self._channel.path)
            await asyncio.sleep(_RETRY_S)
        self._take_all()  # sending may have taken the descriptor's news of an answer

    def _listen(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            loop.add_reader(int(self._channel.socket.get(zmq.FD)), self._take_all)
        return loop

    def _take_all(self) -> None:
        while not self._channel.socket.closed:
            received = self._channel.receive()
            if received is None:
                return
            message, frames = received
            if message["kind"] == "refused/1":
                for asked in self._waiting.values():
                    if not asked.done():
                        asked.set_exception(_of_a_guard(self._channel.path))
                continue
            if message["kind"] == "event/1":
                queue = self._events.get(message["id"])
                if queue is not None:
                    queue.put_nowait(_event(message))
                continue
            held = self._calls.end(message)
            waiting = self._waiting.get(message.get("id", 0))
            if waiting is not None and not waiting.done():
                waiting.set_result((message, frames, held))


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
        self.listen(0.0)  # a decision that came after the last tick's wait is not this tick's
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
        if self._daemon is not None and frame is not None:
            described = {"name": "frame", "dtype": _dtype_name("frame", frame), "shape": frame.shape}
            self._daemon.send(dict(where, kind="step/1", tensors=[described]), [frame])

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
