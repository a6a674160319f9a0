"""Devices by the names that this daemon has for them, where plans have others.

Where two boards were measured that have a unit of one name, the planner calls them `board.cpu:0` and `server.cpu:0`,
and the daemon's own device is `cpu:0`.
"""

import dataclasses
from collections.abc import Mapping

from msgspec.structs import replace

from runtime.plan.errors import PlanError
from runtime.plan.plan import Plan
from runtime.plan.problem import Edge, Problem, Segment


def rename_problem(problem: Problem, names: Mapping[str, str]) -> Problem:
    """Return a problem with its devices renamed.

    Raises:
        PlanError: It has no such device, or two would get one name.
    """
    known = [device.name for device in problem.devices]
    unknown = sorted(names.keys() - set(known))
    if unknown:
        raise PlanError(f"plans.names names devices {unknown}: the problem has {known}")
    given = [names.get(name, name) for name in known]
    if len(set(given)) != len(given):
        raise PlanError(f"plans.names would call the devices {given}: each must have a name of its own")

    def segment(item: Segment) -> Segment:
        return replace(item, costs={names.get(name, name): cost for name, cost in item.costs.items()})

    def edge(item: Edge) -> Edge:
        ways = (
            replace(way, source=names.get(way.source, way.source), to=names.get(way.to, way.to))
            for way in item.transfers
        )
        return replace(item, transfers=tuple(ways))

    return replace(
        problem,
        devices=tuple(replace(device, name=names.get(device.name, device.name)) for device in problem.devices),
        links=tuple(
            replace(link, source=names.get(link.source, link.source), to=names.get(link.to, link.to))
            for link in problem.links
        ),
        memories=tuple(
            replace(memory, devices=tuple(names.get(name, name) for name in memory.devices))
            for memory in problem.memories
        ),
        contention=tuple(
            replace(pair, devices=(names.get(one, one), names.get(other, other)))
            for pair in problem.contention
            for one, other in [pair.devices]
        ),
        models=tuple(
            replace(model, segments=tuple(map(segment, model.segments)), edges=tuple(map(edge, model.edges)))
            for model in problem.models
        ),
    )


def rename_plan(plan: Plan, names: Mapping[str, str]) -> Plan:
    """Return a plan with its devices renamed."""
    return dataclasses.replace(
        plan,
        placement={
            model: {segment: names.get(device, device) for segment, device in placed.items()}
            for model, placed in plan.placement.items()
        },
        levels={names.get(device, device): level for device, level in plan.levels.items()},
        tasks=tuple(dataclasses.replace(task, device=names.get(task.device, task.device)) for task in plan.tasks),
        transfers=tuple(
            dataclasses.replace(
                move, source=names.get(move.source, move.source), target=names.get(move.target, move.target)
            )
            for move in plan.transfers
        ),
    )
