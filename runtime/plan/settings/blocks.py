"""Blocks of a vision graph network on a GPU and two DLAs with DVFS (the mapping tier of MaGNAS).

An isotropic ViG: a stem makes `nodes` patches of `channels` features; every block is a graph module (a product, k
nearest neighbours, max-relative aggregation, two products) and a feed-forward module. Multiply-accumulates:

    graph module   N (C^2 + C^2 + 2 C^2) + N^2 C        feed-forward   8 N C^2

A segment's share of the published whole-network totals is declared as in `widths`. The graph module gathers rows by
index, for which a DLA has no layer of its own: it takes `irregular` times its share there, which is declared, too. The
architecture tier (which ViG to train) is not this planner's; every figure is of one given network.

Reference: Odema et al., MaGNAS, arXiv 2307.08065; Han et al., Vision GNN, arXiv 2206.00272 (the network).
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from runtime.plan.graphs import Graph
from runtime.plan.problem import Cost, Edge, Exit, Problem
from runtime.plan.settings.widths import Assumptions, xavier_widths

PUBLISHED = {"latency": 1.57, "energy": 3.38}
"""Latency and energy of GPU alone over those of the chosen network and mapping, on the AGX Xavier."""
SIZES = {"ti": (12, 192), "s": (16, 320), "b": (16, 640)}
"""Blocks and channels of the published isotropic networks."""
NODES, CLASSES, FEATURE_BYTES = 196, 1000, 2


def vision_graph(size: str = "s", exits: Sequence[Exit] = ()) -> Graph:
    """Return an isotropic ViG's modules as a chain: stem, block1-graph, block1-feed, .., head.

    Args:
        size: One of `SIZES`.
        exits: Where it may answer early, with their shares and accuracy.
    """
    depth, channels = SIZES[size]
    square = NODES * channels**2
    macs = {"stem": _stem_macs(channels)}
    for block in range(1, depth + 1):
        macs[f"block{block}-graph"] = 4 * square + NODES**2 * channels
        macs[f"block{block}-feed"] = 8 * square
    macs["head"] = NODES * channels * 1024 + 1024 * CLASSES
    names = tuple(macs)
    edges = tuple(Edge(a, (b,), FEATURE_BYTES * NODES * channels) for a, b in pairwise(names))
    image = float(3 * 224 * 224)
    return Graph(f"ViG-{size}", names, edges, tuple(exits), dict.fromkeys(names, ""), macs, {"stem": image})


def xavier_blocks(graph: Graph, irregular: float = 1.5, assumptions: Assumptions | None = None) -> Problem:
    """Return the problem of placing a network's blocks on GPU, DLA 0 and DLA 1.

    Args:
        graph: The blocks; those named `..-graph` are graph modules.
        irregular: How much longer than its share a graph module takes on a DLA.
    """
    problem = xavier_widths(graph, sum(graph.macs.values()), len(graph.segments), assumptions=assumptions)
    model = problem.models[0]
    segments = tuple(
        msgspec.structs.replace(item, costs={k: _slower(v, k, irregular) for k, v in item.costs.items()})
        if item.id.endswith("-graph")
        else item
        for item in model.segments
    )
    return msgspec.structs.replace(
        problem,
        models=(msgspec.structs.replace(model, segments=segments),),
        source=f"{problem.source}; a graph module takes {irregular:g} times its share on a DLA (declared)",
    )


def _slower(cost: Cost | tuple[Cost, ...] | None, device: str, factor: float) -> Cost | tuple[Cost, ...] | None:
    if not isinstance(cost, Cost) or not device.startswith("dla"):
        return cost
    return msgspec.structs.replace(cost, p50_s=factor * cost.p50_s, energy_j=factor * cost.energy_j)


def _stem_macs(channels: int) -> int:
    """Five 3 x 3 convolutions, four of them halving the image: 3, C/8, C/4, C/2, C, C channels."""
    widths = (3, channels // 8, channels // 4, channels // 2, channels, channels)
    sides = (112, 56, 28, 14, 14)
    return sum(9 * a * b * side**2 for (a, b), side in zip(pairwise(widths), sides, strict=True))
