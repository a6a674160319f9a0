"""Cutting a model over a given row of chiplets: the best cuts by dynamic programming over tables of all segments.

For a price of time and one of energy the cost of a segment [a, b) on the j-th chiplet is one entry of a table, and

    best_j(b) = min over a of best_{j-1}(a) + time_price (once + pass) + energy_price energy

Minibatches in a pipeline add (passes - 1) times the slowest pass: the program is solved again under caps on it. What
comes out over several prices, caps and minibatches (or, where there are few, over all cuts) and isn't beaten in time
and energy at once are the options.

Reference: SCAR, arXiv 2405.00790 (segmentation, top candidates kept; the dynamic program is ours).
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from devices.chiplet.chip import Chiplet
from devices.chiplet.package import (
    DRAM_BYTES_PER_S,
    DRAM_J_PER_BYTE,
    DRAM_S,
    HOP_J_PER_BYTE,
    HOP_S,
    NOP_BYTES_PER_S,
)
from devices.chiplet.stationary import layer_cost
from runtime.plan.chiplet.mix import Work

Array = NDArray[np.float64]
PRICES = (0.0, 0.25, 0.5, 0.75, 1.0)
CAPS = (1.05, 1.3, 1.7, 2.5)
FEW = 40  # so many ways to cut are all tried
MOST_MARKS = 128  # a longer model is cut at every second, third, .. layer only


class Place(NamedTuple):
    """What matters of a chiplet in a row: itself, its way to memory, its way from the one before."""

    chiplet: Chiplet
    memory_hops: int
    hops: int


@dataclass(frozen=True, slots=True)
class Option:
    """One way to cut.

    Args:
        first: Layer with which the first segment begins.
        ends: Layer before which each segment ends.
        memory: Bytes that each segment moves to and from memory.
    """

    minibatch: int
    first: int
    ends: tuple[int, ...]
    latency_s: float
    energy_j: float
    memory: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Table:
    """Figures of every segment [a, b) at one place, rows a, columns b; energy without end where it is empty."""

    once_s: Array
    pass_s: Array
    energy_j: Array
    memory: Array


class Cutter:
    """Cuts the layers `first` to before `end` of a model over rows of chiplets, and remembers what it found."""

    def __init__(self, work: Work, first: int, end: int) -> None:
        self.work, self.first, self.end = work, first, end
        self.layers = work.layers[first:end]
        every = -(-len(self.layers) // MOST_MARKS)
        self.marks = np.array([*range(0, len(self.layers), every), len(self.layers)])
        self._tables: dict[tuple[Place, int, bool, bool], _Table] = {}
        self._found: dict[tuple[Place, ...], tuple[Option, ...]] = {}

    def options(self, row: tuple[Place, ...]) -> tuple[Option, ...]:
        """Return the cuts over a row of chiplets that none beats in latency and energy; none if it is too long."""
        if row not in self._found:
            self._found[row] = self._solve(row) if len(row) < len(self.marks) else ()
        return self._found[row]

    def minibatches(self) -> tuple[int, ...]:
        """Return the minibatches to try: the batch and its halves, down to 1."""
        sizes = {self.work.batch, 1}
        size = self.work.batch
        while size % 2 == 0:
            size //= 2
            sizes.add(size)
        return tuple(sorted(sizes))

    def _solve(self, row: tuple[Place, ...]) -> tuple[Option, ...]:
        found: dict[tuple[int, tuple[int, ...]], Option] = {}
        for minibatch in self.minibatches():
            passes = self.work.batch // minibatch
            tables = [self._table(place, minibatch, at == 0, at == len(row) - 1) for at, place in enumerate(row)]
            whole = [table.pass_s[0, -1] for table in tables]
            caps = [np.inf]
            if passes > 1 and len(row) > 1:
                caps += [factor * min(whole) / len(row) for factor in CAPS]
            scale = max(float(np.mean([t.energy_j[0, -1] for t in tables])), 1e-30)
            time_scale = max(float(np.mean(whole)), 1e-30)
            size = len(self.marks) - 1
            if comb(size - 1, len(row) - 1) <= FEW:
                cuts = {(*chosen, size) for chosen in combinations(range(1, size), len(row) - 1)}
            else:
                prices = [(p / time_scale, (1.0 - p + 1e-6) / scale) for p in PRICES]
                tried = (_cut(tables, *price, cap) for cap in caps for price in prices)
                cuts = {ends for ends in tried if ends is not None}
            for ends in cuts:
                found[minibatch, ends] = self._option(tables, minibatch, passes, ends)
        return tuple(_unbeaten(list(found.values())))

    def _option(self, tables: list[_Table], minibatch: int, passes: int, ends: tuple[int, ...]) -> Option:
        cells = list(zip(tables, (0, *ends), ends, strict=False))
        pass_s = [float(table.pass_s[a, b]) for table, a, b in cells]
        once_s = sum(float(table.once_s[a, b]) for table, a, b in cells)
        energy_j = sum(float(table.energy_j[a, b]) for table, a, b in cells)
        memory = tuple(float(table.memory[a, b]) for table, a, b in cells)
        latency_s = once_s + sum(pass_s) + (passes - 1) * max(pass_s)
        return Option(
            minibatch, self.first, tuple(self.first + int(self.marks[end]) for end in ends), latency_s, energy_j, memory
        )

    def _table(self, place: Place, minibatch: int, is_first: bool, is_last: bool) -> _Table:
        key = place, minibatch, is_first, is_last
        if key not in self._tables:
            self._tables[key] = self._make(place, minibatch, is_first, is_last)
        return self._tables[key]

    def _make(self, place: Place, minibatch: int, is_first: bool, is_last: bool) -> _Table:
        chiplet, layers, batch = place.chiplet, self.layers, self.work.batch
        passes = batch // minibatch
        way_s = place.memory_hops * HOP_S + DRAM_S
        costs = [layer_cost(layer.batched(minibatch), chiplet) for layer in layers]
        compute_s = _spans([cost.time_s(chiplet) for cost in costs])
        weights = _spans([layer.weight_bytes for layer in layers])
        kept = np.array([minibatch * layer.output_bytes for layer in layers], dtype=float)
        kept[2.0 * kept <= chiplet.l2_bytes] = 0.0
        spilt, spills = _inner(kept), _inner((kept > 0.0).astype(float))
        load_s = np.where(weights > 0.0, weights / DRAM_BYTES_PER_S + way_s, 0.0)
        stays = 2.0 * weights <= chiplet.l2_bytes
        once_s = np.where(stays, load_s, 0.0)
        pass_s = compute_s + np.where(stays, 0.0, load_s) + 2.0 * (spilt / DRAM_BYTES_PER_S + spills * way_s)
        memory = np.where(stays, weights, weights * passes) + 2.0 * passes * spilt
        energy_j = _spans([passes * cost.energy_j(chiplet) for cost in costs])
        given = np.array([minibatch * layer.input_bytes for layer in layers] + [0.0])[:, None]
        if is_first:
            pass_s = pass_s + given / DRAM_BYTES_PER_S + way_s
            memory = memory + passes * given
        else:
            pass_s = pass_s + given / NOP_BYTES_PER_S + place.hops * HOP_S
            energy_j = energy_j + passes * given * place.hops * HOP_J_PER_BYTE
        if is_last:
            made = np.array([0.0] + [minibatch * layer.output_bytes for layer in layers])[None, :]
            pass_s = pass_s + made / DRAM_BYTES_PER_S + way_s
            memory = memory + passes * made
        energy_j = energy_j + memory * (DRAM_J_PER_BYTE + place.memory_hops * HOP_J_PER_BYTE)
        at = np.ix_(self.marks, self.marks)
        none = np.tril(np.ones((len(self.marks), len(self.marks)), dtype=bool))
        return _Table(once_s[at], pass_s[at], np.where(none, np.inf, energy_j[at]), memory[at])


def _spans(values: list[float] | list[int]) -> Array:
    """Return the sums of values[a:b] for every a and b."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    spans: Array = np.maximum(sums[None, :] - sums[:, None], 0.0)
    return spans


