"""The graph of a model without its costs: of a package, or a chain of a profile's segments.

A package's tensor that several segments read is one edge, so that it crosses to a device once. Where the input comes
from, and where the answer must be, is a segment of no cost that can run there alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from devices.package.graph import Package
from devices.profile import Profile
from runtime.plan.errors import PlanError, named
from runtime.plan.problem import Edge, Exit

INPUT, ANSWER = "(input)", "(answer)"


@dataclass(frozen=True, slots=True)
class Graph:
    """A model to be placed.

    Args:
        segments: In an order in which they can run.
        hashes: Hash of each segment's file; empty where there is none.
        macs: Multiply-accumulates of each segment.
        input_bytes: Bytes of the model's inputs that each segment reads.
    """

    name: str
    segments: tuple[str, ...]
    edges: tuple[Edge, ...]
    exits: tuple[Exit, ...]
    hashes: Mapping[str, str]
    macs: Mapping[str, int]
    input_bytes: Mapping[str, float]


def package_graph(package: Package, batch: int = 1) -> Graph:
    """Return a package's graph; tensors with an open size count at `batch`."""
    readers: dict[str, list[str]] = {}
    input_bytes: dict[str, float] = {}
    named = {spec.name for spec in package.inputs}
    for segment in package.segments:
        for spec in segment.inputs:
            if spec.name in named:
                input_bytes[segment.id] = input_bytes.get(segment.id, 0.0) + batch * spec.least_bytes
            else:
                readers.setdefault(spec.name, []).append(segment.id)
    edges = tuple(
        Edge(package.producers[name], tuple(dict.fromkeys(found)), batch * package.tensors[name].least_bytes)
        for name, found in readers.items()
    )
    return Graph(
        package.name,
        tuple(segment.id for segment in package.segments),
        edges,
        package_exits(package),
        {segment.id: segment.sha256 for segment in package.segments},
        {segment.id: segment.macs for segment in package.segments},
        input_bytes,
    )


def package_exits(package: Package) -> tuple[Exit, ...]:
    """Return a package's exits with the shares and agreement of its calibration; none where it has no calibration.

    Accuracy is agreement with the whole model: of those that leave, and of all where the exit is the last one kept.
    """
    rows = {row["id"]: row for row in package.calibration.get("exits", ())}
    samples = package.calibration.get("samples", 0)
    early = package.exits[:-1]
    if not early or any(item.id not in rows for item in early) or not samples:
        return ()
    exits = []
    for item in early:
        share, wrong = float(rows[item.id]["share"]), float(rows[item.id]["disagreements"])
        agreed = 1.0 - wrong / (share * samples) if share > 0.0 else 1.0
        exits.append(Exit(item.id, item.segment, share, max(agreed, 0.0), float(rows[item.id]["agreement"])))
    final = package.exits[-1]
    return (*exits, Exit(final.id, final.segment, max(0.0, 1.0 - sum(item.share for item in exits)), 1.0))


def chain_graph(profile: Profile, model: str, input_bytes: float = 0.0) -> Graph:
    """Return the chain of a model's segments in the order of a profile.

    Raises:
        PlanError: The profile has no segment of the model.
    """
    entries = [entry for entry in profile.segments if entry.model == model]
    if not entries:
        known = sorted({entry.model for entry in profile.segments})
        raise PlanError(f"profile {profile.name!r} has no segments of {model!r}: it has those of {named(known)}")
    segments = tuple(dict.fromkeys(entry.segment for entry in entries))
    sizes = {entry.segment: entry.output.value for entry in entries if entry.output is not None}
    edges = tuple(Edge(source, (reader,), sizes.get(source, 0.0)) for source, reader in pairwise(segments))
    return Graph(model, segments, edges, (), dict.fromkeys(segments, ""), {}, {segments[0]: input_bytes})


def sinks(graph: Graph) -> Sequence[str]:
    """Return the segments that no other reads."""
    makers = {edge.source for edge in graph.edges}
    return [segment for segment in graph.segments if segment not in makers]
