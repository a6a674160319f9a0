"""The work of a walk over exits, and which heads are worth theirs."""

from collections.abc import Sequence

import numpy as np

from devices.package import Package
from runtime.pack.exits.choose import Choice
from runtime.pack.exits.evidence import Evidence, Floats


def walk_costs(package: Package, kept: Sequence[int]) -> Floats:
    """Return the work up to each kept exit and of the whole walk.

    Where nothing on the way to the final answer has countable work, each segment of it counts one and heads nothing.
    """
    work = {segment.id: segment.macs for segment in package.segments}
    trunk = package.needed(package.exits[-1].id)
    if not any(work[segment_id] for segment_id in trunk):
        work = {segment_id: int(segment_id in trunk) for segment_id in work}
    done: set[str] = set()
    costs = []
    for index in (*kept, len(package.exits) - 1):
        done.update(package.needed(package.exits[index].id))
        costs.append(float(sum(work[segment_id] for segment_id in done)))
    return np.array(costs)


def close_idle_heads(choice: Choice, evidence: Evidence, draft: Package) -> Choice:
    """Close exits whose heads cost at least the work they save; closing only lowers the disagreement."""
    while len(choice.open_exits) > 1:
        reason = "its head costs at least the work it saves"
        trials = [choice.without(index, evidence.gates, reason) for index in choice.open_exits]
        best = min([*trials, choice], key=lambda trial: _mean_cost(trial, evidence, draft))
        if best is choice:
            break
        choice = best
    return choice


def _mean_cost(choice: Choice, evidence: Evidence, draft: Package) -> float:
    """Return the mean work of a package with the heads of the open exits alone."""
    ends = np.searchsorted(choice.open_exits, evidence.leaves_at(choice.thresholds))  # the final answer comes last
    return float(walk_costs(draft, choice.open_exits)[ends].mean())
