"""The socket of an edge server: what comes in, what goes out, and who is connected."""

import resource
from collections.abc import Sequence
from pathlib import Path

import zmq

from devices.clock import Clock
from offload.errors import ServerError
from offload.frames import COPY_BELOW_BYTES, Array
from offload.multipart import receive_routed, send_routed
from offload.security.gate import Gate
from offload.server.clients import Clients, most_clients
from offload.server.settings import ServerSettings
from offload.wakeup import holds_message

_FLUSH_MS = 500
_GONE = (zmq.EHOSTUNREACH, zmq.EAGAIN)
_REMEDIES: dict[int | None, str] = {
    zmq.EADDRNOTAVAIL: "give an address of this machine, or tcp://0.0.0.0:PORT for all of them"
}


class Router:
    """A bound ROUTER.

    Args:
        context: Where it is made.
        settings: Address and limits.
        gate: Who may connect; None: anybody.
        clock: Times those who are shown out.
    Raises:
        ServerError: the address cannot be bound.
    """

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", settings: ServerSettings, gate: Gate | None, clock: Clock
    ) -> None:
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.BACKLOG, 4096),
            (zmq.SNDHWM, 2 * (settings.client_jobs + 8)),  # ZeroMQ learns in halves what has left
            (zmq.RCVHWM, settings.client_jobs + 8),
            (zmq.MAXMSGSIZE, max(settings.limits.tensor_bytes, settings.limits.header_bytes)),
            (zmq.HEARTBEAT_IVL, settings.heartbeat_ms),
            (zmq.HEARTBEAT_TIMEOUT, 3 * settings.heartbeat_ms),
            (zmq.HEARTBEAT_TTL, 3 * settings.heartbeat_ms),
        ):
            socket.setsockopt(option, value)
        if gate is not None:
            gate.secure(socket)
        socket.copy_threshold = COPY_BELOW_BYTES
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = settings.clients or most_clients(limit, len(list(Path("/proc/self/fd").iterdir())))
        self._socket = socket
        self.clients = Clients(socket, most, clock)
        """Who is connected."""
        try:
            socket.bind(settings.bind)
        except zmq.ZMQError as error:
            self.clients.close()
            socket.close()
            remedy = _REMEDIES.get(error.errno, "choose another port, or 0")
            raise ServerError(f"cannot bind {settings.bind}: {error.strerror}; {remedy}") from error
        self.endpoint: str = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """Address it is bound to, with its real port."""
        self.fileno: int = int(socket.get(zmq.FD))
        """Readable when something has happened since `receive` and `holds_message` last found nothing."""

    @property
    def holds_message(self) -> bool:
        """Whether a message waits; after False, the descriptor tells when one has come."""
        return holds_message(self._socket)

    def receive(self) -> tuple[bytes, list[zmq.Frame]] | None:
        """Return the connection that sent the next message and its frames; None if there is none."""
        try:
            return receive_routed(self._socket)
        except zmq.Again:
            return None

    def send(self, client: bytes, header: bytes, data: Sequence[bytes | Array] = ()) -> bool:
        """Send a message; False if its client is gone, or does not read."""
        try:
            send_routed(self._socket, client, header, data)
        except zmq.ZMQError as error:
            if error.errno not in _GONE:
                raise
            return False
        return True

    def close(self) -> None:
        """Send what is under way, and give the address back; twice does no harm."""
        if not self._socket.closed:
            self.clients.close()
        self._socket.close(linger=_FLUSH_MS)
