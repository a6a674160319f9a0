"""CURVE on a socket: who an edge server lets in, and how a client proves who it is.

The server's socket speaks CURVE alone. ZeroMQ asks for each handshake over ZAP; the answer comes from the allow-list,
on a thread of pyzmq's own. A client must know its server's public key beforehand, so that nobody can stand in for it.

Reference: ZeroMQ RFC 26 (CurveZMQ), RFC 27 (ZAP).
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator

from devices.clock import Clock
from offload.security.allow_list import AllowList
from offload.security.keys import KeyPair, check_key
from offload.throttle import Throttle

_LOG = logging.getLogger("headway.edge")
_ZAP_LOG = logging.getLogger("headway.edge.zap")
_ZAP_LOG.setLevel(logging.CRITICAL)  # it tells of every handshake; the gate tells what matters
_DOMAIN = "headway"


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """What an edge server needs to know its clients.

    Args:
        keys: Its own pair.
        allowed: File of the clients that may connect.
    """

    keys: KeyPair
    allowed: Path


@dataclass(frozen=True, slots=True)
class ClientSecurity:
    """What a client needs to prove who it is and to know its servers.

    Args:
        keys: Its own pair.
        servers: Public keys by address; the one by "" is for every other address.
    Raises:
        SecurityError: a server's key is none.
    """

    keys: KeyPair
    servers: Mapping[str, str]

    def __post_init__(self) -> None:
        for endpoint, key in self.servers.items():
            check_key(key, f"the key of the edge server {endpoint or '(any)'}")

    def secure(self, socket: "zmq.Socket[bytes]", endpoint: str) -> bool:
        """Make a socket speak CURVE before it connects; False if the key of that server is not known."""
        server = self.servers.get(endpoint, self.servers.get("", ""))
        if not server:
            return False
        socket.curve_serverkey = server.encode()
        socket.curve_publickey = self.keys.public.encode()
        socket.curve_secretkey = self.keys.secret.encode()
        return True


class Doorkeeper:
    """Answers ZeroMQ's question, for each handshake, whether the client may connect.

    Args:
        context: The one of the sockets that are to be kept; one keeper a context.
        security: Keys and list.
    Raises:
        SecurityError: the allow-list cannot be read.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", security: ServerSecurity, clock: Clock) -> None:
        self._security = security
        self.allowed = AllowList(security.allowed, clock)
        self.counts: Counter[str] = Counter()
        """Handshakes "admitted" and "rejected"."""
        self._complaints = Throttle(_LOG, clock)
        self._authenticator = ThreadAuthenticator(context, log=_ZAP_LOG)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(domain=_DOMAIN, credentials_provider=self)

    def secure(self, socket: "zmq.Socket[bytes]") -> None:
        """Make a socket speak CURVE, and nothing else, before it binds."""
        socket.curve_server = True
        socket.curve_secretkey = self._security.keys.secret.encode()
        socket.zap_domain = _DOMAIN.encode()

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether the owner of a public key, in Z85, may connect; called on the authenticator's thread."""
        text = key.decode()
        name = self.allowed.name_of(text, fresh=True)
        self.counts["admitted" if name else "rejected"] += 1
        if name is None:
            self._complaints.warn(f"rejected a client whose key {text} is not on the allow-list")
        return name is not None

    def close(self) -> None:
        """End the authenticator; twice does no harm."""
        self._authenticator.stop()
