"""The indexed view of a problem that every solver works on: units to place, tasks to time, flows between them.

A unit is a segment that a placement gives a device; a task is one run of a unit. A model with a period has a run for
each release within the common repetition (the least common multiple of all periods); all runs use one placement, and
all must end within it, so that the plan repeats. Segments behind the last exit that is kept are left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Literal

from runtime.plan.errors import PlanError
from runtime.plan.problem import Cost, Edge, Link, Model, Problem, cells, needed

MAX_TASKS = 5000
Quantile = Literal["p50", "p99"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A segment to be placed.

    Args:
        weight: Share of a run's inputs that need it.
        cells: Costs by device and level; None where it can't run.
        choices: Devices where it can run.
        times_s: Time by device and level [s]; infinite where it can't run.
    """

    model: str
    segment: str
    weight: float
    cells: tuple[tuple[Cost, ...] | None, ...]
    choices: tuple[int, ...]
    times_s: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One run of a unit, not before `release_s`."""

    unit: int
    run: int
    release_s: float


@dataclass(frozen=True, slots=True)
class Flow:
    """A tensor of one run: made by task `source`, read by tasks `readers`.

    Args:
        times_s, energies_j: By source and target device; infinite where there is no way.
        channels: Name of the channel that it takes, by source and target device; None where it waits for nobody.
    """

    source: int
    readers: tuple[int, ...]
    bytes: float
    weight: float
    times_s: tuple[tuple[float, ...], ...]
    energies_j: tuple[tuple[float, ...], ...]
    channels: tuple[tuple[str | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a model.

    Args:
        answers: From shallow to deep: the share of inputs that leave there, and the tasks that must have ended.
    """

    model: str
    release_s: float
    deadline_s: float
    answers: tuple[tuple[float, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Instance:
    """A problem with its exits chosen, in indices.

    Args:
        exits: Index of the last exit kept, by model; -1 for a model without exits.
        quantile: Which times of the costs it counts with.
        order: The tasks in an order in which they can run.
        inflows, outflows: Flows by reading and by making task.
        horizon_s: End of the repetition [s]; infinite where nothing repeats.
    """

    problem: Problem
    exits: tuple[int, ...]
    quantile: Quantile
    units: tuple[Unit, ...]
    tasks: tuple[Task, ...]
    flows: tuple[Flow, ...]
    runs: tuple[Run, ...]
    order: tuple[int, ...]
    inflows: tuple[tuple[int, ...], ...]
    outflows: tuple[tuple[int, ...], ...]
    horizon_s: float
    losses: tuple[tuple[float, ...], ...] = field(default=())

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices."""
        return tuple(device.name for device in self.problem.devices)

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """How many levels each device has."""
        return tuple(len(device.levels) for device in self.problem.devices)

    @cached_property
    def contended(self) -> bool:
        """Whether any two devices slow each other down."""
        return any(loss > 0.0 for row in self.losses for loss in row)

    @cached_property
    def channelled(self) -> bool:
        """Whether any transfer may have to wait for another."""
        return any(name is not None for flow in self.flows for row in flow.channels for name in row)

    @cached_property
    def tasks_of(self) -> tuple[tuple[int, ...], ...]:
        """Tasks of each unit."""
        lists: list[list[int]] = [[] for _ in self.units]
        for index, task in enumerate(self.tasks):
            lists[task.unit].append(index)
        return tuple(tuple(item) for item in lists)

    def exits_kept(self) -> dict[str, str]:
        """Return the last exit kept, by model; models without exits are not in it."""
        pairs = zip(self.problem.models, self.exits, strict=True)
        return {model.name: model.exits[index].id for model, index in pairs if index >= 0}


def all_exits(problem: Problem) -> tuple[int, ...]:
    """Return the choice that keeps every exit."""
    return tuple(len(model.exits) - 1 for model in problem.models)


def make_instance(problem: Problem, exits: Sequence[int] | None = None, quantile: Quantile = "p50") -> Instance:
    """Return the indexed view of a checked problem.

    Args:
        exits: Index of the last exit kept, by model; every exit where not given.
        quantile: Times to count with.
    Raises:
        PlanError: The periods make more than 5000 tasks.
    """
    kept = all_exits(problem) if exits is None else tuple(exits)
    horizon_s = repetition_s(problem)
    builder = _Builder(problem, quantile, horizon_s)
    for model, last in zip(problem.models, kept, strict=True):
        builder.add(model, last)
    return builder.finish(kept)


def repetition_s(problem: Problem) -> float:
    """Return the least common multiple of the models' periods [s]; infinite where none has one."""
    periods = [Fraction(model.period_s).limit_denominator(10**6) for model in problem.models if model.period_s]
    if not periods:
        return math.inf
    if any(period == 0 for period in periods):
        raise PlanError("a period is below a microsecond: must be longer")
    common = math.lcm(*(period.denominator for period in periods))
    return math.lcm(*(int(period * common) for period in periods)) / common


class _Builder:
    def __init__(self, problem: Problem, quantile: Quantile, horizon_s: float) -> None:
        self._problem, self._quantile, self._horizon_s = problem, quantile, horizon_s
        self._units: list[Unit] = []
        self._tasks: list[Task] = []
        self._flows: list[Flow] = []
        self._runs: list[Run] = []
        self._links = _ways(problem)

    def add(self, model: Model, last: int) -> None:
        """Add a model's units, and its tasks run by run."""
        wanted = needed(model, last)
        reach = _reach(model, last)
        first = len(self._units)
        ids = {}
        for segment in model.segments:
            if segment.id in wanted:
                ids[segment.id] = len(self._units)
                options = tuple(cells(segment, device) for device in self._problem.devices)
                self._units.append(self._unit(model.name, segment.id, reach[segment.id], options))
        runs = 1
        if not math.isinf(self._horizon_s) and model.period_s is not None:
            runs = round(self._horizon_s / model.period_s)
        if len(self._tasks) + runs * len(ids) > MAX_TASKS:
            raise PlanError(f"the periods make over {MAX_TASKS} tasks: choose periods with a smaller common multiple")
        for run in range(runs):
            release_s = run * (model.period_s or 0.0)
            base = len(self._tasks)
            self._tasks.extend(Task(unit, run, release_s) for unit in ids.values())
            task_of = {segment: base + unit - first for segment, unit in ids.items()}
            self._flow(model, task_of, reach)
            self._runs.append(self._run(model, last, release_s, task_of))

    def _unit(self, model: str, segment: str, weight: float, options: tuple[tuple[Cost, ...] | None, ...]) -> Unit:
        times_s = tuple(
            (math.inf,) * len(device.levels) if costs is None else tuple(self._time_s(cost) for cost in costs)
            for device, costs in zip(self._problem.devices, options, strict=True)
        )
        choices = tuple(index for index, costs in enumerate(options) if costs is not None)
        return Unit(model, segment, weight, options, choices, times_s)

    def _time_s(self, cost: Cost) -> float:
        return cost.p50_s if self._quantile == "p50" or cost.p99_s is None else cost.p99_s

    def _flow(self, model: Model, task_of: dict[str, int], reach: dict[str, float]) -> None:
        for edge in model.edges:
            readers = tuple(task_of[name] for name in edge.to if name in task_of)
            if edge.source in task_of and readers:
                weight = max(reach[name] for name in edge.to if name in task_of)
                times_s, energies_j, channels = self._matrices(edge)
                source = task_of[edge.source]
                self._flows.append(Flow(source, readers, edge.bytes, weight, times_s, energies_j, channels))

    def _matrices(
        self, edge: Edge
    ) -> tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...], tuple[tuple[str | None, ...], ...]]:
        names = [device.name for device in self._problem.devices]
        given = {(item.source, item.to): item for item in edge.transfers}
        times_s = [[0.0 if a == b else math.inf for b in names] for a in names]
        energies_j = [[0.0] * len(names) for _ in names]
        channels: list[list[str | None]] = [[None] * len(names) for _ in names]
        for i, a in enumerate(names):
            for j, b in enumerate(names):
                link, item = self._links.get((a, b)), given.get((a, b))
                if link is not None and a != b:
                    times_s[i][j] = link.time_s(edge.bytes)
                    energies_j[i][j] = link.energy_j + link.j_per_byte * edge.bytes
                    channels[i][j] = link.channel
                if item is not None:
                    times_s[i][j], energies_j[i][j] = item.time_s, item.energy_j
        return _frozen(times_s), _frozen(energies_j), tuple(tuple(row) for row in channels)

    def _run(self, model: Model, last: int, release_s: float, task_of: dict[str, int]) -> Run:
        deadline_s = min(model.deadline_s or math.inf, model.period_s or math.inf)
        answers = []
        for index in range(last + 1):
            share = model.exits[index].share
            if index == last:
                share = sum(item.share for item in model.exits[last:])
            answers.append((share, tuple(task_of[name] for name in sorted(needed(model, index)))))
        if not model.exits:
            answers.append((1.0, tuple(task_of.values())))
        return Run(model.name, release_s, deadline_s, tuple(answers))

    def finish(self, kept: tuple[int, ...]) -> Instance:
        """Return what was gathered."""
        inflows: list[list[int]] = [[] for _ in self._tasks]
        outflows: list[list[int]] = [[] for _ in self._tasks]
        before: dict[int, set[int]] = {index: set() for index in range(len(self._tasks))}
        for index, flow in enumerate(self._flows):
            outflows[flow.source].append(index)
            for reader in flow.readers:
                inflows[reader].append(index)
                before[reader].add(flow.source)
        names = [device.name for device in self._problem.devices]
        losses = [[0.0] * len(names) for _ in names]
        for pair in self._problem.contention:
            i, j = (names.index(name) for name in pair.devices)
            losses[i][j] = losses[j][i] = pair.loss
        return Instance(
            self._problem,
            kept,
            self._quantile,
            tuple(self._units),
            tuple(self._tasks),
            tuple(self._flows),
            tuple(self._runs),
            tuple(TopologicalSorter(before).static_order()),
            tuple(tuple(item) for item in inflows),
            tuple(tuple(item) for item in outflows),
            self._horizon_s,
            _frozen(losses),
        )


def _reach(model: Model, last: int) -> dict[str, float]:
    """Return the share of inputs that need each segment: all that reach the first exit that needs it."""
    reach = {segment.id: 1.0 for segment in model.segments}
    if model.exits:
        left = 1.0
        done: frozenset[str] = frozenset()
        for index in range(last + 1):
            now = needed(model, index)
            reach.update(dict.fromkeys(now - done, left))
            done, left = now, max(0.0, left - model.exits[index].share)
    return reach


def _ways(problem: Problem) -> dict[tuple[str, str], Link]:
    ways = {(link.source, link.to): link for link in problem.links}
    return ways | {(link.to, link.source): link for link in problem.links if link.both_ways}


def _frozen(rows: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in rows)
