"""The exact solver: the whole problem as a constraint program for OR-tools CP-SAT.

    x[u, d, l]     unit u on device d at level l, one of them each; all units of a device share its level
    s_i, e_i       start and end of each task; on a device no two overlap
    z[f, a, b]     flow f's maker on a and its reader on b; s_reader >= e_maker + way[a, b] z[f, a, b]
    channel        a transfer is an interval of its own, no two of a channel overlap
    contention     e_i - s_i >= work_i + sum over j on contending devices of loss x overlap(i, j)

Times are counted in ticks, rounded down, so that the solver's bound holds for the true times; its placement and orders
are then timed exactly. Where all times are whole multiples of a tick nothing is rounded.

Reference: Perron, Didier, Gay: The CP-SAT-LP solver, CP 2023.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from runtime.plan.bounds import heads_s, lower_bound_s
from runtime.plan.errors import PlanError, ScheduleError
from runtime.plan.goal import Goal, score
from runtime.plan.instance import Instance, make_instance
from runtime.plan.schedule import Assignment, Move, Schedule, exit_accuracy, latency_s, targets
from runtime.plan.timing import orders_of, retime

MAX_TASKS = 150
MAX_WAYS = 40_000
MAX_TICKS = 40_000_000
MAX_TICKS_CONTENDED = 20_000  # overlaps are proven tick by tick: finer ones cost time and prove no more
ENERGY_TICKS = 10**7
LOSS_UNIT = 10**6
PICO = 1e12
LEAST_S = 0.05
PLAIN, PSEUDO, BOUNDS = "", "pseudo_costs", "objective_lb_search_max_lp"
"""CP-SAT's own search with few workers; branching by pseudo-costs, which caps on the energy need; raising the bound."""
PROVEN, PROVEN_CONTENDED = 1e-5, 2e-3  # relative; what rounding may leave between a proven optimum and its bound


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the exact solver found.

    Args:
        schedule: Its best schedule, exactly timed; None where it found none.
        bound: Proven: no schedule within the goal's limits has less latency [s] or energy [J].
        optimal: Whether the schedule is proven best, to within rounding.
        infeasible: Whether it is proven that no schedule keeps the limits.
    """

    schedule: Schedule | None
    bound: float
    optimal: bool
    infeasible: bool


def too_large(instance: Instance) -> str | None:
    """Return why the exact solver doesn't take an instance, None where it does."""
    ways = sum(len(flow.readers) for flow in instance.flows) * len(instance.devices) ** 2
    if len(instance.tasks) > MAX_TASKS:
        return f"{len(instance.tasks)} tasks are over the exact solver's limit of {MAX_TASKS}"
    if ways > MAX_WAYS:
        return f"{ways} ways of tensors are over the exact solver's limit of {MAX_WAYS}"
    return None


