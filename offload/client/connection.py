"""One client's connection to one edge server, and whether anybody is alive at its other end.

A peer counts as CONNECTED once its loop has answered, and as LOST as soon as ZeroMQ reports the connection closed, or
a ping stays unanswered for `silence_s`: a server that is frozen keeps its connection open. Each loss drops the socket
and opens another, so nothing written before the loss can be answered after it. ZeroMQ then reconnects by itself, in
growing intervals. A server that refuses this client as a whole is left alone for a while that doubles each time.

Two descriptors tell when there is something to read: the socket's and its monitor's. They only tell what came after
the last look: whoever has touched the connection must call `receive` before waiting for them again, and `tick` looks
at the monitor.

A peer that rejects this client's key, is not the one whose key is known here, or does not answer, is LOST for that
reason within half a second. Over an emulated link, greetings, pings and their answers take the link's time too.

One thread at a time may touch a connection, any thread. A stall of the one that calls `tick` is not held against the
peer.
"""

import logging
import math
import random
from collections import deque
from collections.abc import Callable, Sequence

import zmq
from zmq.utils.monitor import parse_monitor_message

from devices.clock import Clock
from offload.client.choice import Service
from offload.client.settings import ClientSettings, PeerState, Status
from offload.errors import AddressError, ClientError, WireError
from offload.frames import COPY_BELOW_BYTES, Array
from offload.link import EmulatedLink
from offload.multipart import receive_frames, send_frames
from offload.throttle import Throttle
from offload.wakeup import holds_message
from offload.wire import Code, FromVehicle, Hello, Ping, Pong, Reply, Welcome, decode_from_edge, encode_header

_LOG = logging.getLogger("headway.offload")
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
)
_KEPT_PINGS = 16
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 8.0
_SAID_AFTER_S = 0.4
_CONTROL_BITS = 8 * 64.0  # a ping, a pong or a cancel on the wire


