"""How far one family of manoeuvres covers the held arc: the union of what each is clear for, gap by gap."""

import math

from shield.backup.at_once import AtOnce
from shield.backup.clear import first_hit
from shield.backup.cover import Clear, best_from
from shield.backup.family import Family
from shield.backup.gaps import TurnsOf
from shield.backup.many import first_hits
from shield.backup.passive import cover_moving
from shield.backup.question import MARGIN_M, Cover, Question, grown
from shield.backup.still import at_once, blocked_of_each, clear_of, name_of
from shield.events import Arc
from shield.manoeuvre import Manoeuvre

TURNS_AT_MOST = 64
"""Full turns of the held arc that one certificate lists; a longer hold is cut off there."""


def cover_from(question: Question, start: float, end: float, elapsed_s: float = 0.0) -> Cover:
    """Return the cover of [start, end] by the family of a way of `end` metres.

    Args:
        question: The state's question.
        start: Where on the held arc the cover begins [m].
        end: Where it need not go on [m].
        elapsed_s: Moving obstacles only: how long they have moved when a manoeuvre starts [s].
    """
    family = question.family_of.after(end)
    if not family.sweeps:
        return Cover(start, [], {}, f"bound:{family.missing}")
    end = min(end, TURNS_AT_MOST * 2.0 * math.pi * family.l_r_m / max(abs(math.sin(question.beta_rad)), 1e-300))
    # A grain longer, so that taking the same terms off again cannot end a hair before `end`.
    along = question.along_m + question.vehicle.bounds.odometry_drift * end
    length = end + family.delay_m + along + MARGIN_M
    arc = Arc(question.beta_rad, family.l_r_m, length)
    together = at_once(question, family, arc)
    limit, limit_cause = _held_limit(question, family, arc, end, elapsed_s, together)
    stop = "" if limit >= end else f"obstacle:{limit_cause}"
    if limit <= start:
        return Cover(start, [], {}, stop)
    # Nothing beyond what is driven at most matters, nor, where every turn of the arc is like the first, beyond that.
    closes = arc.period if start == 0.0 and along == 0.0 and not question.speeds else math.inf
    asked = min(limit, closes + MARGIN_M)
    if asked < end:
        length = asked + family.delay_m + along + MARGIN_M
        arc = Arc(question.beta_rad, family.l_r_m, length)
    if question.speeds:
        return cover_moving(question, family, arc, (start, limit, stop), along, length, elapsed_s)
    clear: list[list[Clear]] = []
    until: dict[Manoeuvre, float] = {}
    names: list[Manoeuvre] = []
    for sweep, blocked_here in blocked_of_each(question, family, arc, length, together):
        stretches = clear_of(question, family, arc, sweep, blocked_here, along, length)
        clear.append(stretches)
        names.append(sweep.manoeuvre)
        for first, last, _ in stretches:
            if first <= start <= last:
                until[sweep.manoeuvre] = limit if last >= asked else last
                if last >= asked:
                    return Cover(limit, [(sweep.manoeuvre, start, limit)], until, stop)
    turns = TurnsOf(question, family, arc, along, length) if family.turns else None
    at, cause = start, -1
    pieces: list[tuple[Manoeuvre, float, float]] = []
    while at < limit:
        best, reached, why = best_from(clear, at)
        if best < 0 and turns is not None:
            # Dearer to evaluate, so asked only where nothing else goes on, and only up to where something else does.
            for manoeuvre, stretches in turns.beyond(clear, at, asked):
                names.append(manoeuvre)
                clear.append(stretches)
            best, reached, why = best_from(clear, at)
        if best < 0:
            break
        begin = pieces.pop()[1] if pieces and pieces[-1][0] is names[best] else at
        pieces.append((names[best], begin, min(reached, limit)))
        at, cause = reached, why
        if at >= closes:
            # One whole turn of the arc is covered, and what covers it comes round again.
            pieces = _repeated(pieces, arc.period, at, limit)
            at = limit
    if at >= limit:
        return Cover(limit, pieces, until, stop)
    return Cover(at, pieces, until, name_of(question, clear, arc, at, cause))


def _repeated(
    pieces: list[tuple[Manoeuvre, float, float]], period: float, at: float, limit: float
) -> list[tuple[Manoeuvre, float, float]]:
    """Return pieces of [0, limit]: those given, which cover [0, at] with at >= period, again and again."""
    every = list(pieces)
    turn = 1
    while at < limit:
        for manoeuvre, _, end in pieces:
            last = min(end + turn * period, limit)
            if last > at:
                every.append((manoeuvre, at, last))
                at = last
        turn += 1
    return every


def _held_limit(
    question: Question, family: Family, arc: Arc, end: float, elapsed_s: float, together: AtOnce | None
) -> tuple[float, int]:
    pad, delay = family.held_pad_m, family.delay_m
    if together is not None or question.speeds:
        if together is None:
            x, y, radius = question.columns()
            hits = first_hits(arc, x, y, grown(question, radius + pad, elapsed_s))
        else:
            hits = together.hits
        index = int(hits.argmin())
        limit = float(hits[index]) - delay
        return (limit, index) if limit < end else (end, -1)
    limit, cause = end, -1
    for index, (ox, oy, dilated) in enumerate(question.bodies):
        hit = first_hit(arc, ox, oy, dilated + pad) - delay
        if hit < limit:
            limit, cause = hit, index
    return limit, cause
