"""Shared memory of clients, passed as descriptors over a unix socket of its own, beside the daemon's.

A client makes a memory file (memfd_create), seals it against shrinking, connects to `<socket>.shm` (SOCK_SEQPACKET,
mode 0600) and sends the descriptor along with {"kind": "share/1", "bytes": SIZE}. The answer is {"kind": "shared/1",
"segment": NUMBER}; whoever knows the number may name places in the memory. The connection is the memory's life: it is
freed when the client closes it or dies, however it dies, once no request reads it any more. There is nothing in a file
system to be left over, found or guessed.

The connection is also the shortest way to the daemon: requests whose tensors all lie in shared memory may be sent on
it, one message each, and are answered on it. That saves two threads that ZeroMQ would hand them to.

Checked are: the client's user (it must be the daemon's own, or root), that the file is sealed and so can't vanish under
a reader (SIGBUS), its size, and how much each process and all together may share.
"""

import fcntl
import logging
import mmap
import os
import secrets
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zmq

from runtime.errors import MessageError

_log = logging.getLogger("headway.daemon")
SUFFIX = ".shm"
_LARGEST_MESSAGE = 65_536
_MOST_FDS = 4


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """Most that may be shared.

    Args:
        segment_bytes: One piece [B].
        client_bytes: All pieces of one process [B].
        total_bytes: All pieces of all clients [B].
        connections: Connections at a time.
    """

    segment_bytes: int = 2**28
    client_bytes: int = 2**29
    total_bytes: int = 2**31
    connections: int = 256


class _Share(msgspec.Struct, tag="share/1", tag_field="kind", forbid_unknown_fields=True):
    bytes: int


_HELLO = msgspec.msgpack.Decoder(_Share)


@dataclass(slots=True)
class _Client:
    """One connection, and the memory it brought."""

    connection: socket.socket
    pid: int
    segment: int = 0
    memory: mmap.mmap | None = None


