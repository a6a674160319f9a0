"""Raise a flag when the shares of inputs that leave at the exits are no longer those the thresholds were calibrated on.

Watched is, for each exit e, whether an input has left by e: a coin whose rate the calibration record puts into a band
[low_e, high_e]. Against "the rate is at most high_e" every alternative q > high_e gives a likelihood ratio

    L = q / high_e  if the input has left by e,  (1 - q) / (1 - high_e)  if not,

whose mean is at most 1 for every rate within the band; likewise below low_e. Each ratio feeds a Shiryaev-Roberts sum,
R <- (R + 1) L, and the flag goes up when the mean of all sums, M, reaches N. As M_t - t is a supermartingale while all
rates lie within their bands, the mean number of samples until a false alarm is at least N: that is the declared
false-alarm rate, over any length of watching. A shift to rate q is noticed after about ln(N) / KL(q, band) samples.

The flag comes down likewise: against "the share is still beyond the end of its band that it left by" stand rates within
the band, and when their mean sum reaches N_back the watch begins anew. While the share stays out, the mean number of
samples until the flag comes down in error is at least N_back. A band of no width is never seen to hold again.

The clock is the samples: no time is read and nothing waits. It holds for independent samples; consecutive frames of a
camera are not, so pass `every` k-th, k frames apart enough to look fresh. Count only inputs whose walk ended by a
confident exit or at the end: what a deadline cut short says nothing about the inputs.

Reference: Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change detection,
arXiv 2203.03532; Pollak, Annals of Statistics 13 (1985) (Shiryaev-Roberts).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

SAMPLES_PER_FALSE_ALARM = 1e7  # 55 hours at 50 Hz
SAMPLES_PER_FALSE_RETURN = 1e5
_TOWARDS_END = (0.1, 0.25, 0.5, 0.75)  # alternatives: parts of the way from the band's end to 0 or 1
_INTO_BAND = (0.25, 0.5, 0.75)  # alternatives while the flag is up: parts of the way to the band's other end
_LEAST_RATE = 1e-6  # a band that reaches 0 or 1 can't be left on that side; one that ends close by is widened to this


class Side(StrEnum):
    """Which way a share has left its band."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class ExitBand:
    """Band of the share of inputs that have left by an exit.

    Args:
        exit_id: The exit.
        low, high: The band, within 0..1.
    """

    exit_id: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ValueError(f"exit {self.exit_id!r}: band {self.low}..{self.high} must lie in order within 0..1")


@dataclass(frozen=True, slots=True)
class Drift:
    """The flag: which exit's share left its band, to which side, and when.

    Args:
        exit_id: The exit whose evidence weighs most.
        side: Above or below its band.
        sample: Number of the sample that raised the flag, 1 for the first since the last reset.
        share: Share that had left by that exit, over the samples since the drift most likely began.
        band: What it should be within.
    """

    exit_id: str
    side: Side
    sample: int
    share: float
    band: tuple[float, float]


@dataclass(slots=True)
class _Watch:
    """One alternative rate against one end of one exit's band."""

    exit_index: int
    side: Side
    if_left: float
    if_not: float
    total: float = 0.0
    product: float = 1.0
    since: int = 0
    left: int = 0

    def update(self, has_left: bool) -> None:
        ratio = self.if_left if has_left else self.if_not
        self.total = (self.total + 1.0) * ratio
        self.product *= ratio
        self.since += 1
        self.left += has_left
        if self.product <= 1.0:  # the likeliest begin of a drift lies behind this sample
            self.product, self.since, self.left = 1.0, 0, 0

    def restart(self) -> None:
        self.total, self.product, self.since, self.left = 0.0, 1.0, 0, 0


