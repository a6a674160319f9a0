"""Thresholds with a guarantee: learn-then-test by fixed sequence testing with exact binomial p-values.

Hypothesis H_s: with the thresholds of step s the disagreement rate exceeds alpha. Its p-value is
P(Bin(n, alpha) <= k_s) with k_s disagreements among n certifying samples. The path was fixed without those samples, so
the steps are tested in its order, each at level delta, until the first that is not refuted; the last refuted one is
taken. To take a step whose rate exceeds alpha, the first such step of the order must be refuted, which has probability
at most delta. All exits move along one path, so the bound is joint.

It holds for inputs drawn independently from what the certifying samples were drawn from.

Reference: Angelopoulos, Bates, Candès, Jordan and Lei, Learn then test: calibrating predictive algorithms to achieve
risk control, arXiv 2110.01052 (fixed sequence testing, section 2; binary losses).
"""

from dataclasses import dataclass

import numpy as np

from runtime.pack.exits.binomial import binomial_cdf, least_samples
from runtime.pack.exits.errors import TooFewSamplesError
from runtime.pack.exits.evidence import Evidence, Floats

METHOD = "learn-then-test: fixed sequence of nested thresholds, exact binomial p-values"


@dataclass(frozen=True)
class Certified:
    """Thresholds and what stands behind them.

    Args:
        thresholds: Of each gate, infinite where it stays closed, shape (G,).
        step: Place on the path; 0 has every gate closed and disagrees never.
        samples: n.
        disagreements: k at that step.
        p_value: P(Bin(n, alpha) <= k).
    """

    thresholds: Floats
    step: int
    samples: int
    disagreements: int
    p_value: float


def certify(path: Floats, evidence: Evidence, alpha: float, delta: float) -> Certified:
    """Return the last thresholds of the path whose disagreement rate is at most alpha with probability 1 - delta.

    Args:
        path: Thresholds at each step, shape (steps, G), from `make_path` on other samples; the first row infinite.
        evidence: The certifying samples.
        alpha: Bound on the disagreement rate.
        delta: Probability that the bound is missed.
    Raises:
        TooFewSamplesError: Fewer samples than ln(delta) / ln(1 - alpha): nothing could be refuted.
        ValueError: The path does not begin closed, or a gate closes on the way.
    """
    needed = least_samples(alpha, delta)
    if evidence.samples < needed:
        raise TooFewSamplesError(evidence.samples, needed, alpha, delta)
    if path.ndim != 2 or not np.all(np.isposinf(path[0])) or np.any(path[1:] > path[:-1]):
        raise ValueError("the path must begin with every gate closed (infinite) and only open from step to step")
    taken = Certified(path[0], 0, evidence.samples, 0, binomial_cdf(0, evidence.samples, alpha))
    for step, thresholds in enumerate(path[1:], start=1):
        disagreements = evidence.disagreements(thresholds)
        p_value = binomial_cdf(disagreements, evidence.samples, alpha)
        if p_value > delta:
            break
        taken = Certified(thresholds, step, evidence.samples, disagreements, p_value)
    return taken
