"""Scheduling a mix on a package: windows, who gets which chiplets, segments; the least energy-delay product found.

    1. windows: every model's layers are packed first-fit into 1, 2, .. windows of equal expected length, a layer's
       expected time being its mean over the package's dataflows
    2. chiplets: N_i = round(E_i / sum E_j |C|), at least 1, laid along a snake through the mesh; beside it one each
    3. annealing: a row of chiplets grows or shrinks at an end, turns round, swaps a chiplet with another row or a free
       one; each row is cut by dynamic programming, and among the cuts the window takes those of least product

Steps 1 and 2 are SCAR's; for 3 SCAR walks mesh neighbours depth first. Rows here need not be neighbours: hops are paid.

Reference: SCAR, Odema et al., MICRO 2024, arXiv 2405.00790.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from devices.chiplet.package import DRAM_BYTES_PER_S, SIDES, Package
from devices.chiplet.stationary import layer_cost
from runtime.plan.chiplet.check import check_schedule
from runtime.plan.chiplet.mix import Mix, Part, Schedule, Segment, Window, Work
from runtime.plan.chiplet.segments import Cutter, Option, Place
from runtime.plan.errors import PlanError

Rows = dict[int, tuple[int, ...]]  # chiplets of each model in a window, in the order in which data passes
COOLING = (0.15, 0.002)  # relative worsening of the product that is taken with probability 1/e, first and last
LONGEST_ROW = 5


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to try.

    Args:
        windows: At most so many windows.
        steps: Annealing steps a window.
    """

    windows: int = 3
    steps: int = 300
    seed: int = 0


def schedule_mix(package: Package, mix: Mix, effort: Effort | None = None) -> Schedule:
    """Return the schedule of least energy-delay product that is found; the independent check has passed it.

    Raises:
        PlanError: There are more models than chiplets.
    """
    effort = effort or Effort()
    if len(mix.works) > len(package.chiplets):
        raise PlanError(
            f"{mix.name}: {len(mix.works)} models side by side need as many chiplets, {package.name} has "
            f"{len(package.chiplets)}: split the mix"
        )
    best: Schedule | None = None
    seen: set[tuple[tuple[tuple[int, int], ...], ...]] = set()
    for count in range(1, effort.windows + 1):
        plan = _pack(package, mix, count)
        if plan not in seen:
            seen.add(plan)
            found = _Annealer(package, mix, plan, effort).run()
            best = found if best is None or found.edp_js < best.edp_js else best
    if best is None:
        raise PlanError(f"{mix.name}: at least one window is needed, not {effort.windows}")
    check_schedule(package, mix, best)
    return best


def schedule_alone(package: Package, mix: Mix) -> Schedule:
    """Return the models one after another on the package's first chiplet, as a monolithic one runs them."""
    windows = []
    for index, work in enumerate(mix.works):
        row = (0,)
        options = Cutter(work, 0, len(work.layers)).options(_places(package, row))
        windows.append(choose_window(package, {index: row}, {index: options}, 0.0, 0.0))
    schedule = Schedule(tuple(windows))
    check_schedule(package, mix, schedule)
    return schedule


def expected_s(package: Package, work: Work) -> list[float]:
    """Return each layer's time, the mean over the package's chiplets [s]."""
    share = work.batch / len(package.chiplets)
    return [share * sum(layer_cost(layer, c).time_s(c) for c in package.chiplets) for layer in work.layers]


