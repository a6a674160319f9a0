"""Turns that end in a straight line, asked for the gaps that other manoeuvres leave on the held arc.

They are dearer to evaluate than anything else (`shield.backup.turn`), so they are asked last: first for several gaps
at once whether one turn angle serves a whole gap, then, where that was not enough, closely from where nothing goes on.
"""

from shield.backup.cover import Clear, clear_stretches
from shield.backup.family import Family, Sweep
from shield.backup.question import Question
from shield.backup.still import blocked_by_obstacles, clear_of
from shield.backup.turn import CLOSED, HOP_M, Turns
from shield.events import Arc
from shield.manoeuvre import Manoeuvre

GAPS_AT_ONCE = 8
"""So many gaps between other manoeuvres are looked at together."""

OVERLAP_M = 1e-3
"""A turn followed by a straight is followed this far into what takes over [m], so that rounding leaves no gap."""


class TurnsOf:
    """The turns that end in a straight line, asked where no other manoeuvre goes on."""

    def __init__(self, question: Question, family: Family, arc: Arc, along: float, length: float) -> None:
        self.question, self.family, self.arc, self.length = question, family, arc, length
        self.before, self.after = along, family.delay_m + along
        self.searches: list[tuple[Turns, tuple[Sweep, ...]]] | None = None
        self.failed_at = -1.0

    def beyond(self, clear: list[list[Clear]], at: float, limit: float) -> list[tuple[Manoeuvre, list[Clear]]]:
        """Return further stretches of turns, among them, where there is one, one from `at` on.

        Args:
            clear: Stretches of everything asked so far.
            at: Where nothing known goes on [m].
            limit: Where the question ends [m].
        """
        if len(self.question.bodies) == 1:
            return self._of_one() if self.searches is None else []
        if self.searches is None:
            found = self._ahead(clear, at, limit)
            if any(first <= at < last for _, stretches in found for first, last, _ in stretches):
                return found
        else:
            found = []
        if at == self.failed_at:
            return found
        enough = min([first for stretches in clear for first, _, _ in stretches if first > at], default=limit)
        enough = min(enough, limit)
        return found + self._from(at, enough, limit)

    def _of_one(self) -> list[tuple[Manoeuvre, list[Clear]]]:
        """One obstacle alone: closed form over the whole arc."""
        self.searches = []
        answers = []
        for sweep in self.family.turns:
            taken = blocked_by_obstacles(self.question, self.family, self.arc, sweep, self.length)
            stretches = clear_of(self.question, self.family, self.arc, sweep, taken, self.before, self.length)
            answers.append((sweep.manoeuvre, stretches))
        return answers

    def _ahead(self, clear: list[list[Clear]], at: float, limit: float) -> list[tuple[Manoeuvre, list[Clear]]]:
        """Return the turns that a single look finds for whole gaps, this one and some that follow."""
        # Different sides may take turns within a gap only where the switch is at once.
        groups = [self.family.turns] if self.after == 0.0 else [(sweep,) for sweep in self.family.turns]
        x, y, radius = self.question.columns()
        self.searches = [
            (Turns(self.question.beta_rad, self.family.l_r_m, group, (x, y, radius), self.length), group)
            for group in groups
        ]
        gaps, last = _gaps(clear, at, limit)
        spans = [self._padded(*gap) for gap in gaps]
        found: list[tuple[Manoeuvre, list[Clear]]] = []
        if not spans:
            return found
        # Beyond them lies the gap that is often the end: whether anything is open where the first hop there would look.
        beyond = min(max(0.0, last - self.before) + HOP_M, self.length)
        closed = last < limit - HOP_M
        for search, group in self.searches:
            *answers, end = search.spans_clear([*spans, (beyond, beyond)])
            closed = closed and end == CLOSED
            for span, index in zip(spans, answers, strict=True):
                if index >= 0:
                    found.append((group[index].manoeuvre, self._shrunk(*span, -1)))
        if closed:
            self.failed_at = last
        return found

    def _from(self, at: float, enough: float, limit: float) -> list[tuple[Manoeuvre, list[Clear]]]:
        """Return the turns' stretches from `at` on, followed until `enough` or until none goes on."""
        found: list[tuple[Manoeuvre, list[Clear]]] = []
        begin, stop = self._padded(at, enough)
        if enough >= limit:  # nothing takes over
            stop = min(limit + self.after, self.length)
        for search, group in self.searches or []:
            hops, cause = search.until(begin, stop)
            start = begin
            for position, (index, end) in enumerate(hops):
                if position + 1 < len(hops) and hops[position + 1][0] == index:
                    continue
                found.append((group[index].manoeuvre, self._shrunk(start, end, cause)))
                start = end
            if start - self.after >= enough:
                break
            if self.after == 0.0:
                self.failed_at = start
        reached = max((last for _, stretches in found for first, last, _ in stretches if first <= at), default=at)
        if reached < min(enough, at + HOP_M):
            # Less than a hop from here: the next would be less still, and so on for ever.
            self.failed_at = reached
        return found

    def _padded(self, at: float, enough: float) -> tuple[float, float]:
        return max(0.0, at - self.before), min(enough + self.after + OVERLAP_M, self.length)

    def _shrunk(self, start: float, end: float, cause: int) -> list[Clear]:
        taken = [(0.0, start, cause), (end, self.length, cause)]
        return clear_stretches(taken, self.length, self.before, self.after)


def _gaps(clear: list[list[Clear]], at: float, limit: float) -> tuple[list[tuple[float, float]], float]:
    """Return the first few gaps of [at, limit] in which nothing is clear, and where the next begins.

    One that reaches the limit is not among them.
    """
    gaps: list[tuple[float, float]] = []
    for first, last, _ in sorted(stretch for stretches in clear for stretch in stretches):
        if first > at:
            if first >= limit or len(gaps) == GAPS_AT_ONCE:
                break
            gaps.append((at, first))
        at = max(at, last)
    return gaps, at
