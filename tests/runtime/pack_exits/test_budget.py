"""Compute-budget mode: rates within the budget, thresholds that give the rates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.pack.exits.budget import default_beta, exit_rates, rate_thresholds
from runtime.pack.exits.errors import CalibrationError
from tests.runtime.pack_exits.populations import Population

COSTS = np.array([0.2, 0.5, 1.0])


@given(
    disagreement=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    budget=st.floats(0.21, 1.0),
    beta=st.floats(0.1, 200.0),
)
def test_rates_are_shares_within_the_budget(disagreement: tuple[float, float], budget: float, beta: float) -> None:
    risks = np.array([*disagreement, 0.0])
    rates = exit_rates(risks, COSTS, budget, beta)
    assert rates.sum() == pytest.approx(1.0)
    assert np.all(rates >= 0)
    assert rates @ COSTS <= budget + 1e-9
    free = exit_rates(risks, COSTS, 1.0, beta)
    assert rates @ COSTS == pytest.approx(min(budget, float(free @ COSTS)), abs=1e-6)


def test_rates_follow_the_weights_when_the_budget_is_loose() -> None:
    rates = exit_rates(np.array([0.3, 0.1, 0.0]), COSTS, 1.0, 10.0)
    np.testing.assert_allclose(rates, np.exp([-3.0, -1.0, 0.0]) / np.exp([-3.0, -1.0, 0.0]).sum())


def test_a_budget_of_the_first_exit_sends_all_there() -> None:
    rates = exit_rates(np.array([0.3, 0.1, 0.0]), COSTS, 0.2, 10.0)
    np.testing.assert_allclose(rates, [1.0, 0.0, 0.0], atol=1e-6)


def test_a_budget_below_the_first_exit_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"budget 0.1 is below 0.2"):
        exit_rates(np.array([0.3, 0.1, 0.0]), COSTS, 0.1, 10.0)


@given(seed=st.integers(0, 10_000), weights=st.tuples(*[st.floats(0.01, 1)] * 3), samples=st.integers(5, 300))
def test_quantiles_let_the_wanted_shares_leave(seed: int, weights: tuple[float, ...], samples: int) -> None:
    evidence = Population().draw(samples, np.random.default_rng(seed))
    rates = np.array(weights) / sum(weights)
    thresholds = rate_thresholds(evidence, rates)
    left = np.bincount(evidence.leaves_at(thresholds), minlength=3).cumsum() / samples
    assert np.all(left[:2] >= rates.cumsum()[:2] - 1e-9)
    assert np.all(left[:2] <= rates.cumsum()[:2] + 1.0 / samples + 1e-9)
    assert evidence.mean_cost(thresholds) <= rates @ evidence.costs + 1e-9


def test_fresh_samples_cost_what_was_promised() -> None:
    rng = np.random.default_rng(0)
    drawn = Population().draw(2000, rng)
    costs = drawn.costs / drawn.costs[-1]
    rates = exit_rates(np.append(drawn.differs.mean(axis=1), 0.0), costs, 0.6, default_beta(2000, 2))
    fresh = Population().draw(20_000, rng)
    assert fresh.mean_cost(rate_thresholds(drawn, rates)) / drawn.costs[-1] == pytest.approx(0.6, abs=0.02)


def test_a_window_has_no_quantile() -> None:
    drawn = Population().draw(50, np.random.default_rng(0), windows=True)
    with pytest.raises(ValueError, match="one gate an exit"):
        rate_thresholds(drawn, np.array([0.3, 0.3, 0.4]))
