"""Multiply-accumulates of a stage at a layer, by the paper's formula.

    MACs_i^j = p_i^j  sum_{k <= i} (I_k^{j-1}, or 1 for k = i)  p_k^{j-1}  MACs^j

with p as the channels were rounded, MACs^j of the full layer, and a sum of 1 where the layer reads the image. A step
that multiplies (attention's products, head by head) costs p_i^j MACs^j. An exit's classifier reads the last column.

Reference: Map-and-Conquer, arXiv 2302.12926, section 3.
"""

from fractions import Fraction
from itertools import pairwise

from runtime.pack.width.graph import Graph, Layer
from runtime.pack.width.plan import WidthPlan, part_columns, stage_ends


def stage_macs(graph: Graph, plan: WidthPlan) -> tuple[tuple[int, ...], ...]:
    """Return the multiply-accumulates at batch 1 of each stage (rows) at each part of the network and at its exit."""
    shares = rounded_shares(graph, plan)
    rows = []
    for stage in range(plan.stages):
        row = [shares[graph.space_of(part.writes).name][stage] * part.macs for part in graph.parts]
        for index, part in enumerate(graph.parts):
            if isinstance(part, Layer):
                row[index] *= _read_share(graph, plan, shares, stage, part_columns(graph, part))
        last = graph.features[graph.last]
        whole = last.shape[last.axis] * graph.classes
        row.append(_read_share(graph, plan, shares, stage, graph.columns.index(graph.last)) * whole)
        rows.append(tuple(int(value) for value in row))
    return tuple(rows)


def rounded_shares(graph: Graph, plan: WidthPlan) -> dict[str, tuple[Fraction, ...]]:
    """Return the share of each stage in a space's channels as they were rounded to whole channels, by space."""
    ends = stage_ends(graph, plan)
    return {
        name: tuple(Fraction(after - before, graph.spaces[name].channels) for before, after in pairwise(e))
        for name, e in ends.items()
    }


def _read_share(
    graph: Graph, plan: WidthPlan, shares: dict[str, tuple[Fraction, ...]], stage: int, column: int | None
) -> Fraction:
    if column is None:
        return Fraction(1)
    read = shares[graph.space_of(graph.columns[column]).name]
    return sum((read[k] for k in plan.read_by(stage, column)), Fraction(0))
