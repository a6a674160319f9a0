"""Problem files: reading, writing, and everything that can be wrong with a problem before it is planned."""

import math
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import msgspec

from runtime.plan.errors import PlanError, named
from runtime.plan.problem import FORMAT, Cost, Device, Model, Problem, Segment, cells

MAX_BYTES = 64 * 2**20
SHARES_SUM = 1e-6


def read_problem(path: Path) -> Problem:
    """Return the problem in a JSON file, checked.

    Raises:
        PlanError: The file can't be read, has an unknown key, a wrong type, or the problem contradicts itself.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PlanError(f"problem {path} has {path.stat().st_size} bytes: must be at most {MAX_BYTES}")
        problem = msgspec.json.decode(path.read_bytes(), type=Problem)
    except OSError as error:
        raise PlanError(f"problem {path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PlanError(f"problem {path}: {error}") from error
    check_problem(problem)
    return problem


def write_problem(problem: Problem, path: Path) -> None:
    """Write a problem as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(problem), indent=1) + b"\n")


def check_problem(problem: Problem) -> None:
    """Refuse a problem that contradicts itself.

    Raises:
        PlanError: Names the entry, its value and what would be right.
    """
    if problem.format != FORMAT:
        raise PlanError(f"problem {problem.name!r}: format is {problem.format}: this version reads format {FORMAT}")
    names = [device.name for device in problem.devices]
    _unique("device", names)
    _unique("model", [model.name for model in problem.models])
    for device in problem.devices:
        _unique(f"level of device {device.name!r}", list(device.levels))
    for link in problem.links:
        _known(f"link {link.source!r} to {link.to!r}", (link.source, link.to), names)
    ways = [(link.source, link.to) for link in problem.links]
    ways += [(link.to, link.source) for link in problem.links if link.both_ways]
    _unique("link", [f"{source} to {to}" for source, to in ways])
    for memory in problem.memories:
        _known(f"memory {memory.name!r}", memory.devices, names)
    _check_contention(problem, names)
    for model in problem.models:
        _check_model(model, problem.devices)


def _unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"{what} {name!r} is given {names.count(name)} times: must be given once")


def _known(what: str, used: tuple[str, ...], names: list[str]) -> None:
    for name in used:
        if name not in names:
            raise PlanError(f"{what}: there is no device {name!r}: one of {named(names)}")
    if len(set(used)) != len(used):
        raise PlanError(f"{what}: names a device twice")


def _check_contention(problem: Problem, names: list[str]) -> None:
    lost = dict.fromkeys(names, 0.0)
    for pair in problem.contention:
        _known(f"contention of {named(pair.devices)}", pair.devices, names)
        for name in pair.devices:
            lost[name] += pair.loss
    _unique("contention of", ["+".join(sorted(pair.devices)) for pair in problem.contention])
    for name, loss in lost.items():
        if not loss < 1.0:
            raise PlanError(f"contention takes {loss:.2f} of the rate of device {name!r}: must be less than 1")


def _check_model(model: Model, devices: tuple[Device, ...]) -> None:
    what = f"model {model.name!r}"
    ids = [segment.id for segment in model.segments]
    _unique(f"{what}: segment", ids)
    for segment in model.segments:
        _check_segment(f"{what}: segment {segment.id!r}", segment, devices)
    before: dict[str, set[str]] = {segment: set() for segment in ids}
    for edge in model.edges:
        for name in (edge.source, *edge.to):
            if name not in before:
                raise PlanError(f"{what}: an edge from {edge.source!r} names segment {name!r}: one of {named(ids)}")
        for reader in edge.to:
            before[reader].add(edge.source)
        _unique(f"{what}: reader of the edge from {edge.source!r}", list(edge.to))
        if not math.isfinite(edge.bytes):
            raise PlanError(f"{what}: the edge from {edge.source!r} has {edge.bytes} bytes: must be finite")
        for item in edge.transfers:
            _known(f"{what}: a transfer from {edge.source!r}", (item.source, item.to), [d.name for d in devices])
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        raise PlanError(
            f"{what}: segments {named(error.args[1])} wait for each other: there must be no cycle"
        ) from error
    _check_exits(what, model, ids)
    if model.period_s is not None and model.deadline_s is not None and model.deadline_s > model.period_s:
        raise PlanError(f"{what}: deadline_s {model.deadline_s} must be at most period_s {model.period_s}")


def _check_segment(what: str, segment: Segment, devices: tuple[Device, ...]) -> None:
    names = [device.name for device in devices]
    for name in segment.costs:
        if name not in names:
            raise PlanError(f"{what}: costs name device {name!r}: one of {named(names)}")
    for device in devices:
        if device.name not in segment.costs:
            raise PlanError(f"{what} has no cost on device {device.name!r}: give it, or null if it can't run there")
        costs = cells(segment, device)
        if costs is None:
            continue
        if len(costs) != len(device.levels):
            raise PlanError(
                f"{what} has {len(costs)} costs on {device.name!r}: one for each level, {named(device.levels)}"
            )
        for cost in costs:
            _check_cost(f"{what} on {device.name!r}", cost)
    if all(segment.costs[name] is None for name in names):
        raise PlanError(f"{what} can run on no device: one of {named(names)} must have a cost")


def _check_cost(what: str, cost: Cost) -> None:
    for name in ("p50_s", "p99_s", "energy_j", "memory_bytes"):
        value = getattr(cost, name)
        if value is not None and not math.isfinite(value):
            raise PlanError(f"{what}: {name} is {value}: must be finite")
    if cost.p99_s is not None and cost.p99_s < cost.p50_s:
        raise PlanError(f"{what}: p99_s {cost.p99_s} is below p50_s {cost.p50_s}: are the units the same?")


def _check_exits(what: str, model: Model, ids: list[str]) -> None:
    if not model.exits:
        if model.accuracy_floor is not None:
            raise PlanError(f"{what}: accuracy_floor needs exits with their accuracy")
        return
    _unique(f"{what}: exit", [item.id for item in model.exits])
    for item in model.exits:
        if item.segment not in ids:
            raise PlanError(f"{what}: exit {item.id!r} names segment {item.segment!r}: one of {named(ids)}")
    total = sum(item.share for item in model.exits)
    if abs(total - 1.0) > SHARES_SUM:
        raise PlanError(f"{what}: the shares of its exits sum to {total:g}: must be 1")
