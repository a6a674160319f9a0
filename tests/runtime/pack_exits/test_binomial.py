"""Exact binomial probabilities against big-number arithmetic, and the published table of sample counts."""

from fractions import Fraction
from math import comb, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.pack.exits.binomial import binomial_cdf, clopper_pearson, least_samples, most_disagreements

RATES = st.fractions(min_value=Fraction(1, 1000), max_value=Fraction(999, 1000), max_denominator=1000)


def exact_cdf(k: int, n: int, rate: Fraction) -> float:
    return float(sum(comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(k + 1)))


@given(n=st.integers(1, 120), k=st.integers(-2, 121), rate=RATES)
def test_the_distribution_function_is_exact(n: int, k: int, rate: Fraction) -> None:
    assert binomial_cdf(k, n, float(rate)) == pytest.approx(exact_cdf(min(k, n), n, rate), rel=1e-9, abs=1e-12)


def test_rates_of_none_and_all() -> None:
    assert binomial_cdf(0, 10, 0.0) == 1.0
    assert binomial_cdf(9, 10, 1.0) == 0.0
    assert binomial_cdf(10, 10, 1.0) == 1.0


@pytest.mark.parametrize(("disagreements", "needed"), [(0, 299), (1, 473), (2, 628), (3, 773)])
def test_one_percent_at_five_needs_the_known_counts(disagreements: int, needed: int) -> None:
    assert least_samples(0.01, 0.05, disagreements) == needed
    assert most_disagreements(needed, 0.01, 0.05) == disagreements
    assert most_disagreements(needed - 1, 0.01, 0.05) == disagreements - 1


@given(alpha=st.floats(0.002, 0.5), delta=st.floats(0.001, 0.5), disagreements=st.integers(0, 6))
def test_the_least_count_certifies_and_one_less_does_not(alpha: float, delta: float, disagreements: int) -> None:
    needed = least_samples(alpha, delta, disagreements)
    assert binomial_cdf(disagreements, needed, alpha) <= delta
    assert needed == disagreements + 1 or binomial_cdf(disagreements, needed - 1, alpha) > delta
    if disagreements == 0:
        assert needed == pytest.approx(log(delta) / log(1 - alpha), abs=1.0 + 1e-6)


@given(n=st.integers(1, 200), share=st.floats(0, 1), delta=st.floats(0.001, 0.5))
def test_the_interval_ends_where_a_tail_has_half_of_delta(n: int, share: float, delta: float) -> None:
    k = round(share * n)
    low, high = clopper_pearson(k, n, delta)
    assert low <= k / n <= high
    assert high == 1.0 if k == n else binomial_cdf(k, n, high) == pytest.approx(delta / 2, rel=1e-6)
    assert low == 0.0 if k == 0 else 1 - binomial_cdf(k - 1, n, low) == pytest.approx(delta / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binomial_cdf(1, -1, 0.5), "n = -1"),
        (lambda: binomial_cdf(1, 2, 1.5), "rate = 1.5"),
        (lambda: least_samples(0.0, 0.05), "max_disagreement = 0.0"),
        (lambda: least_samples(0.01, 1.0), "delta = 1.0"),
        (lambda: least_samples(0.01, 0.05, -1), "disagreements = -1"),
        (lambda: clopper_pearson(3, 2, 0.05), "k = 3, n = 2"),
    ],
)
def test_misuse_is_told(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
