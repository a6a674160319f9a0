"""A problem from packages and measured profiles, with what lies between the devices.

Every unit of every profile is a device, named by its unit, or `profile.unit` where two profiles share a unit's name.
Between units of one board tensors cross at LOCAL unless something else is said; between boards a link must be given.

A surroundings file (`--link L.toml`) is TOML::

    format = 1
    origin = "cpu:0"            # where inputs come from and answers must be; optional
    [[links]]                   # keys as in a problem file
    from = "cpu:0"
    to = "edge.cuda:0"
    latency_s = 0.002
    rate_bps = 20e6
    channel = "wifi"
    [[contention]]
    devices = ["cpu:0", "cpu:1"]
    factor = 1.1
    [[memories]]
    name = "board"
    bytes = 4e9
    devices = ["cpu:0", "cpu:1"]
    [[levels]]                  # units that are one device, measured at its DVFS levels
    device = "gpu"
    units = ["fast.cuda:0", "slow.cuda:0"]
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import msgspec

from devices.profile import Profile, SegmentFigures
from runtime.plan.errors import PlanError, named
from runtime.plan.file import check_problem
from runtime.plan.graphs import ANSWER, INPUT, Graph, sinks
from runtime.plan.levels import Levels, gather_levels
from runtime.plan.problem import (
    Contention,
    Cost,
    Device,
    Edge,
    Exit,
    Link,
    Memory,
    Model,
    Problem,
    Segment,
    Transfer,
)

FORMAT = 1
LOCAL_LATENCY_S, LOCAL_RATE_BPS = 50e-6, 32e9
"""Declared cost of a tensor's way between two units of one board: handing over a request, and a copy at 4 GB/s."""


class Surroundings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies between and around the devices."""

    format: int = FORMAT
    origin: str | None = None
    links: tuple[Link, ...] = ()
    contention: tuple[Contention, ...] = ()
    memories: tuple[Memory, ...] = ()
    levels: tuple[Levels, ...] = ()


@dataclass(frozen=True, slots=True)
class _Unit:
    device: str
    profile: Profile
    unit: str


def read_surroundings(path: Path) -> Surroundings:
    """Return the surroundings in a TOML file.

    Raises:
        PlanError: The file can't be read, has an unknown key or another format.
    """
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Surroundings, strict=True)
    except OSError as error:
        raise PlanError(f"link file {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PlanError(f"link file {path}: {error}") from error
    if found.format != FORMAT:
        raise PlanError(f"link file {path}: format is {found.format}: this version reads format {FORMAT}")
    return found


def problem_of(
    graphs: Sequence[Graph],
    profiles: Sequence[Profile],
    surroundings: Surroundings | None = None,
    *,
    batch: int = 1,
    units: Iterable[str] | None = None,
) -> Problem:
    """Return the problem of placing models on the units of profiles.

    Args:
        batch: Batch at which the profiles' figures are taken.
        units: Devices to use; all that have a figure of one of the models where not given.
    Raises:
        PlanError: A profile has no segment of any of the models, has some of a model on a unit and lacks others, was
            measured from other files, or a device that is named does not exist.
    """
    around = surroundings or Surroundings()
    found = _units(graphs, profiles, None if units is None else set(units))
    names = [unit.device for unit in found]
    at_levels = {item.device: item.units for item in around.levels}
    origins = at_levels.get(around.origin or "", (around.origin,))
    if around.origin is not None and not set(origins) <= set(names):
        raise PlanError(f"origin {around.origin!r} is no device of the profiles: one of {named(names)}")
    models = tuple(_model(graph, found, batch, origins) for graph in graphs)
    problem = Problem(
        " + ".join(graph.name for graph in graphs)[:128],
        tuple(Device(name) for name in names),
        models,
        _links(found, around),
        around.memories,
        around.contention,
        source=_source(found),
    )
    problem = gather_levels(problem, around.levels)
    check_problem(problem)
    return problem


def unmeasured(graphs: Sequence[Graph], profiles: Sequence[Profile]) -> list[str]:
    """Return, a sentence each, which models will not be placed on a profile's units, as it has no figure of them."""
    return [
        f"profile {profile.name!r} has no segment of {graph.name!r}, which is not placed on its units"
        for profile in profiles
        for graph in graphs
        if not any(entry.model == graph.name for entry in profile.segments)
    ]