class Connection:
    """A DEALER, its monitor, its pings.

    Args:
        context: Where sockets are made.
        watch: Called with a descriptor to be watched for reading; `unwatch` before it is closed.
        endpoint: Address of the edge server.
        on_state: Called with this connection after each change of its state, on the thread that touches it.
        link: Emulated link whose time control messages take; None: none.
        on_pong: Told the round-trip time of each ping that is answered [s].
        later: Has an action taken at a time [s] by whoever touches the connection.
    Raises:
        AddressError: the address is none.
        ClientError: the server's key is not known.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        watch: Callable[[int], None],
        unwatch: Callable[[int], None],
        endpoint: str,
        settings: ClientSettings,
        clock: Clock,
        on_state: Callable[["Connection"], None],
        link: EmulatedLink | None = None,
        later: Callable[[float, Callable[[], None]], None] | None = None,
        on_pong: Callable[[float], None] | None = None,
    ) -> None:
        self._context = context
        self._watch_fd = watch
        self._unwatch_fd = unwatch
        self.endpoint = endpoint
        self._settings = settings
        self._clock = clock
        self._on_state = on_state
        self._link = link
        self._later = later
        self._on_pong = on_pong
        self._reply_delay_s = 0.0
        self._opened = 0
        self._hung_up = False
        self._opened_s = clock.now_s()
        self._said = False
        self._fd = self._monitor_fd = -1
        self._complaints = Throttle(_LOG, clock)
        self._shaken_hands = False
        self._unanswered_s: float | None = None
        self._pings: deque[tuple[int, float]] = deque(maxlen=_KEPT_PINGS)
        self._number = 0
        now_s = clock.now_s()
        self._ticked_s = now_s
        self._next_ping_s = now_s
        self._pause_s = _FIRST_PAUSE_S
        self._reopen_s = math.inf
        self._fd = self._monitor_fd = -1
        self.state = PeerState(Status.LOST, f"not connected to {endpoint} yet", now_s)
        self.service = Service()
        """What is known of the server's speed."""
        self.damaged = 0
        """Messages of the server that could not be read."""
        self._open()

    @property
    def next_tick_s(self) -> float:
        """When `tick` is to be called next [s]."""
        return self._next_ping_s

    @property
    def fileno(self) -> int:
        """The socket's descriptor; -1 while there is none."""
        return self._fd

    def send(self, header: bytes, data: Sequence[bytes | Array] = ()) -> bool:
        """Send a message and its tensors; False if the connection is down or its buffer full."""
        if self._fd < 0:
            return False
        try:
            send_frames(self._dealer, header, data)
        except zmq.Again:
            return False
        return True

    def send_control(self, header: bytes) -> bool:
        """Send a message without tensors; over an emulated link it leaves when that would have carried it."""
        if self._link is None or self._later is None:
            return self.send(header)
        now_s = self._clock.now_s()
        passage = self._link.pass_control(_CONTROL_BITS, now_s)
        self._reply_delay_s = passage.reply_delay_s
        if passage.arrival_s <= now_s:
            return self.send(header)
        if passage.arrival_s < math.inf:
            self._later(passage.arrival_s, lambda opened=self._opened: self._send_if(opened, header))  # type: ignore[misc]
        return True

    def _send_if(self, opened: int, header: bytes) -> None:
        if opened == self._opened:
            self.send(header)

    def receive(
        self, on_reply: "Callable[[Connection, Reply, dict[str, Array]], None]", *, expected: bool = False
    ) -> None:
        """Take in all that has come; `on_reply` is called with each reply among it and its tensors.

        Where something is `expected`, because the descriptor says so, the first look is spared.
        """
        while self._fd >= 0 and (expected or holds_message(self._dealer)):
            expected = False
            try:
                frames = receive_frames(self._dealer)
            except zmq.Again:
                return
            if self._link is None:
                self._unanswered_s = None
            try:
                message, tensors = decode_from_edge(frames, self._settings.limits)
            except WireError as error:
                self.damaged += 1
                self._complaints.warn(f"a message of {self.endpoint} cannot be read: {error}")
                continue
            if type(message) is Reply:
                if message.id == 0 and not self.state.connected:
                    self._refused(message)
                else:
                    on_reply(self, message, tensors)
            else:
                self._heard(message)  # type: ignore[arg-type]

    def _heard(self, message: Welcome | Pong) -> None:
        if self._link is None or self._later is None:
            self._hear(self._opened, message)
        else:
            at_s = self._link.open_s(self._clock.now_s() + self._reply_delay_s)
            self._later(at_s, lambda opened=self._opened, message=message: self._hear(opened, message))  # type: ignore[misc]

    def _hear(self, opened: int, message: Welcome | Pong) -> None:
        if opened != self._opened:
            return
        self._unanswered_s = None
        if isinstance(message, Pong):
            self._pong(message)
        elif not self.state.connected:
            self._pause_s = _FIRST_PAUSE_S
            now_s = self._clock.now_s()
            self._set(PeerState(Status.CONNECTED, "", now_s, message.server, message.models, message.codecs))

    def tick(self) -> None:
        """Ping when it is time, and find out whether the peer is gone or has fallen silent; call after `receive`."""
        self._watch()
        now_s = self._clock.now_s()
        if now_s >= self._reopen_s:
            self._reopen_s = math.inf
            self._open()
        stall_s = now_s - self._ticked_s - self._settings.ping_s
        self._ticked_s = now_s
        if self._unanswered_s is not None and stall_s > self._settings.ping_s:
            self._unanswered_s += stall_s
        if self.state.connected and self._unanswered_s is not None:
            silent_s = now_s - self._unanswered_s
            if silent_s >= self._settings.silence_s:
                self._lose(f"{self.endpoint} has not answered for {silent_s:.3f} s: frozen, overloaded or cut off")
        if now_s >= self._next_ping_s:
            self._ping(now_s)
        if not self._said and not self.state.connected and now_s - self._opened_s >= _SAID_AFTER_S:
            self._said = True
            reason = f"{self.endpoint} has not answered for {now_s - self._opened_s:.1f} s: unreachable, or frozen"
            _LOG.warning("not connected: %s", reason, extra={"code": "edge_unreachable", "endpoint": self.endpoint})
            self._set(PeerState(Status.LOST, reason, now_s))

    def close(self) -> None:
        """Close the sockets; twice does no harm."""
        if self._fd < 0:
            return
        self._unwatch_fd(self._fd)
        self._unwatch_fd(self._monitor_fd)
        self._fd = self._monitor_fd = -1
        self._close_sockets()

    def _close_sockets(self) -> None:
        self._dealer.disable_monitor()
        self._monitor.close(linger=0)
        self._dealer.close(linger=0)

    def _open(self) -> None:
        settings = self._settings
        self._dealer: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IMMEDIATE, 1),
            (zmq.SNDHWM, 2 * (settings.open_requests + 8)),  # ZeroMQ learns in halves what has left
            (zmq.RCVHWM, settings.open_requests + 8),
            (zmq.MAXMSGSIZE, max(settings.limits.tensor_bytes, settings.limits.header_bytes)),
            (zmq.HEARTBEAT_IVL, settings.heartbeat_ms),
            (zmq.HEARTBEAT_TIMEOUT, 3 * settings.heartbeat_ms),
            (zmq.RECONNECT_IVL, settings.reconnect_ms),
            (zmq.RECONNECT_IVL_MAX, settings.reconnect_max_ms),
            (zmq.HANDSHAKE_IVL, settings.handshake_ms),
            (zmq.CONNECT_TIMEOUT, settings.handshake_ms),
        ):
            self._dealer.setsockopt(option, value)
        self._dealer.copy_threshold = COPY_BELOW_BYTES
        self._monitor = self._dealer.get_monitor_socket(_EVENTS)
        self._shaken_hands = False
        self._unanswered_s = None
        self._opened += 1
        self._hung_up = False
        self._opened_s = self._clock.now_s()
        self._said = False
        if settings.security is not None and not settings.security.secure(self._dealer, self.endpoint):
            self._close_sockets()
            raise ClientError(f"the public key of the edge server {self.endpoint} is not known: headway keys show")
        try:
            self._dealer.connect(self.endpoint)
        except zmq.ZMQError as error:
            self._close_sockets()
            raise AddressError(
                f"cannot connect to {self.endpoint!r}: {error.strerror}; give an address such as tcp://127.0.0.1:5555"
            ) from error
        self._fd = int(self._dealer.get(zmq.FD))
        self._monitor_fd = int(self._monitor.get(zmq.FD))
        self._watch_fd(self._fd)
        self._watch_fd(self._monitor_fd)

    def _watch(self) -> None:
        while self._fd >= 0 and holds_message(self._monitor):
            frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            event = parse_monitor_message(frames)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._shaken_hands = True
                self._ping(self._clock.now_s())
            elif event == zmq.EVENT_CONNECT_RETRIED:
                if self._hung_up:  # it follows every hang-up, which said more
                    self._hung_up = False
                    continue
                self._lose(f"nobody answers at {self.endpoint}: is an edge server running there?")
            elif event == zmq.EVENT_DISCONNECTED:
                was_greeted, self._shaken_hands = self._shaken_hands, False
                if self.state.connected:
                    self._lose(f"{self.endpoint} closed the connection, or missed its heartbeats")
                    return
                self._hung_up = True
                if not was_greeted:
                    self._lose(f"{self.endpoint} hangs up in the handshake, or does not finish it: {self._why_hung_up}")
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._leave_alone(f"UNAUTHORIZED: {self.endpoint} rejected this client's key; is it on the allow-list?")
            else:
                self._leave_alone(f"{self.endpoint} speaks otherwise: {self._why_hung_up}")

    @property
    def _why_hung_up(self) -> str:
        if self._settings.security is None:
            return "it is frozen, wants a key, or is no edge server"
        return "it is frozen, has another key than the one known here, wants none, or is no edge server"

    def _ping(self, now_s: float) -> None:
        self._next_ping_s = now_s + self._settings.ping_s
        if not self._shaken_hands:
            return
        message: FromVehicle = Hello(client=self._settings.name)
        if self.state.connected:
            self._number += 1
            self._pings.append((self._number, now_s))
            message = Ping(number=self._number)
        if self.send_control(encode_header(message)) and self._unanswered_s is None:
            self._unanswered_s = now_s

    def _pong(self, pong: Pong) -> None:
        now_s = self._clock.now_s()
        self.service.report(1e-6 * pong.load_us, now_s)
        while self._pings and self._pings[0][0] <= pong.number:
            number, sent_s = self._pings.popleft()
            if number == pong.number:
                self.service.rtt_s = now_s - sent_s
                if self._on_pong is not None:
                    self._on_pong(now_s - sent_s)

    def _refused(self, reply: Reply) -> None:
        """Leave a server alone that does not want this client, for longer each time."""
        if reply.code is not Code.INVALID:
            self._leave_alone(f"{reply.code}: {reply.message}")

    def _leave_alone(self, reason: str) -> None:
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(_LONGEST_PAUSE_S, 2.0 * self._pause_s)
        self.close()
        self._shaken_hands = False
        self._said = True
        self._reopen_s = self._clock.now_s() + pause_s
        self._next_ping_s = min(self._next_ping_s, self._reopen_s)
        _LOG.warning(
            "%s is left alone: %s; next attempt in %.2f s",
            self.endpoint,
            reason,
            pause_s,
            extra={"code": "edge_left_alone", "endpoint": self.endpoint},
        )
        if reason != self.state.reason:
            self._set(PeerState(Status.LOST, reason, self._clock.now_s()))

    def _lose(self, reason: str) -> None:
        was_connected = self.state.connected
        if was_connected:
            self.close()
            self._open()
            self._pings.clear()
            self.service.forget()
            _LOG.warning("lost: %s", reason, extra={"code": "edge_lost", "endpoint": self.endpoint})
        else:
            self._said = True  # and more exactly than silence does
            if reason != self.state.reason:
                self._complaints.warn(f"not connected: {reason}", kind=reason)  # one of a few
        if was_connected or reason != self.state.reason:
            self._set(PeerState(Status.LOST, reason, self._clock.now_s()))

    def _set(self, state: PeerState) -> None:
        if state.connected and not self.state.connected:
            _LOG.info(
                "connected to %s, which serves %s",
                self.endpoint,
                ", ".join(state.models),
                extra={"code": "edge_connected", "endpoint": self.endpoint},
            )
        self.state = state
        self._on_state(self)
