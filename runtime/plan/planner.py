"""The planner: a problem in, the Pareto set of plans out, with baselines and what is proven.

Exact: for every choice of last exits the fastest plan, the thriftiest, and plans between them at caps on the energy,
each by CP-SAT from the heuristic's schedule on. Search: the module heuristic and NSGA-II. An instance over the exact
solver's limit is searched, and the plans say their gap to the lower bound.

Plans count with p99 times unless the median is asked for: a plan that keeps a deadline in the median alone would miss
it, and the fastest plan in the median need not be in the set of those that are fast in 99 of 100 runs.
"""

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from runtime.plan.baselines import best_single, greedy, heft, single_device
from runtime.plan.bounds import lower_bound_s
from runtime.plan.errors import InfeasibleError, PlanError
from runtime.plan.exact import solve, too_large
from runtime.plan.explore import Explorer, Found
from runtime.plan.file import check_problem
from runtime.plan.goal import Goal, score
from runtime.plan.instance import Instance, Quantile, make_instance
from runtime.plan.nsga import nsga2
from runtime.plan.plan import Plan, make_plan, pareto, thin
from runtime.plan.problem import Problem
from runtime.plan.schedule import Schedule, exit_accuracy, latency_s
from runtime.plan.search import search

Method = Literal["auto", "exact", "search"]
MAX_CHOICES = 64


@dataclass(frozen=True, slots=True)
class Options:
    """How to plan.

    Args:
        method: "auto" is exact where the instance is within its limit.
        time_limit_s: For the exact solver altogether [s].
        points: Plans to look for along the energy, per choice of exits.
        most_plans: Plans handed out; where the set is larger, those spread along it, proven ones first.
        quantile: Times to plan with; where a profile has no p99 its median stands for it.
        steps: Placements that the heuristic tries for each of them.
    """

    method: Method = "auto"
    time_limit_s: float = 60.0
    points: int = 5
    most_plans: int = 16
    steps: int = 6000
    population: int = 60
    generations: int = 30
    seed: int = 0
    workers: int = 2
    quantile: Quantile = "p99"


@dataclass(frozen=True, slots=True)
class Report:
    """What the planner found.

    Args:
        plans: The Pareto set, fastest first.
        baselines: Everything on each device ("only NAME") and on the best of them ("single"), greedy, HEFT: where they
            exist.
        notes: What a reader must know, as a fall-back from the exact solver.
    """

    problem: Problem
    plans: tuple[Plan, ...]
    baselines: dict[str, Plan]
    lower_bound_ms: float
    notes: tuple[str, ...]

    def of_single(self, plan: Plan) -> dict[str, float]:
        """Return a plan's latency and energy as shares of those of everything on the best single device."""
        single = self.baselines.get("single")
        pairs = (
            {}
            if single is None
            else {
                "latency": (plan.latency_ms, single.latency_ms),
                "energy": (plan.energy_mj, single.energy_mj),
            }
        )
        return {name: mine / theirs for name, (mine, theirs) in pairs.items() if theirs > 0.0}

    def table(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "problem": self.problem.name,
            "source": self.problem.source,
            "lower_bound_ms": self.lower_bound_ms,
            "plans": [plan.table() | {"of_single": self.of_single(plan)} for plan in self.plans],
            "baselines": {
                name: {
                    "latency_ms": plan.latency_ms,
                    "energy_mj": plan.energy_mj,
                    "accuracy": plan.accuracy,
                    "misses": plan.misses,
                }
                for name, plan in self.baselines.items()
            },
            "notes": list(self.notes),
        }


def plan_problem(
    problem: Problem, options: Options | None = None, clock: Callable[[], float] = time.monotonic
) -> Report:
    """Return the Pareto set of plans of a problem.

    Raises:
        PlanError: The problem contradicts itself, or an option can't be used.
        InfeasibleError: No plan keeps deadlines, memories and accuracy floors; says the least possible.
    """
    chosen = options or Options()
    check_problem(problem)
    if chosen.quantile != "p99" and any(model.deadline_s for model in problem.models):
        raise PlanError("a deadline is kept by p99 times: plan with them, or leave the deadline out")
    instances = [make_instance(problem, exits, chosen.quantile) for exits in _exit_choices(problem)]
    notes: list[str] = []
    use_exact = _use_exact(instances, chosen, notes)
    found = Found()
    deadline = clock() + chosen.time_limit_s
    for left, instance in zip(range(len(instances), 0, -1), reversed(instances), strict=True):
        _explore(found, instance, chosen, use_exact, (deadline - clock()) / left, clock)
    starts = [(instance, schedule) for instance, schedule, _ in found.rows]
    if _has_energy(instances[-1]) or any(model.exits for model in problem.models):
        population = max(chosen.population, 2)
        for instance, schedule in nsga2(
            problem,
            starts[:population],
            quantile=chosen.quantile,
            population=population,
            generations=chosen.generations,
            seed=chosen.seed,
        ):
            found.add(instance, schedule, "nsga2")
    if not found.rows:
        raise InfeasibleError(_least_possible(problem, instances, chosen))
    plans = thin(pareto(found.plans()), chosen.most_plans)
    full = instances[-1]
    return Report(problem, tuple(plans), _baselines(full), 1e3 * lower_bound_s(full), tuple(notes))


