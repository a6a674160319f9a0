"""Exact binomial probabilities, and what follows from them for a disagreement bound.

With k disagreements among n independent samples, p = P(Bin(n, alpha) <= k) is a valid p-value of the hypothesis that
the disagreement rate exceeds alpha: it is refuted at level delta when p <= delta. Even k = 0 needs
(1 - alpha)^n <= delta, that is n >= ln(delta) / ln(1 - alpha).

Reference: Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 26 (1934).
"""

from math import ceil, exp, fsum, lgamma, log, log1p

_BISECTIONS = 100  # halves [0, 1] to below the spacing of floats


def binomial_cdf(k: int, n: int, rate: float) -> float:
    """Return P(X <= k) for X ~ Bin(n, rate).

    Raises:
        ValueError: n is negative or rate is not within 0..1.
    """
    if n < 0 or not 0.0 <= rate <= 1.0:
        raise ValueError(f"n = {n}, rate = {rate}: must be n >= 0 and a rate within 0..1")
    if k < 0:
        return 0.0
    if k >= n or rate == 0.0:
        return 1.0
    if rate == 1.0:
        return 0.0
    if k > n * rate:  # sum the shorter, smaller tail
        return 1.0 - fsum(_point(i, n, rate) for i in range(k + 1, n + 1))
    return fsum(_point(i, n, rate) for i in range(k + 1))


def _point(k: int, n: int, rate: float) -> float:
    choose = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(choose + k * log(rate) + (n - k) * log1p(-rate))


def least_samples(alpha: float, delta: float, disagreements: int = 0) -> int:
    """Return the fewest samples that certify a rate of at most alpha with so many disagreements among them.

    299, 473, 628, 773 for alpha = 0.01, delta = 0.05 and 0, 1, 2, 3 disagreements.

    Raises:
        ValueError: alpha or delta is not strictly within 0..1, or disagreements is negative.
    """
    check_bounds(alpha, delta)
    if disagreements < 0:
        raise ValueError(f"disagreements = {disagreements}: must be at least 0")
    low, high = disagreements, max(ceil(log(delta) / log1p(-alpha)), disagreements + 1)
    while binomial_cdf(disagreements, high, alpha) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_cdf(disagreements, middle, alpha) <= delta:
            high = middle
        else:
            low = middle
    return high


def most_disagreements(samples: int, alpha: float, delta: float) -> int:
    """Return the largest count of disagreements among so many samples that still certifies alpha; -1 if none does."""
    check_bounds(alpha, delta)
    k = -1
    while k + 1 < samples and binomial_cdf(k + 1, samples, alpha) <= delta:
        k += 1
    return k


def clopper_pearson(k: int, n: int, delta: float) -> tuple[float, float]:
    """Return the exact two-sided interval of a rate at confidence 1 - delta, delta / 2 on either side.

    Raises:
        ValueError: Not 0 <= k <= n with n >= 1, or delta is not strictly within 0..1.
    """
    if not 0 <= k <= n or n < 1 or not 0.0 < delta < 1.0:
        raise ValueError(f"k = {k}, n = {n}, delta = {delta}: must be 0 <= k <= n, n >= 1, 0 < delta < 1")
    low = 0.0 if k == 0 else 1.0 - _upper(n - k, n, delta / 2.0)
    return low, 1.0 if k == n else _upper(k, n, delta / 2.0)


def _upper(k: int, n: int, delta: float) -> float:
    """Return the rate at which k or fewer of n have probability delta, rounded up."""
    low, high = k / n, 1.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if binomial_cdf(k, n, middle) > delta:
            low = middle
        else:
            high = middle
    return high


def check_bounds(alpha: float, delta: float) -> None:
    """Refuse a disagreement bound or failure probability outside the open interval 0..1.

    Raises:
        ValueError: Names the value.
    """
    for name, value in (("max_disagreement", alpha), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} = {value}: must lie strictly between 0 and 1")
