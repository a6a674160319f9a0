"""Where the local sockets live, and how a process makes one its own.

A socket path belongs to the process that holds the lock file beside it, for as long as that process lives: a second
daemon finds the lock taken and names its owner, a socket file left behind by a dead one is swept away. The kernel
drops the lock with its process, so there is no stale one.
"""

import fcntl
import ipaddress
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from runtime.errors import ConfigurationError, UnavailableError

_SYSTEM_FOLDER = Path("/run/headway")
_LAST_WORDS_MS = 500  # replies on their way when the socket is closed still reach clients that read
_LONGEST_PATH = 100  # sun_path holds 108 bytes, and the lock file's name is longer than the socket's


def runtime_folder() -> Path:
    """Return the folder for sockets: $XDG_RUNTIME_DIR, else /run/headway where it may be written.

    Raises:
        ConfigurationError: there is neither.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        return Path(given)
    if _SYSTEM_FOLDER.is_dir() and os.access(_SYSTEM_FOLDER, os.W_OK):
        return _SYSTEM_FOLDER
    if os.access(_SYSTEM_FOLDER.parent, os.W_OK):
        _SYSTEM_FOLDER.mkdir(mode=0o755, exist_ok=True)
        return _SYSTEM_FOLDER
    raise ConfigurationError(
        f"no place for the socket: XDG_RUNTIME_DIR is not set and {_SYSTEM_FOLDER} may not be written; "
        "set XDG_RUNTIME_DIR, or give --socket PATH"
    )


def ipc_address(path: Path) -> str:
    """Return the ZeroMQ address of the unix socket at `path`."""
    return f"ipc://{path}"


@contextmanager
def owned_router(context: zmq.Context[zmq.Socket[bytes]], path: Path) -> Iterator[zmq.Socket[bytes]]:
    """Bind a ROUTER to the unix socket at `path` with mode 0600, and own the path meanwhile.

    Raises:
        UnavailableError: another living process owns the path; its process id is named.
        ConfigurationError: the path is too long, its folder is missing, or something that is no socket stands there.
    """
    with _owned(path):
        former_mask = os.umask(0o177)
        try:
            socket = _router(context, ipc_address(path))
        except zmq.ZMQError as error:
            raise ConfigurationError(f"cannot bind the socket {path}: {error}") from error
        finally:
            os.umask(former_mask)
        try:
            yield socket
        finally:
            socket.close(_LAST_WORDS_MS)
            path.unlink(missing_ok=True)


def owner_of(path: Path) -> int | None:
    """Return the process that last owned the unix socket at `path`, if a process of that number lives.

    One that has ended and that nobody has waited for yet, as in a container without an init, lives no more.
    """
    try:
        owner = int(Path(f"{path}.lock").read_text())
        state = Path(f"/proc/{owner}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return None if state in ("Z", "X") else owner


@contextmanager
def loopback_router(context: zmq.Context[zmq.Socket[bytes]], address: str) -> Iterator[zmq.Socket[bytes]]:
    """Bind a ROUTER to HOST:PORT of this machine's own; whoever is on the machine may connect.

    Raises:
        ConfigurationError: `address` is none, or is another than this machine's loopback.
        UnavailableError: the port is taken.
    """
    host, _, port = address.rpartition(":")
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
        number = int(port)
    except ValueError as error:
        raise ConfigurationError(f"serve.tcp = {address!r}: must be HOST:PORT, as 127.0.0.1:5570") from error
    if not loopback or not 0 < number < 65_536:
        raise ConfigurationError(
            f"serve.tcp = {address!r}: must be a loopback address, as 127.0.0.1:5570, since this socket asks nobody "
            "for a key; let other hosts in by HTTP or gRPC with a token or certificates"
        )
    try:
        socket = _router(context, f"tcp://{address}", ipv6=":" in host)
    except zmq.ZMQError as error:
        raise UnavailableError(f"cannot bind serve.tcp = {address!r}: {error}") from error
    try:
        yield socket
    finally:
        socket.close()


def _router(context: zmq.Context[zmq.Socket[bytes]], address: str, *, ipv6: bool = False) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.BACKLOG, 4096)
    socket.setsockopt(zmq.MAXMSGSIZE, 64 * 2**20)
    socket.setsockopt(zmq.SNDHWM, 256)  # what one client that does not read may have waiting
    socket.setsockopt(zmq.RCVHWM, 64)
    socket.setsockopt(zmq.IPV6, int(ipv6))
    try:
        socket.bind(address)
    except zmq.ZMQError:
        socket.close()
        raise
    return socket


@contextmanager
def _owned(path: Path) -> Iterator[None]:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigurationError(
            f"the socket path {path} has {len(os.fsencode(path))} bytes: at most {_LONGEST_PATH} work"
        )
    if not path.parent.is_dir():
        raise ConfigurationError(f"the folder {path.parent} of the socket {path.name} does not exist: create it first")
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the socket {path} cannot be made: {path}.lock: {error.strerror}; give a folder this user may write into"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise UnavailableError(
                f"the socket {path} belongs to the running process {owner}: stop it first, or give another --socket"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        _sweep(path)
        yield
    finally:
        os.close(lock)


def _sweep(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} exists and is no socket: move it away, or give another --socket")
    path.unlink()
