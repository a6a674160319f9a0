"""A model's segments on several devices: what runs where, what waits for what, and which tensors cross.

A segment may begin once the tensors it reads are there, whatever else is running: branches and width stages run at the
same time. Two segments of one device become one model where the second reads from the first alone and nobody else does:
that delays no other device and never makes a cycle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from devices.backend import Backend, Loaded
from devices.load import load_group
from devices.memory import release_freed
from devices.package.graph import Package, Segment
from runtime.execute.latency import LatencyWindow


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """One segment, or several merged into one, loaded on its device.

    Args:
        segment_ids: What it is made of, in running order.
        device: Name of its device.
        backend: The device.
        loaded: What to run.
        reads, makes: Tensors it reads and produces.
        busy: How long it keeps its device.
    """

    segment_ids: tuple[str, ...]
    device: str
    backend: Backend
    loaded: Loaded
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    busy: LatencyWindow = field(default_factory=LatencyWindow)


@dataclass(frozen=True, slots=True)
class Walk:
    """What a run does whose shallowest exit wanted is given.

    Args:
        units: The units to run, in an order in which they can.
        ranks: Of each unit, the place of the shallowest exit that needs it: what a device prefers.
        readers: Of each tensor, the places of the units that read it.
        missing: Of each unit, how many of its tensors other units make.
        exits: Of each unit, the places of the exits it completes.
        devices: Devices of the units that the shallowest exit needs.
        crosses: Tensors that must be brought to the host: another device or an exit wants them.
    """

    units: tuple[Unit, ...]
    ranks: tuple[int, ...]
    readers: Mapping[str, tuple[int, ...]]
    missing: tuple[int, ...]
    exits: tuple[tuple[int, ...], ...]
    devices: tuple[str, ...]
    crosses: frozenset[str]


class Spread:
    """A package loaded on several devices.

    Args:
        package: The package.
        placement: Device name of every segment.
        backends: The devices by name.
    Raises:
        PackageError: A segment's file is no longer the one that was checked.
        BackendError: A device refuses a segment.
    """

    def __init__(self, package: Package, placement: Mapping[str, str], backends: Mapping[str, Backend]) -> None:
        self.package = package
        self.placement = dict(placement)
        units = []
        for group in chains_of_one(package, placement, backends):
            backend = backends[placement[group[0]]]
            units += [_unit(*loaded, backend) for loaded in load_group(package, group, backend)]
        release_freed()
        self.units = tuple(units)
        self.devices = tuple(dict.fromkeys(unit.device for unit in units))
        self._walks: dict[int, Walk] = {}

    def walk(self, first_exit: int) -> Walk:
        """Return what a run does whose shallowest exit wanted is at place `first_exit`."""
        if first_exit not in self._walks:
            self._walks[first_exit] = self._make_walk(first_exit)
        return self._walks[first_exit]

    def _make_walk(self, first_exit: int) -> Walk:
        package = self.package
        rank_of: dict[str, int] = {}
        for index, (_, added) in enumerate(package.walk(first_exit), start=first_exit):
            rank_of.update((segment_id, index) for segment_id in added)
        units = tuple(unit for unit in self.units if unit.segment_ids[-1] in rank_of)
        made = {name: place for place, unit in enumerate(units) for name in unit.makes}
        readers: dict[str, tuple[int, ...]] = {}
        for place, unit in enumerate(units):
            for name in unit.reads:
                readers[name] = (*readers.get(name, ()), place)
        ranks = tuple(rank_of[unit.segment_ids[-1]] for unit in units)
        chosen = [(index, each) for index, each in enumerate(package.exits) if index >= first_exit]
        handed_out = {name for _, each in chosen for name in package.exit_outputs(each.id)}
        abroad = {
            name for name, at in made.items() if any(units[p].device != units[at].device for p in readers.get(name, ()))
        }
        return Walk(
            units,
            ranks,
            readers,
            tuple(sum(name in made for name in unit.reads) for unit in units),
            tuple(tuple(i for i, each in chosen if each.segment == unit.segment_ids[-1]) for unit in units),
            tuple({unit.device for unit, rank in zip(units, ranks, strict=True) if rank == first_exit}),
            frozenset(handed_out | abroad),
        )


def _unit(segment: Segment, group: tuple[str, ...], loaded: Loaded, backend: Backend) -> Unit:
    reads, makes = (tuple(spec.name for spec in side) for side in (segment.inputs, segment.outputs))
    return Unit(group, backend.device, backend, loaded, reads, makes)


def chains_of_one(
    package: Package, placement: Mapping[str, str], backends: Mapping[str, Backend]
) -> tuple[tuple[str, ...], ...]:
    """Return a package's segments in groups that may become one: each reads from the one before it, and alone does.

    A segment that an exit answers from ends its group, so that the answer waits for nothing behind it.
    """
    heads = {each.segment for each in package.exits}
    readers: dict[str, set[str]] = {segment.id: set() for segment in package.segments}
    makers: dict[str, set[str]] = {}
    for segment in package.segments:
        found = {package.producers[spec.name] for spec in segment.inputs if spec.name in package.producers}
        makers[segment.id] = found
        for source in found:
            readers[source].add(segment.id)
    group_of: dict[str, list[str]] = {}
    groups: list[list[str]] = []
    for segment in package.segments:
        maker = next(iter(makers[segment.id])) if len(makers[segment.id]) == 1 else None
        fits = (
            maker is not None
            and maker not in heads
            and readers[maker] == {segment.id}
            and placement[maker] == placement[segment.id]
            and backends[placement[maker]].merges
        )
        if fits and maker is not None:
            group = group_of[maker]
        else:
            group = []
            groups.append(group)
        group.append(segment.id)
        group_of[segment.id] = group
    return tuple(map(tuple, groups))
