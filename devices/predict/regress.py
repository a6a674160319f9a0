"""Regressions of latency on features.

Times and sizes span orders of magnitude and errors are judged relative, so all of them work on logarithms:

    FlopsOnly   log t = a + b log(features[0])                        the baseline that others must beat
    LogLinear   log t = w . (1, log(1 + features)), ridge
    Boosted     the same, and gradient-boosted trees on what is left
    Adapted     another device's predictor, its log time corrected by a ridge on few samples of this one

Features are not negative; the first is the number of operations.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from devices.errors import ProfileError

Floats = npt.NDArray[np.float64]
RIDGE = 1e-2
_TREES = {"n_estimators": 300, "max_depth": 4, "learning_rate": 0.05, "subsample": 0.7, "min_samples_leaf": 3}


class Predictor(Protocol):
    """Predicts times from features."""

    def predict(self, features: Floats) -> Floats:
        """Return the time of each row of features [s]."""
        ...


class FlopsOnly:
    """A power law of the number of operations.

    Args:
        features: Shape (n, d); the first column counts operations.
        times_s: Shape (n,) [s].
    Raises:
        ProfileError: There are fewer than two samples, or a time or feature makes no sense.
    """

    def __init__(self, features: Floats, times_s: Floats) -> None:
        features, times_s = _checked(features, times_s)
        columns = np.stack([np.ones(len(features)), np.log1p(features[:, 0])], axis=1)
        self._weights = np.linalg.lstsq(columns, np.log(times_s), rcond=None)[0]

    def predict(self, features: Floats) -> Floats:
        """Return the time of each row of features [s]."""
        times_s: Floats = np.exp(self._weights[0] + self._weights[1] * np.log1p(np.asarray(features)[:, 0]))
        return times_s


class LogLinear:
    """Ridge regression on logarithms.

    Args:
        features: Shape (n, d).
        times_s: Shape (n,) [s].
        ridge: Weight of the penalty, per sample.
    Raises:
        ProfileError: There are fewer than two samples, or a time or feature makes no sense.
    """

    def __init__(self, features: Floats, times_s: Floats, ridge: float = RIDGE) -> None:
        features, times_s = _checked(features, times_s)
        self._fit = _Ridge(np.log1p(features), np.log(times_s), ridge)

    def predict(self, features: Floats) -> Floats:
        """Return the time of each row of features [s]."""
        times_s: Floats = np.exp(self._fit(np.log1p(features)))
        return times_s


class Boosted:
    """A log-linear fit and gradient-boosted trees on its residuals; needs scikit-learn.

    Args:
        features: Shape (n, d).
        times_s: Shape (n,) [s].
        seed: Seed of the trees.
    Raises:
        ProfileError: There are fewer than two samples, a value makes no sense, or scikit-learn is not installed.
    """

    def __init__(self, features: Floats, times_s: Floats, seed: int = 0) -> None:
        features, times_s = _checked(features, times_s)
        self._linear = LogLinear(features, times_s)
        left = np.log(times_s) - np.log(self._linear.predict(features))
        self._trees = _ensemble().GradientBoostingRegressor(random_state=seed, **_TREES).fit(np.log1p(features), left)

    def predict(self, features: Floats) -> Floats:
        """Return the time of each row of features [s]."""
        times_s: Floats = self._linear.predict(features) * np.exp(self._trees.predict(np.log1p(features)))
        return times_s


class Adapted:
    """A predictor of another device, corrected on few samples of this one.

    The correction of the log time is a ridge on the features and on the other's log time; its penalty shrinks it to a
    constant factor, which is all that a single sample can tell.

    Args:
        other: The other device's predictor.
        features: Shape (k, d).
        times_s: Shape (k,), this device's [s].
        ridge: Weight of the penalty, per sample.
    Raises:
        ProfileError: There is no sample, or a value makes no sense.
    """

    def __init__(self, other: Predictor, features: Floats, times_s: Floats, ridge: float = 0.3) -> None:
        features, times_s = _checked(features, times_s, least=1)
        self._other = other
        left = np.log(times_s) - np.log(other.predict(features))
        self._fit = _Ridge(self._columns(features), left, ridge)

    def predict(self, features: Floats) -> Floats:
        """Return the time of each row of features [s]."""
        times_s: Floats = self._other.predict(features) * np.exp(self._fit(self._columns(features)))
        return times_s

    def _columns(self, features: Floats) -> Floats:
        return np.column_stack([np.log(self._other.predict(features)), np.log1p(features)])


class _Ridge:
    """y = b + w . (x - mean) / deviation, with a penalty on w alone."""

    def __init__(self, columns: Floats, targets: Floats, ridge: float) -> None:
        self._mean = columns.mean(axis=0)
        deviation = columns.std(axis=0)
        self._scale = np.where(deviation > 1e-9, deviation, np.inf)  # a column without variation tells nothing
        self._offset = targets.mean()
        scaled = (columns - self._mean) / self._scale
        gram = scaled.T @ scaled + ridge * len(columns) * np.eye(scaled.shape[1])
        self._weights = np.linalg.solve(gram, scaled.T @ (targets - self._offset))

    def __call__(self, columns: Floats) -> Floats:
        made: Floats = self._offset + (columns - self._mean) / self._scale @ self._weights
        return made


def relative_errors(predicted_s: Floats, measured_s: Floats) -> Floats:
    """Return |predicted - measured| / measured."""
    errors: Floats = np.abs(predicted_s - measured_s) / measured_s
    return errors


def _checked(features: Sequence[Any] | Floats, times_s: Floats, least: int = 2) -> tuple[Floats, Floats]:
    table, times = np.asarray(features, dtype=np.float64), np.asarray(times_s, dtype=np.float64)
    if table.ndim != 2 or times.shape != table.shape[:1]:
        raise ProfileError(f"features of shape {table.shape} don't fit times of shape {times.shape}")
    if len(times) < least:
        raise ProfileError(f"{len(times)} samples are too few to fit a prediction: at least {least}")
    if not (np.isfinite(table).all() and (table >= 0.0).all()):
        raise ProfileError("features must be finite and not negative")
    if not (np.isfinite(times).all() and (times > 0.0).all()):
        raise ProfileError("times must be finite and positive")
    return table, times


def _ensemble() -> Any:
    try:
        return import_module("sklearn.ensemble")
    except ImportError as error:
        raise ProfileError("scikit-learn is not installed: pip install 'headway[predict]'") from error
