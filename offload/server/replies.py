"""What an edge server says: each answer and each refusal, counted."""

import logging
from collections.abc import Mapping

from devices.clock import Clock
from offload.errors import WireError
from offload.frames import Array, Limits, tensor_frames
from offload.server.agenda import Agenda
from offload.server.job import Job
from offload.server.router import Router
from offload.server.tally import Tally
from offload.throttle import Throttle
from offload.wire import Code, FromEdge, Reply, encode_header

_LOG = logging.getLogger("headway.edge")
_TEXT = 1024


class Replies:
    """Says it.

    Args:
        router: Where.
        agenda: Whose load every reply reports.
        tally: Where replies are counted by code.
        limits: Most that one message may carry.
        clock: Times the complaints about damaged messages.
    """

    def __init__(self, router: Router, agenda: Agenda, tally: Tally, limits: Limits, clock: Clock) -> None:
        self._router = router
        self._agenda = agenda
        self._tally = tally
        self._limits = limits
        self._complaints = Throttle(_LOG, clock)

    def answer(
        self,
        client: bytes,
        request_id: int,
        outputs: Mapping[str, Array],
        exit_id: str | None,
        queue_s: float,
        compute_s: float,
    ) -> None:
        """Send what was computed."""
        limits = self._limits
        try:
            headers, data = tensor_frames(outputs, limits, request_id)
            reply = Reply(
                id=request_id,
                code=Code.OK,
                exit_id=exit_id,
                queue_us=int(1e6 * queue_s) if queue_s > 0.0 else 0,
                compute_us=round(1e6 * compute_s),
                load_us=self._agenda.load_us,
                tensors=headers,
            )
            header = encode_header(reply, limits)
        except WireError as error:
            self.refuse(client, request_id, Code.UNAVAILABLE, f"the answer does not fit the wire: {error}")
            return
        sent = self._router.send(client, header, data)
        self._count(Code.OK, sent)

    def refuse(self, client: bytes, request_id: int, code: Code, message: str) -> None:
        """Send why there is no answer."""
        self.end(client, Reply(id=request_id, code=code, message=message[:_TEXT], load_us=self._agenda.load_us))

    def end(self, client: bytes, reply: Reply) -> None:
        """Send a reply without tensors as it is."""
        if reply.code is Code.INVALID:
            self._complaints.warn(f"refused: {reply.message}")
        self._count(reply.code, self._router.send(client, encode_header(reply)))

    def late(self, job: Job, now_s: float) -> None:
        """Say that a job was not computed in time, and not at all."""
        waited_us = max(0, round(1e6 * (now_s - job.received_s)))
        text = f"not computed: waited {waited_us} us in the queue, {job.request.time_left_us} us were left"
        self.refuse(job.client, job.request.id, Code.DEADLINE_EXCEEDED, text)

    def say(self, client: bytes, message: FromEdge) -> None:
        """Send what ends no request."""
        if not self._router.send(client, encode_header(message)):
            self._tally.replies["unreachable"] += 1

    def _count(self, code: Code, sent: bool) -> None:
        self._tally.replies[code] += 1
        if not sent:
            self._tally.replies["unreachable"] += 1
