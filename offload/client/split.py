"""A model split in two: a head here, its tail on an edge server, both one request.

    split = SplitModel(package, backend, client, last_here="stem")
    request = split.submit({"image": image}, deadline_s=time.monotonic() + 0.05)
    ...
    outcome = client.wait(0.05)[0]

The head runs at once. If one of its exits is sure enough, its answer is the request's and nothing is sent. Otherwise
the tensors that the tail reads travel instead of the input, and the server runs the tail's segments alone. Until its
answer is here, or should it never come, the deepest exit of the head is what there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from devices.backend import Backend, CancelToken
from devices.chain import Chain, ExitAnswer
from devices.clock import Clock
from devices.package import Package
from devices.tensor import Array, check_inputs
from offload.client.client import EdgeClient
from offload.outcome import Handle


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """One request to a split model.

    Args:
        head: Deepest exit of the head that was run; None if it has none.
        handle: The tail's request; None where the head's exit answered, or the head was stopped.
        sent_bytes: What travelled instead of the input [B].
        head_s: Time the head took [s].
    """

    head: ExitAnswer | None
    handle: Handle | None
    sent_bytes: int
    head_s: float


class SplitModel:
    """A package whose first segments run here and whose others run on an edge server.

    Args:
        package: The package; the server serves the same version.
        backend: The device for the head.
        client: Connects to the servers.
        last_here: Last segment of the head, in the package's order.
        clock: Times the head.
    Raises:
        ValueError: `last_here` is no segment, or the last one: nothing would be left to send.
        BackendError: the backend refuses a segment.
    """

    def __init__(
        self, package: Package, backend: Backend, client: EdgeClient, last_here: str, *, clock: Clock | None = None
    ) -> None:
        order = [segment.id for segment in package.segments]
        if last_here not in order[:-1]:
            raise ValueError(f"last_here = {last_here!r}: must be one of {', '.join(order[:-1])}")
        cut = order.index(last_here) + 1
        self._head = Chain(package, backend, order[:cut], clock=clock)
        self._tail = order[cut:]
        read = {spec.name for segment_id in self._tail for spec in package.segment(segment_id).inputs}
        made = {spec.name for segment_id in self._tail for spec in package.segment(segment_id).outputs}
        self._sends = tuple(name for name in package.tensors if name in read - made)
        self._package = package
        self._client = client

    @property
    def sends(self) -> tuple[str, ...]:
        """Names of the tensors that travel."""
        return self._sends

    def submit(
        self,
        inputs: Mapping[str, Array],
        deadline_s: float,
        *,
        cancel: CancelToken | None = None,
        ask_exits: bool = True,
        priority: int = 5,
        traceparent: str | None = None,
    ) -> SplitRequest:
        """Run the head, then send for the tail unless an exit of the head is sure; returns once it is on its way.

        Args:
            inputs: The package's inputs.
            deadline_s: When the answer stops being of use, on the client's clock [s].
            ask_exits: Whether an exit of the head that is sure may answer.
            cancel: Stops the head from another thread; nothing is then sent.
            priority, traceparent: As of `EdgeClient.submit`.
        Raises:
            InputError: the inputs don't fit.
            SegmentError: a segment of the head failed.
            ClientError: the client is closed.
        """
        check_inputs(self._package.inputs, inputs)
        mine = {spec.name: inputs[spec.name] for spec in self._head.inputs}
        result = self._head.run(mine, cancel=cancel, on_exit=self._is_sure if ask_exits else None)
        if result.cancelled or (ask_exits and result.exit is not None and self._is_sure(result.exit)):
            return SplitRequest(result.exit, None, 0, result.elapsed_s)
        features = {name: result.outputs[name] if name in result.outputs else inputs[name] for name in self._sends}
        handle = self._client.submit(
            self._package.name,
            features,
            deadline_s,
            version=self._package.version,
            first_segment=self._tail[0],
            last_segment=self._tail[-1],
            priority=priority,
            traceparent=traceparent,
        )
        return SplitRequest(result.exit, handle, sum(array.nbytes for array in features.values()), result.elapsed_s)

    def _is_sure(self, answer: ExitAnswer) -> bool:
        threshold = self._package.exits[answer.index].threshold
        return threshold is not None and answer.confidence is not None and answer.confidence >= threshold