def _inner(values: Array) -> Array:
    """Return the sums of values[a:b-1], which leave out the segment's last layer."""
    spans = _spans(list(values))
    spans[:, 1:] = spans[:, :-1].copy()
    return spans


def _cut(tables: list[_Table], time_price: float, energy_price: float, cap_s: float) -> tuple[int, ...] | None:
    """Return where the cheapest cuts are; None where a pass is over the cap whatever is cut."""
    size = tables[0].pass_s.shape[0]
    best = np.full(size, np.inf)
    best[0] = 0.0
    chosen: list[NDArray[np.intp]] = []
    for table in tables:
        cost = time_price * (table.once_s + table.pass_s) + energy_price * table.energy_j + best[:, None]
        if cap_s < np.inf:
            cost[table.pass_s > cap_s] = np.inf
        chosen.append(np.argmin(cost, axis=0))
        best = cost[chosen[-1], np.arange(size)]
    if not np.isfinite(best[-1]):
        return None
    ends = [size - 1]
    for choice in reversed(chosen[1:]):
        ends.append(int(choice[ends[-1]]))
    return tuple(reversed(ends))


def _unbeaten(options: list[Option]) -> list[Option]:
    kept: list[Option] = []
    for option in sorted(options, key=lambda item: (item.latency_s, item.energy_j)):
        if not kept or option.energy_j < kept[-1].energy_j:
            kept.append(option)
    return kept
