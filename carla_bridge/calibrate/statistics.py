"""What can be said of a bound from n measured values, without assuming a distribution.

With the values in order, x_1 <= ... <= x_n, independent and of one distribution:

    largest value       with confidence 1 - d at least the share p = d^(1/n) of all values is at most x_n
                        (Wilks' tolerance limit)
    end of the range    the upper end of the range is at most x_n + (x_n - x_(n-1)) (1 - d)/d
                        with confidence 1 - d, for a density that does not vanish at the end (Robson and Whitlock);
                        told from the k greatest, x_n + (x_n - x_(n-k+1)) (d^(-1/(k-1)) - 1): of k values, k - 1 are
                        spread evenly over what lies above the least, and all of them miss the share r of it that
                        is next to the end with chance (1 - r)^(k-1)
    median              lies in [x_k, x_(n+1-k)] with confidence 1 - 2 P(Binomial(n, 1/2) <= k - 1)

References: Wilks, Ann. Math. Statist. 12 (1941) 91; Robson and Whitlock, Biometrika 51 (1964) 33.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from carla_bridge.errors import CalibrationError

LEAST = 5
"""Fewer values than this say nothing."""

TOP = 10
"""Values that the end of a range is told from where there are many."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A parameter of a vehicle file, measured.

    Args:
        name: Its key in the file.
        value: What is to be declared.
        low, high: Interval that holds the true one with confidence 1 - `delta`.
        unit: Of all of them.
        n: Values that it rests on.
        delta: Chance that the interval misses.
        coverage: With confidence 1 - `delta`, this share of all values lies on the safe side of the worst one seen;
            None for a parameter that is no bound.
        how: What was measured.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    n: int
    delta: float
    coverage: float | None
    how: str


def coverage_of(n: int, delta: float) -> float:
    """Return the share of all values that is at most the largest of `n`, with confidence 1 - `delta`."""
    return float(delta ** (1.0 / n))


def upper_bound(
    name: str, values: Sequence[float], unit: str, delta: float, how: str, grain: float = 0.0, top: int = 2
) -> Estimate:
    """Return the upper end of what `values` are drawn from; declared is the interval's upper end.

    `grain`: by how much a value may be too high, such as a tick where times are told apart by ticks. `top`: how many of
    the greatest values the end is told from, fewer where there are not twice as many.

    Raises:
        CalibrationError: too few values.
    """
    worst, high = _end(name, values, delta, top)
    n = len(values)
    return Estimate(name, high, max(0.0, worst - grain), high, unit, n, delta, coverage_of(n, delta), how)


def lower_bound(name: str, values: Sequence[float], unit: str, delta: float, how: str, top: int = 2) -> Estimate:
    """Return the lower end of what `values` are drawn from, above 0; declared is the interval's lower end.

    `top`: how many of the least values the end is told from, fewer where there are not twice as many.

    Raises:
        CalibrationError: too few values, or they scatter so much that the interval reaches 0.
    """
    worst, end = _end(name, [-value for value in values], delta, top)
    low, n = -end, len(values)
    if low <= 0.0:
        raise CalibrationError(
            f"{name}: the least of {n} values is {-worst:.4g} {unit}: the next ones are too far from it for a bound "
            f"of confidence {1.0 - delta:g}; drive longer"
        )
    return Estimate(name, low, low, -worst, unit, n, delta, coverage_of(n, delta), how)


def median_of(name: str, values: Sequence[float], unit: str, delta: float, how: str) -> Estimate:
    """Return the median with its order-statistic interval; declared is the median.

    Raises:
        CalibrationError: too few values for an interval of this confidence.
    """
    ordered = sorted(values)
    n = len(ordered)
    rank = _rank(n, delta)
    if rank < 1:
        raise CalibrationError(
            f"{name}: {n} values give no interval of confidence {1.0 - delta:g}, at least "
            f"{math.ceil(1.0 - math.log2(delta))} are needed: drive longer"
        )
    middle = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])
    return Estimate(name, middle, ordered[rank - 1], ordered[n - rank], unit, n, delta, None, how)


def _rank(n: int, delta: float) -> int:
    """Return the greatest k with 2 P(Binomial(n, 1/2) <= k - 1) <= delta; 0 when there is none."""
    below, rank = 0.0, 0
    while rank < n:
        log_share = math.lgamma(n + 1) - math.lgamma(rank + 1) - math.lgamma(n - rank + 1) - n * math.log(2.0)
        below += math.exp(log_share)
        if 2.0 * below > delta:
            return rank
        rank += 1
    return rank


def _end(name: str, values: Sequence[float], delta: float, top: int) -> tuple[float, float]:
    """Return the greatest value and the upper end of the range."""
    if len(values) < LEAST:
        raise CalibrationError(f"{name}: {len(values)} values, at least {LEAST} are needed: drive or record longer")
    if not all(map(math.isfinite, values)):
        raise CalibrationError(f"{name}: a value is not finite; what was measured cannot be used")
    k = max(2, min(top, len(values) // 2))
    ordered = sorted(values)
    return ordered[-1], ordered[-1] + (ordered[-1] - ordered[-k]) * (delta ** (-1.0 / (k - 1)) - 1.0)
