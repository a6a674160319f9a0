"""How good answers are: errors per output, within tolerance or not, and thresholds for leaving early.

An answer is within tolerance when all six are: |error| at most TOLERANCE, presence on the right side of one half;
bearing and range (relative) count where an obstacle is present.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from carla_bridge.answers import ANSWER_NAMES

Floats = NDArray[np.float64]

LANE, HEADING, CURVATURE, PRESENCE, BEARING, RANGE = range(6)
TOLERANCE = (0.3, 0.03, 0.005, 0.5, 0.04, 0.12)


def within_tolerance(answers: Floats, truth: Floats) -> NDArray[np.bool_]:
    """Return for each answer (n, 6) whether every output is good enough, shape (n,)."""
    error = np.abs(answers - truth)
    error[:, RANGE] /= truth[:, RANGE]
    good = error <= np.array(TOLERANCE)
    good[truth[:, PRESENCE] < 0.5, BEARING:] = True
    return np.asarray(good.all(axis=1))


def score(answers: Floats, truth: Floats) -> dict[str, float]:
    """Return mean absolute errors, presence as accuracy and area under the curve, and the share within tolerance."""
    present = truth[:, PRESENCE] > 0.5
    errors = np.abs(answers - truth)
    table = {name: float(errors[:, i].mean()) for i, name in enumerate(ANSWER_NAMES) if i < PRESENCE}
    table["presence_accuracy"] = float(((answers[:, PRESENCE] > 0.5) == present).mean())
    table["presence_auc"] = area_under_curve(answers[:, PRESENCE], present)
    table.update({ANSWER_NAMES[i]: float(errors[present, i].mean()) for i in (BEARING, RANGE)})
    table["within_tolerance"] = float(within_tolerance(answers, truth).mean())
    return {key: round(value, 5) for key, value in table.items()}


def area_under_curve(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """Return the chance that a true case scores above a false one, ties counting half (Mann-Whitney)."""
    _, group, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - 0.5 * (counts - 1))[group]
    positives, negatives = int(labels.sum()), int((~labels).sum())
    return float((rank[labels].sum() - 0.5 * positives * (positives + 1)) / (positives * negatives))


def fit_logistic(logits: Floats, good: NDArray[np.bool_], steps: int = 50) -> tuple[float, float]:
    """Return (slope, shift) for which sigmoid(slope * logit + shift) is likeliest for `good` (Platt, by Newton)."""
    design = np.column_stack([logits, np.ones_like(logits)])
    weights = np.array([1.0, 0.0])
    for _ in range(steps):
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -30.0, 30.0)))
        gradient = design.T @ (chance - good)
        curvature = (design * (chance * (1.0 - chance))[:, None]).T @ design + 1e-6 * np.eye(2)
        weights -= np.linalg.solve(curvature, gradient)
    return float(weights[0]), float(weights[1])


def choose_threshold(
    confidence: Floats, good_here: NDArray[np.bool_], good_last: NDArray[np.bool_], slack: float
) -> float:
    """Return the least threshold at which leaving here loses at most `slack` of all good answers.

    What is lost when the k most confident leave: the share of answers that are good at the last exit, less the share
    that are good here, among those k. Returns 1.0, at which none leaves, where even the most confident lose too much.
    """
    order = np.argsort(-confidence)
    lost = np.cumsum(good_last[order].astype(int) - good_here[order].astype(int)) / max(1, len(order))
    enough = np.flatnonzero(lost <= slack)
    return float(confidence[order[enough[-1]]]) if len(enough) else 1.0


def leave_at(confidences: Sequence[Floats], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Return the exit each answer leaves at, shape (n,): the first that is confident enough, else the last."""
    leaves = np.full(len(confidences[0]), len(confidences) - 1)
    for index in range(len(confidences) - 2, -1, -1):
        leaves[confidences[index] >= thresholds[index]] = index
    return leaves
