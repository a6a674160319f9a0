"""The path of threshold settings that the certificate is looked for on, made without the certifying samples.

It begins with every gate closed. Of all ways to open one gate further, by any number of levels, the one that saves most
work per disagreement it adds, (saving) / (added disagreements + 1/2), is gone next, level by level. So settings that
are likely to hold come first, gates of a poor exit open last and those that save nothing never; looking several levels
ahead keeps one unlucky sample from closing a good exit. Every step only opens: the sets of samples that leave are
nested along the path.
"""

import numpy as np

from runtime.pack.exits.evidence import Evidence, Floats, Ints

LEVELS = 100


def make_path(design: Evidence, levels: int = LEVELS) -> Floats:
    """Return the thresholds at each step, shape (steps, G), the first row infinite.

    Args:
        design: Samples other than those that will certify.
        levels: Thresholds tried of each gate, evenly spaced quantiles of its scores.
    Raises:
        ValueError: levels is below 1.
    """
    if levels < 1:
        raise ValueError(f"levels = {levels}: must be at least 1")
    ladders = [_ladder(scores, levels) for scores in design.scores]
    opens = np.stack([_first_level(scores, ladder) for scores, ladder in zip(design.scores, ladders, strict=True)])
    state = np.zeros(len(ladders), np.int64)
    rows = [[ladder[0] for ladder in ladders]]
    while (stretch := _best_stretch(design, opens, state)) is not None:
        gate, stops = stretch
        for level in stops:
            state[gate] = level
            rows.append([ladder[level] for ladder, level in zip(ladders, state, strict=True)])
    return np.array(rows, np.float64)


def _ladder(scores: Floats, levels: int) -> Floats:
    """Return falling thresholds: infinity, then the distinct quantiles down to the least score.

    They are float32 numbers, as confidences are, so that a threshold means the same in a package file and in a graph.
    """
    quantiles = np.quantile(scores, 1.0 - np.arange(1, levels + 1) / levels, method="lower")
    rounded = quantiles.astype(np.float32)
    below = np.where(rounded > quantiles, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    return np.concatenate([[np.inf], np.unique(below)[::-1].astype(np.float64)])


def _first_level(scores: Floats, ladder: Floats) -> Ints:
    """Return the first level of a falling ladder whose threshold lets each score pass; the last lets all pass."""
    return np.searchsorted(-ladder, -scores, side="left").astype(np.int64)


def _best_stretch(design: Evidence, opens: Ints, state: Ints) -> tuple[int, Ints] | None:
    """Return the gate to open and the levels to open it to in turn; None if no gate can save anything more."""
    leaves, loss, cost = _outcome(design, opens, state)
    best, best_worth = None, 0.0
    for gate, exit_index in enumerate(design.gates):
        levels = np.unique(opens[gate][leaves > exit_index])  # where some sample leaves earlier than it does now
        for count, level in enumerate(levels, start=1):
            trial = state.copy()
            trial[gate] = level
            _, trial_loss, trial_cost = _outcome(design, opens, trial)
            worth = (cost - trial_cost) / (trial_loss - loss + 0.5)
            if worth > best_worth:
                best, best_worth = (gate, levels[:count]), worth
    return best


def _outcome(design: Evidence, opens: Ints, state: Ints) -> tuple[Ints, int, float]:
    """Return where samples leave, disagreements and total work with gate g opened to level state[g]."""
    confident = np.zeros(design.differs.shape, bool)
    for gate, exit_index in enumerate(design.gates):
        confident[exit_index] |= opens[gate] <= state[gate]
    leaves = np.where(confident.any(axis=0), confident.argmax(axis=0), design.exits).astype(np.int64)
    return leaves, int((confident & design.differs).any(axis=0).sum()), float(design.costs[leaves].sum())
