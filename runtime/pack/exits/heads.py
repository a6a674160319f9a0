"""Heads fitted on pooled features by distillation from the final answer, no label needed.

Classification: multinomial logistic regression on the final answer's probabilities P,
    min over W, b of  -1/n sum P ln softmax(z W + b) + strength/2 |W|^2,   z the standardised features.
Regression: ridge regression on the final answer, in units of the tolerance, and an error head, ridge regression of
ln(error / tolerance) on (z, z^2), whose confidence is 1 / (1 + predicted error / tolerance): 1/2 means an expected
deviation of just the tolerance.

L-BFGS takes up to 300 steps, fewer, down to 40, where they are dear: with 1 000 classes the first 40 already give the
out-of-fold agreement of 300 to within its noise, and what stays undone acts as a stronger penalty.

What heads say about the very samples they were fitted on flatters them. Every fit therefore also returns what heads
fitted without a sample's fold say about it; the penalty's strength, the error head's targets and the path of thresholds
come from those.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.pack.exits.minimise import minimise
from runtime.pack.exits.scores import log_softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_LEAST_ERROR = 1e-3  # of the tolerance: smaller errors are all alike
_LOGISTIC_MACS = 2e9  # of a fit, as far as it takes more than _LEAST_STEPS
_LEAST_STEPS, _MOST_STEPS = 40, 300
_Fit = Callable[[Floats, Floats, float], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Linear:
    """(x - mean) / scale W + b.

    Args:
        mean, scale: Of the features, shape (D,).
        weight: W, shape (D, K).
        bias: b, shape (K,).
    """

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    def standardised(self, features: Floats) -> Floats:
        """Return z of features (n, D)."""
        return (features - self.mean) / self.scale

    def __call__(self, features: Floats) -> Floats:
        """Return the outputs (n, K) for features (n, D)."""
        return np.asarray(self.standardised(features) @ self.weight + self.bias)


@dataclass(frozen=True)
class ClassifierHead:
    """Logits by a linear map."""

    logits: Linear


@dataclass(frozen=True)
class RegressorHead:
    """Values by a linear map, ln(error / tolerance) by another on (z, z^2)."""

    values: Linear
    error: Linear

    def confidence(self, features: Floats) -> Floats:
        """Return 1 / (1 + predicted error / tolerance), shape (n,)."""
        z = self.values.standardised(features)
        return confidence_of_error(self.error(np.concatenate([z, z * z], axis=1))[:, 0])


def confidence_of_error(log_error: Floats) -> Floats:
    """Return 1 / (1 + exp(log_error))."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(log_error, -50.0, 50.0))))


def fit_classifier(
    features: Floats, targets: Floats, folds: Ints, strengths: tuple[float, ...]
) -> tuple[ClassifierHead, Floats]:
    """Return a head and its out-of-fold logits (n, C).

    Args:
        features: Pooled features, shape (n, D).
        targets: Class probabilities of the final answer, shape (n, C).
        folds: Fold of each sample, shape (n,).
        strengths: Penalties to choose from, by out-of-fold cross-entropy.
    """

    def loss(logits: Floats) -> float:
        return -float((targets * log_softmax(logits)).sum(axis=1).mean())

    head, out_of_fold = _best(features, targets, folds, strengths, _logistic, loss)
    return ClassifierHead(head), out_of_fold


def fit_regressor(
    features: Floats, targets: Floats, tolerance: Floats, folds: Ints, strengths: tuple[float, ...]
) -> tuple[RegressorHead, Floats, Floats]:
    """Return a head, its out-of-fold values (n, C) and its out-of-fold confidences (n,).

    Args:
        features: Pooled features, shape (n, D).
        targets: Final answers, shape (n, C).
        tolerance: Largest deviation by column, shape (C,).
        folds: Fold of each sample, shape (n,).
        strengths: Penalties to choose from, by out-of-fold squared error.
    """

    def squared(wanted: Floats) -> Callable[[Floats], float]:
        return lambda given: float(((given - wanted) ** 2).mean())

    scaled, out_of_fold = _best(features, targets / tolerance, folds, strengths, _ridge, squared(targets / tolerance))
    values = Linear(scaled.mean, scaled.scale, scaled.weight * tolerance, scaled.bias * tolerance)
    error = np.abs(out_of_fold - targets / tolerance).max(axis=1, keepdims=True)
    log_error = np.log(np.maximum(error, _LEAST_ERROR))
    z = values.standardised(features)
    doubled = np.concatenate([z, z * z], axis=1)
    error_head, error_out_of_fold = _best(doubled, log_error, folds, strengths, _ridge, squared(log_error))
    return (
        RegressorHead(values, error_head),
        out_of_fold * tolerance,
        confidence_of_error(error_out_of_fold[:, 0]),
    )


def _best(
    features: Floats,
    targets: Floats,
    folds: Ints,
    strengths: tuple[float, ...],
    fit: _Fit,
    loss: Callable[[Floats], float],
) -> tuple[Linear, Floats]:
    """Return the map fitted with the strength of least out-of-fold loss, and its out-of-fold outputs."""
    candidates = []
    for strength in strengths:
        outputs = np.empty_like(targets)
        for fold in np.unique(folds):
            held = folds == fold
            outputs[held] = _linear(features[~held], targets[~held], strength, fit)(features[held])
        candidates.append((loss(outputs), strength, outputs))
    _, strength, outputs = min(candidates, key=lambda candidate: candidate[0])
    return _linear(features, targets, strength, fit), outputs


def _linear(features: Floats, targets: Floats, strength: float, fit: _Fit) -> Linear:
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6 * (1.0 + np.abs(mean)), scale, 1.0)  # a feature that is always the same says nothing
    weight, bias = fit((features - mean) / scale, targets, strength)
    return Linear(mean, scale, weight, bias)


def _logistic(z: Floats, targets: Floats, strength: float) -> tuple[Floats, Floats]:
    n, classes = targets.shape
    ones = np.concatenate([z, np.ones((n, 1))], axis=1)

    def objective(point: Floats) -> tuple[float, Floats]:
        matrix = point.reshape(-1, classes)
        logs = log_softmax(ones @ matrix)
        penalised = matrix[:-1]
        value = -float((targets * logs).sum()) / n + 0.5 * strength * float((penalised * penalised).sum())
        gradient = ones.T @ (np.exp(logs) - targets) / n
        gradient[:-1] += strength * penalised
        return value, gradient.ravel()

    steps = int(_LOGISTIC_MACS / (2.0 * ones.size * classes))
    start = np.zeros(ones.shape[1] * classes)
    matrix = minimise(objective, start, max_steps=min(max(steps, _LEAST_STEPS), _MOST_STEPS)).reshape(-1, classes)
    return matrix[:-1], matrix[-1]


def _ridge(z: Floats, targets: Floats, strength: float) -> tuple[Floats, Floats]:
    """Return the minimum of 1/n |z W + b - Y|^2 + strength |W|^2, by the smaller of the two normal systems."""
    n, width = z.shape
    bias = targets.mean(axis=0)  # z is centred
    rest = targets - bias
    if width <= n:
        return np.linalg.solve(z.T @ z + n * strength * np.eye(width), z.T @ rest), bias
    return z.T @ np.linalg.solve(z @ z.T + n * strength * np.eye(n), rest), bias
