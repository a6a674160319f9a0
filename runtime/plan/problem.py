"""What there is to plan: segments with a cost on each device, the tensors between them, links, limits.

    cost      segment x device x level -> time p50 and p99 [s], energy [J], memory [bytes], loss of accuracy
    transfer  edge x device x device   -> time [s], energy [J]; from the link's latency and rate, or given for the edge
    runs      a model with a period runs every period_s; all repeat after the least common multiple of the periods

One format serves every published mapper: they differ in the devices, the transfer costs and the limits. A problem file
is the JSON form of `Problem`, key by key (docs/planner.md).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

FORMAT = 1
NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]
Positive = Annotated[float, msgspec.Meta(gt=0.0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one run of a segment costs on one device at one level.

    Args:
        p50_s: Median time [s].
        p99_s: Time that 99 % of runs keep [s]; the median where not given.
        energy_j: Energy [J].
        memory_bytes: What it holds on the device, weights included.
        accuracy_loss: Accuracy lost by running it here (as int8 may cost), subtracted from the model's.
    """

    p50_s: NonNegative
    p99_s: NonNegative | None = None
    energy_j: NonNegative = 0.0
    memory_bytes: NonNegative = 0
    accuracy_loss: Share = 0.0


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A compute unit, which runs one segment at a time.

    Args:
        levels: Its DVFS levels; a plan chooses one for the whole device.
    """

    name: Name
    levels: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("fixed",)


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"source": "from"}):
    """What moving an edge's tensor from one device to another costs, where it isn't the link's figure."""

    source: Name
    to: Name
    time_s: NonNegative
    energy_j: NonNegative = 0.0


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"source": "from"}):
    """A way for tensors from one device to another: time = latency_s + 8 bytes / rate_bps.

    Args:
        latency_s: Time before the first byte [s].
        rate_bps: Rate [bit/s]; unlimited where not given.
        energy_j: Energy of a transfer, whatever its size [J].
        j_per_byte: Energy of a byte [J].
        channel: Transfers of one channel wait for each other; without a name they never wait.
        both_ways: The way back is the same.
    """

    source: Name
    to: Name
    latency_s: NonNegative = 0.0
    rate_bps: Positive | None = None
    energy_j: NonNegative = 0.0
    j_per_byte: NonNegative = 0.0
    channel: str | None = None
    both_ways: bool = True

    def time_s(self, size_bytes: float) -> float:
        """Return the time that `size_bytes` take [s]."""
        return self.latency_s + (0.0 if self.rate_bps is None else 8.0 * size_bytes / self.rate_bps)


class Edge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"source": "from"}):
    """A tensor: who makes it, who reads it. It crosses to a device once, however many read it there."""

    source: Name
    to: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
    bytes: NonNegative = 0
    transfers: tuple[Transfer, ...] = ()


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a model.

    Args:
        costs: By device name: the cost, or one for each of the device's levels, or null where it can't run there.
    """

    id: Name
    costs: Mapping[str, Cost | tuple[Cost, ...] | None]


class Exit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A place where a model may answer, listed from shallow to deep.

    Args:
        segment: Segment whose end is the answer.
        share: Share of inputs that leave here; the shares of a model's exits sum to 1.
        accuracy: Accuracy on the inputs that leave here.
        accuracy_if_last: Accuracy on the inputs that reach it, if nothing deeper is run; `accuracy` where not given.
    """

    id: Name
    segment: Name
    share: Share
    accuracy: Share
    accuracy_if_last: Share | None = None


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model: a graph of segments.

    Args:
        period_s: It runs every so often [s]; once where not given.
        deadline_s: Its p99 latency may be at most this [s].
        accuracy_floor: The plan must keep this.
    """

    name: Name
    segments: Annotated[tuple[Segment, ...], msgspec.Meta(min_length=1)]
    edges: tuple[Edge, ...] = ()
    exits: tuple[Exit, ...] = ()
    period_s: Positive | None = None
    deadline_s: Positive | None = None
    accuracy_floor: Share | None = None


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A memory of limited size that some devices share.

    Args:
        holds: "segments": what is placed on `devices`; "transfers": tensors that cross between two of `devices`.
    """

    name: Name
    bytes: Positive
    devices: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
    holds: Literal["segments", "transfers"] = "segments"


