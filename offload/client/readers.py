"""Who reads a client's sockets: its own thread, or a caller that waits for an outcome.

A caller that waits reads them itself, so that a reply wakes one thread and not two: while one leads, the thread does
not watch them. What a caller that leads cannot see at the sockets it is nudged about: an outcome that another thread
brought about, or a socket that took the place of another.

Everything but `as_caller` and `as_thread`, which wait, is called under the client's lock.
"""

import select
from collections.abc import Callable, Sequence

from offload.client.connection import Connection
from offload.wakeup import Wakeup


class Readers:
    """The two that may watch the sockets, and which of them does.

    Args:
        connections: The servers; filled in by the owner after construction.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self.wakeup = Wakeup()
        """Wakes the thread."""
        self._nudge = Wakeup()
        self._epoll = select.epoll()
        self._epoll.register(self.wakeup.fileno(), select.EPOLLIN)
        self._watched = True
        self.leading = False
        """Whether a caller waits and reads the sockets itself."""
        self._reading = False  # that caller does so just now: nothing need wake it
        self.as_caller: Callable[[int], object] = _nothing
        """Waits at most that long [ms], for a caller that leads."""

    def as_thread(self, timeout_ms: int) -> None:
        """Wait at most that long [ms] for a socket that the thread watches, or to be woken."""
        self._epoll.poll(1e-3 * timeout_ms)

    def watch(self, fd: int) -> None:
        """Take a descriptor in."""
        self._epoll.register(fd, select.EPOLLIN)
        self._look_anew()

    def unwatch(self, fd: int) -> None:
        """Leave a descriptor that is about to be closed."""
        self._epoll.unregister(fd)
        self._look_anew()

    def watch_replies(self, watched: bool) -> None:
        """Have the thread watch the sockets, or not."""
        if watched is self._watched:
            return
        self._watched = watched
        events = select.EPOLLIN if watched else 0
        for connection in self._connections:
            if connection.fileno >= 0:
                self._epoll.modify(connection.fileno, events)

    def lead(self) -> None:
        """Take the reading over from the thread: what waits for the sockets waits for the thread's word as well."""
        self.leading = True
        if self.as_caller is _nothing:
            poll = select.poll()
            poll.register(self._nudge.fileno(), select.POLLIN)
            for connection in self._connections:
                if connection.fileno >= 0:
                    poll.register(connection.fileno, select.POLLIN)
            self.as_caller = poll.poll
        self.watch_replies(False)

    def follow(self, *, watched: bool) -> None:
        """Give the reading back; where nothing is to be `watched`, the next request or the thread's next turn does."""
        self.leading = False
        if watched:
            self.watch_replies(True)

    def begin(self) -> None:
        """Note that the caller that leads is reading."""
        self._reading = True
        self._nudge.clear()

    def end(self, *, again: bool) -> None:
        """Note that it has read; where it is to read `again`, it looks at the sockets that are there by now."""
        self._reading = False
        if again and self.as_caller is _nothing:
            self.lead()

    def nudge(self) -> None:
        """Wake the caller that leads, unless it reads just now."""
        if self.leading and not self._reading:
            self._nudge.set()

    def stop(self) -> None:
        """Wake whoever waits, and watch nothing any more."""
        self._nudge.set()
        self._epoll.close()

    def close(self) -> None:
        """Give the descriptors back; twice does no harm."""
        self.wakeup.close()
        self._nudge.close()

    def _look_anew(self) -> None:
        """Have the caller that waits look at other descriptors."""
        self.as_caller = _nothing
        self.nudge()


def _nothing(timeout_ms: int) -> None:
    """Wait for no descriptor: there is none yet, or another one."""
