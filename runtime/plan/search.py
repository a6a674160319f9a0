"""The module heuristic: HEFT and its like as seeds, then annealing over placement, order and levels.

A state is a schedule. A step changes its placement or its priorities and builds it again: it rebuilds a few units that
hang together, inserts a critical task elsewhere, changes its place in its device's order, moves a unit or a run of a
module, places a whole module by dynamic programming under random prices of the devices, or sets a level. The best
schedule ever seen is kept, so the result is never worse than any seed, HEFT among them.

Deterministic: a step count and a seed, no clock.
"""

import math
import random
from collections.abc import Iterable, Sequence

from runtime.plan.baselines import fastest_levels, greedy, heft, single_device
from runtime.plan.bounds import lower_bound_s
from runtime.plan.build import place, tails_s
from runtime.plan.goal import EXCESS, NEVER, Goal, Score, score
from runtime.plan.instance import Instance
from runtime.plan.modules import Modules, find_modules, place_chain
from runtime.plan.moves import Standing, go_before, insert, neighbours, rebuild, stand, together
from runtime.plan.schedule import Schedule

START_TEMPERATURE, END_TEMPERATURE = 0.02, 0.0007  # as shares of the objective
SEED_PRICES = 30
PHASES = 3
PRICE_SPREAD = 1.2


def search(
    instance: Instance,
    goal: Goal | None = None,
    *,
    steps: int = 20_000,
    seed: int = 0,
    starts: Iterable[Schedule | None] = (),
) -> Schedule | None:
    """Return the best schedule found.

    Args:
        steps: Placements to try.
        starts: Further schedules to begin from.
    Returns:
        None where no placement at all lets every tensor through; the least violation where none keeps the limits.
    """
    return _Annealer(instance, goal or Goal(), random.Random(seed)).run(steps, list(starts))


