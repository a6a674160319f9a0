"""How far braking manoeuvres cover the held arc among moving obstacles.

Whole braking paths, grown as if everything moved until rest, come first. Where that leaves a gap which a look at a few
places does not show to be hopeless, the paths of the most promising manoeuvre are cut finer (`shield.backup.moving`).
"""

import math

import numpy as np

from shield.backup.cover import Clear, best_from
from shield.backup.family import Family
from shield.backup.many import seen_from
from shield.backup.moving import Braking
from shield.backup.question import Cover, Question, grown
from shield.backup.still import clear_of, name_of
from shield.events import Arc
from shield.manoeuvre import Manoeuvre

PLACES = np.concatenate(([1e-3, 1e-2], np.linspace(0.1, 0.9, 9), [0.99, 0.999]))
"""Where in a gap between braking manoeuvres it is seen whether finer pieces can close it, as shares of its length."""

STARTS = np.array([0.0, 0.5, 1.0])
"""Where between a place and the last moment of a switch that is due there it is looked, as shares."""


def cover_moving(
    question: Question,
    family: Family,
    arc: Arc,
    within: tuple[float, float, str],
    along: float,
    length: float,
    elapsed_s: float,
) -> Cover:
    """Return the cover by braking manoeuvres among moving obstacles; `within` is start, limit and what stops there.

    The first gap is looked at again with the braking paths cut finer, until it closes or cannot.
    """
    start, limit, stop = within
    x, y, radius = question.columns()
    deceleration = question.vehicle.deceleration_mps2 or math.inf
    brakings: list[Braking] = []
    clear: list[list[Clear]] = []
    for sweep in family.sweeps:
        bodies = (x, y, grown(question, radius + sweep.pad_m, elapsed_s))
        braking = Braking(
            question.beta_rad,
            family.l_r_m,
            length,
            sweep,
            bodies,
            np.array(question.speeds),
            (deceleration, family.speed_mps),
        )
        brakings.append(braking)
        clear.append(clear_of(question, family, arc, sweep, braking.blocked(), along, length))
        if any(first <= start and last >= limit for first, last, _ in clear[-1]):
            return Cover(limit, [(sweep.manoeuvre, start, limit)], _until(brakings, clear, start, limit), stop)
    after = family.delay_m + along
    while True:
        pieces, at, cause = _walk(brakings, clear, start, limit)
        if at >= limit:
            break
        gap_end = min([first for stretches in clear for first, _, _ in stretches if first > at], default=limit)
        gap_end = min(gap_end, limit)
        # A manoeuvre that is due at a place must be clear from there to where it may still start.
        due = at + (gap_end - at) * PLACES
        places = seen_from(arc, (due[:, None] + STARTS * after).reshape(-1, 1), x, y)
        hopes = [braking.hopeful(places).reshape(due.size, -1).all(axis=1) for braking in brakings]
        if not np.any(hopes, axis=0).all():
            break
        # The most promising first: often it is enough.
        order = sorted(range(len(brakings)), key=lambda index: -int(hopes[index].sum()))
        for index in order:
            if hopes[index].any() and brakings[index].cut(at - along, gap_end + after, question.levels):
                taken = brakings[index].blocked()
                clear[index] = clear_of(question, family, arc, family.sweeps[index], taken, along, length)
                break
        else:
            break
    until = _until(brakings, clear, start, limit)
    return Cover(at, pieces, until, stop if at >= limit else name_of(question, clear, arc, at, cause))


def _until(brakings: list[Braking], clear: list[list[Clear]], start: float, limit: float) -> dict[Manoeuvre, float]:
    """Return, of the manoeuvres that are clear at the start, up to where they stay so."""
    return {
        braking.sweep.manoeuvre: min(last, limit)
        for braking, stretches in zip(brakings, clear, strict=True)
        for first, last, _ in stretches
        if first <= start <= last
    }


def _walk(
    brakings: list[Braking], clear: list[list[Clear]], start: float, limit: float
) -> tuple[list[tuple[Manoeuvre, float, float]], float, int]:
    """Return the pieces that cover the arc from `start` on, where they end and what ends the last."""
    pieces: list[tuple[Manoeuvre, float, float]] = []
    at, cause = start, -1
    while at < limit:
        best, reached, why = best_from(clear, at)
        if best < 0:
            return pieces, at, cause
        pieces.append((brakings[best].sweep.manoeuvre, at, min(reached, limit)))
        at, cause = reached, why
    return pieces, limit, cause
