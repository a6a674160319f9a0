"""The module heuristic: HEFT and its like as seeds, then annealing over placement, priorities and levels.

A state is the device of each unit, the level of each device, and a factor on each task's upward rank; building the
schedule turns it into times. A step moves a unit, a run of a module, or a whole module (placed by dynamic programming
under random prices of the devices), swaps two units, or shakes priorities. The best state ever seen is kept, so the
result is never worse than any seed, HEFT among them.

Deterministic: a step count and a seed, no clock.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from runtime.plan.baselines import fastest_levels, greedy, heft, single_device
from runtime.plan.bounds import lower_bound_s
from runtime.plan.build import place, tails_s
from runtime.plan.goal import EXCESS, NEVER, Goal, Score, score
from runtime.plan.instance import Instance
from runtime.plan.modules import Modules, find_modules, place_chain
from runtime.plan.schedule import Schedule

START_TEMPERATURE, END_TEMPERATURE = 0.01, 0.0007  # as shares of the objective
SEED_PRICES = 30
PHASES = 3
PRICE_SPREAD = 1.2


@dataclass(frozen=True, slots=True)
class _State:
    devices: tuple[int, ...]
    levels: tuple[int, ...]
    factors: tuple[float, ...]
    critical: tuple[int, ...] = ()


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
        self._bound_s = lower_bound_s(instance)
        self._even = (1.0,) * len(instance.tasks)
        self._movable = [index for index, unit in enumerate(instance.units) if len(unit.choices) > 1]
        self._levelled = [index for index, count in enumerate(instance.levels) if count > 1]
        self.best: Schedule | None = None
        self.best_score: Score = NEVER

    def run(self, steps: int, starts: list[Schedule | None]) -> Schedule | None:
        state, now = self._begin(starts)
        if not self._movable and not self._levelled and not any(self._modules.chains):
            return self.best
        for step in range(steps):
            if self._proven():
                break
            if step and step % max(1, steps // PHASES) == 0:
                state, now = self._again(step // max(1, steps // PHASES), state, now)
            temperature = START_TEMPERATURE * (END_TEMPERATURE / START_TEMPERATURE) ** ((PHASES * step / steps) % 1.0)
            candidate = self._neighbour(state)
            schedule = self._build(candidate)
            found = self._keep(schedule)
            if schedule is not None and self._accept(now, found, temperature):
                state, now = replace(candidate, critical=critical_units(self._instance, schedule)), found
        return self.best

    def _again(self, phase: int, state: _State, now: Score) -> tuple[_State, Score]:
        """Begin a phase: odd ones from modules placed anew, even ones from the best."""
        if phase % 2:
            fresh = self._fresh(state.levels)
            schedule = None if fresh is None else self._build(fresh)
            if fresh is not None and schedule is not None:
                return fresh, self._keep(schedule)
        return (state, now) if self.best is None else (self._state(self.best), self.best_score)

    def _fresh(self, levels: tuple[int, ...]) -> _State | None:
        """Return all modules placed one by one, each under prices of its own."""
        devices: tuple[int, ...] | None = (-1,) * len(self._instance.units)
        for chain in self._modules.chains:
            if devices is not None:
                devices = self._priced(devices, (chain,), levels, self._prices())
        return None if devices is None else _State(devices, levels, self._even)

    def _proven(self) -> bool:
        """Whether the best is as good as the bound: nothing can be better."""
        if self._goal.least != "latency" or self._goal.energy_cap_j < math.inf:
            return False
        return self.best_score[0] == 0.0 and self.best_score[1] <= self._bound_s * (1.0 + EXCESS)

    def _begin(self, starts: list[Schedule | None]) -> tuple[_State, Score]:
        instance = self._instance
        seeds = [*starts, heft(instance), greedy(instance)]
        seeds += [single_device(instance, device) for device in range(len(instance.devices))]
        for schedule in seeds:
            self._keep(schedule)
        state = None if self.best is None else self._state(self.best)
        fastest = fastest_levels(instance)
        for attempt in range(SEED_PRICES):
            if attempt:
                self._keep_state(self._fresh(fastest))
                continue
            prices = [1.0] * len(instance.devices)
            devices = self._priced([-1] * len(instance.units), self._modules.chains, fastest, prices)
            self._keep_state(None if devices is None else _State(devices, fastest, self._even))
        if self.best is not None:
            state = self._state(self.best)
        if state is None:
            any_device = tuple(self._rng.choice(unit.choices) for unit in instance.units)
            state = _State(any_device, fastest, self._even)
        return state, self.best_score

    def _state(self, schedule: Schedule) -> _State:
        """Return the state that builds this schedule again, or one as good: factors from its starts."""
        devices, levels = schedule.assignment.devices, schedule.assignment.levels
        ranks = tails_s(self._instance, devices, levels)
        end_s = max(schedule.ends_s)
        factors = tuple(
            (end_s - start_s) / rank if rank > 0.0 else 1.0
            for start_s, rank in zip(schedule.starts_s, ranks, strict=True)
        )
        return _State(devices, levels, factors, critical_units(self._instance, schedule))

    def _build(self, state: _State) -> Schedule | None:
        ranks = tails_s(self._instance, state.devices, state.levels)
        priority = [
            rank * factor - task.release_s
            for rank, factor, task in zip(ranks, state.factors, self._instance.tasks, strict=True)
        ]
        return place(self._instance, state.devices, state.levels, priority)

    def _keep_state(self, state: _State | None) -> None:
        self._keep(None if state is None else self._build(state))

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

    def _neighbour(self, state: _State) -> _State:
        draw = self._rng.random()
        if self._levelled and draw < 0.1:
            return self._other_level(state)
        if draw < 0.25 or not self._movable:
            return self._shake(state)
        if draw < 0.55:
            return self._move_unit(state)
        if draw < 0.70:
            return self._move_run(state)
        if draw < 0.85:
            return self._swap(state)
        return self._replace_module(state)

    def _other_level(self, state: _State) -> _State:
        device = self._rng.choice(self._levelled)
        levels = list(state.levels)
        levels[device] = self._rng.randrange(self._instance.levels[device])
        return replace(state, levels=tuple(levels))

    def _shake(self, state: _State) -> _State:
        factors = list(state.factors)
        for task in self._rng.sample(range(len(factors)), min(len(factors), self._rng.randint(1, 3))):
            factors[task] = self._rng.uniform(0.3, 2.0) if self._rng.random() < 0.7 else 1.0
        return replace(state, factors=tuple(factors))

    def _move_unit(self, state: _State) -> _State:
        unit = self._pick(state)
        devices = list(state.devices)
        devices[unit] = self._rng.choice(self._instance.units[unit].choices)
        return replace(state, devices=tuple(devices))

    def _move_run(self, state: _State) -> _State:
        chain = self._rng.choice(self._modules.chains)
        first = self._rng.randrange(len(chain))
        last = self._rng.randint(first, len(chain) - 1)
        device = self._rng.randrange(len(self._instance.devices))
        devices = list(state.devices)
        for unit in chain[first : last + 1]:
            if device in self._instance.units[unit].choices:
                devices[unit] = device
        return replace(state, devices=tuple(devices))

    def _pick(self, state: _State) -> int:
        """Return a unit that can move; mostly one on the critical path, as no other shortens the schedule."""
        if state.critical and self._rng.random() < 0.7:
            unit = self._rng.choice(state.critical)
            if len(self._instance.units[unit].choices) > 1:
                return unit
        return self._rng.choice(self._movable)

    def _swap(self, state: _State) -> _State:
        one, other = self._pick(state), self._rng.choice(self._movable)
        devices = list(state.devices)
        if devices[other] in self._instance.units[one].choices and devices[one] in self._instance.units[other].choices:
            devices[one], devices[other] = devices[other], devices[one]
        return replace(state, devices=tuple(devices))

    def _replace_module(self, state: _State) -> _State:
        chain = self._rng.choice(self._modules.chains)
        devices = self._priced(state.devices, (chain,), state.levels, self._prices())
        return state if devices is None else replace(state, devices=devices)

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
        j_price = 0.0
        if self._goal.least == "energy" or self._goal.energy_cap_j < math.inf:
            j_price = math.exp(self._rng.uniform(-3.0, 3.0)) * self._seconds_per_joule()
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


def critical_units(instance: Instance, schedule: Schedule) -> tuple[int, ...]:
    """Return the units of the tasks that the schedule's end waits for, from its end back to its beginning."""
    devices, starts_s, ends_s = schedule.assignment.devices, schedule.starts_s, schedule.ends_s
    ended_at = {(devices[task.unit], ends_s[index]): index for index, task in enumerate(instance.tasks)}
    arrivals = {(move.flow, move.target): move.end_s for move in schedule.moves}
    here = max(range(len(ends_s)), key=lambda index: ends_s[index])
    found = []
    for _ in instance.tasks:
        unit = instance.tasks[here].unit
        found.append(unit)
        device = devices[unit]
        makers = (
            instance.flows[flow].source
            for flow in instance.inflows[here]
            if arrivals.get((flow, device), ends_s[instance.flows[flow].source]) >= starts_s[here]
        )
        blocker = next(makers, ended_at.get((device, starts_s[here])))
        if blocker is None or blocker == here:
            break
        here = blocker
    return tuple(found)