def _pack(package: Package, mix: Mix, count: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return for every window the (first, end) of each model; equal where the model rests."""
    times = [expected_s(package, work) for work in mix.works]
    length_s = max(sum(row) for row in times) / count
    windows = [[(0, 0)] * len(mix.works) for _ in range(count)]
    for index, row in enumerate(times):
        at = 0
        for number in range(count):
            first, left_s = at, length_s * (1.0 + 1e-9)
            last = number == count - 1
            while at < len(row) and (last or row[at] <= left_s or at == first):
                left_s -= row[at]
                at += 1
            windows[number][index] = first, at
    return tuple(tuple(window) for window in windows if any(end > first for first, end in window))


def _places(package: Package, row: Sequence[int]) -> tuple[Place, ...]:
    before = (row[0], *row)
    return tuple(
        Place(package.chiplets[chiplet], package.memory_hops(chiplet), package.hops(previous, chiplet))
        for previous, chiplet in zip(before, row, strict=False)
    )


def choose_window(
    package: Package, rows: Rows, options: dict[int, tuple[Option, ...]], rest_s: float, rest_j: float
) -> Window:
    """Return the window of least (rest + latency) (rest + energy): the thriftiest options within each latency."""
    best: tuple[float, Window] | None = None
    limits = sorted({option.latency_s for some in options.values() for option in some})
    slowest_s = max(some[0].latency_s for some in options.values())
    for limit_s in limits:
        if limit_s < slowest_s:
            continue
        picked = {
            index: min((o for o in some if o.latency_s <= limit_s), key=lambda o: o.energy_j)
            for index, some in options.items()
        }
        window = _window(package, rows, picked)
        energy_j = sum(part.energy_j for part in window.parts)
        product = (rest_s + window.latency_s) * (rest_j + energy_j)
        if best is None or product < best[0]:
            best = product, window
    if best is None:
        raise PlanError("a window without options")
    return best[1]


def _window(package: Package, rows: Rows, picked: dict[int, Option]) -> Window:
    sides = dict.fromkeys(SIDES, 0.0)
    parts = []
    for index, option in picked.items():
        first, segments = option.first, []
        for chiplet, end, memory in zip(rows[index], option.ends, option.memory, strict=True):
            segments.append(Segment(first, end, chiplet))
            sides[package.side(chiplet)] += memory
            first = end
        parts.append(Part(index, option.minibatch, tuple(segments), option.latency_s, option.energy_j))
    latency_s = max(max(part.latency_s for part in parts), max(sides.values()) / DRAM_BYTES_PER_S)
    return Window(tuple(parts), latency_s)


class _Annealer:
    """Anneals the rows of every window in turn, the others held."""

    def __init__(
        self, package: Package, mix: Mix, plan: tuple[tuple[tuple[int, int], ...], ...], effort: Effort
    ) -> None:
        self.package, self.mix, self.plan, self.effort = package, mix, plan, effort
        self.random = random.Random(effort.seed)
        self.cutters = [
            {index: Cutter(mix.works[index], first, end) for index, (first, end) in enumerate(window) if end > first}
            for window in plan
        ]

    def run(self) -> Schedule:
        """Return the best schedule found."""
        states = [self._start(number) for number in range(len(self.plan))]
        windows = [window for _, window in states]
        for _ in range(2 if len(windows) > 1 else 1):
            for number in range(len(windows)):
                others = [window for other, window in enumerate(windows) if other != number]
                rest_s = sum(window.latency_s for window in others)
                rest_j = sum(part.energy_j for window in others for part in window.parts)
                states[number] = self._anneal(number, states[number][0], rest_s, rest_j)
                windows[number] = states[number][1]
        return Schedule(tuple(windows))

    def _value(self, number: int, rows: Rows, rest_s: float, rest_j: float) -> tuple[float, Window] | None:
        options = {
            index: cutter.options(_places(self.package, rows[index])) for index, cutter in self.cutters[number].items()
        }
        if not all(options.values()):
            return None
        window = choose_window(self.package, rows, options, rest_s, rest_j)
        energy_j = sum(part.energy_j for part in window.parts)
        return (rest_s + window.latency_s) * (rest_j + energy_j), window

    def _start(self, number: int) -> tuple[Rows, Window]:
        """Return the better of SCAR's node allocation along a snake and one chiplet each."""
        works = list(self.cutters[number])
        snake = _snake(self.package)
        starts: list[Rows] = [dict(zip(works, ((chiplet,) for chiplet in snake), strict=False))]
        starts.append(self._allocate(number, works, snake))
        found = [(value, rows) for rows in starts if (value := self._value(number, rows, 0.0, 0.0)) is not None]
        (_, window), rows = min(found, key=lambda item: item[0][0])
        return rows, window

    def _allocate(self, number: int, works: list[int], snake: list[int]) -> Rows:
        """Give chiplets by expected time, at least one each, in turn along the snake."""
        times = []
        for index in works:
            first, end = self.plan[number][index]
            times.append(sum(expected_s(self.package, self.mix.works[index])[first:end]))
        total = len(snake)
        shares = [max(1, round(time / sum(times) * total)) for time in times]
        lengths = [end - first for first, end in (self.plan[number][index] for index in works)]
        shares = [min(share, LONGEST_ROW, length) for share, length in zip(shares, lengths, strict=True)]
        while sum(shares) > total:
            shares[shares.index(max(shares))] -= 1
        rows, at = {}, 0
        for index, share in zip(works, shares, strict=True):
            rows[index] = tuple(snake[at : at + share])
            at += share
        return rows

    def _anneal(self, number: int, rows: Rows, rest_s: float, rest_j: float) -> tuple[Rows, Window]:
        start = self._value(number, rows, rest_s, rest_j)
        if start is None:
            raise PlanError(f"window {number} has no start")
        value, window = start
        best = value, rows, window
        steps = self.effort.steps
        for step in range(steps):
            heat = COOLING[0] * (COOLING[1] / COOLING[0]) ** (step / steps)
            changed = self._change(rows)
            if changed is None:
                continue
            result = self._value(number, changed, rest_s, rest_j)
            if result is None:
                continue
            worse = math.log(result[0] / value)
            if worse <= 0.0 or self.random.random() < math.exp(-worse / heat):
                rows, (value, window) = changed, result
                if value < best[0]:
                    best = value, rows, window
        return best[1], best[2]

    def _change(self, rows: Rows) -> Rows | None:
        """Return the rows after one random move; None where the move isn't possible."""
        index = self.random.choice(list(rows))
        row = rows[index]
        used = {chiplet for other in rows.values() for chiplet in other}
        free = [chiplet for chiplet in range(len(self.package.chiplets)) if chiplet not in used]
        move = self.random.randrange(5)
        if move == 0 and free and len(row) < LONGEST_ROW:
            new = self.random.choice(free)
            place = self.random.randrange(len(row) + 1)
            return {**rows, index: (*row[:place], new, *row[place:])}
        if move == 1 and len(row) > 1:
            place = self.random.randrange(len(row))
            return {**rows, index: (*row[:place], *row[place + 1 :])}
        if move == 2 and len(row) > 1:
            return {**rows, index: row[::-1]}
        if move == 3 and free:
            place = self.random.randrange(len(row))
            return {**rows, index: (*row[:place], self.random.choice(free), *row[place + 1 :])}
        if move == 4 and len(rows) > 1:
            return self._swap(rows, index)
        return None

    def _swap(self, rows: Rows, index: int) -> Rows:
        other = self.random.choice([name for name in rows if name != index])
        a, b = self.random.choice(rows[index]), self.random.choice(rows[other])
        turn = {a: b, b: a}
        return {name: tuple(turn.get(chiplet, chiplet) for chiplet in row) for name, row in rows.items()}


def _snake(package: Package) -> list[int]:
    """Return the chiplets along a way of neighbours through the whole mesh."""
    order = []
    for row in range(package.rows):
        line = [row * package.columns + column for column in range(package.columns)]
        order += line if row % 2 == 0 else line[::-1]
    return order
