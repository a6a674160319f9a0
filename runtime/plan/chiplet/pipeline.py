"""A perception pipeline on a package: every chiplet holds its layers for good, frames follow one another.

Frames leave at the rate of the busiest chiplet,

    throughput = 1 / period
    period     = max(max over chiplets (input + computing + what doesn't fit), bytes at a memory side / its rate)

The layers of all stages stand in a row. For a period T a chiplet takes as many of the next layers as T and half its
buffer of weights allow; a layer that T can't hold alone is cut by rows over several chiplets. With two kinds of
chiplets the least number of output-stationary ones beside n weight-stationary ones follows by dynamic programming over
(layer, n). Bisection finds the least T. Every way is counted at the mesh's longest, which no placement exceeds.

Reference: Odema et al., DATE 2025, arXiv 2411.16007 (stages, sharding of layers; its figures are quoted in docs).
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from devices.chiplet.chip import Chiplet
from devices.chiplet.layer import Layer
from devices.chiplet.package import DRAM_BYTES_PER_S, DRAM_S, HOP_S, NOP_BYTES_PER_S, SIDES, Package
from devices.chiplet.stationary import layer_cost
from runtime.plan.chiplet.mix import Mix
from runtime.plan.errors import PlanError, ScheduleError

HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Share:
    """A run of layers on one chiplet, or one layer on several.

    Args:
        first, end: Layers of the row of all stages.
        chiplets: One; several where a layer is cut by rows.
    """

    first: int
    end: int
    chiplets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Who holds what.

    Args:
        period_s: Time from frame to frame [s].
        utilisation: Multiply-accumulates a frame over what all elements could do in a period.
    """

    shares: tuple[Share, ...]
    period_s: float
    utilisation: float

    @property
    def throughput_hz(self) -> float:
        """Frames a second."""
        return 1.0 / self.period_s


@dataclass(frozen=True, slots=True)
class _Row:
    """All stages' layers in a row; `starts` are those whose input comes from memory (the first of each camera)."""

    layers: tuple[Layer, ...]
    starts: frozenset[int]

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def row_of(mix: Mix, from_memory: Sequence[str]) -> _Row:
    """Return the layers of all models, each `batch` times over, in a row.

    Args:
        from_memory: Models whose input comes from memory, as a camera's frame.
    """
    layers: list[Layer] = []
    starts = set()
    for work in mix.works:
        for _ in range(work.batch):
            if work.name in from_memory:
                starts.add(len(layers))
            layers += work.layers
    return _Row(tuple(layers), frozenset(starts))


