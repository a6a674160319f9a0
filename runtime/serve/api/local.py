"""The daemon's local sockets: a ROUTER on a unix socket, and where configured another on loopback TCP.

Runs on the one thread that owns all sockets. A request that its device could answer at once is run on this thread, the
others' replies come back by the mailbox. What a client sends wrong is answered to that client; nothing that a client
sends ends the daemon, and a flood of one client's holds up nobody for longer than a round of `ROUND` messages.

By TCP come requests, questions and events; what loads models or drives the vehicle comes by the unix socket alone.
"""

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import zmq

from devices.chain import SegmentTime
from devices.tensor import Array
from offload.errors import WireError
from offload.wakeup import holds_message
from runtime.errors import MessageError
from runtime.execute.request import Reply, Request, Status
from runtime.serve.api import codec, messages
from runtime.serve.api.admin import Administration
from runtime.serve.api.lives import Lives
from runtime.serve.api.questions import Questions
from runtime.serve.api.quota import Client, Quotas, owner_of
from runtime.serve.api.relay import GuardRelay
from runtime.serve.api.segments import SharedSegments
from runtime.serve.api.subscriptions import LEASE_S, Subscriptions
from runtime.serve.events import Topic
from runtime.serve.mailbox import Mailbox
from runtime.serve.pilot import Pilot
from runtime.serve.service import Service, parts_of