def _exit_choices(problem: Problem) -> list[tuple[int, ...]]:
    """Return every choice of last exits that can keep the accuracy floors, deepest last."""
    ranges = []
    for model in problem.models:
        floor = model.accuracy_floor or 0.0
        indices = [last for last in range(len(model.exits)) if exit_accuracy(model, last) >= floor - 1e-9]
        if model.exits and not indices:
            reach = max(exit_accuracy(model, last) for last in range(len(model.exits)))
            raise InfeasibleError(
                f"model {model.name!r} reaches accuracy {reach:.4f} at most: its floor is {model.accuracy_floor}"
            )
        ranges.append(indices or [-1])
    choices = list(itertools.islice(itertools.product(*(reversed(row) for row in ranges)), MAX_CHOICES))
    return choices[::-1]


def _use_exact(instances: list[Instance], options: Options, notes: list[str]) -> bool:
    if options.method == "search":
        return False
    reason = too_large(instances[-1])
    if reason is not None:
        notes.append(f"{reason}: searched instead; each plan's gap is to the lower bound of its costs")
    return reason is None


def _explore(
    found: Found,
    instance: Instance,
    options: Options,
    use_exact: bool,
    limit_s: float,
    clock: Callable[[], float],
) -> None:
    """Add the fastest plan, the thriftiest, and plans between them, of one choice of exits."""
    deadline = clock() + max(limit_s, 0.0)
    fast = search(instance, Goal(), steps=options.steps, seed=options.seed)
    found.add(instance, fast, "search")
    thrifty = fast
    if _has_energy(instance):
        thrifty = search(instance, Goal("energy"), steps=options.steps, seed=options.seed, starts=[fast])
        found.add(instance, thrifty, "search")
        for name, schedule in _simple(instance).items():
            found.add(instance, schedule, name)
    if not use_exact or fast is None or thrifty is None:
        return

    Explorer(found, instance, fast, thrifty, max(options.points, 1), options.workers, deadline, clock).run()


def _has_energy(instance: Instance) -> bool:
    """Whether any energy is told: without it, and without exits, latency is all there is to weigh."""
    computing = (cost.energy_j for unit in instance.units for row in unit.cells if row for cost in row)
    sending = (energy_j for flow in instance.flows for row in flow.energies_j for energy_j in row)
    return any(energy_j > 0.0 for energy_j in itertools.chain(computing, (x for x in sending if x < math.inf)))


def _simple(instance: Instance) -> dict[str, Schedule | None]:
    made = {f"only {name}": single_device(instance, index) for index, name in enumerate(instance.devices)}
    return made | {"greedy": greedy(instance), "heft": heft(instance)}


def _baselines(instance: Instance) -> dict[str, Plan]:
    bound_s = lower_bound_s(instance)
    made = _simple(instance) | {"single": best_single(instance)}
    return {
        name: make_baseline(instance, schedule, name, bound_s)
        for name, schedule in made.items()
        if schedule is not None
    }


def make_baseline(instance: Instance, schedule: Schedule, name: str, bound_s: float) -> Plan:
    """Return a baseline as a plan; a memory that it overfills is told by `misses`, not refused."""
    free = msgspec.structs.replace(instance.problem, memories=())
    plan = make_plan(replace(instance, problem=free), schedule, name, bound_s, False)
    return replace(plan, misses=score(instance, schedule, Goal())[0])


def _least_possible(problem: Problem, instances: list[Instance], options: Options) -> str:
    """Return what the least possible latency is without the deadlines, in words."""
    freed = msgspec.structs.replace(
        problem, models=tuple(msgspec.structs.replace(model, deadline_s=None) for model in problem.models)
    )
    asked = ", ".join(f"{m.name} {1e3 * m.deadline_s:.6g} ms" for m in problem.models if m.deadline_s is not None)
    best_ms, bound_ms = math.inf, math.inf
    for like in instances:
        instance = make_instance(freed, like.exits, "p99")
        schedule = search(instance, Goal(), steps=options.steps, seed=options.seed)
        bound_s = lower_bound_s(instance)
        if schedule is None:
            raise PlanError("no placement lets every tensor through: links between the devices are missing")
        if options.method != "search" and too_large(instance) is None:
            outcome = solve(instance, schedule, time_limit_s=options.time_limit_s / 4, workers=options.workers)
            schedule, bound_s = outcome.schedule or schedule, min(outcome.bound, 1e9)
        bound_ms = min(bound_ms, 1e3 * bound_s)
        if score(instance, schedule, Goal())[0] == 0.0:
            best_ms = min(best_ms, 1e3 * latency_s(instance, schedule.ends_s))
    if math.isinf(best_ms):
        return "no plan keeps the limits of memory, accuracy and periods, even without a deadline"
    return (
        f"no plan keeps the deadline ({asked}): the least p99 latency possible is {best_ms:.6g} ms"
        f" (no plan is under {bound_ms:.6g} ms)"
    )