def solve(
    instance: Instance, hint: Schedule, goal: Goal | None = None, *, time_limit_s: float = 60.0, workers: int = 2
) -> Outcome:
    """Return the best schedule and what is proven of it.

    Args:
        hint: Any complete schedule; it gives the horizon, and the result is never worse.
    Raises:
        PlanError: OR-tools is missing, or the instance is too large (see `too_large`).
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise PlanError("the exact solver needs OR-tools: pip install 'headway[plan]'") from error
    reason = too_large(instance)
    if reason is not None:
        raise PlanError(reason)
    chosen, bound = goal or Goal(), 0.0
    if instance.contended:
        began = time.monotonic()
        hint, bound = _uncontended(cp_model, instance, hint, chosen, time_limit_s / 3.0, workers)
        time_limit_s -= time.monotonic() - began
    outcome = _run(cp_model, instance, hint, chosen, time_limit_s, workers)
    if outcome.schedule is None or outcome.bound >= bound:
        return outcome
    reached = score(instance, outcome.schedule, chosen)[1]
    return replace(outcome, bound=min(bound, reached), optimal=is_proven(instance, reached, bound))


def _uncontended(
    cp: Any, instance: Instance, hint: Schedule, goal: Goal, time_limit_s: float, workers: int
) -> tuple[Schedule, float]:
    """Return a better hint, and a bound, from the problem without contention: nothing is faster with it."""
    free = msgspec.structs.replace(instance.problem, contention=())
    relaxed = make_instance(free, instance.exits, instance.quantile)
    start = retime(relaxed, hint.assignment, orders_of(instance, hint))
    outcome = _run(cp, relaxed, start, goal, time_limit_s, workers)
    if outcome.schedule is None:
        return hint, 0.0
    slowed = retime(instance, outcome.schedule.assignment, orders_of(relaxed, outcome.schedule))
    return min(hint, slowed, key=lambda schedule: score(instance, schedule, goal)), outcome.bound


def _run(cp: Any, instance: Instance, hint: Schedule, goal: Goal, time_limit_s: float, workers: int) -> Outcome:
    """Run CP-SAT with one strategy; where that proves nothing in half of the time, with another from its best on."""
    free = goal.least == "latency" and goal.energy_cap_j == math.inf
    order = (PLAIN, BOUNDS) if instance.contended else (PLAIN, PSEUDO) if free else (PSEUDO, PLAIN)
    end_s = time.monotonic() + time_limit_s
    found = _attempt(cp, instance, hint, goal, time_limit_s / 2.0, workers, order[0])
    left_s = end_s - time.monotonic()
    if found.optimal or found.infeasible or left_s < LEAST_S:
        return found
    again = _attempt(cp, instance, found.schedule or hint, goal, left_s, workers, order[1])
    if again.infeasible:
        return again
    best = again.schedule or found.schedule
    bound = max(found.bound, again.bound)
    reached = math.inf if best is None else score(instance, best, goal)[1]
    return Outcome(best, min(bound, reached), best is not None and is_proven(instance, reached, bound), False)


def _attempt(
    cp: Any, instance: Instance, hint: Schedule, goal: Goal, time_limit_s: float, workers: int, strategy: str
) -> Outcome:
    program = _Program(cp, instance, hint, goal)
    solver = cp.CpSolver()
    solver.parameters.num_workers = workers
    solver.parameters.max_time_in_seconds = max(time_limit_s, 0.1)
    solver.parameters.random_seed = 0
    if strategy != PLAIN and workers > 1:
        solver.parameters.subsolvers.append(strategy)
    if instance.contended:
        solver.parameters.linearization_level = 2
    status = solver.solve(program.model)
    return _outcome(cp, program, solver, status, hint, goal)


def _outcome(cp: Any, program: "_Program", solver: Any, status: Any, hint: Schedule, goal: Goal) -> Outcome:
    instance = program.instance
    if status == cp.INFEASIBLE:
        return Outcome(None, math.inf, False, True)
    if status == cp.MODEL_INVALID:
        raise PlanError(f"the constraint program is not valid: {program.model.validate()}")
    candidates = [hint] if score(instance, hint, goal)[0] == 0.0 else []
    if status in (cp.OPTIMAL, cp.FEASIBLE):
        candidates += program.schedules(solver)
    best = min(candidates, key=lambda schedule: score(instance, schedule, goal), default=None)
    bound = solver.best_objective_bound * program.unit
    if goal.least == "latency":
        bound = max(bound, lower_bound_s(instance))
    reached = math.inf if best is None else score(instance, best, goal)[1]
    proven = status == cp.OPTIMAL and is_proven(instance, reached, bound)
    return Outcome(best, min(bound, reached), proven, False)


def is_proven(instance: Instance, reached: float, bound: float) -> bool:
    """Return whether a figure is as good as its bound, to within what rounding leaves."""
    return reached <= bound * (1.0 + (PROVEN_CONTENDED if instance.contended else PROVEN)) + 1e-15


def _tick_s(instance: Instance, horizon_s: float) -> float:
    """Return the tick: the greatest common divisor of all times where that is fine, else a share of the horizon."""
    most = MAX_TICKS_CONTENDED if instance.contended else MAX_TICKS
    times = {time for unit in instance.units for device in unit.choices for time in unit.times_s[device]}
    times |= {time for flow in instance.flows for row in flow.times_s for time in row if not math.isinf(time)}
    times |= {task.release_s for task in instance.tasks}
    whole = [round(time * PICO) for time in times if time > 0.0]
    if whole and all(abs(time * PICO - round(time * PICO)) < 1e-3 for time in times):
        divisor_s = math.gcd(*whole) / PICO
        if divisor_s > 0.0 and horizon_s / divisor_s <= most:
            return divisor_s
    return horizon_s / most if horizon_s > 0.0 else 1.0


class _Program:
    """The constraint program of one instance and goal."""

    def __init__(self, cp: Any, instance: Instance, hint: Schedule, goal: Goal) -> None:
        self._cp, self.instance, self._goal = cp, instance, goal
        self.model = cp.CpModel()
        end_s = max(hint.ends_s)
        slowest = sum(
            max(max(u.times_s[d]) for d in u.choices) for u in (instance.units[t.unit] for t in instance.tasks)
        )
        worst_loss = max((sum(row) for row in instance.losses), default=0.0)
        ways = sum(max((t for r in f.times_s for t in r if not math.isinf(t)), default=0.0) for f in instance.flows)
        loose_s = max(task.release_s for task in instance.tasks) + slowest / (1.0 - worst_loss) + ways
        keeps = goal.least == "latency" and goal.energy_cap_j == math.inf and score(instance, hint, goal)[0] == 0.0
        simple = keeps and len(instance.runs) == len({run.model for run in instance.runs})
        horizon_s = end_s if simple and instance.problem.latency == "worst" else max(end_s, loose_s)
        self._tick_s = _tick_s(instance, horizon_s)
        self._horizon = math.ceil(horizon_s / self._tick_s * (1.0 + 1e-9)) + 1
        self._place()
        self._time()
        self._flow()
        if instance.contended:
            self._contend()
        self._limit()
        self._aim()
        self._hint(hint)

    def _ticks(self, time_s: float) -> int:
        return math.floor(time_s / self._tick_s * (1.0 + 1e-12) + 1e-6)

    def _place(self) -> None:
        instance, model = self.instance, self.model
        self._level = [
            [model.new_bool_var(f"level_{d}_{k}") for k in range(count)] for d, count in enumerate(instance.levels)
        ]
        self._on: list[dict[int, Any]] = []
        self._x: list[dict[tuple[int, int], Any]] = []
        for variables in self._level:
            model.add_exactly_one(variables)
        for index, unit in enumerate(instance.units):
            on = {d: model.new_bool_var(f"on_{index}_{d}") for d in unit.choices}
            model.add_exactly_one(on.values())
            x: dict[tuple[int, int], Any] = {}
            for d, literal in on.items():
                if instance.levels[d] == 1:
                    x[d, 0] = literal
                    continue
                for k in range(instance.levels[d]):
                    x[d, k] = model.new_bool_var(f"x_{index}_{d}_{k}")
                    model.add_implication(x[d, k], self._level[d][k])
                model.add(sum(x[d, k] for k in range(instance.levels[d])) == literal)
            self._on.append(on)
            self._x.append(x)

    def _time(self) -> None:
        instance, model = self.instance, self.model
        heads = heads_s(instance)
        self._start: list[Any] = []
        self._end: list[Any] = []
        self._work: list[Any] = []
        rows: list[list[Any]] = [[] for _ in instance.devices]
        loads: list[list[Any]] = [[] for _ in instance.devices]
        for index, task in enumerate(instance.tasks):
            unit = instance.units[task.unit]
            first = self._ticks(task.release_s)
            start = model.new_int_var(first, self._horizon, f"s_{index}")
            end = model.new_int_var(
                max(first, self._ticks(heads[index]) - len(instance.tasks)), self._horizon, f"e_{index}"
            )
            work = sum(self._ticks(unit.times_s[d][k]) * lit for (d, k), lit in self._x[task.unit].items())
            model.add(end >= start + work) if instance.contended else model.add(end == start + work)
            for (d, k), literal in self._x[task.unit].items():
                ticks = self._ticks(unit.times_s[d][k])
                loads[d].append(ticks * literal)
                if instance.contended:
                    size = model.new_int_var(ticks, max(ticks, self._horizon), "")
                    rows[d].append(model.new_optional_interval_var(start, size, end, literal, ""))
                else:
                    rows[d].append(model.new_optional_fixed_size_interval_var(start, ticks, literal, ""))
            self._start.append(start)
            self._end.append(end)
            self._work.append(work)
        for row in rows:
            model.add_no_overlap(row)
        self._loads = [sum(load) for load in loads]

    def _flow(self) -> None:
        instance, model = self.instance, self.model
        channels: dict[str, list[Any]] = {}
        self._joule: list[tuple[float, Any]] = []
        self._crosses: list[dict[tuple[int, int], Any]] = []
        self._leaves: list[dict[tuple[int, int], Any]] = []
        for index, flow in enumerate(instance.flows):
            maker = instance.tasks[flow.source].unit
            crosses: dict[tuple[int, int], Any] = {}
            leaves: dict[tuple[int, int], Any] = {}
            for reader in flow.readers:
                way = self._ways(flow, maker, instance.tasks[reader].unit)
                delay = sum(self._ticks(flow.times_s[a][b]) * literal for (a, b), literal in way.items() if a != b)
                model.add(self._start[reader] >= self._end[flow.source] + delay)
                for (a, b), literal in way.items():
                    if a == b:
                        continue
                    if (a, b) not in crosses:
                        crosses[a, b] = model.new_bool_var("")
                        leaves[a, b] = model.new_int_var(0, self._horizon, "")
                    model.add_implication(literal, crosses[a, b])
                    if flow.channels[a][b] is not None:
                        ticks = self._ticks(flow.times_s[a][b])
                        model.add(self._start[reader] >= leaves[a, b] + ticks).only_enforce_if(literal)
            for (a, b), literal in crosses.items():
                self._joule.append((flow.weight * flow.energies_j[a][b], literal))
                name = flow.channels[a][b]
                if name is not None:
                    ticks = self._ticks(flow.times_s[a][b])
                    model.add(leaves[a, b] >= self._end[flow.source]).only_enforce_if(literal)
                    channels.setdefault(name, []).append(
                        model.new_optional_fixed_size_interval_var(leaves[a, b], ticks, literal, f"m_{index}_{a}_{b}")
                    )
            self._crosses.append(crosses)
            self._leaves.append(leaves)
        for row in channels.values():
            model.add_no_overlap(row)

    def _ways(self, flow: Any, maker: int, reader: int) -> dict[tuple[int, int], Any]:
        """Return a literal for each pair of devices of maker and reader; pairs without a way are forbidden."""
        model, source, target = self.model, self._on[maker], self._on[reader]
        way: dict[tuple[int, int], Any] = {}
        for a, left in source.items():
            for b, right in target.items():
                if math.isinf(flow.times_s[a][b]):
                    model.add_bool_or([left.negated(), right.negated()])
                else:
                    way[a, b] = model.new_bool_var("")
        for a, left in source.items():
            model.add(sum(lit for (i, _), lit in way.items() if i == a) == left)
        for b, right in target.items():
            model.add(sum(lit for (_, j), lit in way.items() if j == b) == right)
        return way

    def _contend(self) -> None:
        """Tasks that may run side by side on contending devices slow each other for as long as they overlap."""
        instance, model = self.instance, self.model
        lost: list[list[Any]] = [[] for _ in instance.tasks]
        ordered = _ancestors(instance)
        for i in range(len(instance.tasks)):
            for j in range(i + 1, len(instance.tasks)):
                if i in ordered[j] or j in ordered[i]:
                    continue
                for a, first in self._on[instance.tasks[i].unit].items():
                    for b, second in self._on[instance.tasks[j].unit].items():
                        loss = instance.losses[a][b]
                        if loss > 0.0:
                            both = self._overlap(i, j, first, second)
                            lost[i].append(math.floor(loss * LOSS_UNIT) * both)
                            lost[j].append(math.floor(loss * LOSS_UNIT) * both)
        for index, terms in enumerate(lost):
            if terms:
                stretched = LOSS_UNIT * (self._end[index] - self._start[index] - self._work[index])
                model.add(stretched >= sum(terms))

    def _overlap(self, i: int, j: int, first: Any, second: Any) -> Any:
        """Return a variable that is at least the time for which i and j run together, if both are placed so."""
        model, start, end = self.model, self._start, self._end
        both = model.new_int_var(0, self._horizon, "")
        cases = [model.new_bool_var("") for _ in range(6)]
        model.add(end[i] <= start[j]).only_enforce_if(cases[0])
        model.add(end[j] <= start[i]).only_enforce_if(cases[1])
        for case, left, right in ((2, i, i), (3, j, j), (4, i, j), (5, j, i)):
            model.add(both >= end[left] - start[right]).only_enforce_if(cases[case])
        model.add_bool_or([*cases, first.negated(), second.negated()])
        return both

    def _limit(self) -> None:
        instance, model = self.instance, self.model
        for index, memory in enumerate(instance.problem.memories):
            among = {instance.devices.index(name) for name in memory.devices}
            terms = (
                [
                    math.ceil(cells[k].memory_bytes) * literal
                    for unit, x in zip(instance.units, self._x, strict=True)
                    for (d, k), literal in x.items()
                    if d in among and (cells := unit.cells[d]) is not None
                ]
                if memory.holds == "segments"
                else [
                    math.ceil(flow.bytes) * literal
                    for flow, crosses in zip(instance.flows, self._crosses, strict=True)
                    for (a, b), literal in crosses.items()
                    if a in among and b in among and instance.tasks[flow.source].run == 0
                ]
            )
            if terms:
                model.add(sum(terms) <= math.floor(memory.bytes)).with_name(f"memory_{index}")
        for run in instance.runs:
            limit_s = min(run.deadline_s + run.release_s, instance.horizon_s)
            if not math.isinf(limit_s):
                for task in run.answers[-1][1]:
                    model.add(self._end[task] <= math.ceil(limit_s / self._tick_s * (1.0 - 1e-12) - 1e-6))
        self._limit_accuracy()

    def _limit_accuracy(self) -> None:
        for spec, last in zip(self.instance.problem.models, self.instance.exits, strict=True):
            if spec.accuracy_floor is None:
                continue
            losses = [
                round(1e9 * unit.weight * cells[k].accuracy_loss) * literal
                for unit, x in zip(self.instance.units, self._x, strict=True)
                if unit.model == spec.name
                for (d, k), literal in x.items()
                if (cells := unit.cells[d]) is not None and cells[k].accuracy_loss > 0.0
            ]
            spare = round(1e9 * (exit_accuracy(spec, last) - spec.accuracy_floor)) + 1
            self.model.add(sum(losses) <= spare)

    def _aim(self) -> None:
        instance, model, goal = self.instance, self.model, self._goal
        latency = model.new_int_var(0, self._horizon, "latency")
        if instance.problem.latency == "worst":
            for run in instance.runs:
                for task in run.answers[-1][1]:
                    model.add(latency >= self._end[task] - self._ticks(run.release_s))
            if all(run.release_s == 0.0 for run in instance.runs):
                self._fill(latency)
        else:
            self._expect(latency)
        self.unit = self._tick_s
        energy = [
            (len(tasks) * unit.weight * cells[k].energy_j, literal)
            for unit, x, tasks in zip(instance.units, self._x, instance.tasks_of, strict=True)
            for (d, k), literal in x.items()
            if (cells := unit.cells[d]) is not None
        ] + self._joule
        top = max((value for value, _ in energy), default=0.0)
        quantum = top / ENERGY_TICKS if top > 0.0 else 1.0
        joules = sum(math.floor(value / quantum) * literal for value, literal in energy)
        if goal.energy_cap_j < math.inf:
            model.add(joules <= math.ceil(goal.energy_cap_j / quantum))
        if goal.latency_cap_s < math.inf:
            model.add(latency <= math.ceil(goal.latency_cap_s / self._tick_s))
        if goal.least == "energy":
            self.unit = quantum
            model.minimize(joules)
        else:
            model.minimize(latency)
        self._latency = latency

    def _fill(self, latency: Any) -> None:
        """Redundant, but strong: busy_a = load_a + sum over b of loss_ab B_ab <= T, and B_ab >= busy_a + busy_b - T.

        B_ab is the time for which a and b both work; two devices that fill T must overlap.
        """
        instance, model = self.instance, self.model
        busy = [LOSS_UNIT * load for load in self._loads]
        pairs = []
        for a, row in enumerate(instance.losses):
            for b in range(a + 1, len(row)):
                if row[b] > 0.0:
                    both = model.new_int_var(0, self._horizon, "")
                    busy[a] += math.floor(LOSS_UNIT * row[b]) * both
                    busy[b] += math.floor(LOSS_UNIT * row[b]) * both
                    pairs.append((a, b, both))
        for taken in busy:
            model.add(LOSS_UNIT * latency >= taken)
        slack = len(pairs)  # B is a whole number of ticks
        for a, b, both in pairs:
            model.add(LOSS_UNIT * (both + slack) >= busy[a] + busy[b] - LOSS_UNIT * latency)

    def _expect(self, latency: Any) -> None:
        """Latency at least sum over exits of share x the last end up to that exit, in every run; rounded down."""
        instance, model = self.instance, self.model
        for run in instance.runs:
            terms = []
            for share, tasks in run.answers:
                end = model.new_int_var(0, self._horizon, "")
                for task in tasks:
                    model.add(end >= self._end[task] - self._ticks(run.release_s))
                terms.append(math.floor(share * LOSS_UNIT) * end)
            model.add(LOSS_UNIT * latency >= sum(terms))

    def _hint(self, hint: Schedule) -> None:
        model, instance = self.model, self.instance
        for index, device in enumerate(hint.assignment.devices):
            for d, literal in self._on[index].items():
                model.add_hint(literal, d == device)
        for device, level in enumerate(hint.assignment.levels):
            for k, literal in enumerate(self._level[device]):
                model.add_hint(literal, k == level)
        for index in range(len(instance.tasks)):
            model.add_hint(self._start[index], self._ticks(hint.starts_s[index]))
        if self._goal.least == "latency":
            model.add_hint(self._latency, min(self._horizon, self._ticks(latency_s(instance, hint.ends_s))))

    def schedules(self, solver: Any) -> list[Schedule]:
        """Return the solution, exactly timed: as early as its orders allow, and waiting where it waits."""
        instance = self.instance
        devices = tuple(next(d for d, literal in on.items() if solver.value(literal)) for on in self._on)
        levels = tuple(next(k for k, lit in enumerate(row) if solver.value(lit)) for row in self._level)
        starts = tuple(solver.value(start) * self._tick_s for start in self._start)
        ends = tuple(solver.value(end) * self._tick_s for end in self._end)
        assignment = Assignment(devices, levels)
        orders = orders_of(instance, Schedule(assignment, starts, ends, self._moves(solver, devices)))
        found = []
        for not_before in (None, starts):
            try:
                found.append(retime(instance, assignment, orders, not_before))
            except ScheduleError:
                continue
        return found

    def _moves(self, solver: Any, devices: tuple[int, ...]) -> tuple[Move, ...]:
        instance, found = self.instance, []
        for index, (flow, leaves) in enumerate(zip(instance.flows, self._leaves, strict=True)):
            source = devices[instance.tasks[flow.source].unit]
            for target in targets(instance, flow, devices):
                start_s = solver.value(leaves[source, target]) * self._tick_s
                found.append(Move(index, source, target, start_s, start_s + flow.times_s[source][target]))
        return tuple(found)


def _ancestors(instance: Instance) -> list[set[int]]:
    """Return for each task those that must have ended before it can start."""
    found: list[set[int]] = [set() for _ in instance.tasks]
    for task in instance.order:
        for index in instance.inflows[task]:
            maker = instance.flows[index].source
            found[task] |= found[maker] | {maker}
    return found
