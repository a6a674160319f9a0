"""A folder of plans, and which of them this daemon can run.

Plans that are best while all devices work may all need one of them: for each such device a spare plan without it is
made at the start.

A plan may place any segments here, and on an edge server any range of the package's order: the tail behind a head, all
of the model, or a middle part. It may end at an earlier exit. What it can't: have a tensor cross a link twice, fall
below an accuracy floor, or set a clock that may not be set.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.host import ROOT
from devices.package import Package
from runtime.errors import ConfigurationError
from runtime.execute.edge_unit import edge_ranges
from runtime.plan.bounds import lower_bound_s
from runtime.plan.errors import PlanError
from runtime.plan.file import read_problem
from runtime.plan.graphs import ANSWER, INPUT
from runtime.plan.instance import make_instance
from runtime.plan.plan import Plan, make_plan, read_plan
from runtime.plan.problem import Problem, cells
from runtime.plan.search import search
from runtime.serve.plans.levels import Levels, levels_of
from runtime.serve.plans.names import rename_plan, rename_problem

PROBLEM_FILE = "problem.json"
SPARE_STEPS = 2000


@dataclass(frozen=True, slots=True)
class PlanFolder:
    """What a folder holds.

    Args:
        problem: What the plans were made for.
        plans: By name, those that can run here, spare plans among them.
        left_out: The others, and why.
        levels: Of the devices of this board that have several.
    """

    problem: Problem
    plans: Mapping[str, Plan]
    left_out: Mapping[str, str]
    levels: Mapping[str, Levels]


@dataclass(frozen=True, slots=True)
class Here:
    """What this daemon has.

    Args:
        packages: By name.
        devices: Names of the devices of this board.
        edges: Names of the edge servers.
        accuracy_floor: Least accuracy of a plan; None: whatever the problem says.
        names: What devices are called here, by the names that plans have for them.
    """

    packages: Mapping[str, Package]
    devices: Sequence[str]
    edges: Sequence[str] = ()
    accuracy_floor: float | None = None
    names: Mapping[str, str] = field(default_factory=dict)


def read_folder(
    folder: Path, here: Here, named_hz: Mapping[str, Mapping[str, float]] | None = None, root: Path = ROOT
) -> PlanFolder:
    """Read a folder of plans.

    Args:
        folder: With `problem.json` and plans.
        here: What there is to run them.
        named_hz: Clocks of levels whose names don't tell them, by device and level [Hz].
        root: Where the host's files are.
    Raises:
        ConfigurationError: It holds no plan that can run here; says what stands in the way of each.
    """
    try:
        problem = rename_problem(read_problem(folder / PROBLEM_FILE), here.names)
        files = sorted(folder.glob("plan*.json"), key=_number)
        found = {path.stem: rename_plan(read_plan(path), here.names) for path in files}
        own = {device.name: device for device in problem.devices if device.name in here.devices}
        clocks = levels_of(own, named_hz or {}, root)
        reasons = {name: unfit(problem, plan, here, clocks) for name, plan in found.items()}
        plans = {name: plan for name, plan in found.items() if reasons[name] is None}
        if not plans:
            told = "; ".join(f"{name} {reason}" for name, reason in reasons.items()) or "it holds no plan*.json"
            raise ConfigurationError(f"serve.plans {folder} has no plan that can run here: {told}")
        spares = _spares(problem, plans.values(), (*here.devices, *here.edges))
    except PlanError as error:
        raise ConfigurationError(f"serve.plans: {error}") from error
    reasons |= {name: unfit(problem, plan, here, clocks) for name, plan in spares.items()}
    plans |= {name: plan for name, plan in spares.items() if reasons[name] is None}
    return PlanFolder(problem, plans, {name: why for name, why in reasons.items() if why is not None}, clocks)


def used_by(plan: Plan) -> set[str]:
    """Return the devices that a plan uses."""
    return {device for placed in plan.placement.values() for device in placed.values()}


def placed(plan: Plan, package: Package, rest: str) -> dict[str, str]:
    """Return the device of every segment of a package; what lies behind a plan's last exit runs on `rest`."""
    given = plan.placement[package.name]
    return {segment.id: given.get(segment.id, rest) for segment in package.segments}


