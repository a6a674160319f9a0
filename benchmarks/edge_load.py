"""Many clients of an edge server in one thread: each a real connection of its own, as light as can be."""

import json
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zmq

from offload.frames import Array, tensor_frames
from offload.wire import Code, Reply, Request, decode_from_edge, encode

ROOT = Path(__file__).resolve().parents[1]
_POLLIN = int(zmq.POLLIN)


@dataclass
class Server:
    """A running `headway edge`."""

    pid: int
    endpoint: str
    http: str

    def rss_bytes(self) -> int:
        """Return its resident memory [B]."""
        for row in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if row.startswith("VmRSS:"):
                return 1024 * int(row.split()[1])
        raise RuntimeError(f"process {self.pid} has no memory: it ended")

    def cpu_s(self) -> float:
        """Return the processor time it has used [s]."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100.0


@contextmanager
def edge_server(*flags: str, before: Callable[[], None] | None = None) -> Iterator[Server]:
    """Start `headway edge` and end it afterwards; `before` runs in its process first."""
    command = [sys.executable, "-m", "runtime.cli.main", "edge", "--http", "0", *flags]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=before
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError(f"the edge server did not start: {' '.join(command)}")
            said = json.loads(line)
            yield Server(said["pid"], said["endpoint"], said["http"])
        finally:
            process.kill()
            process.wait()


@dataclass
class Seen:
    """What came back: latencies of answers [s], codes, and answers whose computation began after their deadline."""

    latencies_s: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    late_starts: int = 0


class Load:
    """So many DEALERs, each with requests of its own.

    Args:
        endpoint: The edge server.
        clients: How many.
        model: What they ask for; `inputs` what they send.
        time_left_s: Time each request has [s].
    """

    def __init__(
        self, endpoint: str, clients: int, model: str, inputs: Mapping[str, Array], time_left_s: float
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, clients + 16)
        self._headers, data = tensor_frames(inputs)
        self._data = [bytes(np.asarray(item)) for item in data]
        self._model = model
        self._time_left_us = int(1e6 * time_left_s)
        self._epoll = select.epoll()
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._sent: dict[int, tuple[float, int]] = {}
        self._number = 0
        self._answered: list[int] = []
        self.seen = Seen()
        for _ in range(clients):
            socket = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(endpoint)
            fd = int(socket.get(zmq.FD))
            self._sockets[fd] = socket
            self._epoll.register(fd, select.EPOLLIN)
        self.clients = list(self._sockets)

    @property
    def unanswered(self) -> int:
        """Requests sent and not answered."""
        return len(self._sent)

    def send(self, client: int, due_s: float | None = None) -> None:
        """Send a client's next request, timed from `due_s` [s] where it was due earlier."""
        self._number += 1
        header = Request(id=self._number, model=self._model, time_left_us=self._time_left_us, tensors=self._headers)
        self._sent[self._number] = (time.monotonic() if due_s is None else due_s, client)
        socket = self._sockets[client]
        socket.send_multipart([*encode(header), *self._data])
        self._drain(socket)

    def receive(self, timeout_s: float) -> list[int]:
        """Take in what comes within `timeout_s` [s], and return the clients that were answered since the last call."""
        for fd, _ in self._epoll.poll(max(0.0, timeout_s)):
            self._drain(self._sockets[fd])
        answered, self._answered = self._answered, []
        return answered

    def forget(self) -> int:
        """Give up what is unanswered and return how many that are."""
        lost = len(self._sent)
        self._sent.clear()
        return lost

    def close(self) -> None:
        """Leave."""
        for socket in self._sockets.values():
            socket.close()
        self._epoll.close()
        self._context.term()

    def _drain(self, socket: "zmq.Socket[bytes]") -> None:
        while int(socket.get(zmq.EVENTS)) & _POLLIN:
            message, _ = decode_from_edge(socket.recv_multipart(copy=False))
            sent = self._sent.pop(message.id, None) if isinstance(message, Reply) else None
            if sent is None or not isinstance(message, Reply):
                self.seen.codes["stray"] += 1
                continue
            self.seen.codes[message.code] += 1
            if message.code is Code.OK:
                self.seen.latencies_s.append(time.monotonic() - sent[0])
                self.seen.late_starts += message.queue_us >= self._time_left_us
            self._answered.append(sent[1])
