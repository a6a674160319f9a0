"""In which band the share of inputs that have left by exit e must lie, given what the calibration samples did.

Along one path of nested thresholds the samples that have left by exit e form a nested family, so the empirical share is
within eps of the true one at every step at once with probability 1 - 2 exp(-2 n eps^2) (Dvoretzky, Kiefer, Wolfowitz;
Massart's constant): the band holds although the step was chosen with the same samples. Exits closed afterwards make it
one of 2^E such paths. Where thresholds were chosen freely (budget mode) the share by exit e is a distribution function
in e variables, for which the bound is e (n + 1) exp(-2 n eps^2). The failure probability is split evenly over the
exits.

Reference: Massart, Annals of Probability 18 (1990); Naaman, On the tight constant in the multivariate
Dvoretzky-Kiefer-Wolfowitz inequality, Statistics and Probability Letters 173 (2021).
"""

from math import log, sqrt

import numpy as np

from runtime.pack.exits.evidence import Evidence, Floats


def share_bands(evidence: Evidence, thresholds: Floats, delta: float, *, nested: bool) -> list[tuple[float, float]]:
    """Return the band of the share of inputs that have left by each exit, the final answer's (always 1) left out.

    Args:
        evidence: The samples the thresholds were chosen with.
        thresholds: Shape (G,).
        delta: Probability that some band misses the true share.
        nested: The thresholds come from one path of nested settings.
    """
    leaves = evidence.leaves_at(thresholds)
    bands = []
    for exit_index in range(evidence.exits):
        share = float(np.mean(leaves <= exit_index))
        factor = 2.0 ** (evidence.exits + 1) if nested else (exit_index + 1.0) * (evidence.samples + 1.0)
        reach = sqrt(log(factor * evidence.exits / delta) / (2.0 * evidence.samples))
        bands.append((max(share - reach, 0.0), min(share + reach, 1.0)))
    return bands