def unfit(problem: Problem, plan: Plan, here: Here, levels: Mapping[str, Levels]) -> str | None:
    """Return why this daemon can't run a plan, None where it can."""
    known = {*here.devices, *here.edges}
    missing = sorted(used_by(plan) - known)
    if missing:
        return f"uses {missing}, and serve.devices has {list(here.devices)}, plans.edges {list(here.edges)}"
    unknown = sorted(plan.placement.keys() - here.packages.keys())
    if unknown:
        return f"places models {unknown}, and served are {sorted(here.packages)}"
    for model in plan.placement:
        reason = _unfit_model(problem, plan, here, here.packages[model])
        if reason is not None:
            return reason
    return _unfit_levels(problem, plan, here, levels)


def _unfit_model(problem: Problem, plan: Plan, here: Here, package: Package) -> str | None:
    given = {name: device for name, device in plan.placement[package.name].items() if name not in (INPUT, ANSWER)}
    last = plan.last_exit.get(package.name, package.exits[-1].id)
    order = [each.id for each in package.exits]
    if last not in order:
        return f"ends {package.name} at exit {last!r}, and the package has {order}"
    wanted = {name for each in order[: order.index(last) + 1] for name in package.needed(each)}
    if wanted != set(given):
        return f"places segments {sorted(given)} of {package.name}, and exits to {last!r} need {sorted(wanted)}"
    away = sorted({plan.placement[package.name].get(end, "") for end in (INPUT, ANSWER)} & set(here.edges))
    if away:
        return f"has the inputs or answers of {package.name} on {away}: they are here"
    floors = [here.accuracy_floor, problem.model(package.name).accuracy_floor]
    floor, reached = max((each for each in floors if each is not None), default=0.0), plan.accuracies.get(package.name)
    if reached is not None and reached < floor:
        return f"reaches an accuracy of {reached:.4g} for {package.name}: the floor is {floor:.4g}"
    try:
        for edge in here.edges:
            edge_ranges(package, placed(plan, package, ""), edge)
    except ValueError as error:
        return f"can't be run: {error}"
    return None


def _unfit_levels(problem: Problem, plan: Plan, here: Here, levels: Mapping[str, Levels]) -> str | None:
    domains: dict[str, tuple[str, str]] = {}
    for device in problem.devices:
        level = plan.levels.get(device.name)
        if len(device.levels) == 1 or level is None:
            continue
        if device.name in here.edges:
            return f"sets {device.name} to {level!r}, and the clocks of an edge server are its own"
        if device.name not in levels:
            return f"sets {device.name} to {level!r}, and nothing is known of its clock"
        reason = levels[device.name].barred(level)
        if reason is not None:
            return f"needs {device.name} at {level!r}: {reason}"
        other = domains.setdefault(levels[device.name].domain, (device.name, level))
        if levels[other[0]].hz(other[1]) != levels[device.name].hz(level):
            return f"sets {other[0]} to {other[1]!r} and {device.name} to {level!r}, which share one clock"
    return None


def _number(path: Path) -> tuple[int, str]:
    digits = path.stem.removeprefix("plan")
    return (int(digits) if digits.isdecimal() else 0, path.stem)


def _spares(problem: Problem, plans: Iterable[Plan], devices: Sequence[str]) -> dict[str, Plan]:
    """Return for each device that every plan needs a plan without it, where there can be one."""
    needed = set(devices).intersection(*(used_by(plan) for plan in plans))
    found = {}
    for lost in sorted(needed):
        left = problem
        for name in {device.name for device in problem.devices} - set(devices) | {lost}:
            left = left.without(name)
        if left.devices and all(any(s.costs.values()) for model in left.models for s in model.segments):
            instance = make_instance(left, quantile="p99")
            schedule = search(instance, steps=SPARE_STEPS)
            if schedule is not None:
                found[f"without {lost}"] = make_plan(instance, schedule, "search", lower_bound_s(instance), False)
    return found


def p50_s(problem: Problem, plan: Plan) -> dict[tuple[str, str, str], float]:
    """Return planned medians [s] by model, segment and device, at a plan's levels."""
    found = {}
    for model in problem.models:
        for segment in model.segments:
            for device in problem.devices:
                costs: Any = cells(segment, device)
                if costs is not None:
                    level = plan.levels.get(device.name, device.levels[0])
                    found[model.name, segment.id, device.name] = costs[device.levels.index(level)].p50_s
    return found
