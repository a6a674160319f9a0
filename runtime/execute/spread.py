"""A model's segments on several devices: what runs where, what waits for what, and which tensors cross.

A segment may begin once the tensors it reads are there, whatever else is running: branches and width stages run at the
same time. Two segments of one device become one model where the second reads from the first alone and nobody else does:
that delays no other device and never makes a cycle. What runs on an edge server goes there in ranges (`edge_unit`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from devices.backend import Backend, Loaded
from devices.chain import Chain
from devices.load import load_group
from devices.memory import release_freed
from devices.package.graph import Package, Segment
from runtime.execute.edge import EdgeDevice
from runtime.execute.edge_unit import EdgeUnit, Spare, edge_ranges, edge_unit
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
    """What a run does whose shallowest and deepest exits wanted are given.

    Args:
        units: The units to run, in an order in which they can.
        ranks: Of each unit, the place of the shallowest exit that needs it: what a device prefers.
        readers: Of each tensor, the places of the units that read it.
        missing: Of each unit, how many of its tensors other units make.
        exits: Of each unit, the places of the exits it completes.
        last_exit: Place of the deepest exit.
        devices: Devices of this board whose units the shallowest exit needs.
        crosses: Tensors that must be brought to the host: another device or an exit wants them.
    """

    units: tuple[Unit | EdgeUnit, ...]
    ranks: tuple[int, ...]
    readers: Mapping[str, tuple[int, ...]]
    missing: tuple[int, ...]
    exits: tuple[tuple[int, ...], ...]
    last_exit: int
    devices: tuple[str, ...]
    crosses: frozenset[str]

    def needed_s(self, first_exit: int) -> float:
        """Return what the shallowest exit takes of here, by p99, on the quicker of server and spare [s]."""
        total_s = 0.0
        for unit, rank in zip(self.units, self.ranks, strict=True):
            if rank == first_exit:
                times_s = [unit.busy.p99_s] if unit.busy.count or isinstance(unit, Unit) else []
                if isinstance(unit, EdgeUnit) and unit.spare is not None:
                    times_s.append(unit.spare.p99_s(first_exit))
                total_s += min(times_s, default=0.0)
        return total_s


class Spread:
    """A package loaded on several devices.

    Args:
        package: The package.
        placement: Device name of every segment.
        backends: The devices of this board by name.
        edges: Edge servers by name.
        spare: Device here that takes over what an edge server doesn't answer in time; None: nobody does.
    Raises:
        PackageError: A segment's file is no longer the one that was checked.
        BackendError: A device refuses a segment.
        ValueError: A tensor would cross a link twice.
    """

    def __init__(
        self,
        package: Package,
        placement: Mapping[str, str],
        backends: Mapping[str, Backend],
        edges: Mapping[str, EdgeDevice] | None = None,
        spare: str | None = None,
    ) -> None:
        self.package = package
        self.placement = dict(placement)
        self._backends = backends
        self.units = tuple(self._load(edges or {}, spare))
        release_freed()
        self.devices = tuple(dict.fromkeys(unit.device for unit in self.units))
        self.remote = any(isinstance(unit, EdgeUnit) for unit in self.units)
        """Whether any of it runs on an edge server."""
        self._walks: dict[tuple[int, int], Walk] = {}

    def _load(self, edges: Mapping[str, EdgeDevice], spare: str | None) -> Iterator[Unit | EdgeUnit]:
        """Load the units, in an order in which they can run."""
        package, placement = self.package, self.placement
        ranges = {ids[0]: ids for name in edges for ids in edge_ranges(package, placement, name)}
        for group in chains_of_one(package, placement, self._backends):
            edge = edges.get(placement[group[0]])
            if edge is None:
                backend = self._backends[placement[group[0]]]
                yield from (_unit(*loaded, backend) for loaded in load_group(package, group, backend))
            elif group[0] in ranges:
                ids = ranges[group[0]]
                here = None if spare is None else Spare(Chain(package, self._backends[spare], ids), spare)
                yield edge_unit(package, ids, edge, here)

    def walk(self, first_exit: int, last_exit: int | None = None) -> Walk:
        """Return what a run does whose exits wanted are those from place `first_exit` to `last_exit`, None: to all."""
        last = len(self.package.exits) - 1 if last_exit is None else max(first_exit, last_exit)
        key = (first_exit, last)
        if key not in self._walks:
            self._walks[key] = self._make_walk(*key)
        return self._walks[key]

    def _ranked(self, first_exit: int, last_exit: int) -> list[tuple[Unit | EdgeUnit, int]]:
        """Return the units that a walk needs, with the place of the shallowest exit that needs each."""
        rank_of: dict[str, int] = {}
        for index, (_, added) in enumerate(self.package.walk(first_exit), start=first_exit):
            if index <= last_exit:
                rank_of.update((segment_id, index) for segment_id in added)
        ranks: dict[Unit | EdgeUnit, int] = {}
        for unit in reversed(self.units):
            wanted = [rank_of[one] for one in unit.segment_ids if one in rank_of]
            read = [rank for reader, rank in ranks.items() if not set(unit.makes).isdisjoint(reader.reads)]
            if wanted or read:  # a range is run as a whole, and so needs what none of its exits may
                ranks[unit] = min(wanted + read)
        return [(unit, ranks[unit]) for unit in self.units if unit in ranks]

    def _make_walk(self, first_exit: int, last_exit: int) -> Walk:
        package = self.package
        ranked = self._ranked(first_exit, last_exit)
        units, ranks = tuple(unit for unit, _ in ranked), tuple(rank for _, rank in ranked)
        made = {name: place for place, unit in enumerate(units) for name in unit.makes}
        readers: dict[str, tuple[int, ...]] = {}
        for place, unit in enumerate(units):
            for name in unit.reads:
                readers[name] = (*readers.get(name, ()), place)
        chosen = [(i, each) for i, each in enumerate(package.exits) if first_exit <= i <= last_exit]
        handed_out = {name for _, each in chosen for name in package.exit_outputs(each.id)}
        abroad = {
            name for name, at in made.items() if any(units[p].device != units[at].device for p in readers.get(name, ()))
        }
        return Walk(
            units,
            ranks,
            readers,
            tuple(sum(name in made for name in unit.reads) for unit in units),
            tuple(tuple(i for i, each in chosen if each.segment in _ends(unit)) for unit in units),
            last_exit,
            tuple({u.device for u, rank in ranked if rank == first_exit and isinstance(u, Unit)}),
            frozenset(handed_out | abroad),
        )


def _ends(unit: Unit | EdgeUnit) -> tuple[str, ...]:
    """Return the segments of a unit that an exit may answer from: in a range any, else the last one."""
    return unit.segment_ids if isinstance(unit, EdgeUnit) else unit.segment_ids[-1:]


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
            and placement[maker] in backends
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
