"""Units that are one device at several DVFS levels, gathered into it.

A profile is measured at one clock. Measured again at another, the same processor is a unit of another profile; here
such units become the levels of one device, of which a plan chooses one.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from runtime.plan.errors import PlanError, named
from runtime.plan.problem import Contention, Cost, Device, Edge, Link, Memory, Problem, Segment, Transfer


class Levels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Args:
    device: Name of the device that they become.
    units: The units, one for each level; a level has its unit's name.
    """

    device: str
    units: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


def gather_levels(problem: Problem, levels: Sequence[Levels]) -> Problem:
    """Return the problem in which every row of units is one device with a level for each.

    Raises:
        PlanError: A unit is no device of the problem or named twice, a device's name is taken, or a segment can run at
            some levels alone.
    """
    if not levels:
        return problem
    names = [device.name for device in problem.devices]
    to: dict[str, str] = {}
    for item in levels:
        if item.device in names and item.device not in item.units:
            raise PlanError(f"levels of {item.device!r}: there is a device of that name already")
        for unit in item.units:
            if unit not in names:
                raise PlanError(f"levels of {item.device!r}: there is no device {unit!r}: one of {named(names)}")
            if unit in to:
                raise PlanError(f"levels: {unit!r} is named twice")
            to[unit] = item.device
    rows = {item.device: item.units for item in levels}
    new = tuple(dict.fromkeys(to.get(name, name) for name in names))
    models = tuple(
        msgspec.structs.replace(
            model,
            segments=tuple(_segment(segment, new, rows) for segment in model.segments),
            edges=tuple(_edge(edge, to) for edge in model.edges),
        )
        for model in problem.models
    )
    return msgspec.structs.replace(
        problem,
        devices=tuple(Device(name, tuple(rows[name])) if name in rows else Device(name) for name in new),
        models=models,
        links=_links(problem.links, to),
        memories=tuple(_memory(memory, to) for memory in problem.memories),
        contention=tuple(_contention(pair, to) for pair in problem.contention),
    )


def _segment(segment: Segment, devices: Sequence[str], rows: dict[str, tuple[str, ...]]) -> Segment:
    costs: dict[str, Cost | tuple[Cost, ...] | None] = {}
    for device in devices:
        if device not in rows:
            costs[device] = segment.costs[device]
            continue
        found = [segment.costs[unit] for unit in rows[device]]
        given = tuple(cost for cost in found if isinstance(cost, Cost))
        if given and len(given) < len(found):
            lacking = [unit for unit, cost in zip(rows[device], found, strict=True) if cost is None]
            raise PlanError(f"levels of {device!r}: segment {segment.id!r} has no figure on {named(lacking)}")
        costs[device] = given or None
    return msgspec.structs.replace(segment, costs=costs)


def _edge(edge: Edge, to: dict[str, str]) -> Edge:
    found: dict[tuple[str, str], Transfer] = {}
    for item in edge.transfers:
        ends = to.get(item.source, item.source), to.get(item.to, item.to)
        if ends[0] != ends[1]:
            found.setdefault(ends, msgspec.structs.replace(item, source=ends[0], to=ends[1]))
    return msgspec.structs.replace(edge, transfers=tuple(found.values()))


def _links(links: Sequence[Link], to: dict[str, str]) -> tuple[Link, ...]:
    """Rename the ends; of several links between two devices the first stays, which is the one that was given."""
    kept: list[Link] = []
    taken: set[tuple[str, str]] = set()
    for link in links:
        ends = to.get(link.source, link.source), to.get(link.to, link.to)
        ways = {ends, ends[::-1]} if link.both_ways else {ends}
        if ends[0] != ends[1] and not ways & taken:
            kept.append(msgspec.structs.replace(link, source=ends[0], to=ends[1]))
            taken |= ways
    return tuple(kept)


def _memory(memory: Memory, to: dict[str, str]) -> Memory:
    return msgspec.structs.replace(memory, devices=tuple(dict.fromkeys(to.get(name, name) for name in memory.devices)))


def _contention(pair: Contention, to: dict[str, str]) -> Contention:
    one, other = pair.devices
    return msgspec.structs.replace(pair, devices=(to.get(one, one), to.get(other, other)))
