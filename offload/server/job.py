"""One request that an edge server has accepted."""

from dataclasses import dataclass, field

from devices.backend import CancelToken
from devices.edf import Entry
from offload.frames import Array
from offload.server.ranges import ServedRange
from offload.wire import Request


@dataclass(slots=True, eq=False)
class Job:
    """One accepted request.

    Args:
        client: ZeroMQ identity of its connection.
        owner: Who is charged for it: its client's key, or its connection where there are no keys.
        inputs: Its tensors by name; emptied once it is answered.
        size: Bytes of its tensors [B].
        received_s, deadline_s: When it came and when its answer stops being of use, on the server's clock [s].
        served: What it runs; None until that is loaded.
        expected_us: Time its computation is expected to take [us].
        token: Stops it where it runs.
        entry: Its place in the queue; None before it was put there.
        discarded: It was taken out of the queue before a worker had it.
        expired: Its token was cancelled because its deadline passed, not because the client asked.
    """

    client: bytes
    request: Request
    inputs: dict[str, Array]
    size: int
    received_s: float
    deadline_s: float
    served: ServedRange | None = None
    expected_us: int = 0
    token: CancelToken = field(default_factory=CancelToken)
    entry: "Entry[Job] | None" = None
    discarded: bool = False
    expired: bool = False
    owner: bytes = b""

    def __post_init__(self) -> None:
        self.owner = self.owner or self.client
