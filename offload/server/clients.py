"""Who is connected to an edge server, and how many more may be.

Every connection takes a descriptor. A ROUTER that runs out of them can neither take a newcomer nor tell it so, and its
I/O thread spins. So some are kept back: a newcomer above `most` is let in for a second, in which it is told
RESOURCE_EXHAUSTED, then its connection is shut; earlier where others wait to be told: first those who were told longest
ago, then those who have been silent for longest. Refused clients that connect again and again, and say nothing, so take
no newcomer's place.

The socket's monitor tells who comes and goes. It is read before anything a stranger says, so that a descriptor that is
used again never stands for two clients.
"""

import contextlib
import os
import socket
from collections import deque

import zmq
from zmq.utils.monitor import parse_monitor_message

from devices.clock import Clock
from offload.wakeup import holds_message

_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
_GRACE_S = 1.0
_FLUSHED_S = 0.02
_SILENT_S = 0.1
_OWN_FILES = 16
_UNLIMITED = 2**20


def most_clients(limit: int, opened: int) -> int:
    """Return how many clients to take with `limit` descriptors (-1: no limit), of which `opened` are in use already."""
    limit = limit if limit >= 0 else _UNLIMITED
    return max(1, limit - opened - _OWN_FILES - _kept_back(limit))


def _kept_back(limit: int) -> int:
    return max(8, limit // 8)


class Clients:
    """The connections of one ROUTER.

    Args:
        router: The socket, before it is bound.
        most: Most clients to take.
        clock: Times the grace of those who are refused.
    """

    def __init__(self, router: "zmq.Socket[bytes]", most: int, clock: Clock) -> None:
        self.most = most
        self._spare = _kept_back(most)
        self._clock = clock
        self.taken: dict[bytes, int] = {}
        """Descriptors of the clients that are taken, by identity."""
        self._at: dict[int, bytes | None] = {}
        self._leaving: deque[tuple[float, int]] = deque()
        self._refused: dict[int, float] = {}
        self._told: dict[int, float] = {}
        self._router = router
        self.monitor: zmq.Socket[bytes] = router.get_monitor_socket(_EVENTS)
        self.shut = 0
        """Connections shut because there were too many."""

    def __len__(self) -> int:
        """Return how many clients are taken."""
        return len(self.taken)

    @property
    def connections(self) -> int:
        """Return how many connections are open, refused and silent ones included."""
        return len(self._at)

    @property
    def next_s(self) -> float | None:
        """When `tick` is to be called next [s]; None: no need."""
        return self._leaving[0][0] if self._leaving else None

    def admit(self, client: bytes, frame: zmq.Frame) -> bool:
        """Return whether a client is taken; `frame` is one it has just sent."""
        if client in self.taken:
            return True
        self.watch()
        fd: int = frame.get(zmq.SRCFD)
        if fd not in self._at:
            return True  # it has left since; the answer will find nobody
        if len(self.taken) < self.most:
            before = self._at[fd]
            if before is not None:
                self.taken.pop(before, None)
            self.taken[client] = fd
            self._at[fd] = client
            self._refused.pop(fd, None)
            return True
        self._let_leave(fd)
        self._told.setdefault(fd, self._clock.now_s())
        return False

    def watch(self) -> None:
        """Take in who came and who went."""
        while holds_message(self.monitor):
            event = parse_monitor_message(self.monitor.recv_multipart(zmq.NOBLOCK))
            fd = event["value"]
            if event["event"] == zmq.EVENT_DISCONNECTED:
                client = self._at.pop(fd, None)
                self._refused.pop(fd, None)
                self._told.pop(fd, None)
                if client is not None:
                    self.taken.pop(client, None)
                continue
            self._at[fd] = None
            if len(self._at) > self.most + self._spare:
                self._let_leave(fd)
                self._shut(self._first_to_go(fd))
            elif len(self.taken) >= self.most:
                self._let_leave(fd)

    def tick(self) -> None:
        """Shut the connections whose grace is over."""
        while self._leaving and self._leaving[0][0] <= self._clock.now_s():
            at_s, fd = self._leaving.popleft()
            self.watch()
            if self._refused.get(fd) == at_s:  # not another one that has its descriptor by now
                self._shut(fd)

    def close(self) -> None:
        """Stop watching."""
        self._router.disable_monitor()
        self.monitor.close(linger=0)

    def _first_to_go(self, newcomer: int) -> int:
        """Return whom to shut so that a newcomer can stay long enough to be told."""
        now_s = self._clock.now_s()
        told = next(iter(self._told), None)
        if told is not None and now_s - self._told[told] >= _FLUSHED_S:  # the word is surely out
            return told
        silent = next((fd for fd in self._refused if fd not in self._told), newcomer)
        if told is None or now_s - (self._refused[silent] - _GRACE_S) >= _SILENT_S:
            return silent
        return told  # its word is with ZeroMQ, and most likely out

    def _let_leave(self, fd: int) -> None:
        if fd not in self._refused:
            self._refused[fd] = self._clock.now_s() + _GRACE_S
            self._leaving.append((self._refused[fd], fd))

    def _shut(self, fd: int) -> None:
        """Shut a connection that ZeroMQ owns; it then closes the descriptor itself."""
        self.shut += 1
        self._refused.pop(fd, None)
        self._told.pop(fd, None)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
            connection.shutdown(socket.SHUT_RDWR)