class _Costs:
    """Sums over the row for one kind of chiplet, so that a run's time is two look-ups."""

    def __init__(self, row: _Row, chiplet: Chiplet, way_s: float) -> None:
        self.row, self.chiplet, self.way_s = row, chiplet, way_s
        self.sums_s, self.weights = [0.0], [0]
        for index, layer in enumerate(row.layers):
            time_s = layer_cost(layer, chiplet).time_s(chiplet) + _spilt(layer, chiplet) / DRAM_BYTES_PER_S
            if index in row.starts:
                time_s += layer.input_bytes / DRAM_BYTES_PER_S + way_s + DRAM_S
            self.sums_s.append(self.sums_s[-1] + time_s)
            self.weights.append(self.weights[-1] + layer.weight_bytes)

    def alone_s(self) -> float:
        """Return the time of all layers, each brought in by itself: no period needs to be longer [s]."""
        size = len(self.row.layers)
        return sum(_busy_s(self.row, self.chiplet, self.way_s, index, index + 1, 1) for index in range(size)) * 1.001

    def take(self, first: int, period_s: float) -> int:
        """Return how far a chiplet gets from `first` in a period; `first` where it can't hold even one layer."""
        layer = self.row.layers[first]
        given_s = 0.0 if first in self.row.starts else layer.input_bytes / NOP_BYTES_PER_S + self.way_s
        room = bisect_right(self.weights, self.weights[first] + self.chiplet.l2_bytes // 2) - 1
        end = bisect_right(self.sums_s, self.sums_s[first] + period_s - given_s) - 1
        return max(first, min(end, room))

    def shards(self, index: int, period_s: float, most: int) -> int | None:
        """Return how many chiplets must share a layer to keep a period; None where `most` are too few."""
        for shards in range(1, most + 1):
            if _busy_s(self.row, self.chiplet, self.way_s, index, index + 1, shards) <= period_s:
                return shards
        return None


def pipeline_mix(package: Package, mix: Mix, from_memory: Sequence[str]) -> Pipeline:
    """Return the pipeline of the least period that is found; the independent check has passed it.

    Raises:
        PlanError: Even one after another the layers don't fit.
    """
    row = row_of(mix, from_memory)
    if len(package.chiplets) == 1:
        shares = [Share(0, len(row.layers), (0,))]
    else:
        costs: dict[str, _Costs] = {
            kind: _Costs(row, _chiplet(package, kind), _longest(package)) for kind in package.kinds()
        }
        shares = _least(package, mix, row, costs)
    period_s = period(package, row, shares)
    peak = period_s * sum(c.pes * c.lanes * c.clock_hz for c in package.chiplets)
    made = Pipeline(tuple(shares), period_s, row.macs / peak)
    check_pipeline(package, mix, from_memory, made)
    return made


def _least(package: Package, mix: Mix, row: _Row, costs: dict[str, _Costs]) -> list[Share]:
    """Return the shares of the least period, by bisection."""
    low_s, high_s = 0.0, max(cost.alone_s() for cost in costs.values())
    shares = None
    for _ in range(HALVINGS):
        middle_s = (low_s + high_s) / 2.0
        fitted = _fit(package, row, costs, middle_s)
        if fitted is None:
            low_s = middle_s
        else:
            shares, high_s = fitted, middle_s
    if shares is None:
        raise PlanError(f"{mix.name} doesn't fit on {package.name}: its weights need more chiplets or buffer")
    return shares


def busy_s(package: Package, row: _Row, share: Share) -> float:
    """Return how long a share's chiplets work on a frame [s]."""
    chiplet = package.chiplets[share.chiplets[0]]
    return _busy_s(row, chiplet, _longest(package), share.first, share.end, len(share.chiplets))


def period(package: Package, row: _Row, shares: Sequence[Share]) -> float:
    """Return the time between frames [s]: the busiest chiplet, or a side of the memory."""
    sides = dict.fromkeys(SIDES, 0.0)
    for share in shares:
        for chiplet in share.chiplets:
            sides[package.side(chiplet)] += _memory(row, package.chiplets[chiplet], share) / len(share.chiplets)
    slowest_s = max(busy_s(package, row, share) for share in shares)
    return max(slowest_s, max(sides.values()) / DRAM_BYTES_PER_S)


def check_pipeline(package: Package, mix: Mix, from_memory: Sequence[str], pipeline: Pipeline) -> None:
    """Refuse a pipeline that leaves out a layer, uses a chiplet twice, or claims a shorter period than it has.

    Raises:
        ScheduleError: Names the layers or the chiplet.
    """
    row = row_of(mix, from_memory)
    ends = [0, *(share.end for share in pipeline.shares)]
    for share, (before, end) in zip(pipeline.shares, pairwise(ends), strict=True):
        if share.first != before or end <= before:
            raise ScheduleError(f"layers {share.first} to {share.end} don't follow {before}")
        if len(share.chiplets) > 1 and share.end - share.first > 1:
            raise ScheduleError(f"layers {share.first} to {share.end}: only a single layer may be cut by rows")
    if ends[-1] != len(row.layers):
        raise ScheduleError(f"{ends[-1]} of {len(row.layers)} layers are held")
    used = [chiplet for share in pipeline.shares for chiplet in share.chiplets]
    if len(set(used)) < len(used) or not set(used) <= set(range(len(package.chiplets))):
        raise ScheduleError(f"chiplets {used}: one is not there, or used twice")
    _check_times(package, row, pipeline)


def _check_times(package: Package, row: _Row, pipeline: Pipeline) -> None:
    """Count every chiplet's work and every side's bytes again, layer by layer."""
    limit_s = pipeline.period_s * (1.0 + 1e-9)
    sides = dict.fromkeys(SIDES, 0.0)
    for share in pipeline.shares:
        count = len(share.chiplets)
        for place in share.chiplets:
            chiplet = package.chiplets[place]
            weights = sum(row.layers[index].weight_bytes for index in range(share.first, share.end))
            memory = weights / count if 2 * weights > chiplet.l2_bytes else 0.0
            work_s = 0.0
            for index in range(share.first, share.end):
                whole = row.layers[index]
                work_s += layer_cost(whole.rows(count), chiplet).time_s(chiplet)
                if index in row.starts:
                    memory += whole.input_bytes / count
                elif index == share.first:
                    work_s += whole.rows(count).input_bytes / NOP_BYTES_PER_S
                if index < share.end - 1 and 2 * whole.output_bytes > chiplet.l2_bytes:
                    memory += 2 * whole.output_bytes
            work_s += memory / DRAM_BYTES_PER_S
            sides[package.side(place)] += memory
            if work_s > limit_s:
                raise ScheduleError(f"chiplet {place} works {work_s} s a frame: the period is {pipeline.period_s}")
    if max(sides.values()) / DRAM_BYTES_PER_S > limit_s:
        raise ScheduleError(f"a memory side moves {max(sides.values())} bytes a frame in {pipeline.period_s} s")


def _longest(package: Package) -> float:
    return (package.rows + package.columns - 2) * HOP_S


def _chiplet(package: Package, kind: str) -> Chiplet:
    return next(chiplet for chiplet in package.chiplets if chiplet.dataflow == kind)


def _spilt(layer: Layer, chiplet: Chiplet) -> int:
    """Return the bytes of a layer's output that go to memory and back, half the buffer being for what is passed on."""
    return 2 * layer.output_bytes if 2 * layer.output_bytes > chiplet.l2_bytes else 0


def _memory(row: _Row, chiplet: Chiplet, share: Share) -> float:
    """Return the bytes that a share moves to and from memory in a frame."""
    layers = row.layers[share.first : share.end]
    frames = sum(row.layers[index].input_bytes for index in range(share.first, share.end) if index in row.starts)
    weights = sum(layer.weight_bytes for layer in layers)
    streamed = weights if 2 * weights > chiplet.l2_bytes else 0
    return frames + streamed + sum(_spilt(layer, chiplet) for layer in layers[:-1])


def _busy_s(row: _Row, chiplet: Chiplet, way_s: float, first: int, end: int, shards: int) -> float:
    layers = [layer.rows(shards) for layer in row.layers[first:end]]
    compute_s = sum(layer_cost(layer, chiplet).time_s(chiplet) for layer in layers)
    given_s = 0.0 if first in row.starts else layers[0].input_bytes / NOP_BYTES_PER_S + way_s
    moves_s = _memory(row, chiplet, Share(first, end, (0,))) / shards / DRAM_BYTES_PER_S
    frames = sum(1 for index in range(first, end) if index in row.starts)
    return compute_s + given_s + moves_s + (frames * (way_s + DRAM_S))


def _fit(package: Package, row: _Row, costs: dict[str, _Costs], period_s: float) -> list[Share] | None:
    """Return shares that keep a period, None where there are none: least "os" count for every layer and "ws" count."""
    have = {kind: sum(c.dataflow == kind for c in package.chiplets) for kind in ("ws", "os")}
    size = len(row.layers)
    unknown = math.inf
    least = [[unknown] * (have["ws"] + 1) for _ in range(size + 1)]
    back: dict[tuple[int, int], tuple[int, int, str, int]] = {}
    least[0][0] = 0
    for first in range(size):
        if min(least[first]) == unknown:
            continue
        for kind, cost in costs.items():
            end, count = cost.take(first, period_s), 1
            if end == first:
                shards = cost.shards(first, period_s, have[kind])
                if shards is None:
                    continue
                end, count = first + 1, shards
            for ws, other in enumerate(least[first]):
                after = (ws + count, other) if kind == "ws" else (ws, other + count)
                if after[0] <= have["ws"] and after[1] <= have["os"] and after[1] < least[end][after[0]]:
                    least[end][after[0]] = after[1]
                    back[end, after[0]] = first, ws, kind, count
    ends = [ws for ws, other in enumerate(least[size]) if other <= have["os"]]
    return _place(package, _trace(back, size, ends[0])) if ends else None


def _trace(
    back: dict[tuple[int, int], tuple[int, int, str, int]], end: int, ws: int
) -> list[tuple[int, int, str, int]]:
    runs = []
    while end > 0:
        first, before, kind, count = back[end, ws]
        runs.append((first, end, kind, count))
        end, ws = first, before
    return runs[::-1]


def _place(package: Package, runs: list[tuple[int, int, str, int]]) -> list[Share]:
    """Give each run the free chiplets of its kind that are nearest to the run before."""
    free = set(range(len(package.chiplets)))
    at, shares = 0, []
    for first, end, kind, count in runs:
        right = [chiplet for chiplet in free if package.chiplets[chiplet].dataflow == kind]
        near = sorted(right, key=lambda chiplet: (package.hops(at, chiplet), chiplet))[:count]
        free -= set(near)
        at = near[-1]
        shares.append(Share(first, end, tuple(near)))
    return shares
