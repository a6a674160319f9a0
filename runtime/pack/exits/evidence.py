"""What exits said about samples whose final answer is known, and what a choice of thresholds makes of it.

An exit has one gate or, for a window, two (a low and a high side); a gate is open when its score is at least its
threshold, and an exit is confident when one of its gates is open. A sample disagrees if ANY confident exit answers
differently from the last. That is at least the share that leaves early with another answer, it can only grow when a
threshold falls, and it holds whatever exit a request begins at and with whatever others it is batched.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """Gate scores and disagreements of n samples at E exits with G gates.

    Args:
        scores: Of each gate, shape (G, n).
        gates: The exit of each gate, 0 for the shallowest, shape (G,).
        differs: Whether an exit's answer differs from the final answer, shape (E, n).
        costs: Work up to and with each exit, then of a whole walk, in any unit, shape (E + 1,).
    Raises:
        ValueError: Shapes that do not fit, no sample, or a score that is NaN.
    """

    scores: Floats
    gates: tuple[int, ...]
    differs: Bools
    costs: Floats

    def __post_init__(self) -> None:
        exits, samples = self.differs.shape
        if self.scores.shape != (len(self.gates), samples) or self.costs.shape != (exits + 1,) or samples < 1:
            raise ValueError(
                f"scores {self.scores.shape}, differs {self.differs.shape}, costs {self.costs.shape}: must be (G, n), "
                "(E, n), (E + 1,) with n >= 1"
            )
        if sorted(set(self.gates)) != list(range(exits)):
            raise ValueError(f"gates = {self.gates}: must name each of {exits} exits")
        if np.isnan(self.scores).any():
            raise ValueError("a score is NaN: every confidence must be a number")

    @cached_property
    def samples(self) -> int:
        """n."""
        return int(self.differs.shape[1])

    @cached_property
    def exits(self) -> int:
        """E, the final answer not counted."""
        return int(self.differs.shape[0])

    def confident(self, thresholds: Floats) -> Bools:
        """Return which exits are confident of which samples, shape (E, n), for thresholds of shape (G,)."""
        opened = self.scores >= thresholds[:, None]
        confident = np.zeros(self.differs.shape, bool)
        for gate, exit_index in enumerate(self.gates):
            confident[exit_index] |= opened[gate]
        return confident

    def leaves_at(self, thresholds: Floats) -> Ints:
        """Return where each sample's walk ends, E for the final answer, shape (n,)."""
        confident = self.confident(thresholds)
        return np.where(confident.any(axis=0), confident.argmax(axis=0), self.exits).astype(np.int64)

    def disagreements(self, thresholds: Floats) -> int:
        """Return how many samples some confident exit answers differently from the last."""
        return int((self.confident(thresholds) & self.differs).any(axis=0).sum())

    def mean_cost(self, thresholds: Floats) -> float:
        """Return the mean work of a sample."""
        return float(self.costs[self.leaves_at(thresholds)].mean())