_log = logging.getLogger("headway.daemon")
ROUND = 64
_DIRECT = -1  # the door of messages that come by a connection of shared memory
_MOST_CLIENTS = 8192
_OLDEST_NS = 10_000_000_000  # nothing waits longer in a local socket; a larger age is another clock's
_COPY_BELOW_BYTES = 2**20  # for smaller frames a copy is quicker than pyzmq's telling when ours may be freed
_NOBLOCK, _NOBLOCK_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)  # combining flags costs as much as sending
_REHEARSED = (
    msgspec.msgpack.encode(messages.Infer(id=1, model="m", tensors=(messages.Tensor("x", "float32", (1, 16)),))),
    bytes(64),
)
_UNIX_ONLY = (messages.Load, messages.Unload, messages.Step)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the messages are about.

    Args:
        service: Requests and events.
        pilot: The vehicle's windows.
        relay: The way to the guard for steps with obstacles.
        admin: Models, plans, status.
        questions: What may be asked of the shield.
        segments: Shared memory.
        mailbox: Brings replies back to this thread.
        lives: Ends what dead clients asked for.
    """

    service: Service
    pilot: Pilot
    relay: GuardRelay
    admin: Administration
    questions: Questions
    segments: SharedSegments
    mailbox: Mailbox
    lives: Lives


_NOBODY = Client(0, b"", b"")


class LocalApi:
    """Answers the clients of the local sockets.

    Args:
        routers: The unix socket, and after it others.
        rooms: What the messages are about.
        quotas: What each client may have.
    """

    def __init__(self, routers: "Sequence[zmq.Socket[bytes]]", rooms: Rooms, quotas: Quotas) -> None:
        self._routers = tuple(routers)
        self._rooms = rooms
        self._quotas = quotas
        self._service = rooms.service
        self._mailbox = rooms.mailbox
        self._segments = rooms.segments
        self._clients: dict[tuple[int, bytes], Client] = {}
        self._subscriptions = Subscriptions(rooms.service.events, rooms.mailbox, self._tell)
        self.requests = 0
        self.refused = 0

    def attend(self, ready: dict[Any, int]) -> bool:
        """Take in what came, at most a round of messages from each socket.

        Returns:
            Whether a request came by shared memory: then its client may ask again before a sleeper would wake.
        """
        for door, router in enumerate(self._routers):
            if router in ready:
                self._receive(door, router)
        direct = self._segments.attend(ready)
        for segment, pid, data in direct:
            self._receive_direct(segment, pid, data)
        for client, decision in self._rooms.relay.decisions(ready):
            self._put(client, [decision])
        self._subscriptions.attend()
        self._rooms.lives.attend(ready)
        return bool(direct)

    def keep_warm(self) -> None:
        """Read and write down a request that nobody sent: the next one finds in the caches what that takes."""
        message, tensors = codec.decode(_REHEARSED, self._segments)
        if isinstance(message, messages.Infer):
            ran = (SegmentTime("s", "cpu", 0.0, 0.0),)
            self._answer_frames(_NOBODY, message, Reply(0, Status.OK, model="m", outputs=tensors, segments=ran))

    def close(self) -> None:
        """End all subscriptions."""
        self._subscriptions.close()

    def _receive(self, door: int, router: "zmq.Socket[bytes]") -> None:
        for _ in range(ROUND):
            peer = router.recv(_NOBLOCK)
            frames = _frames(router)
            client = self._clients.get((door, peer))
            if client is None:
                client = self._meet(door, peer, owner_of(frames[0].get("Peer-Address"), peer))
            try:
                if self._quotas.limited and (over := self._quotas.why_not(client, sum(map(len, frames)))):
                    raise MessageError(over)
                self._handle(client, *codec.decode(frames, self._segments))
            except WireError as error:
                self._refuse(client, error.request_id, str(error))
            except MessageError as error:
                self._refuse(client, 0, str(error))
            if not holds_message(router):
                return

    def _receive_direct(self, segment: int, pid: int, data: bytes) -> None:
        """Take in a message that came by the connection of shared memory: requests, and what cancels them."""
        peer = b"%d" % segment
        client = self._clients.get((_DIRECT, peer)) or self._meet(_DIRECT, peer, b"%d:%d" % (os.geteuid(), pid))
        try:
            if self._quotas.limited and (over := self._quotas.why_not(client, len(data))):
                raise MessageError(over)
            message, tensors = codec.decode([data], self._segments)
            if not isinstance(message, messages.Infer | messages.Cancel):
                raise MessageError("here come infer/1 and cancel/1 alone: send everything else to the ZeroMQ socket")
            self._handle(client, message, tensors)
        except WireError as error:
            self._refuse(client, error.request_id, str(error))
        except MessageError as error:
            self._refuse(client, 0, str(error))

    def _meet(self, door: int, peer: bytes, owner: bytes) -> Client:
        """Return a client that was not known yet."""
        if len(self._clients) >= _MOST_CLIENTS:
            self._clients.clear()  # whoever is still there is known again by its next message
        client = self._clients[door, peer] = Client(door, peer, owner)
        return client

    def _handle(self, client: Client, message: messages.FromClient, tensors: dict[str, Array]) -> None:
        if client.door > 0 and isinstance(message, _UNIX_ONLY):
            why = f"{message.__struct_config__.tag} is taken on the unix socket alone"
            self._send(client, messages.Error(id=getattr(message, "id", 0), code="PERMISSION_DENIED", error=why))
            return
        match message:
            case messages.Infer():
                self._infer(client, message, tensors)
            case messages.Step():
                self._step(client, message, tensors)
            case messages.Cancel():
                self._service.cancel((client.door, client.peer, message.id))
            case messages.Deadline() | messages.Filter():
                self._ask(client, message)
            case messages.Subscribe():
                self._subscribe(client, message)
            case messages.Unsubscribe():
                self._subscriptions.end(client, message.id)
            case _:
                self._rooms.admin.answer(message, partial(self._send, client))

    def _infer(self, client: Client, message: messages.Infer, tensors: dict[str, Array]) -> None:
        self.requests += 1
        over = self._quotas.begin(client)
        if over:
            self._send(client, messages.Error(id=message.id, code="RESOURCE_EXHAUSTED", error=over))
            return
        deadline_ns = None if message.deadline_us is None else _begun_ns(message.sent_ns) + message.deadline_us * 1000
        request = self._service.request(
            (client.door, client.peer, message.id),
            message.model,
            tensors,
            deadline_ns=deadline_ns,
            priority=message.priority,
            least_exit=message.least_exit,
            version=message.version,
            traceparent=message.traceparent,
        )
        reply = self._service.run_inline(request)
        if reply is not None:
            self._answer(client, message, request, reply)
            return
        answer = partial(self._answer_later, client, message, request)
        self._service.submit(request, lambda done: self._mailbox.put(partial(answer, done)))
        self._rooms.lives.begin(client, request.id)

    def _answer_later(self, client: Client, message: messages.Infer, request: Request, reply: Reply) -> None:
        self._rooms.lives.end(client, request.id)
        self._answer(client, message, request, reply)

    def _answer(self, client: Client, message: messages.Infer, request: Request, reply: Reply) -> None:
        """Send a reply; on the socket thread."""
        self._quotas.end(client)
        if reply.status is Status.OK:
            self._put(client, self._answer_frames(client, message, reply))
        else:
            self._send(client, messages.Error(id=message.id, code=reply.status.value, error=reply.message))
        self._service.delivered(request, reply)

    def _answer_frames(self, client: Client, message: messages.Infer, reply: Reply) -> list[Any]:
        least = 0 if client.door == _DIRECT else messages.SHARED_FROM_BYTES
        try:
            tensors, frames = codec.place(reply.outputs, message.answer_at, self._segments, least)
        except WireError as error:
            return [codec.encode(messages.Error(id=message.id, code="INVALID", error=str(error)))]
        if frames and client.door == _DIRECT:
            size = sum(array.nbytes for array in reply.outputs.values())
            why = f"the outputs have {size} bytes and do not fit into answer_at: give more, or ask by the ZeroMQ socket"
            return [codec.encode(messages.Error(id=message.id, code="ANSWER_TOO_LARGE", error=why))]
        answer = messages.Answer(
            id=message.id,
            status=reply.status.value,
            model=reply.model,
            version=reply.version,
            exit_id=reply.exit_id or "",
            confidence=reply.confidence,
            parts=parts_of(reply),
            time_left_us=None if reply.time_left_s is None else round(reply.time_left_s * 1e6),
            tensors=tensors,
        )
        return [codec.encode(answer), *frames]

    def _step(self, client: Client, message: messages.Step, tensors: dict[str, Array]) -> None:
        if message.obstacles is not None:
            self._rooms.relay.observe(client, message)
        frame = tensors.get("frame")
        if frame is None:
            if message.obstacles is None or tensors:
                raise MessageError('a step carries one tensor "frame", the camera\'s image, or obstacles, or both')
            return
        if self._service.events.wanted(Topic.FRAME):
            told = {"shape": frame.shape, "dtype": frame.dtype.name, "pixels": frame.tobytes()}
            self._service.events.publish(Topic.FRAME, told)
        for report in self._rooms.pilot.step(bytes((client.door,)) + client.peer, message, frame):
            self._send(client, report)
            if self._service.events.wanted(Topic.WINDOW):
                self._service.events.publish(Topic.WINDOW, msgspec.structs.asdict(report))

    def _ask(self, client: Client, question: messages.Deadline | messages.Filter) -> None:
        over = self._quotas.begin(client)
        if over:
            self._send(client, messages.Error(id=question.id, code="RESOURCE_EXHAUSTED", error=over))
            return
        told = partial(self._told, client, question.id)
        self._rooms.questions.ask(question).add_done_callback(lambda done: self._mailbox.put(partial(told, done)))

    def _told(self, client: Client, number: int, done: "Future[messages.Tolerable | messages.Admitted]") -> None:
        self._quotas.end(client)
        error = done.exception()
        if error is None:
            self._send(client, done.result())
        elif isinstance(error, ValueError):
            self._refuse(client, number, str(error))
        else:
            _log.error("a question to the shield failed", exc_info=error, extra={"code": "shield_failed"})
            self._send(client, messages.Error(id=number, code="UNAVAILABLE", error=f"the shield failed: {error}"))

    def _subscribe(self, client: Client, message: messages.Subscribe) -> None:
        most = self._quotas.quota.subscriptions
        if self._subscriptions.count(client) >= most and not self._subscriptions.known(client, message.id):
            why = f"you have {most} subscriptions: at most {most} may be"
            self._send(client, messages.Error(id=message.id, code="RESOURCE_EXHAUSTED", error=why))
            return
        self._subscriptions.begin(client, message.id, frozenset(map(Topic, message.topics)))
        self._send(client, messages.Subscribed(id=message.id, lease_s=LEASE_S))

    def _refuse(self, client: Client, number: int, why: str) -> None:
        self.refused += 1
        self._send(client, messages.Error(id=number, code="INVALID", error=why))

    def _send(self, client: Client, message: messages.FromDaemon) -> None:
        self._put(client, [codec.encode(message)])

    def _tell(self, client: Client, message: messages.EventMessage) -> bool | None:
        return self._put(client, [codec.encode(message)])

    def _put(self, client: Client, frames: list[Any]) -> bool | None:
        """Send without waiting: a client that is gone or does not read loses its reply, nobody else's time.

        Returns:
            Whether it was sent; None where the client is gone.
        """
        if client.door == _DIRECT:
            return self._segments.send(int(client.peer), frames[0])
        router, last = self._routers[client.door], len(frames) - 1
        try:
            router.send(client.peer, _NOBLOCK_MORE)
            for number, frame in enumerate(frames):
                copy = number == 0 or memoryview(frame).nbytes < _COPY_BELOW_BYTES
                router.send(frame, _NOBLOCK if number == last else _NOBLOCK_MORE, copy)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            _log.info("a reply was dropped: %s", error, extra={"code": "reply_dropped"})
            self._clients.pop((client.door, client.peer), None)
            return None
        return True


def _frames(router: "zmq.Socket[bytes]") -> list[zmq.Frame]:
    """Return the rest of a message; cheaper than `recv_multipart`, which asks the socket after each frame."""
    frame = router.recv(_NOBLOCK, False)
    frames = [frame]
    while frame.more:
        frame = router.recv(_NOBLOCK, False)
        frames.append(frame)
    return frames


def _begun_ns(sent_ns: int | None) -> int:
    """Return from when a request's deadline counts [ns]; a time no message can have been sent at is not believed."""
    now_ns = time.monotonic_ns()
    return sent_ns if sent_ns is not None and now_ns - _OLDEST_NS <= sent_ns <= now_ns else now_ns