class DriftMonitor:
    """Watches the exits at which inputs leave. Pure: no thread, no clock, no lock; one caller at a time.

    Args:
        bands: Of every exit but the last, shallow to deep.
        final_exit: Id of the last exit.
        samples_per_false_alarm: N, mean samples until a false alarm at least.
        samples_per_false_return: N_back, mean samples until the flag comes down at least while the share stays out.
        every: Of how many samples one is looked at.
    Raises:
        ValueError: No band, exits named twice, N or N_back below 1, or `every` below 1.
    """

    def __init__(
        self,
        bands: Sequence[ExitBand],
        final_exit: str,
        *,
        samples_per_false_alarm: float = SAMPLES_PER_FALSE_ALARM,
        samples_per_false_return: float = SAMPLES_PER_FALSE_RETURN,
        every: int = 1,
    ) -> None:
        ids = [*(band.exit_id for band in bands), final_exit]
        if len(ids) < 2 or len(set(ids)) != len(ids):
            raise ValueError(f"exits = {ids}: must be at least one band and the final exit, each named once")
        numbers = {
            "samples_per_false_alarm": samples_per_false_alarm,
            "samples_per_false_return": samples_per_false_return,
            "every": every,
        }
        if not all(isfinite(number) and number >= 1 for number in numbers.values()):
            told = ", ".join(f"{name} = {number}" for name, number in numbers.items())
            raise ValueError(f"{told}: must be finite and at least 1")
        self.bands = tuple(bands)
        self.samples_per_false_alarm = samples_per_false_alarm
        self.samples_per_false_return = samples_per_false_return
        self.every = every
        self._index = {exit_id: index for index, exit_id in enumerate(ids)}
        self._watches = [watch for index, band in enumerate(bands) for watch in _watches(index, band)]
        self._counts = [0] * len(ids)
        self._seen = 0
        self._samples = 0
        self._drift: Drift | None = None
        self._back: list[_Watch] = []

    @property
    def drift(self) -> Drift | None:
        """The flag, up until the share is back within its band or `reset`."""
        return self._drift

    @property
    def samples(self) -> int:
        """How many samples were looked at since the last reset."""
        return self._samples

    @property
    def shares(self) -> dict[str, float]:
        """Share of the samples that left at each exit, since the last reset; all 0 before the first."""
        return {exit_id: self._counts[i] / max(self._samples, 1) for exit_id, i in self._index.items()}

    def observe(self, exit_id: str) -> Drift | None:
        """Take note of an input that left at an exit of its own accord; return the flag if this one raised it.

        Where the flag was up, see `drift` for whether this one took it down.

        Raises:
            ValueError: There is no such exit.
        """
        index = self._index.get(exit_id)
        if index is None:
            raise ValueError(f"exit {exit_id!r} is not one of {[*self._index]}")
        self._seen += 1
        if self._seen % self.every:
            return None
        self._samples += 1
        self._counts[index] += 1
        if self._drift is not None:
            if _reached(self._back, index, self.samples_per_false_return):
                self._take_down()
            return None
        if not _reached(self._watches, index, self.samples_per_false_alarm):
            return None
        self._drift = self._flag()
        return self._drift

    def _flag(self) -> Drift:
        heaviest = max(self._watches, key=lambda watch: watch.total)
        band = self.bands[heaviest.exit_index]
        self._back = _ways_back(heaviest.exit_index, band, heaviest.side)
        share = heaviest.left / max(heaviest.since, 1)
        return Drift(band.exit_id, heaviest.side, self._samples, share, (band.low, band.high))

    def _take_down(self) -> None:
        for watch in self._watches:
            watch.restart()
        self._drift, self._back = None, []

    def reset(self) -> None:
        """Take the flag down and begin anew."""
        self._take_down()
        self._counts = [0] * len(self._counts)
        self._seen = self._samples = 0


def _reached(watches: Sequence[_Watch], index: int, samples: float) -> bool:
    for watch in watches:
        watch.update(index <= watch.exit_index)
    return bool(watches) and sum(watch.total for watch in watches) >= samples * len(watches)


def _watches(exit_index: int, band: ExitBand) -> list[_Watch]:
    watches = []
    if band.high < 1.0:
        end = max(band.high, _LEAST_RATE)
        rates = [end + part * (1.0 - end) for part in _TOWARDS_END]
        watches += [_Watch(exit_index, Side.ABOVE, q / end, (1.0 - q) / (1.0 - end)) for q in rates]
    if band.low > 0.0:
        end = min(band.low, 1.0 - _LEAST_RATE)
        rates = [end * (1.0 - part) for part in _TOWARDS_END]
        watches += [_Watch(exit_index, Side.BELOW, q / end, (1.0 - q) / (1.0 - end)) for q in rates]
    return watches


def _ways_back(exit_index: int, band: ExitBand, side: Side) -> list[_Watch]:
    end, other = (band.low, band.high) if side is Side.BELOW else (band.high, band.low)
    if end in (0.0, 1.0, other):
        return []
    rates = [end + part * (other - end) for part in _INTO_BAND]
    return [_Watch(exit_index, side, q / end, (1.0 - q) / (1.0 - end)) for q in rates]


def monitor_from_record(
    calibration: Mapping[str, Any],
    exits: Iterable[str],
    *,
    samples_per_false_alarm: float = SAMPLES_PER_FALSE_ALARM,
    every: int = 1,
) -> DriftMonitor | None:
    """Return a monitor for a package with a calibration record; None if it has none.

    Args:
        calibration: The package file's [calibration].
        exits: Ids of the package's exits, shallow to deep.
    Raises:
        ValueError: The record is about other exits, or a band is no band.
    """
    tables = calibration.get("exits")
    if not tables:
        return None
    *early, final = exits
    ids = [table.get("id") for table in tables]
    if ids != early:
        raise ValueError(f"the calibration record is about exits {ids}, the package has {early} before its last")
    try:
        bands = [ExitBand(t["id"], float(t["left_by_low"]), float(t["left_by_high"])) for t in tables]
    except (KeyError, TypeError) as error:
        raise ValueError(f"the calibration record lacks a band of exit shares: {error}") from error
    return DriftMonitor(bands, final, samples_per_false_alarm=samples_per_false_alarm, every=every)
