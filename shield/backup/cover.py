"""From blocked stretches to a certificate: complement, shrink, unite, first gap.

A manoeuvre that is due at s may take effect anywhere in [s, s + delta], and the place is known to within e, so its clear
stretch [a, b] counts as [a + e, b - delta - e]. This shrinking comes before the union over manoeuvres: what is clear for
one manoeuvre at s and for another at s + delta is clear for neither in between, and taking delta off the union's end
afterwards has been seen too long by up to 39 m.
"""

from collections.abc import Iterable

Cause = int
"""Index of the obstacle that ends a stretch; -1 when it ends with the question."""

Clear = tuple[float, float, Cause]
Blocked = tuple[float, float, Cause]


def clear_stretches(blocked: Iterable[Blocked], length: float, before: float, after: float) -> list[Clear]:
    """Return the stretches of [0, length] outside every blocked one, shrunk, each with what ends it.

    Args:
        blocked: (start, end, obstacle) [m], in any order, overlapping or not.
        length: End of the question [m].
        before: What comes off the start of each [m]; the arc's own start is known exactly and loses nothing.
        after: What comes off the end of each [m].
    """
    stretches: list[Clear] = []
    at = 0.0
    for start, end, cause in sorted(blocked):
        if start > at:
            _append(stretches, at, start, cause, before, after)
        if end > at:
            at = end
    if at < length:
        _append(stretches, at, length, -1, before, after)
    return stretches


def _append(stretches: list[Clear], start: float, end: float, cause: Cause, before: float, after: float) -> None:
    first = start + before if start > 0.0 else 0.0
    last = end - after
    if last > first:
        stretches.append((first, last, cause))


def reach_of(
    clear: list[list[Clear]], start: float, limit: float
) -> tuple[float, list[tuple[int, float, float]], Cause]:
    """Return how far from `start` the union of the manoeuvres' clear stretches goes without a gap, at most to `limit`.

    Args:
        clear: Per manoeuvre, its shrunk clear stretches in order.
        start: Where the cover begins [m].
        limit: Where it need not go on [m].
    Returns:
        The end of the cover [m]; its pieces (manoeuvre, start [m], end [m]); the obstacle that ends it, -1 for none.
    """
    at, cause = start, -1
    pieces: list[tuple[int, float, float]] = []
    while at < limit:
        best, best_end, best_cause = -1, at, cause
        for index, stretches in enumerate(clear):
            for first, last, why in stretches:
                if first > at:
                    break
                if last > best_end:
                    best, best_end, best_cause = index, last, why
        if best < 0:
            break
        pieces.append((best, at, min(best_end, limit)))
        at, cause = best_end, best_cause
    return min(at, limit), pieces, cause