class SharedSegments:
    """The shared memory of all clients; used on the socket thread alone.

    Args:
        listener: As `owned_listener` makes it.
        poller: Where its descriptors are registered.
        limits: Most that may be shared.
    """

    def __init__(self, listener: socket.socket, poller: zmq.Poller, limits: SegmentLimits | None = None) -> None:
        self._listener = listener
        self._poller = poller
        self._limits = limits or SegmentLimits()
        self._clients: dict[int, _Client] = {}
        self._owners: dict[int, _Client] = {}
        poller.register(listener.fileno(), zmq.POLLIN)

    def memory(self, segment: int) -> Any | None:
        """Return a segment's memory, writable; None where there is no such segment."""
        owner = self._owners.get(segment)
        return None if owner is None else owner.memory

    @property
    def total_bytes(self) -> int:
        """What is shared at present [B]."""
        return sum(len(client.memory) for client in self._owners.values() if client.memory)

    def attend(self, ready: dict[Any, int]) -> list[tuple[int, int, bytes]]:
        """Take in new clients, new memory, and the end of clients.

        Returns:
            Messages: the segment that came by the same connection, the process, what it says.
        """
        if self._listener.fileno() in ready:
            self._accept()
        said = []
        for fd in [fd for fd in self._clients if fd in ready]:
            data = self._hear(fd, self._clients[fd])
            if data:
                said.append((self._clients[fd].segment, self._clients[fd].pid, data))
        return said

    def send(self, segment: int, data: bytes) -> bool | None:
        """Answer whoever brought a segment, without waiting; return whether it was taken, None where it is gone."""
        client = self._owners.get(segment)
        if client is None:
            return None
        try:
            client.connection.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            _log.info("an answer was dropped: %s", error, extra={"code": "reply_dropped"})
            return False
        return True

    def close(self) -> None:
        """Let go of all clients and their memory."""
        for fd in tuple(self._clients):
            self._drop(fd)
        self._poller.unregister(self._listener.fileno())

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            _log.warning("a client could not be let in to share memory: %s", error, extra={"code": "sharing_refused"})
            return
        connection.setblocking(False)
        pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (os.geteuid(), 0) or len(self._clients) >= self._limits.connections:
            _log.warning("process %d of user %d may not share memory", pid, uid, extra={"code": "sharing_refused"})
            connection.close()
            return
        self._clients[connection.fileno()] = _Client(connection, pid)
        self._poller.register(connection.fileno(), zmq.POLLIN)

    def _hear(self, fd: int, client: _Client) -> bytes:
        """Return what a client says that has shared memory; before, take that in. Its end ends all."""
        if client.memory is not None:
            data = _received(client.connection)
            if not data:
                self._drop(fd)
            return data
        try:
            data, descriptors, _, _ = socket.recv_fds(
                client.connection, _LARGEST_MESSAGE, _MOST_FDS, socket.MSG_DONTWAIT
            )
        except OSError:
            data, descriptors = b"", []
        with _closed(descriptors):
            if data:
                self._begin(client, data, descriptors)
        if client.memory is None:
            self._drop(fd)
        return b""

    def _begin(self, client: _Client, data: bytes, descriptors: list[int]) -> None:
        try:
            client.memory = self._map(client, data, descriptors)
        except (MessageError, OSError, ValueError) as error:
            self._answer(client, {"kind": "error/1", "id": 0, "code": "INVALID", "error": str(error)})
            return
        client.segment = 1 + secrets.randbelow(2**62 - 1)
        self._owners[client.segment] = client
        self._answer(client, {"kind": "shared/1", "segment": client.segment})

    def _map(self, client: _Client, data: bytes, descriptors: list[int]) -> mmap.mmap:
        try:
            size = _HELLO.decode(data).bytes
        except (msgspec.MsgspecError, ValueError) as error:
            raise MessageError(f"to share memory send share/1 with its size: {error}") from error
        if len(descriptors) != 1:
            raise MessageError(f"{len(descriptors)} descriptors came with share/1: must be one")
        self._check(client, size, descriptors[0])
        return mmap.mmap(descriptors[0], size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)

    def _check(self, client: _Client, size: int, descriptor: int) -> None:
        limits, about = self._limits, os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid not in (os.geteuid(), 0):
            raise MessageError("the descriptor is no memory file of this user: make one with memfd_create")
        try:
            sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
        except OSError:
            sealed = 0
        if not sealed:
            raise MessageError("the memory file can be shortened: seal it with F_SEAL_SHRINK")
        if not 0 < size <= limits.segment_bytes or about.st_size < size:
            raise MessageError(f"share/1 of {size} bytes, the file has {about.st_size}: at most {limits.segment_bytes}")
        mine = sum(len(each.memory) for each in self._clients.values() if each.memory and each.pid == client.pid)
        for shared, most in ((mine, limits.client_bytes), (self.total_bytes, limits.total_bytes)):
            if shared + size > most:
                raise MessageError(f"{shared} bytes are shared already, and {size} more are asked for: at most {most}")

    def _answer(self, client: _Client, message: dict[str, Any]) -> None:
        try:
            client.connection.send(msgspec.msgpack.encode(message), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            _log.info("a client that shares memory is gone: %s", error, extra={"code": "sharing_ended"})

    def _drop(self, fd: int) -> None:
        """Forget a client; its memory is unmapped once nothing reads it."""
        client = self._clients.pop(fd)
        self._owners.pop(client.segment, None)
        client.memory = None
        self._poller.unregister(fd)
        client.connection.close()


def _received(connection: socket.socket) -> bytes:
    """Return the next message; nothing at the end of the connection, or where a descriptor came with it."""
    try:
        return connection.recv(_LARGEST_MESSAGE, socket.MSG_DONTWAIT)
    except OSError:
        return b""


@contextmanager
def owned_listener(path: Path) -> Iterator[socket.socket]:
    """Listen at `<path>.shm`, mode 0600; the caller owns `path`, so what stands there is a dead daemon's."""
    beside = path.with_name(path.name + SUFFIX)
    beside.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as listener:
        former_mask = os.umask(0o177)
        try:
            listener.bind(str(beside))
        finally:
            os.umask(former_mask)
        listener.listen(64)
        listener.setblocking(False)
        try:
            yield listener
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def _closed(descriptors: list[int]) -> Iterator[None]:
    """Close what was received, whatever becomes of it: a mapping needs its descriptor no more."""
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
