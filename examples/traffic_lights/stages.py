"""The classifier in three width stages as the planner sees it: its graph, and exits counted on unseen crops."""

from dataclasses import dataclass
from pathlib import Path

from examples.traffic_lights.crops import load
from examples.traffic_lights.experiment import Share, certify, count, halve, make_package, train_whole
from runtime.plan.graphs import Graph, package_graph
from runtime.plan.problem import Exit


@dataclass(frozen=True, slots=True)
class Stages:
    """Args:
    whole_macs: Multiply-accumulates of the network before it was partitioned.
    groups: Layer groups that it was cut into.
    exits: With the share of test crops that leave there, and how many of them are right.
    right, whole_right: Test crops that it, and the whole network, get right.
    """

    graph: Graph
    whole_macs: int
    groups: int
    exits: tuple[Exit, ...]
    right: Share
    whole_right: Share


def measure(folder: Path, seed: int = 0) -> Stages:
    """Train, partition and certify the classifier, and count its exits; about three quarters of a minute."""
    halves = halve(load("train"), seed)
    whole = train_whole(halves.training, 24, seed)
    package, _ = certify(make_package(folder / "1", whole, halves.training, 14, seed), halves, seed)
    found = count(package, whole, load("test"))
    exits = []
    for index, taken in enumerate(package.exits):
        leave, reach = found.leaves == index, found.leaves >= index
        right = float((found.given == found.classes)[leave].mean()) if leave.any() else 0.0
        alone = float((found.answers[index] == found.classes)[reach].mean()) if reach.any() else 0.0
        exits.append(Exit(taken.id, taken.segment, float(leave.mean()), right, alone))
    groups = len({segment.id.split("-")[-1] for segment in package.segments})
    return Stages(package_graph(package), found.whole_macs, groups, tuple(exits), found.right, found.whole_right)
