"""Stands between a daemon and its edge server in the fault tests, in a process of its own, and misbehaves on demand.

    python -m tests.faults.front BACKEND [BIND]

Passes messages both ways. A line on stdin sets what it does from then on; each is acknowledged on stdout.

    pass            nothing
    slow S          replies wait S seconds
    lie S           replies and pongs claim a load of S seconds
    version V       requests ask for version V of the model
    shapes          replies carry tensors of another shape
    replay          every reply comes three times, and old ones again with each
    giant           every reply is followed by a frame of 1 GB
    loss P          a message waits a TCP retransmission, .2 s, with probability P, and what follows waits behind it
    outage          nothing passes either way; what came meanwhile passes afterwards
"""

import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import zmq

RETRANSMISSION_S = 0.2
_GIGABYTE = 2**30


@dataclass
class Line:
    """One direction of one client: messages leave in order, none before its time."""

    socket: Any
    waiting: "deque[tuple[float, list[Any]]]" = field(default_factory=deque)

    def put(self, due_s: float, frames: list[Any]) -> None:
        last_s = self.waiting[-1][0] if self.waiting else 0.0
        self.waiting.append((max(due_s, last_s), frames))

    def flush(self, now_s: float) -> None:
        while self.waiting and self.waiting[0][0] <= now_s:
            frames = self.waiting.popleft()[1]
            try:
                self.socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
            except zmq.ZMQError:
                return  # its client is gone


class Front:
    """The front's sockets and what it does at present."""

    def __init__(self, backend: str, bind: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.linger = 0
        self.router.bind(bind)
        self.backend = backend
        self.fault, self.value = "pass", ""
        self.poller = zmq.Poller()
        self.poller.register(self.router, zmq.POLLIN)
        self.poller.register(sys.stdin.fileno(), zmq.POLLIN)
        self.up: dict[bytes, Line] = {}
        self.down, self.slow_down = Line(self.router), Line(self.router)
        self.clients: dict[Any, bytes] = {}
        self.old: deque[list[bytes]] = deque(maxlen=4)

    def run(self) -> None:
        while True:
            holds = any(item.waiting for item in (self.down, self.slow_down, *self.up.values()))
            ready = dict(self.poller.poll(2 if holds else 50))
            now_s = time.monotonic()
            if sys.stdin.fileno() in ready:
                line = sys.stdin.readline().split()
                if not line:
                    return
                self.fault, self.value = line[0], line[-1]
                print(*line, flush=True)  # noqa: T201
            if self.router in ready:
                client, *frames = self.router.recv_multipart()
                self.to_edge(client, frames, now_s)
            for socket in [item for item in ready if item in self.clients]:
                self.to_vehicle(self.clients[socket], socket.recv_multipart(), now_s)
            if self.fault != "outage":
                for item in (self.down, self.slow_down, *self.up.values()):
                    item.flush(now_s)

    def to_edge(self, client: bytes, frames: list[bytes], now_s: float) -> None:
        if client not in self.up:
            dealer = self.context.socket(zmq.DEALER)
            dealer.linger = 0
            dealer.connect(self.backend)
            self.up[client], self.clients[dealer] = Line(dealer), client
            self.poller.register(dealer, zmq.POLLIN)
        if self.fault == "version":
            header = msgspec.msgpack.decode(frames[0])
            if header["kind"].startswith("request"):
                frames[0] = msgspec.msgpack.encode({**header, "version": self.value})
        self.up[client].put(now_s + self.delay_s(), frames)

    def to_vehicle(self, client: bytes, frames: list[bytes], now_s: float) -> None:
        header = msgspec.msgpack.decode(frames[0])
        is_reply = header["kind"].startswith("reply")
        if self.fault == "lie" and "load_us" in header:
            frames[0] = msgspec.msgpack.encode({**header, "load_us": int(1e6 * float(self.value))})
        if self.fault == "shapes" and is_reply and header["tensors"]:
            tensors = [{**item, "shape": [int(np.prod(item["shape"])), 1, 1]} for item in header["tensors"]]
            frames[0] = msgspec.msgpack.encode({**header, "tensors": tensors})
        due_s = now_s + self.delay_s()
        if self.fault == "slow" and is_reply:  # the server is, the connection is not
            self.slow_down.put(now_s + float(self.value), [client, *frames])
        else:
            self.down.put(due_s, [client, *frames])
        if is_reply:
            self.old.append(frames)
        if self.fault == "replay" and is_reply:
            for again in (frames, frames, *self.old):
                self.down.put(due_s, [client, *again])
        if self.fault == "giant" and is_reply:
            self.down.put(due_s, [client, frames[0], np.zeros(_GIGABYTE, np.uint8)])

    def delay_s(self) -> float:
        return RETRANSMISSION_S if self.fault == "loss" and random.random() < float(self.value) else 0.0


if __name__ == "__main__":
    front = Front(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "tcp://127.0.0.1:0")
    print(front.router.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)  # noqa: T201
    front.run()
