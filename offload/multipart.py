"""Messages of several frames on a ZeroMQ socket, without waiting, at the least cost.

pyzmq's own `recv_multipart` and `send_multipart` take some 5 us more a message: they ask for an option after each frame
and prepare for kinds of sockets that are not used here. Frames below a megabyte are copied: that is quicker than having
pyzmq's collector told when they may be freed.
"""

from collections.abc import Sequence
from typing import Any

import zmq
from zmq.backend import Socket as PlainSocket

from offload.frames import COPY_BELOW_BYTES, Array

_NOW = int(zmq.NOBLOCK)
_NOW_AND_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_send: Any = PlainSocket.send


def receive_frames(socket: "zmq.Socket[bytes]") -> list[zmq.Frame]:
    """Return the frames of the next message, or what is left of it.

    Raises:
        zmq.Again: there is none.
    """
    frame = socket.recv(_NOW, False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(_NOW, False)
        frames.append(frame)
    return frames


def receive_routed(socket: "zmq.Socket[bytes]") -> tuple[bytes, list[zmq.Frame]]:
    """Return who sent the next message of a ROUTER, and its frames.

    Raises:
        zmq.Again: there is none.
    """
    return socket.recv(_NOW), receive_frames(socket)


def send_frames(socket: "zmq.Socket[bytes]", header: bytes, data: Sequence[bytes | Array]) -> None:
    """Send a header and what follows it; large data must be left alone until it is gone.

    Raises:
        zmq.ZMQError: the socket does not take it.
    """
    if not data:
        _send(socket, header, _NOW)
        return
    _send(socket, header, _NOW_AND_MORE)
    for item in data[:-1]:
        _send(socket, item, _NOW_AND_MORE, _is_small(item))
    last = data[-1]
    _send(socket, last, _NOW, _is_small(last))


def send_routed(socket: "zmq.Socket[bytes]", peer: bytes, header: bytes, data: Sequence[bytes | Array]) -> None:
    """Send to one peer of a ROUTER, as `send_frames`."""
    _send(socket, peer, _NOW_AND_MORE)
    send_frames(socket, header, data)


def _is_small(item: Any) -> bool:
    size: int = len(item) if isinstance(item, bytes) else item.nbytes
    return size < COPY_BELOW_BYTES
