"""Fitted heads stand at the minimum of what they minimise, and learn what there is to learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.pack.exits.heads import Floats, fit_classifier, fit_regressor
from runtime.pack.exits.minimise import Objective, minimise
from runtime.pack.exits.scores import softmax

STRENGTH = 1e-2


@given(seed=st.integers(0, 10_000), width=st.integers(1, 12))
def test_a_quadratic_is_minimised(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(width, width))
    matrix, target = root @ root.T + 0.1 * np.eye(width), rng.normal(size=width)

    def objective(x: Floats) -> tuple[float, Floats]:
        return float(0.5 * x @ matrix @ x - target @ x), matrix @ x - target

    found = minimise(objective, np.zeros(width), gradient_tolerance=1e-8, max_steps=2000)
    np.testing.assert_allclose(matrix @ found, target, atol=1e-6)


def test_the_steps_are_bounded() -> None:
    calls = []

    def objective(x: Floats) -> tuple[float, Floats]:
        calls.append(x)
        return float(np.exp(-x[0])), np.array([-np.exp(-x[0])])

    minimise(objective, np.zeros(1), gradient_tolerance=0.0, max_steps=5)
    assert len(calls) < 100


def _blobs(seed: int, samples: int = 300, width: int = 6, classes: int = 4) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(samples, width)) * rng.uniform(0.1, 30.0, width) + rng.normal(size=width) * 10
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    return features, softmax(3.0 * standard @ rng.normal(size=(width, classes)))


def test_a_classifier_head_is_the_penalised_optimum_and_copies_a_linear_teacher() -> None:
    features, targets = _blobs(0)
    folds = np.arange(len(features)) % 3
    head, out_of_fold = fit_classifier(features, targets, folds, (STRENGTH,))
    z = head.logits.standardised(features)
    error = softmax(head.logits(features)) - targets
    np.testing.assert_allclose(z.T @ error / len(z) + STRENGTH * head.logits.weight, 0.0, atol=1e-5)
    np.testing.assert_allclose(error.sum(axis=0), 0.0, atol=1e-3)
    tight, out_of_fold = fit_classifier(features, targets, folds, (1e-4,))
    assert (tight.logits(features).argmax(axis=1) == targets.argmax(axis=1)).mean() > 0.97
    assert (out_of_fold.argmax(axis=1) == targets.argmax(axis=1)).mean() > 0.93


def test_out_of_fold_outputs_do_not_see_their_own_targets() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(120, 200))  # more features than samples: anything can be learnt by heart
    targets = np.eye(2)[rng.integers(0, 2, 120)]
    folds = np.arange(120) % 3
    head, out_of_fold = fit_classifier(features, targets, folds, (1e-3,))
    assert (head.logits(features).argmax(axis=1) == targets.argmax(axis=1)).mean() > 0.99
    assert (out_of_fold.argmax(axis=1) == targets.argmax(axis=1)).mean() < 0.7


def test_the_strength_that_generalises_is_chosen() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(90, 60))
    targets = np.eye(2)[(features[:, 0] + rng.normal(size=90) > 0).astype(int)]
    folds = np.arange(90) % 3
    chosen, _ = fit_classifier(features, targets, folds, (1e-4, 1.0))
    strong, _ = fit_classifier(features, targets, folds, (1.0,))
    np.testing.assert_allclose(chosen.logits.weight, strong.logits.weight)


@pytest.mark.parametrize("width", [5, 80])
def test_a_regressor_head_is_the_ridge_solution(width: int) -> None:
    rng = np.random.default_rng(3)
    features, targets = rng.normal(size=(60, width)), rng.normal(size=(60, 2))
    tolerance = np.array([0.5, 2.0])
    head, _, _ = fit_regressor(features, targets, tolerance, np.arange(60) % 3, (STRENGTH,))
    z = head.values.standardised(features)
    residual = head.values(features) - targets
    np.testing.assert_allclose(z.T @ residual / 60 + STRENGTH * head.values.weight, 0.0, atol=1e-9)
    np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=1e-9)


def test_the_error_head_is_surer_where_errors_are_small() -> None:
    rng = np.random.default_rng(4)
    features = rng.normal(size=(900, 4))
    spread = np.where(np.abs(features[:, :1]) > 1.0, 2.0, 0.05)
    targets = features @ rng.normal(size=(4, 1)) + spread * rng.normal(size=(900, 1))
    head, values, sure = fit_regressor(features, targets, np.array([0.3]), np.arange(900) % 3, (1e-2,))
    good = np.abs(values - targets)[:, 0] <= 0.3
    assert np.all((sure >= 0) & (sure <= 1))
    assert sure[good].mean() > sure[~good].mean() + 0.2
    assert np.corrcoef(sure, head.confidence(features))[0, 1] > 0.95


def test_a_constant_feature_does_no_harm() -> None:
    features, targets = _blobs(5)
    features[:, 2] = 7.0
    head, out_of_fold = fit_classifier(features, targets, np.arange(len(features)) % 3, (STRENGTH,))
    assert np.isfinite(out_of_fold).all()
    np.testing.assert_allclose(head.logits.weight[2], 0.0, atol=1e-9)


def test_many_classes_take_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hasty(objective: Objective, start: Floats, *, max_steps: int) -> Floats:
        asked.append(max_steps)
        return minimise(objective, start, max_steps=1)

    monkeypatch.setattr("runtime.pack.exits.heads.minimise", hasty)
    rng = np.random.default_rng(0)
    for width, classes in ((5, 3), (99, 1000), (999, 500)):
        features = rng.normal(size=(80, width))
        fit_classifier(features, np.full((80, classes), 1.0 / classes), np.arange(80) % 2, (0.01,))
    assert asked == [300, 300, 300, 250, 250, 125, 50, 50, 40]
