"""Compute-budget mode: rates of leaving at each exit whose mean work is within a budget, thresholds as score quantiles.

The rates are exponential weights on the exits' disagreement, tilted to the budget:

    r_e ~ exp(-beta (d_e + lambda c_e)),  the least lambda >= 0 with  sum r_e c_e <= budget

d_e disagreement of exit e over all samples (0 for the final answer), c_e work up to it. Then, exit by exit, the
threshold is the quantile of the scores of those still there that lets the wanted share of all leave.

Reference: Valade, Hebiri and Gay, EERO: early exit with reject option for efficient classification with limited budget,
arXiv 2402.03779 (rates by exponential weights under a budget; thresholds by quantiles).
"""

from math import ceil, log, sqrt

import numpy as np

from runtime.pack.exits.errors import CalibrationError
from runtime.pack.exits.evidence import Evidence, Floats

METHOD = "budget: exponential weights over exits, score quantiles"
_BISECTIONS = 200


def exit_rates(disagreement: Floats, costs: Floats, budget: float, beta: float) -> Floats:
    """Return the share of inputs to leave at each exit, the final answer last.

    Args:
        disagreement: d_e of every exit and of the final answer (0), shape (E + 1,).
        costs: c_e, rising, shape (E + 1,).
        budget: Bound on the mean work, in the unit of `costs`.
        beta: Sharpness; the larger, the more the rates follow small differences in disagreement.
    Raises:
        CalibrationError: The budget is below the work of the first exit.
    """
    if budget < costs[0]:
        raise CalibrationError(
            f"budget {budget:.4g} is below {costs[0]:.4g}, the work up to the first exit: must be at least that"
        )
    if _mean_cost(_weights(disagreement, costs, beta, 0.0), costs) <= budget:
        return _weights(disagreement, costs, beta, 0.0)
    low, high = 0.0, 1.0 / max(float(costs[-1] - costs[0]), 1e-300)
    while _mean_cost(_weights(disagreement, costs, beta, high), costs) > budget and high < 1e300:
        high *= 2.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _mean_cost(_weights(disagreement, costs, beta, middle), costs) > budget:
            low = middle
        else:
            high = middle
    return _weights(disagreement, costs, beta, high)


def _weights(disagreement: Floats, costs: Floats, beta: float, price: float) -> Floats:
    exponent = -beta * (disagreement + price * (costs - costs[0]))
    weights = np.exp(exponent - exponent.max())
    return np.asarray(weights / weights.sum())


def _mean_cost(rates: Floats, costs: Floats) -> float:
    return float(rates @ costs)


def rate_thresholds(evidence: Evidence, rates: Floats) -> Floats:
    """Return thresholds with which at least the wanted share of all samples leaves at each exit, shape (G,).

    Raises:
        ValueError: An exit has two gates: a window has no single quantile.
    """
    if evidence.gates != tuple(range(evidence.exits)):
        raise ValueError(f"gates = {evidence.gates}: budget mode needs one gate an exit, not a window")
    thresholds = np.full(evidence.exits, np.inf)
    there = np.ones(evidence.samples, bool)
    wanted = 0.0
    for exit_index in range(evidence.exits):
        wanted += float(rates[exit_index]) * evidence.samples
        leaving = min(max(ceil(wanted - 1e-9) - int((~there).sum()), 0), int(there.sum()))
        if leaving:
            scores = np.sort(evidence.scores[exit_index][there])[::-1]
            thresholds[exit_index] = scores[leaving - 1]
            there &= evidence.scores[exit_index] < thresholds[exit_index]
    return thresholds


def default_beta(samples: int, exits: int) -> float:
    """Return sqrt(n ln(E + 1)), the usual growth of the sharpness of exponential weights."""
    return sqrt(samples * log(exits + 1))
