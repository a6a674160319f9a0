"""A request as its sender sees it: a handle while it is under way, an outcome once it has ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from offload.frames import Array
from offload.link import Transmission
from offload.wire import Code


@dataclass(slots=True, eq=False)
class Handle:
    """A request under way.

    Args:
        id: Unique on its client.
        submitted_s, deadline_s: When it was submitted, and when its answer stops being of use [s].
        transmission: Its way up the emulated link, cut short where it was given up; None without a link.
        bits: Size of its tensors as they travel.
        repeats: The ways of its copies, where it was sent again or to a second server.
        outcome: How it ended, where its sender waits for it alone (`awaited`).
    """

    id: int
    submitted_s: float
    deadline_s: float
    transmission: Transmission | None = None
    repeats: list[Transmission] = field(default_factory=list)
    bits: int = 0
    outcome: "Outcome | None" = None
    awaited: bool = False


class Outcome(Struct, frozen=True):
    """How a request ended.

    Args:
        handle: The request.
        code: OK, or why there is no answer; `message` then says what happened.
        exit_id: Exit that gave the answer; None where the range of segments holds none.
        outputs: Tensors by name, read-only; empty unless OK.
        queue_s, compute_s: Time the server had it wait, and computed it [s].
        load_s: Work the server had accepted and not finished [s].
        ended_s: When it ended, on the client's clock [s].
        endpoint: Server whose word this is; empty where the client ended it.
    """

    handle: Handle
    code: Code
    message: str
    ended_s: float
    exit_id: str | None = None
    outputs: Mapping[str, Array] = msgspec.field(default_factory=dict)
    queue_s: float = 0.0
    compute_s: float = 0.0
    load_s: float = 0.0
    endpoint: str = ""

    @property
    def latency_s(self) -> float:
        """Time from `submit` to the end [s]."""
        return self.ended_s - self.handle.submitted_s


def payload_bits(inputs: Mapping[str, Array]) -> int:
    """Return what the emulated link carries for a request: the bits of its tensors, as the published payload counts."""
    return 8 * sum(array.nbytes for array in inputs.values())
