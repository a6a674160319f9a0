"""What a solver returns, an assignment and its schedule, and the figures that follow from them.

energy = sum over units of runs x weight x energy(device, level) + sum over flows and targets of weight x energy
accuracy of a model = sum over kept exits of share x accuracy, the last one's for all that reach it, less the losses
"""

from dataclasses import dataclass

from runtime.plan.instance import Flow, Instance
from runtime.plan.problem import Model


@dataclass(frozen=True, slots=True)
class Assignment:
    """Device of each unit, level of each device, as indices."""

    devices: tuple[int, ...]
    levels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A tensor on its way: flow `flow` to device `target`."""

    flow: int
    source: int
    target: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """When everything runs: start and end of each task [s], and of each transfer between devices."""

    assignment: Assignment
    starts_s: tuple[float, ...]
    ends_s: tuple[float, ...]
    moves: tuple[Move, ...]


def targets(instance: Instance, flow: Flow, devices: tuple[int, ...]) -> tuple[int, ...]:
    """Return the devices that a flow must cross to, each once."""
    source = devices[instance.tasks[flow.source].unit]
    found = {devices[instance.tasks[reader].unit] for reader in flow.readers}
    return tuple(sorted(found - {source}))


def run_latencies_s(instance: Instance, ends_s: tuple[float, ...]) -> list[tuple[float, float]]:
    """Return the worst and the expected latency of each run [s]."""
    latencies = []
    for run in instance.runs:
        times = [max(ends_s[task] for task in tasks) - run.release_s for _, tasks in run.answers]
        expected_s = sum(share * time for (share, _), time in zip(run.answers, times, strict=True))
        latencies.append((max(times), expected_s))
    return latencies


def latency_s(instance: Instance, ends_s: tuple[float, ...]) -> float:
    """Return the latency [s] as the problem counts it, of the longest run."""
    column = 0 if instance.problem.latency == "worst" else 1
    return max(pair[column] for pair in run_latencies_s(instance, ends_s))


def lateness_s(instance: Instance, ends_s: tuple[float, ...]) -> float:
    """Return by how much the latest run misses its deadline, or the repetition's end [s]; negative if none does."""
    worst = run_latencies_s(instance, ends_s)
    late_s = max(pair[0] - run.deadline_s for pair, run in zip(worst, instance.runs, strict=True))
    return max(late_s, max(ends_s) - instance.horizon_s)


def energy_j(instance: Instance, assignment: Assignment, *, every_exit: bool = False) -> float:
    """Return the energy of one repetition [J].

    Args:
        every_exit: Count segments behind an exit in full, as if no input left early.
    """
    total = 0.0
    for unit, device, tasks in zip(instance.units, assignment.devices, instance.tasks_of, strict=True):
        costs = unit.cells[device]
        if costs is None:
            raise ValueError(f"{unit.segment} cannot run on {instance.devices[device]}")
        total += len(tasks) * (1.0 if every_exit else unit.weight) * costs[assignment.levels[device]].energy_j
    for flow in instance.flows:
        source = assignment.devices[instance.tasks[flow.source].unit]
        for target in targets(instance, flow, assignment.devices):
            total += (1.0 if every_exit else flow.weight) * flow.energies_j[source][target]
    return total


def accuracies(instance: Instance, assignment: Assignment) -> dict[str, float]:
    """Return the accuracy of each model that has exits."""
    found: dict[str, float] = {}
    for model, last in zip(instance.problem.models, instance.exits, strict=True):
        if last >= 0:
            found[model.name] = exit_accuracy(model, last)
    for unit, device in zip(instance.units, assignment.devices, strict=True):
        costs = unit.cells[device]
        if unit.model in found and costs is not None:
            found[unit.model] -= unit.weight * costs[assignment.levels[device]].accuracy_loss
    return found


def exit_accuracy(model: Model, last: int) -> float:
    """Return a model's accuracy where exit `last` is the deepest kept."""
    before = sum(item.share * item.accuracy for item in model.exits[:last])
    final = model.exits[last]
    reached = sum(item.share for item in model.exits[last:])
    accuracy = final.accuracy if final.accuracy_if_last is None else final.accuracy_if_last
    if last == len(model.exits) - 1:
        accuracy = final.accuracy
    return before + reached * accuracy


def memory_bytes(instance: Instance, assignment: Assignment) -> list[float]:
    """Return what each of the problem's memories holds [bytes]."""
    held = []
    for memory in instance.problem.memories:
        among = {instance.devices.index(name) for name in memory.devices}
        if memory.holds == "segments":
            held.append(_segments_bytes(instance, assignment, among))
            continue
        held.append(_crossing_bytes(instance, assignment, among))
    return held


def _segments_bytes(instance: Instance, assignment: Assignment, among: set[int]) -> float:
    total = 0.0
    for unit, device in zip(instance.units, assignment.devices, strict=True):
        costs = unit.cells[device]
        if device in among and costs is not None:
            total += costs[assignment.levels[device]].memory_bytes
    return total


def _crossing_bytes(instance: Instance, assignment: Assignment, among: set[int]) -> float:
    total = 0.0
    for flow in instance.flows:
        task = instance.tasks[flow.source]
        if task.run == 0 and assignment.devices[task.unit] in among:
            total += flow.bytes * len(among.intersection(targets(instance, flow, assignment.devices)))
    return total
