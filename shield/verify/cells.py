"""Proof over a box by bisection: the box is cut until interval arithmetic decides every piece.

Numbers are balls of python-flint's arb: an enclosure of every value a formula takes over a cell, rounding included. A
cell that is decided true is done; one that is decided false, or is still undecided at the smallest width, is the
counter-example that the proof fails with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from flint import arb, ctx

PRECISION_BITS = 80
"""Working precision; rounding is far below every margin that is proved."""

Range = tuple[float, float]
"""A closed range of one variable."""

Cell = tuple[Range, ...]
"""A box: one range a variable."""


class Verdict(Enum):
    """What interval arithmetic says of one cell."""

    TRUE = 1
    FALSE = 0
    UNDECIDED = -1


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of one box.

    Args:
        proved: Every cell was decided true.
        cells: Cells that were looked at.
        counter_example: The cell the proof failed with, or None.
        refuted: The counter-example was decided false in the whole cell, not merely left undecided.
    """

    proved: bool
    cells: int
    counter_example: Cell | None = None
    refuted: bool = False


def prove(box: Cell, decide: Callable[[Cell], Verdict], least_width: float, most_cells: int = 2_000_000) -> Proof:
    """Decide a property on all of `box`, halving the widest side (relative to the box's) of every undecided cell.

    Args:
        decide: Verdict for one cell.
        least_width: Share of the box's side below which an undecided cell is given up.
        most_cells: Cells after which the next undecided one is given up.
    """
    sides = [max(high - low, 1e-300) for low, high in box]
    waiting, seen = [box], 0
    ctx.prec = PRECISION_BITS
    while waiting:
        cell = waiting.pop()
        seen += 1
        verdict = decide(cell)
        if verdict is Verdict.TRUE:
            continue
        shares = [(high - low) / side for (low, high), side in zip(cell, sides, strict=True)]
        widest = max(range(len(cell)), key=shares.__getitem__)
        if verdict is Verdict.FALSE or shares[widest] <= least_width or seen >= most_cells:
            return Proof(False, seen, cell, verdict is Verdict.FALSE)
        waiting.extend(_halves(cell, widest))
    return Proof(True, seen)


def split(box: Cell, parts: Sequence[int]) -> list[Cell]:
    """Cut a box into a grid of `parts` pieces a side, in a fixed order."""
    cells: list[Cell] = [()]
    for (low, high), count in zip(box, parts, strict=True):
        edges = [low + (high - low) * i / count for i in range(count)] + [high]
        cells = [(*cell, (edges[i], edges[i + 1])) for cell in cells for i in range(count)]
    return cells


def ball(low: float, high: float) -> arb:
    """Return a ball that holds the range."""
    return arb(low).union(arb(high))


def middle(cell: Cell) -> list[float]:
    """Return the centre of a cell, in floating point."""
    return [0.5 * (low + high) for low, high in cell]


def _halves(cell: Cell, side: int) -> tuple[Cell, Cell]:
    low, high = cell[side]
    centre = 0.5 * (low + high)
    return (
        (*cell[:side], (low, centre), *cell[side + 1 :]),
        (*cell[:side], (centre, high), *cell[side + 1 :]),
    )
