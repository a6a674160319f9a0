"""A request of the protocol on its way through the service, for the event loop of the front ends.

    call = calls.begin(asked)            # refused, or answered at once where the model is quick and its device idle
    reply = await call.reply()           # a cancelled task cancels the request
    .. send it ..
    call.sent()

The deadline counts from when the request's head was read. Asking for outputs by name asks for the exit that hands them
out, or a deeper one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from devices.package import Package
from devices.tensor import Array
from runtime.execute.errors import ClosedError, ModelNotFoundError
from runtime.execute.request import Reply, Request, Status
from runtime.serve.oip.errors import CAUSES, Cause, OipError
from runtime.serve.oip.options import DEFAULTS, Options, Parameter
from runtime.serve.service import Service, parts_of

NS_PER_US = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was decoded.

    Args:
        model: Name of the model.
        version: Its version; empty: the one served by default.
        inputs: Tensors by name.
        begun_ns: When it came, CLOCK_MONOTONIC [ns].
        outputs: Names of the outputs wanted; none: all that the exit hands out.
        options: How it is to be treated.
        due_ns: When its caller gives up, CLOCK_MONOTONIC [ns]; None: never.
        traceparent: W3C trace context that it belongs to; None: none came with it.
    """

    model: str
    version: str
    inputs: Mapping[str, Array]
    begun_ns: int
    outputs: Sequence[str] = ()
    options: Options = DEFAULTS
    due_ns: int | None = None
    traceparent: str | None = None

    @property
    def deadline_ns(self) -> int | None:
        """When the reply is due, CLOCK_MONOTONIC [ns]; None: whenever it is ready."""
        timeout_us = self.options.timeout_us
        if timeout_us is None:
            return self.due_ns
        asked_ns = self.begun_ns + timeout_us * NS_PER_US
        return asked_ns if self.due_ns is None else min(asked_ns, self.due_ns)


@dataclass(slots=True)
class Call:
    """A request that the service has taken.

    Args:
        service: Runs it.
        request: What it was made.
        answered: Its reply, once there is one.
    """

    service: Service
    request: Request
    answered: "asyncio.Future[Reply]" = field(repr=False)

    async def reply(self) -> Reply:
        """Return the reply, an answer.

        Raises:
            OipError: There is no answer; the request counts as sent then.
        """
        try:
            reply = await asyncio.shield(self.answered)
        except asyncio.CancelledError:
            self.abandon()
            raise
        return self._answer(reply)

    def taken(self) -> Reply:
        """Return the reply that is there already, an answer.

        Raises:
            OipError: There is no answer; the request counts as sent then.
        """
        return self._answer(self.answered.result())

    def _answer(self, reply: Reply) -> Reply:
        if reply.status is not Status.OK:
            self.service.delivered(self.request, reply)
            raise OipError(CAUSES[reply.status], reply.message)
        return reply

    def cancel(self) -> None:
        """Stop the request; its reply will say so."""
        self.service.cancel(self.request.id)

    def abandon(self) -> None:
        """Stop the request: nobody waits for its reply any more."""
        self.answered.add_done_callback(lambda done: self.service.delivered(self.request, done.result()))
        self.cancel()

    def sent(self) -> None:
        """Tell the service that the answer has left."""
        self.service.delivered(self.request, self.answered.result())


class Calls:
    """Takes requests for a service, on one event loop.

    Args:
        service: Runs them.
        loop: Where their replies are awaited.
    """

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop

    @property
    def traced(self) -> bool:
        """Whether requests are traced, for whoever would look up their trace context for nothing."""
        return self._service.tracing is not None

    def begin(self, asked: Asked) -> Call:
        """Run a request.

        Raises:
            OipError: There is no such model or output, or the daemon is about to end.
        """
        package = self.package(asked.model, asked.version)
        request = self._service.request(
            self._service.new_id(),
            package.name,
            asked.inputs,
            deadline_ns=asked.deadline_ns,
            priority=asked.options.priority,
            least_exit=least_exit(package, asked),
            version=package.version if asked.version else None,
            traceparent=asked.traceparent,
        )
        answered: asyncio.Future[Reply] = self._loop.create_future()
        try:
            reply = self._service.run_inline(request)
            if reply is None:
                self._service.submit(request, lambda done: self._hand_over(answered, done))
            else:
                answered.set_result(reply)
        except ClosedError as error:
            raise OipError(Cause.UNAVAILABLE, str(error)) from error
        return Call(self._service, request, answered)

    def package(self, model: str, version: str) -> Package:
        """Return the package of a served model.

        Raises:
            OipError: It is not served.
        """
        try:
            return self._service.package(model, version or None)
        except ModelNotFoundError as error:
            raise OipError(Cause.NOT_FOUND, str(error)) from error

    def _hand_over(self, answered: "asyncio.Future[Reply]", reply: Reply) -> None:
        try:
            self._loop.call_soon_threadsafe(answered.set_result, reply)
        except RuntimeError:  # the loop has ended, and everybody who waited on it
            return


def told(reply: Reply) -> dict[str, Parameter]:
    """Return what an answer tells beside its tensors: the response parameters of the extension "headway"."""
    parameters: dict[str, Parameter] = {
        "exit_id": reply.exit_id or "",
        "ending": str(reply.ending),
        "parts": msgspec.json.encode(parts_of(reply)).decode(),
    }
    if reply.confidence is not None:
        parameters["confidence"] = reply.confidence
    if reply.time_left_s is not None:
        parameters["time_left_us"] = round(reply.time_left_s * 1e6)
    if reply.message:
        parameters["reason"] = reply.message
    return parameters


def chosen(reply: Reply, outputs: Sequence[str]) -> Mapping[str, Array]:
    """Return the outputs asked for; all, where none were, or where a deeper exit answered that has others."""
    found = {name: reply.outputs[name] for name in outputs if name in reply.outputs}
    return found or reply.outputs


def least_exit(package: Package, asked: Asked) -> str | None:
    """Return the shallowest exit that is of use: the one asked for, or the one that hands out the outputs asked for.

    Raises:
        OipError: There is no such exit.
    """
    if not asked.outputs:
        return asked.options.least_exit
    handed_out = {each.id: package.exit_outputs(each.id) for each in package.exits}
    owners = [owner for owner, names in handed_out.items() if set(asked.outputs) <= set(names)]
    if not owners:
        known = "; ".join(f"{owner}: {', '.join(names)}" for owner, names in handed_out.items())
        raise OipError(
            Cause.INVALID, f"no exit of {package.name!r} hands out all of {sorted(asked.outputs)}: by exit {known}"
        )
    if asked.options.least_exit is None:
        return owners[0]
    try:
        return max(owners[0], asked.options.least_exit, key=package.exit_index)
    except KeyError as error:
        raise OipError(Cause.INVALID, str(error.args[0])) from error
