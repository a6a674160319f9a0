"""The Pareto search: NSGA-II over placement, priorities, levels and last exits at once.

A genome is a row of numbers in [0, 1]: for each unit which of its devices, for each task a factor on its rank, for
each device its level, for each model its last exit. Objectives: latency, energy, lost accuracy; limits as constraints.

Reference: Deb, Pratap, Agarwal, Meyarivan: NSGA-II, IEEE TEVC 6(2), 2002; pymoo.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.plan.build import place, tails_s
from runtime.plan.errors import PlanError
from runtime.plan.goal import violation
from runtime.plan.instance import Instance, Quantile, all_exits, make_instance
from runtime.plan.problem import Problem
from runtime.plan.schedule import Schedule, accuracies, energy_j, latency_s

Genome = NDArray[np.float64]
NEVER = 1e9
LOWEST, HIGHEST = 0.3, 2.0


@dataclass
class Genetics:
    """How genomes and schedules of a problem belong together."""

    problem: Problem
    quantile: Quantile = "p50"
    _instances: dict[tuple[int, ...], Instance] = field(default_factory=dict)

    def instance(self, exits: Sequence[int]) -> Instance:
        """Return the instance that keeps these exits."""
        key = tuple(exits)
        if key not in self._instances:
            self._instances[key] = make_instance(self.problem, key, self.quantile)
        return self._instances[key]

    @property
    def full(self) -> Instance:
        """The instance with every exit, whose units and tasks a genome lists."""
        return self.instance(all_exits(self.problem))

    @property
    def length(self) -> int:
        """How many numbers a genome has."""
        return len(self.full.units) + len(self.full.tasks) + len(self.full.devices) + len(self.problem.models)

    def read(self, genome: Genome) -> tuple[Instance, Schedule | None]:
        """Return the schedule that a genome stands for."""
        full = self.full
        parts = np.split(genome, np.cumsum([len(full.units), len(full.tasks), len(full.devices)]))
        exits = tuple(
            _pick(gene, len(model.exits)) if model.exits else -1
            for gene, model in zip(parts[3], self.problem.models, strict=True)
        )
        instance = self.instance(exits)
        device_of = {
            (unit.model, unit.segment): unit.choices[_pick(gene, len(unit.choices))]
            for unit, gene in zip(full.units, parts[0], strict=True)
        }
        factor_of = {
            self._key(full, index): LOWEST + (HIGHEST - LOWEST) * float(gene) for index, gene in enumerate(parts[1])
        }
        levels = [_pick(gene, count) for gene, count in zip(parts[2], full.levels, strict=True)]
        devices = [device_of[unit.model, unit.segment] for unit in instance.units]
        ranks = tails_s(instance, devices, levels)
        priority = [
            rank * factor_of[self._key(instance, index)] - instance.tasks[index].release_s
            for index, rank in enumerate(ranks)
        ]
        return instance, place(instance, devices, levels, priority)

    def write(self, instance: Instance, schedule: Schedule) -> Genome:
        """Return a genome that stands for a schedule's placement, levels and exits; priorities as the ranks give."""
        full, chosen = self.full, schedule.assignment
        device_of = {
            (unit.model, unit.segment): device for unit, device in zip(instance.units, chosen.devices, strict=True)
        }
        genes = []
        for unit in full.units:
            device = device_of.get((unit.model, unit.segment), unit.choices[0])
            genes.append((unit.choices.index(device) + 0.5) / len(unit.choices))
        genes += [(1.0 - LOWEST) / (HIGHEST - LOWEST)] * len(full.tasks)
        genes += [(level + 0.5) / count for level, count in zip(chosen.levels, full.levels, strict=True)]
        genes += [
            (index + 0.5) / len(model.exits) if model.exits else 0.5
            for index, model in zip(instance.exits, self.problem.models, strict=True)
        ]
        return np.array(genes)

    def objectives(self, genome: Genome) -> tuple[list[float], float]:
        """Return latency [s], energy [J] and lost accuracy, and by how much a limit is broken."""
        instance, schedule = self.read(genome)
        if schedule is None:
            return [NEVER, NEVER, 1.0], NEVER
        reached = accuracies(instance, schedule.assignment)
        lost = 1.0 - sum(reached.values()) / len(reached) if reached else 0.0
        figures = [latency_s(instance, schedule.ends_s), energy_j(instance, schedule.assignment), lost]
        return figures, violation(instance, schedule)

    def _key(self, instance: Instance, task: int) -> tuple[str, str, int]:
        unit = instance.units[instance.tasks[task].unit]
        return unit.model, unit.segment, instance.tasks[task].run


def nsga2(
    problem: Problem,
    starts: Sequence[tuple[Instance, Schedule]] = (),
    *,
    quantile: Quantile = "p50",
    population: int = 60,
    generations: int = 60,
    seed: int = 0,
) -> list[tuple[Instance, Schedule]]:
    """Return the non-dominated schedules of the last generation that keep the limits.

    Args:
        starts: Schedules to begin from, beside random ones.
    Raises:
        PlanError: pymoo is missing.
    """
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import ElementwiseProblem
        from pymoo.optimize import minimize
    except ImportError as error:
        raise PlanError("the Pareto search needs pymoo: pip install 'headway[plan]'") from error
    genetics = Genetics(problem, quantile)

    class Placement(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=genetics.length, n_obj=3, n_ieq_constr=1, xl=0.0, xu=1.0)

        def _evaluate(self, x: Genome, out: dict[str, Any], *_: Any, **__: Any) -> None:
            figures, excess = genetics.objectives(x)
            out["F"], out["G"] = figures, [excess]

    rng = np.random.default_rng(seed)
    first = rng.random((population, genetics.length))
    for row, (instance, schedule) in zip(first, starts, strict=False):
        row[:] = genetics.write(instance, schedule)
    result = minimize(
        Placement(), NSGA2(pop_size=population, sampling=first), ("n_gen", generations), seed=seed, verbose=False
    )
    genomes: list[Genome] | Genome = [] if result.X is None else np.atleast_2d(result.X)
    pairs = (genetics.read(genome) for genome in genomes)
    return [(instance, schedule) for instance, schedule in pairs if schedule is not None]


def _pick(gene: float, count: int) -> int:
    return min(int(gene * count), count - 1)
