"""Minimise a smooth convex function by L-BFGS with backtracking; as much as fitting a linear head needs.

Reference: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithms 7.4 and 7.5; Hager and Zhang, SIAM Journal on
Optimization 16 (2005), approximate Wolfe condition.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Objective = Callable[[Floats], tuple[float, Floats]]

_MEMORY = 10
_ARMIJO = 1e-4
_CURVATURE = 1e-10
_ROUNDING = 1e-12  # relative


def minimise(objective: Objective, start: Floats, *, gradient_tolerance: float = 1e-6, max_steps: int = 300) -> Floats:
    """Return a point whose gradient is at most `gradient_tolerance` in every entry, or the last of `max_steps`.

    Args:
        objective: Returns value and gradient at a point of shape (d,).
        start: Where to begin, shape (d,).
    """
    point = start.copy()
    value, gradient = objective(point)
    pairs: deque[tuple[Floats, Floats]] = deque(maxlen=_MEMORY)
    for _ in range(max_steps):
        if np.abs(gradient).max() <= gradient_tolerance:
            break
        direction = -_inverse_hessian_times(gradient, pairs)
        slope = float(gradient @ direction)
        length = 1.0 if pairs else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
        while True:
            trial = point + length * direction
            trial_value, trial_gradient = objective(trial)
            if _enough(value, slope, trial_value, float(trial_gradient @ direction), length):
                break
            length *= 0.5
            if length < 1e-12:  # the value can't be told from rounding any more
                return point
        moved, turned = trial - point, trial_gradient - gradient
        if float(moved @ turned) > _CURVATURE * float(np.linalg.norm(moved) * np.linalg.norm(turned)):
            pairs.append((moved, turned))
        point, value, gradient = trial, trial_value, trial_gradient
    return point


def _enough(value: float, slope: float, trial_value: float, trial_slope: float, length: float) -> bool:
    """Whether a trial went down enough; by its slope where values can't be told apart any more (Hager and Zhang)."""
    if trial_value <= value + _ARMIJO * length * slope:
        return True
    return trial_value <= value + _ROUNDING * abs(value) and trial_slope <= (2.0 * _ARMIJO - 1.0) * slope


def _inverse_hessian_times(gradient: Floats, pairs: "deque[tuple[Floats, Floats]]") -> Floats:
    """Return the two-loop recursion's product."""
    q = gradient.copy()
    weights = []
    for moved, turned in reversed(pairs):
        weight = float(moved @ q) / float(moved @ turned)
        weights.append(weight)
        q -= weight * turned
    if pairs:
        moved, turned = pairs[-1]
        q *= float(moved @ turned) / float(turned @ turned)
    for (moved, turned), weight in zip(pairs, reversed(weights), strict=True):
        q += moved * (weight - float(turned @ q) / float(moved @ turned))
    return q
