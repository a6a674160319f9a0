"""Follows a running guard and a running daemon from outside: ticks of the one, events of the other.

Both may come, go and be replaced; what is followed goes on as soon as they are back. Nothing here can hold either of
them up: a follower that does not read loses messages.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import zmq

from runtime.serve.guard_messages import Follow, encode
from runtime.serve.guard_ticks import Followed, Tick
from runtime.serve.sockets import ipc_address

_RENEW_S = 0.5
_WAITING = 1024
_heard = msgspec.msgpack.Decoder(Followed | Tick)


class Heard(msgspec.Struct, frozen=True):
    """An event of the daemon: topic, its number, when [ns], what; `missed`: how many before it were lost."""

    topic: str
    number: int
    at_ns: int
    data: dict[str, Any]
    missed: int = 0


class Follower:
    """A connection to a guard, to a daemon, or to both.

    Args:
        guard: The guard's unix socket; None: it is not followed.
        daemon: The daemon's unix socket; None: it is not followed.
        topics: Events of the daemon that are followed.
    """

    def __init__(self, guard: Path | None, daemon: Path | None, topics: Sequence[str] = ()) -> None:
        self._stack = ExitStack()
        self._context = self._stack.enter_context(zmq.Context())
        self._poller = zmq.Poller()
        self._guard = None if guard is None else self._connect(guard)
        self._daemon = None if daemon is None or not topics else self._connect(daemon)
        self._topics = list(topics)
        self._renew_s = 0.0
        self.heard_s = time.monotonic()
        """When either of them answered last, on the monotonic clock [s]: a daemon does at each renewal."""

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Follow no more."""
        self._stack.close()

    def listen(self, wait_s: float) -> list[Followed | Tick | Heard]:
        """Return what comes, waiting for at most `wait_s` [s]."""
        now_s = time.monotonic()
        if now_s >= self._renew_s:
            self._renew_s = now_s + _RENEW_S
            self._renew()
        ready = dict(self._poller.poll(max(0, round(1e3 * min(wait_s, self._renew_s - now_s)))))
        if ready:
            self.heard_s = time.monotonic()
        found: list[Followed | Tick | Heard] = []
        if self._guard is not None and self._guard in ready:
            found += [_heard.decode(frame) for frame in _frames(self._guard)]
        if self._daemon is not None and self._daemon in ready:
            for frame in _frames(self._daemon):
                message = msgpack.unpackb(frame)
                if message.get("kind") == "event/1":
                    found.append(msgspec.convert(message, Heard))
        return found

    def _renew(self) -> None:
        if self._guard is not None:
            _send(self._guard, encode(Follow()))
        if self._daemon is not None:
            _send(self._daemon, msgpack.packb({"kind": "subscribe/1", "id": 1, "topics": self._topics}))

    def _connect(self, path: Path) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = self._stack.enter_context(self._context.socket(zmq.DEALER))
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 4)
        socket.setsockopt(zmq.RCVHWM, _WAITING)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        socket.connect(ipc_address(path))
        self._poller.register(socket, zmq.POLLIN)
        return socket


def _send(socket: "zmq.Socket[bytes]", frame: bytes) -> None:
    """Send without waiting: while nobody is there, there is nobody to ask."""
    try:
        socket.send(frame, zmq.NOBLOCK)
    except zmq.Again:
        return


def _frames(socket: "zmq.Socket[bytes]") -> list[bytes]:
    frames = []
    while True:
        try:
            frames.append(socket.recv_multipart(zmq.NOBLOCK)[0])
        except zmq.Again:
            return frames
