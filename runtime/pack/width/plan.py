"""How a network is split along its width: P, I, and the channels that follow from P.

P in [0, 1]^{M x n}: p_i^j is the share of stage i in the channels of column j; columns sum to 1.
I in {0, 1}^{M x n}: I_i^j says whether the stages after i read what stage i made in column j.

A column whose features no later stage reads is no meeting point: the stages run through it on their own. The others,
the exchanges, part the network into layer groups; (stage, group) is a segment.

Reference: Bouzidi et al., Map-and-Conquer, DAC 2023, arXiv 2302.12926.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from runtime.pack.width.errors import WidthError
from runtime.pack.width.graph import Graph, Layer

SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class WidthPlan:
    """P and I.

    Args:
        shares: P, a row a stage, an entry a column; positive, and every column sums to 1.
        reuse: I, likewise; the last stage's row says nothing, for no stage comes after it.
    Raises:
        WidthError: A share is not positive, a column does not sum to 1, or the shapes differ.
    """

    shares: tuple[tuple[float, ...], ...]
    reuse: tuple[tuple[bool, ...], ...]

    def __post_init__(self) -> None:
        shapes = [[len(row) for row in table] for table in (self.shares, self.reuse)]
        if not self.shares or shapes[0] != shapes[1] or len(set(shapes[0])) != 1 or not shapes[0][0]:
            raise WidthError(f"P has rows of {shapes[0]} entries, I of {shapes[1]}: must be the same, M rows of n each")
        for column in range(self.columns):
            entries = [row[column] for row in self.shares]
            if not all(entry > 0.0 for entry in entries) or abs(sum(entries) - 1.0) > SUM_TOLERANCE:
                raise WidthError(f"column {column} of P is {entries}: must be positive and sum to 1")

    @property
    def stages(self) -> int:
        """M."""
        return len(self.shares)

    @property
    def columns(self) -> int:
        """n."""
        return len(self.shares[0])

    def read_by(self, stage: int, column: int) -> tuple[int, ...]:
        """Return the stages whose features of a column a stage reads: earlier ones where I says so, and its own."""
        return (*(k for k in range(stage) if self.reuse[k][column]), stage)

    @property
    def exchanges(self) -> tuple[int, ...]:
        """The columns at which a later stage reads an earlier one's features."""
        return tuple(j for j in range(self.columns) if any(row[j] for row in self.reuse[:-1]))

    def check(self, graph: Graph) -> None:
        """Refuse a plan that does not fit a network.

        Raises:
            WidthError: Another number of columns, or columns tied by a residual addition have unlike shares.
        """
        names = graph.columns
        if self.columns != len(names):
            raise WidthError(f"the plan has {self.columns} columns, the network {len(names)}: {list(names)}")
        for space in graph.spaces.values():
            tied = [names.index(column) for column in graph.tied(space.name)]
            for row in self.shares:
                if len({row[j] for j in tied}) > 1:
                    raise WidthError(
                        f"columns {[names[j] for j in tied]} are added to each other, so their shares must be equal: "
                        f"{[row[j] for j in tied]}"
                    )


def make_plan(
    graph: Graph,
    shares: Sequence[float],
    *,
    exchanges: int | None = 4,
    at: Sequence[str] | None = None,
    spaces: dict[str, Sequence[float]] | None = None,
) -> WidthPlan:
    """Return a plan with the same shares in every column and features exchanged at a few of them.

    Args:
        graph: The network's.
        shares: Of each stage; positive, sum 1.
        exchanges: At how many columns at most: the last one, so that every exit reads all earlier stages, and others
            spread evenly over the multiply-accumulates. None: at every column.
        at: The columns to exchange at, by name, instead.
        spaces: Other shares for a space, by its name.
    Raises:
        WidthError: Unknown names, a negative number, or bad shares.
    """
    names, special = graph.columns, spaces or {}
    if unknown := (set(special) - set(graph.spaces)) | (set(at or ()) - set(names)):
        raise WidthError(f"no {sorted(unknown)}: spaces are {list(graph.spaces)}, columns {list(names)}")
    if exchanges is not None and exchanges < 0:
        raise WidthError(f"{exchanges} exchanges: must be 0 or more, or None for one at every column")
    if any(len(row) != len(shares) for row in special.values()):
        raise WidthError(f"every space needs {len(shares)} shares, one a stage")
    chosen = set(names) if exchanges is None else set(_spread(graph, min(exchanges, len(names))))
    chosen = chosen if at is None else set(at)
    rows = [special.get(graph.space_of(name).name, shares) for name in names]
    return WidthPlan(
        tuple(tuple(float(row[stage]) for row in rows) for stage in range(len(shares))),
        tuple(tuple(name in chosen for name in names) for _ in shares),
    )


def _spread(graph: Graph, count: int) -> list[str]:
    """Return the last column and others at even shares of the work before them."""
    if count == 0:
        return []
    done, work = 0, {}
    for part in graph.parts:
        done += part.macs
        work[part.writes] = done
    free = [name for name in graph.columns if name != graph.last]
    chosen = []
    for index in range(1, count):
        best = min(free, key=lambda name, index=index: abs(work[name] - done * index / count))  # type: ignore[misc]
        chosen.append(best)
        free.remove(best)
    return [*chosen, graph.last]


def split_units(shares: Sequence[float], units: int) -> tuple[int, ...]:
    """Return how many of `units` each stage gets: shares rounded by largest remainder, at least one each.

    Raises:
        WidthError: There are fewer units than stages.
    """
    if units < len(shares):
        raise WidthError(f"{units} channels (or heads) cannot be split over {len(shares)} stages")
    exact = [share * units for share in shares]
    counts = [max(1, floor(value + 1e-9)) for value in exact]
    while sum(counts) < units:
        counts[max(range(len(counts)), key=lambda i: exact[i] - counts[i])] += 1
    while sum(counts) > units:
        counts[max((i for i in range(len(counts)) if counts[i] > 1), key=lambda i: counts[i] - exact[i])] -= 1
    return tuple(counts)


def stage_ends(graph: Graph, plan: WidthPlan) -> dict[str, tuple[int, ...]]:
    """Return, by space, 0 and the channel after each stage's last."""
    plan.check(graph)
    ends = {}
    for space in graph.spaces.values():
        column = graph.columns.index(graph.tied(space.name)[0])
        counts = split_units([row[column] for row in plan.shares], space.units)
        ends[space.name] = (0, *(space.unit * sum(counts[: k + 1]) for k in range(len(counts))))
    return ends


def groups(graph: Graph, plan: WidthPlan) -> tuple[int, ...]:
    """Return the layer group of each part of the network: how many exchanges lie before it."""
    meeting = {graph.columns[j] for j in plan.exchanges}
    numbers, group = [], 0
    for part in graph.parts:
        numbers.append(group)
        group += part.writes in meeting
    return tuple(numbers)


def part_columns(graph: Graph, part: Layer) -> int | None:
    """Return the column a layer reads; None for the image."""
    return None if graph.features[part.reads].space is None else graph.columns.index(part.reads)
