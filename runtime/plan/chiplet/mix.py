"""What runs at once, and a schedule of it: windows in time, in each a part of every model, cut over chiplets.

    part    = sum_k (once_k + pass_k) + (batch / minibatch - 1) max_k pass_k
    window  = max(longest part, bytes at a memory side / its rate)
    latency = sum of windows,    energy = sum over parts,    EDP = latency x energy

A minibatch's samples lie one under another in a layer's rows, so that they fill an array together.

once: weights that stay in the buffer; pass: input, computing, output, what doesn't fit, of one minibatch.

Reference: SCAR, Odema et al., MICRO 2024, arXiv 2405.00790 (all but the rate of a memory side, which it leaves out).
"""

from dataclasses import dataclass

from devices.chiplet.layer import Layer


@dataclass(frozen=True, slots=True)
class Work:
    """A model and how many samples of it to run.

    Raises:
        ValueError: No layers, or a batch below 1.
    """

    name: str
    layers: tuple[Layer, ...]
    batch: int = 1

    def __post_init__(self) -> None:
        if not self.layers or self.batch < 1:
            raise ValueError(f"{self.name!r}: {len(self.layers)} layers, batch {self.batch}: both must be at least 1")


@dataclass(frozen=True, slots=True)
class Mix:
    """Models that run at once.

    Raises:
        ValueError: There is none, or two have one name.
    """

    name: str
    works: tuple[Work, ...]

    def __post_init__(self) -> None:
        names = [work.name for work in self.works]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"mix {self.name!r}: needs models with names of their own, not {', '.join(names) or 'none'}"
            )


@dataclass(frozen=True, slots=True)
class Segment:
    """Layers `first` to before `end` on one chiplet."""

    first: int
    end: int
    chiplet: int


@dataclass(frozen=True, slots=True)
class Part:
    """What a window runs of a model.

    Args:
        work: Index of the model.
        minibatch: Samples that go through together; divides the batch.
    """

    work: int
    minibatch: int
    segments: tuple[Segment, ...]
    latency_s: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class Window:
    """Parts that run side by side, no chiplet in two of them."""

    parts: tuple[Part, ...]
    latency_s: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Windows one after another."""

    windows: tuple[Window, ...]

    @property
    def latency_s(self) -> float:
        """Time of all windows [s]."""
        return sum(window.latency_s for window in self.windows)

    @property
    def energy_j(self) -> float:
        """Energy of all parts [J]."""
        return sum(part.energy_j for window in self.windows for part in window.parts)

    @property
    def edp_js(self) -> float:
        """Energy-delay product [J s]."""
        return self.latency_s * self.energy_j
