"""Confidence scores of a classifier's logits z, larger meaning surer.

    p = softmax(z / T)
    max_probability   max p
    margin            p_(1) - p_(2), the two largest
    entropy           1 - H(p) / ln C,  H(p) = -sum p ln p
    energy            T logsumexp(z / T), the negative of the free energy -T logsumexp(z / T)
    window            p of the second of two classes; the walk goes on only while low < p < high

All but energy lie within 0..1.

Reference: Liu et al., Energy-based out-of-distribution detection, NeurIPS 2020 (energy); Wang et al., IDK cascades,
arXiv 1706.00885 (going on by confidence).
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Score(StrEnum):
    """Which score an exit's confidence is."""

    MAX_PROBABILITY = "max-probability"
    MARGIN = "margin"
    ENTROPY = "entropy"
    ENERGY = "energy"
    WINDOW = "window"


def log_softmax(logits: Floats) -> Floats:
    """Return z - logsumexp(z) of each row, shape (n, C)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax(logits: Floats) -> Floats:
    """Return exp(z) / sum exp(z) of each row, shape (n, C)."""
    return np.asarray(np.exp(log_softmax(logits)))


def max_probability(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return the largest probability of each row (n, C), shape (n,)."""
    return np.asarray(softmax(logits / temperature).max(axis=1))


def margin(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return the distance of each row's two largest probabilities, shape (n,)."""
    ordered = np.sort(softmax(logits / temperature), axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def entropy(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return 1 - H(p) / ln C of each row, shape (n,)."""
    logs = log_softmax(logits / temperature)
    return np.asarray(1.0 + (np.exp(logs) * logs).sum(axis=1) / np.log(logits.shape[1]))


def energy(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return T logsumexp(z / T) of each row, shape (n,)."""
    scaled = logits / temperature
    top = scaled.max(axis=1)
    return np.asarray(temperature * (top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))))


def second_class(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return the probability of the second of two classes, shape (n,)."""
    return softmax(logits / temperature)[:, 1]


_FUNCTIONS = {
    Score.MAX_PROBABILITY: max_probability,
    Score.MARGIN: margin,
    Score.ENTROPY: entropy,
    Score.ENERGY: energy,
    Score.WINDOW: second_class,
}


def confidence(score: Score, logits: Floats, temperature: float = 1.0) -> Floats:
    """Return the chosen score of each row of logits (n, C), shape (n,).

    Raises:
        ValueError: Fewer than two classes, a window over more than two, or a temperature that is not positive.
    """
    check_score(score, logits.shape[1], temperature)
    return _FUNCTIONS[score](logits, temperature)


def check_score(score: Score, classes: int, temperature: float) -> None:
    """Refuse a score that the number of classes or the temperature makes meaningless.

    Raises:
        ValueError: Fewer than two classes, a window over more than two, or a temperature that is not positive.
    """
    if classes < 2:
        raise ValueError(f"classes = {classes}: a confidence needs at least 2")
    if score is Score.WINDOW and classes != 2:
        raise ValueError(f"score {score} over {classes} classes: a window needs exactly 2")
    if not 0.0 < temperature < float("inf"):
        raise ValueError(f"temperature = {temperature}: must be positive and finite")
