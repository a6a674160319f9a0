"""Takes a vehicle's ticks on to the guard and the guard's decisions back, for clients of the daemon's socket alone.

It is for clients that want one socket. A control that comes this way lives only as long as the daemon does; the pair in
a decision (control until, then backup) outlives it, as always. `headway.Session` asks the guard itself.
"""

from pathlib import Path
from typing import Any

import zmq

from runtime.errors import MessageError
from runtime.serve.api.messages import Step
from runtime.serve.api.quota import Client
from runtime.serve.guard_messages import Observe, encode
from runtime.serve.sockets import ipc_address


class GuardRelay:
    """One vehicle's connection to the guard through the daemon; used on the socket thread alone.

    Args:
        context: ZeroMQ's.
        poller: Where the socket is registered once there is one.
        path: The guard's unix socket.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", poller: zmq.Poller, path: Path) -> None:
        self._context = context
        self._poller = poller
        self._path = path
        self._socket: zmq.Socket[bytes] | None = None
        self._client: Client | None = None

    def observe(self, client: Client, step: Step) -> None:
        """Take a tick on to the guard; the decision is for `client`.

        Raises:
            MessageError: the guard does not take it.
        """
        self._client = client
        observed = Observe(
            stamp_ns=step.stamp_ns,
            x_m=step.x_m,
            y_m=step.y_m,
            heading_rad=step.heading_rad,
            beta_rad=step.beta_rad,
            speed_mps=step.speed_mps,
            obstacles=step.obstacles or [],
            applied_id=step.applied_id,
        )
        try:
            self._connected().send(encode(observed), zmq.NOBLOCK)
        except zmq.Again as error:
            raise MessageError("no guard takes the tick: hold what you have, then run its backup") from error

    def decisions(self, ready: dict[Any, int]) -> list[tuple[Client, bytes]]:
        """Return what the guard has said, each with the client that it is for."""
        if self._socket is None or self._socket not in ready:
            return []
        found = []
        while int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            decision = self._socket.recv()
            if self._client is not None:
                found.append((self._client, decision))
        return found

    def close(self) -> None:
        """Leave the guard."""
        if self._socket is not None:
            self._poller.unregister(self._socket)
            self._socket.close()

    def _connected(self) -> "zmq.Socket[bytes]":
        if self._socket is None:
            self._socket = self._context.socket(zmq.DEALER)
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.setsockopt(zmq.SNDHWM, 16)
            self._socket.setsockopt(zmq.RECONNECT_IVL, 10)
            self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 100)
            self._socket.connect(ipc_address(self._path))
            self._poller.register(self._socket, zmq.POLLIN)
        return self._socket
