"""What is asked of fitted exits, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devices.package import Exit, ExitKind, SegmentSource
from runtime.pack.exits.binomial import check_bounds
from runtime.pack.exits.scores import Score

FOLDS = 3


@dataclass(frozen=True, slots=True)
class ExitSettings:
    """How exits are fitted and their thresholds chosen.

    Args:
        count: How many exits, spread evenly over the model's work; without meaning when `at` is given.
        at: The tensors each exit reads, shallow to deep; None chooses.
        max_disagreement: alpha, bound on the share of all inputs that leave early with another answer than the last.
        delta: Probability, over calibration data, that the bound is missed.
        kind: What the final answer is; None takes the package's word, and, where that is `custom`, classification for
            two columns or more and regression for one.
        score: Confidence of a classification exit.
        temperature: T of the score.
        tolerance: Regression: largest deviation from the final answer, by column or one for all, in the answer's units.
        grid: Cells a side into which an image-like tensor is pooled; 1 pools over the whole image.
        fit_share: Share of the calibration inputs for fitting the heads; the rest chooses thresholds.
        strengths: Weights of the squared-norm penalty to choose from.
        budget: Budget mode instead of a disagreement bound: mean multiply-accumulates as a share of a whole walk.
        seed: Of the split.
    """

    count: int = 1
    at: tuple[tuple[str, ...], ...] | None = None
    max_disagreement: float = 0.01
    delta: float = 0.05
    kind: ExitKind | None = None
    score: Score = Score.MAX_PROBABILITY
    temperature: float = 1.0
    tolerance: float | tuple[float, ...] | None = None
    grid: int = 1
    fit_share: float = 0.5
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    budget: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds(self.max_disagreement, self.delta)
        if self.count < 1 or self.grid < 1:
            raise ValueError(f"count = {self.count}, grid = {self.grid}: must be at least 1")
        if not 0.0 < self.fit_share < 1.0:
            raise ValueError(f"fit_share = {self.fit_share}: must lie strictly between 0 and 1")
        if self.budget is not None and not 0.0 < self.budget <= 1.0:
            raise ValueError(f"budget = {self.budget}: must lie within 0..1, a share of the whole model's work")
        if not self.strengths or min(self.strengths) <= 0.0:
            raise ValueError(f"strengths = {self.strengths}: must be one or more positive numbers")


@dataclass(frozen=True, slots=True)
class ExitReport:
    """What became of one exit, on the samples that chose the thresholds.

    Args:
        id: The exit.
        tensors: What its head reads.
        threshold: Confidence from which on it answers; None if it was left out.
        share: Share of the inputs that leave here.
        disagreements: How many of those differ from the final answer.
        confident_disagreements: How many inputs it is confident of, whether or not they left before, that differ.
        agreement: Share of all inputs on which it would agree, confident or not.
        mac_share: Work up to and with this exit, as a share of a whole walk.
        reason: Why it was left out; empty if it was not.
    """

    id: str
    tensors: tuple[str, ...]
    threshold: float | None
    share: float
    disagreements: int
    confident_disagreements: int
    agreement: float
    mac_share: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FittedExits:
    """A package's segments and exits with heads and thresholds, ready for `write_exits`.

    Args:
        segments: All segments, heads included.
        exits: Shallow to deep; the last is the final answer.
        calibration: The record, as it goes into the package file's [calibration].
        reports: One for each exit that was asked for, also for those left out.
        samples: How many inputs chose the thresholds.
        disagreements: How many of them some confident exit answers differently from the last.
    """

    segments: tuple[SegmentSource, ...]
    exits: tuple[Exit, ...]
    calibration: Mapping[str, Any]
    reports: tuple[ExitReport, ...]
    samples: int
    disagreements: int
