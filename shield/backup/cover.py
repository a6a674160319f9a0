"""From blocked stretches to a certificate: complement, shrink, unite, first gap.

A manoeuvre that is due at s may take effect anywhere in [s, s + delta], and the place is known to within e, so its
clear stretch [a, b] counts as [a + e, b - delta - e]. This shrinking comes before the union over manoeuvres: what is
clear for one manoeuvre at s and for another at s + delta is clear for neither in between, and taking delta off the
union's end afterwards has been seen too long by up to 39 m.
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


def best_from(clear: list[list[Clear]], at: float) -> tuple[int, float, Cause]:
    """Return the manoeuvre whose clear stretch around `at` goes farthest, its end and what ends it; -1 for none."""
    best, end, cause = -1, at, -1
    for index, stretches in enumerate(clear):
        for first, last, why in stretches:
            if first > at:
                break
            if last > end:
                best, end, cause = index, last, why
    return best, end, cause
