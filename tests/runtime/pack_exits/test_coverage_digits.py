"""The certificate on real data: heads fitted on digits, thresholds certified on resampled digits.

Of the 1 197 images that trained nothing some 60 fit the head, the first 200 shape the path, and the others are the
population, whose disagreement rate at any thresholds is known. Calibration samples are drawn from it with replacement,
so they are independent.
"""

from pathlib import Path

import numpy as np
import pytest

from devices.backends.onnxruntime import OnnxRuntimeBackend
from runtime.pack.exits import ExitSettings, fit_exits, write_exits
from runtime.pack.exits.answers import AnswerForm
from runtime.pack.exits.binomial import binomial_cdf
from runtime.pack.exits.certify import certify
from runtime.pack.exits.collect import trace_exits
from runtime.pack.exits.evidence import Evidence
from runtime.pack.exits.path import make_path
from runtime.pack.exits.scores import Score
from tests.runtime.pack_exits.conftest import TrainedDigits
from tests.runtime.pack_exits.populations import resample

RUNS = 300


@pytest.mark.parametrize("score", [Score.MAX_PROBABILITY, Score.ENERGY])
@pytest.mark.parametrize(("alpha", "delta"), [(0.03, 0.1), (0.05, 0.05)])
def test_the_certificate_fails_no_more_often_than_delta(
    digits: TrainedDigits, tmp_path: Path, score: Score, alpha: float, delta: float
) -> None:
    held = digits.data.images[600:]
    # A head fitted to few images: poor enough that the bound binds.
    settings = ExitSettings(max_disagreement=0.2, delta=0.2, score=score, fit_share=0.05, strengths=(0.3,))
    fitted = fit_exits(digits.logits, {"image": held}, settings)
    package = write_exits(tmp_path / "digits", digits.logits, fitted)
    said = trace_exits(package, OnnxRuntimeBackend(), {"image": held}, np.arange(len(held)))
    form = AnswerForm(package.exits[-1].kind, 10)
    everything = Evidence(
        said.confidences, (0,), np.stack([form.differs(said.answers[0], said.final)]), np.array([1.0, 2.0])
    )
    design, population = _rows(everything, slice(0, 200)), _rows(everything, slice(200, None))
    path = make_path(design)
    assert population.disagreements(path[-1]) > 1.2 * alpha * population.samples
    rng = np.random.default_rng(1)
    failures, left = 0, 0.0
    for _ in range(RUNS):
        found = certify(path, resample(population, 300, rng), alpha, delta)
        failures += population.disagreements(found.thresholds) > alpha * population.samples
        left += float(np.mean(population.leaves_at(found.thresholds) == 0)) / RUNS
    assert binomial_cdf(failures - 1, RUNS, delta) < 1.0 - 1e-4  # P(so many or more) is not below 1e-4
    assert left > 0.3


def _rows(evidence: Evidence, rows: slice) -> Evidence:
    return Evidence(evidence.scores[:, rows], evidence.gates, evidence.differs[:, rows], evidence.costs)