def _units(graphs: Sequence[Graph], profiles: Sequence[Profile], wanted: set[str] | None) -> list[_Unit]:
    pairs = []
    for profile in profiles:
        known = dict.fromkeys(entry.unit for g in graphs for entry in profile.segments if entry.model == g.name)
        if not known:
            has = dict.fromkeys(entry.model for entry in profile.segments)
            raise PlanError(
                f"profile {profile.name!r} has no segment of {named(g.name for g in graphs)}"
                f"{f', only of {named(has)}' if has else ''}: measure it with `headway profile`, or leave it out"
            )
        pairs += [(profile, unit) for unit in known]
    units = [unit for _, unit in pairs]
    found = [_Unit(u if units.count(u) == 1 else f"{p.name}.{u}", p, u) for p, u in pairs]
    names = [unit.device for unit in found]
    if len(set(names)) != len(names):
        raise PlanError(f"two profiles have the same name and unit: {named(names)}; rename one")
    for name in sorted(wanted or ()):
        if name not in names:
            raise PlanError(f"the profiles have no device {name!r}: one of {named(names)}")
    return [unit for unit in found if wanted is None or unit.device in wanted]


def _model(graph: Graph, units: Sequence[_Unit], batch: int, origins: Sequence[str | None]) -> Model:
    segments = [
        Segment(segment, {u.device: _cost(graph, segment, u, batch) for u in units}) for segment in graph.segments
    ]
    edges = [_with_transitions(graph, edge, units) for edge in graph.edges]
    exits = graph.exits
    if origins != (None,):
        here = {unit.device: Cost(0.0) if unit.device in origins else None for unit in units}
        first, rest = [Segment(INPUT, here)], [Segment(ANSWER, here)]
        entry = [Edge(INPUT, (name,), size) for name, size in graph.input_bytes.items()]
        ends = tuple(item.segment for item in exits) or tuple(sinks(graph))
        segments = [*first, *segments, *rest]
        edges = [*entry, *edges, *(Edge(end, (ANSWER,), 0.0) for end in ends)]
        exits = _answered(exits)
    return Model(graph.name, tuple(segments), tuple(edges), exits)


def _answered(exits: tuple[Exit, ...]) -> tuple[Exit, ...]:
    """The last exit's answer counts where it is needed; earlier ones when they are made."""
    return (*exits[:-1], msgspec.structs.replace(exits[-1], segment=ANSWER)) if exits else ()


def _cost(graph: Graph, segment: str, unit: _Unit, batch: int) -> Cost | None:
    if unit.unit not in unit.profile.units_of(graph.name):
        return None
    entry: SegmentFigures = unit.profile.segment(graph.name, segment, unit.unit, batch)
    if graph.hashes[segment] and entry.sha256 not in ("", graph.hashes[segment]):
        raise PlanError(
            f"profile {unit.profile.name!r}: segment {segment!r} of {graph.name!r} was measured from a file with "
            f"SHA-256 {entry.sha256}, the package's has {graph.hashes[segment]}: measure it again"
        )
    return Cost(
        entry.latency.p50_s,
        entry.latency.p99_s,
        0.0 if entry.energy is None else entry.energy.value,
        0.0 if entry.memory is None else entry.memory.value,
    )


def _with_transitions(graph: Graph, edge: Edge, units: Sequence[_Unit]) -> Edge:
    device_of = {(unit.profile.name, unit.unit): unit.device for unit in units}
    transfers = tuple(
        Transfer(device_of[profile.name, item.origin], device_of[profile.name, item.target], item.latency.value)
        for profile in {unit.profile.name: unit.profile for unit in units}.values()
        for item in profile.transitions
        if (item.model, item.after) == (graph.name, edge.source)
        and (profile.name, item.origin) in device_of
        and (profile.name, item.target) in device_of
    )
    return msgspec.structs.replace(edge, transfers=transfers)


def _links(units: Sequence[_Unit], around: Surroundings) -> tuple[Link, ...]:
    given = {(link.source, link.to) for link in around.links}
    given |= {(link.to, link.source) for link in around.links if link.both_ways}
    local = [
        Link(one.device, other.device, LOCAL_LATENCY_S, LOCAL_RATE_BPS)
        for one, other in combinations(units, 2)
        if one.profile is other.profile and not {(one.device, other.device), (other.device, one.device)} & given
    ]
    return (*around.links, *local)


def _source(units: Sequence[_Unit]) -> str:
    cited = {item.latency.source.cite for unit in units for item in unit.profile.segments if item.unit == unit.unit}
    return "; ".join(sorted(cited))