class Contention(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Two devices slow each other down: while both work, each takes `factor` times as long.

    A device works at the rate 1 - sum over the others at work of (1 - 1/factor).
    """

    devices: tuple[Name, Name]
    factor: Annotated[float, msgspec.Meta(ge=1.0)]

    @property
    def loss(self) -> float:
        """Share of its rate that each of the two loses."""
        return 1.0 - 1.0 / self.factor


class Problem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All there is to plan.

    Args:
        latency: What a plan's latency is: "worst", the last answer of a run; "expected", the mean over the exits by
            their shares. Of several models or runs the longest counts.
        source: Where the figures come from, and what was assumed.
    """

    name: Name
    devices: Annotated[tuple[Device, ...], msgspec.Meta(min_length=1)]
    models: Annotated[tuple[Model, ...], msgspec.Meta(min_length=1)]
    links: tuple[Link, ...] = ()
    memories: tuple[Memory, ...] = ()
    contention: tuple[Contention, ...] = ()
    latency: Literal["worst", "expected"] = "worst"
    source: str = ""
    format: int = FORMAT

    def model(self, name: str) -> Model:
        """Return a model by name.

        Raises:
            KeyError: There is none.
        """
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(f"no model {name!r}: one of {', '.join(model.name for model in self.models)}")

    def without(self, device: str) -> "Problem":
        """Return the problem after a device is lost."""
        costs = {
            model.name: tuple(
                msgspec.structs.replace(item, costs={k: v for k, v in item.costs.items() if k != device})
                for item in model.segments
            )
            for model in self.models
        }
        edges = {
            model.name: tuple(
                msgspec.structs.replace(
                    edge, transfers=tuple(item for item in edge.transfers if device not in (item.source, item.to))
                )
                for edge in model.edges
            )
            for model in self.models
        }
        return msgspec.structs.replace(
            self,
            devices=tuple(item for item in self.devices if item.name != device),
            links=tuple(link for link in self.links if device not in (link.source, link.to)),
            contention=tuple(pair for pair in self.contention if device not in pair.devices),
            memories=tuple(
                msgspec.structs.replace(memory, devices=left)
                for memory in self.memories
                if (left := tuple(name for name in memory.devices if name != device))
            ),
            models=tuple(
                msgspec.structs.replace(model, segments=costs[model.name], edges=edges[model.name])
                for model in self.models
            ),
        )

    def with_deadline(self, deadline_s: float) -> "Problem":
        """Return the problem with one deadline [s] for every model."""
        models = tuple(msgspec.structs.replace(model, deadline_s=deadline_s) for model in self.models)
        return msgspec.structs.replace(self, models=models)

    def with_accuracy_floor(self, floor: float) -> "Problem":
        """Return the problem with one accuracy floor for every model that has exits; for all if none has."""
        some = any(model.exits for model in self.models)
        models = tuple(
            msgspec.structs.replace(model, accuracy_floor=floor) if model.exits or not some else model
            for model in self.models
        )
        return msgspec.structs.replace(self, models=models)

    def with_rates(self, rates_hz: Sequence[float]) -> "Problem":
        """Return the problem with models that run so often [1/s], in the models' order."""
        models = tuple(
            msgspec.structs.replace(model, period_s=1.0 / rate_hz)
            for model, rate_hz in zip(self.models, rates_hz, strict=True)
        )
        return msgspec.structs.replace(self, models=models)


def cells(segment: Segment, device: Device) -> tuple[Cost, ...] | None:
    """Return a segment's costs at each level of a device, None where it can't run there."""
    given = segment.costs[device.name]
    return (given,) if isinstance(given, Cost) else given


def needed(model: Model, exit_index: int) -> frozenset[str]:
    """Return the segments that must run for the answers of the exits up to `exit_index`; all where there is no exit."""
    if not model.exits:
        return frozenset(segment.id for segment in model.segments)
    makers: Mapping[str, set[str]] = {segment.id: set() for segment in model.segments}
    for edge in model.edges:
        for reader in edge.to:
            makers[reader].add(edge.source)
    wanted: set[str] = set()
    waiting = [item.segment for item in model.exits[: exit_index + 1]]
    while waiting:
        segment = waiting.pop()
        if segment not in wanted:
            wanted.add(segment)
            waiting.extend(makers[segment])
    return frozenset(wanted)
