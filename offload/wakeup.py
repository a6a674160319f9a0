"""What wakes a poller: an eventfd set by another thread, or a ZeroMQ socket that holds a message."""

import contextlib
import os

import zmq

_POLLIN = int(zmq.POLLIN)  # combining the flag itself costs more than looking


def holds_message(socket: "zmq.Socket[bytes]") -> bool:
    """Return whether a message waits in `socket`; after False, its descriptor tells when one has come."""
    return bool(int(socket.get(zmq.EVENTS)) & _POLLIN)


class Wakeup:
    """Readable from `set` to `clear`; any thread may set it."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._written = False

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._fd

    def set(self) -> None:
        """Make it readable; does nothing once closed."""
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)
            self._written = True  # not before: a `clear` in between would leave it readable and believe it is not

    def clear(self) -> None:
        """Make it unreadable, whether or not it was; does nothing once closed."""
        if self._written and self._fd >= 0:
            self._written = False
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)

    def close(self) -> None:
        """Give the descriptor back; twice does no harm."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
