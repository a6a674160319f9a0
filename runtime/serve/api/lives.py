"""Ends what clients asked for that live no more, so that a device is not kept busy for nobody.

On the unix socket the kernel vouches for a client's process, and a descriptor of that process (pidfd) says when it has
ended, however it ends. A connection of shared memory tells of its own end. A client on TCP is not watched: what it
asked for runs to its deadline.
"""

import logging
import os
from collections.abc import Callable, Hashable
from typing import Any

import zmq

from runtime.serve.api.quota import Client

_log = logging.getLogger("headway.daemon")


class Lives:
    """Requests under way by the process that asked for them; used on the socket thread alone.

    Args:
        poller: Where the processes' descriptors are registered.
        cancel: Ends a request.
    """

    def __init__(self, poller: zmq.Poller, cancel: Callable[[Hashable], object]) -> None:
        self._poller = poller
        self._cancel = cancel
        self._under_way: dict[bytes, dict[Hashable, None]] = {}
        self._watched: dict[int, bytes] = {}

    def begin(self, client: Client, request_id: Hashable) -> None:
        """Note that a request of a client is under way."""
        mine = self._under_way.get(client.owner)
        if mine is None:
            try:
                mine = self._watch(client.owner)
            except ProcessLookupError:
                self._cancel(request_id)
        if mine is not None:
            mine[request_id] = None

    def end(self, client: Client, request_id: Hashable) -> None:
        """Note that a request is answered."""
        mine = self._under_way.get(client.owner)
        if mine is not None:
            mine.pop(request_id, None)

    def attend(self, ready: dict[Any, int]) -> None:
        """End what processes asked for that have ended."""
        for descriptor in [each for each in self._watched if each in ready]:
            self._forget(descriptor)

    def close(self) -> None:
        """Watch nobody any more."""
        for descriptor in tuple(self._watched):
            self._poller.unregister(descriptor)
            os.close(descriptor)
        self._watched.clear()

    def _watch(self, owner: bytes) -> dict[Hashable, None] | None:
        """Return where to note the requests of a process; None where it cannot be watched.

        Raises:
            ProcessLookupError: it has ended already.
        """
        user, _, pid = owner.partition(b":")
        if not (user.isdigit() and pid.isdigit()):
            return None
        try:
            descriptor = os.pidfd_open(int(pid))
        except ProcessLookupError:
            raise
        except (OSError, AttributeError) as error:  # too many descriptors, or a kernel without them
            _log.info("process %s is not watched: %s", pid.decode(), error, extra={"code": "unwatched_process"})
            return None
        self._watched[descriptor] = owner
        self._poller.register(descriptor, zmq.POLLIN)
        mine = self._under_way[owner] = {}
        return mine

    def _forget(self, descriptor: int) -> None:
        owner = self._watched.pop(descriptor)
        self._poller.unregister(descriptor)
        os.close(descriptor)
        for request_id in self._under_way.pop(owner, {}):
            self._cancel(request_id)
