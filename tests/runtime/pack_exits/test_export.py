"""What heads compute in ONNX is what they compute in numpy, to 1e-5."""

from typing import Any

import numpy as np
import onnxruntime
import pytest

from devices.package import ExitKind
from devices.tensor import TensorSpec
from runtime.pack.exits.answers import AnswerForm
from runtime.pack.exits.export import export_head
from runtime.pack.exits.heads import fit_classifier, fit_regressor
from runtime.pack.exits.pooling import pool
from runtime.pack.exits.scores import Score, confidence, softmax

FEATURES = TensorSpec("f", "float32", ("N", 6, 4, 4))
SAMPLES = 150
FOLDS = np.arange(SAMPLES) % 3
RNG = np.random.default_rng(0)
TENSORS = ((RNG.normal(size=(SAMPLES, 6, 4, 4)) + 0.5) * RNG.uniform(0.1, 20, (1, 6, 1, 1))).astype(np.float32)
POOLED = pool({"f": TENSORS}, [FEATURES], 1)
STANDARD = (POOLED - POOLED.mean(axis=0)) / POOLED.std(axis=0)


def run(model: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(["answer", "sure"], {"f": TENSORS}))


@pytest.mark.parametrize("score", [Score.MAX_PROBABILITY, Score.MARGIN, Score.ENTROPY, Score.ENERGY])
@pytest.mark.parametrize("probabilities", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_classifier(score: Score, probabilities: bool, dtype: str) -> None:
    targets = softmax(2 * STANDARD @ np.random.default_rng(1).normal(size=(6, 5)))
    head, _ = fit_classifier(POOLED, targets, FOLDS, (1e-3,))
    form = AnswerForm(ExitKind.CLASSIFICATION, 5, probabilities=probabilities)
    spec = TensorSpec("answer", dtype, ("N", 5))
    answer, sure = run(export_head("head", head, [FEATURES], spec, "sure", form, score=score, temperature=1.5))
    logits = head.logits(POOLED)
    assert answer.dtype == dtype
    assert sure.shape == (SAMPLES, 1)
    near = 1e-2 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(answer, softmax(logits) if probabilities else logits, atol=near, rtol=near)
    np.testing.assert_allclose(sure[:, 0], confidence(score, logits, 1.5), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("probabilities", [True, False])
def test_binary_window(probabilities: bool) -> None:
    targets = softmax(2 * STANDARD @ np.random.default_rng(2).normal(size=(6, 2)))
    head, _ = fit_classifier(POOLED, targets, FOLDS, (1e-3,))
    form = AnswerForm(ExitKind.CLASSIFICATION, 1, probabilities=probabilities)
    spec = TensorSpec("answer", "float32", ("N", 1))
    low, high = 0.3, 0.6
    model = export_head("head", head, [FEATURES], spec, "sure", form, score=Score.WINDOW, window=(low, high))
    answer, sure = run(model)
    p = softmax(head.logits(POOLED))[:, 1]
    logit = head.logits(POOLED) @ [-1.0, 1.0]
    np.testing.assert_allclose(answer[:, 0], p if probabilities else logit, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(sure[:, 0], np.maximum(low - p, p - high), atol=1e-5)
    clear = np.minimum(np.abs(p - low), np.abs(p - high)) > 1e-4
    np.testing.assert_array_equal((sure[:, 0] >= 0)[clear], ((p <= low) | (p >= high))[clear])
    half_open = export_head("head", head, [FEATURES], spec, "sure", form, score=Score.WINDOW, window=(-np.inf, 0.5))
    assert np.isfinite(run(half_open)[1]).all()


def test_regressor() -> None:
    rng = np.random.default_rng(3)
    targets = STANDARD @ rng.normal(size=(6, 3)) * [1.0, 0.01, 100.0] + rng.normal(size=(SAMPLES, 3)) * 0.1
    tolerance = np.array([0.2, 0.002, 20.0])
    head, _, _ = fit_regressor(POOLED, targets, tolerance, FOLDS, (1e-3, 1e-1))
    form = AnswerForm(ExitKind.REGRESSION, 3, tolerance=tuple(tolerance))
    answer, sure = run(export_head("head", head, [FEATURES], TensorSpec("answer", "float32", ("N", 3)), "sure", form))
    np.testing.assert_allclose(answer / tolerance, head.values(POOLED) / tolerance, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(sure[:, 0], head.confidence(POOLED), atol=1e-5)