class _Annealer:
    def __init__(self, instance: Instance, goal: Goal, rng: random.Random) -> None:
        self._instance, self._goal, self._rng = instance, goal, rng
        self._modules: Modules = find_modules(instance)
        self._near = neighbours(instance)
        self._bound_s = lower_bound_s(instance)
        self._movable = [index for index, unit in enumerate(instance.units) if len(unit.choices) > 1]
        self._levelled = [index for index, count in enumerate(instance.levels) if count > 1]
        self._costly = goal.least == "energy" or goal.energy_cap_j < math.inf
        self.best: Schedule | None = None
        self.best_score: Score = NEVER

    def run(self, steps: int, starts: list[Schedule | None]) -> Schedule | None:
        self._begin(starts)
        phase = max(1, steps // PHASES)
        for step in range(steps):
            if self.best is None or self._proven():
                break
            if step % phase == 0:
                now, reached = stand(self._instance, self.best), self.best_score
            temperature = START_TEMPERATURE * (END_TEMPERATURE / START_TEMPERATURE) ** (step % phase / phase)
            schedule = self._step(now)
            found = self._keep(schedule)
            if schedule is not None and self._accept(reached, found, temperature):
                now, reached = stand(self._instance, schedule), found
        return self.best

    def _fresh(self, levels: tuple[int, ...]) -> Schedule | None:
        """Return the schedule with all modules placed one by one, each under prices of its own."""
        devices: tuple[int, ...] | None = (-1,) * len(self._instance.units)
        for chain in self._modules.chains:
            if devices is not None:
                devices = self._priced(devices, (chain,), levels, self._prices())
        return self._ranked(devices, levels)

    def _ranked(self, devices: tuple[int, ...] | None, levels: tuple[int, ...]) -> Schedule | None:
        """Return the schedule of a placement by upward ranks."""
        if devices is None:
            return None
        ranks = zip(tails_s(self._instance, devices, levels), self._instance.tasks, strict=True)
        return place(self._instance, devices, levels, [rank - task.release_s for rank, task in ranks])

    def _proven(self) -> bool:
        """Whether the best is as good as the bound: nothing can be better."""
        if self._goal.least != "latency" or self._costly:
            return False
        return self.best_score[0] == 0.0 and self.best_score[1] <= self._bound_s * (1.0 + EXCESS)

    def _begin(self, starts: list[Schedule | None]) -> None:
        instance = self._instance
        seeds = [*starts, heft(instance), greedy(instance)]
        seeds += [single_device(instance, device) for device in range(len(instance.devices))]
        fastest = fastest_levels(instance)
        even = self._priced((-1,) * len(instance.units), self._modules.chains, fastest, [1.0] * len(instance.devices))
        seeds += [self._ranked(even, fastest), *(self._fresh(fastest) for _ in range(SEED_PRICES))]
        for schedule in seeds:
            self._keep(schedule)

    def _keep(self, schedule: Schedule | None) -> Score:
        found = score(self._instance, schedule, self._goal)
        if found < self.best_score:
            self.best, self.best_score = schedule, found
        return found

    def _accept(self, now: Score, found: Score, temperature: float) -> bool:
        if found <= now:
            return True
        if found[0] > now[0] and not (found[0] - now[0]) < temperature * self._rng.random():
            return False
        if math.isinf(found[1]) or now[1] <= 0.0:
            return False
        worse = (found[1] - now[1]) / now[1]
        return worse <= 0.0 or self._rng.random() < math.exp(-worse / temperature)

    def _step(self, now: Standing) -> Schedule | None:
        """Return a neighbour of a schedule."""
        instance, rng = self._instance, self._rng
        priority = now.as_started() if rng.random() < 0.5 else now.by_tails(instance)
        devices: Sequence[int] = now.devices
        draw = rng.random()
        if self._levelled and rng.random() < 0.1:
            return place(instance, devices, self._other_levels(now), priority)
        if draw < 0.5 and self._movable:
            units = together(instance, now, self._near, self._pick(now), rng)
            return rebuild(instance, now, units, priority, self._j_price(), rng)
        if draw < 0.65:
            devices, priority = insert(instance, now, self._pick(now), rng)
        elif draw < 0.75:
            priority = go_before(instance, now, self._pick(now))
        elif draw < 0.85 and self._movable:
            devices = self._move_unit(now)
        elif draw < 0.90:
            devices = self._move_run(now)
        elif draw < 0.95:
            chain = rng.choice(self._modules.chains)
            devices = self._priced(devices, (chain,), now.levels, self._prices()) or devices
        else:
            for task in rng.sample(range(len(priority)), min(len(priority), rng.randint(1, 3))):
                priority[task] *= rng.uniform(0.3, 2.0)
        return place(instance, devices, now.levels, priority)

    def _pick(self, now: Standing) -> int:
        """Return a task; mostly a critical one, as no other shortens the schedule."""
        if now.critical and self._rng.random() < 0.7:
            return self._rng.choice(now.critical)
        return self._rng.randrange(len(self._instance.tasks))

    def _other_levels(self, now: Standing) -> list[int]:
        device = self._rng.choice(self._levelled)
        levels = list(now.levels)
        levels[device] = self._rng.randrange(self._instance.levels[device])
        return levels

    def _move_unit(self, now: Standing) -> list[int]:
        unit = self._rng.choice(self._movable)
        devices = list(now.devices)
        devices[unit] = self._rng.choice(self._instance.units[unit].choices)
        return devices

    def _move_run(self, now: Standing) -> list[int]:
        chain = self._rng.choice(self._modules.chains)
        first = self._rng.randrange(len(chain))
        last = self._rng.randint(first, len(chain) - 1)
        device = self._rng.randrange(len(self._instance.devices))
        devices = list(now.devices)
        for unit in chain[first : last + 1]:
            if device in self._instance.units[unit].choices:
                devices[unit] = device
        return devices

    def _j_price(self) -> float:
        """Return what a joule costs in seconds: nothing where energy doesn't matter, else drawn."""
        return math.exp(self._rng.uniform(-3.0, 3.0)) * self._seconds_per_joule() if self._costly else 0.0

    def _prices(self) -> list[float]:
        return [math.exp(self._rng.uniform(-PRICE_SPREAD, PRICE_SPREAD)) for _ in self._instance.devices]

    def _priced(
        self,
        devices: Iterable[int],
        chains: Iterable[tuple[int, ...]],
        levels: tuple[int, ...],
        prices: list[float],
    ) -> tuple[int, ...] | None:
        placed = list(devices)
        j_price = self._j_price()
        for chain in chains:
            found = place_chain(self._instance, self._modules, chain, placed, levels, prices, j_price)
            if found is None:
                return None
            for unit, device in zip(chain, found, strict=True):
                placed[unit] = device
        return tuple(placed)

    def _seconds_per_joule(self) -> float:
        """Return the mean time over the mean energy of the cells, which makes the two comparable."""
        joule = [c.energy_j for unit in self._instance.units for row in unit.cells if row is not None for c in row]
        second = [time for unit in self._instance.units for d in unit.choices for time in unit.times_s[d]]
        return sum(second) / sum(joule) if sum(joule) > 0.0 else 0.0
