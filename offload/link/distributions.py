"""What a link's rate and times are drawn from, window by window."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from offload.errors import LinkError
from offload.radio import MEGABIT


def require(name: str, value: float, holds: bool, right: str) -> None:
    """Refuse a declared value that is not finite or does not hold.

    Raises:
        LinkError: with the value and what would be right.
    """
    if not math.isfinite(value) or not holds:
        raise LinkError(f"{name} = {value!r}: must be {right}")


class Distribution(Protocol):
    """Draws one quantity of the channel for many windows at once."""

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` independent values."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same value in every window."""

    value: float = 0.0

    def __post_init__(self) -> None:
        require("value", self.value, self.value >= 0.0, "a number that is not negative")

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` times the value."""
        return np.full(count, self.value)


@dataclass(frozen=True, slots=True)
class Rayleigh:
    """Rayleigh fading: density x/sigma^2 exp(-x^2/(2 sigma^2)), mean sigma sqrt(pi/2). `sigma_bps` in bit/s."""

    sigma_bps: float = 20.0 * MEGABIT

    def __post_init__(self) -> None:
        require("sigma_bps", self.sigma_bps, self.sigma_bps > 0.0, "a positive rate")

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` rates [bit/s]."""
        return rng.rayleigh(self.sigma_bps, count)


@dataclass(frozen=True, slots=True)
class Gamma:
    """A shifted gamma distribution of times; `scale_s` and `shift_s` in s."""

    shape: float
    scale_s: float
    shift_s: float = 0.0

    def __post_init__(self) -> None:
        require("shape", self.shape, self.shape > 0.0, "positive")
        require("scale_s", self.scale_s, self.scale_s > 0.0, "a positive time")
        require("shift_s", self.shift_s, self.shift_s >= 0.0, "a time that is not negative")

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` times [s]."""
        return self.shift_s + rng.gamma(self.shape, self.scale_s, count)


@dataclass(frozen=True, slots=True)
class GeometricQueue:
    """The published queue: k in [0, count) with probability proportional to ratio^k, delay k `step_s`."""

    ratio: float = 0.97
    count: int = 4000
    step_s: float = 1e-6

    def __post_init__(self) -> None:
        require("ratio", self.ratio, 0.0 < self.ratio < 1.0, "between 0 and 1, ends excluded")
        require("count", self.count, self.count >= 1, "at least 1")
        require("step_s", self.step_s, self.step_s >= 0.0, "a time that is not negative")

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Return `count` delays [s], by inversion of the truncated geometric distribution."""
        share = rng.random(count) * (1.0 - self.ratio**self.count)
        steps = np.floor(np.log1p(-share) / math.log(self.ratio))
        return np.minimum(steps, self.count - 1) * self.step_s
