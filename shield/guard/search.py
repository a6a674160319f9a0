"""The admissible slip angle nearest to the one asked for, by a finite search in which every answer is certified.

Solves  min |beta - beta_asked|  s.t.  hold(beta) >= need, |beta| <= beta_max  by a ladder of slip angles around
beta_asked: the rungs are tried from near to far, and the gap between the first rung that holds and the rung before it
on the same side is then halved a few times. The hold of every angle returned has been computed for that very angle, so
a coarse ladder costs nearness to the proposal, never safety.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Ladder:
    """Slip angles to try.

    Args:
        offsets_rad: Distances from the angle asked for, rising [rad].
        halvings: How often the last gap is halved.
    """

    offsets_rad: tuple[float, ...] = (0.01, 0.03, 0.06, 0.1, 0.16, 0.24, 0.34, 0.46, 0.6, 0.8, 1.0, 1.3, 1.7)
    halvings: int = 2

    def rungs(self, asked_rad: float, beta_max_rad: float, also_rad: Sequence[float]) -> list[float]:
        """Return the angles to try within [-beta_max, beta_max], nearest first; `also_rad` are further ones."""
        around = [asked_rad + sign * offset for offset in self.offsets_rad for sign in (1.0, -1.0)]
        inside = {beta for beta in (*around, *also_rad, -beta_max_rad, 0.0, beta_max_rad) if abs(beta) <= beta_max_rad}
        return sorted(inside - {asked_rad}, key=lambda beta: abs(beta - asked_rad))


def nearest(
    asked_rad: float, rungs: Sequence[float], halvings: int, certify: Callable[[float], Answer | None]
) -> Answer | None:
    """Return the certificate of the angle nearest to `asked_rad` that the search finds.

    Args:
        asked_rad: The angle asked for, tried first [rad].
        rungs: Angles to try, nearest first [rad].
        halvings: How often the gap towards `asked_rad` is halved.
        certify: Gives the certificate of an angle, or None.
    """
    answer = certify(asked_rad)
    if answer is not None:
        return answer
    failed = {1.0: asked_rad, -1.0: asked_rad}
    for beta in rungs:
        side = 1.0 if beta > asked_rad else -1.0
        answer = certify(beta)
        if answer is None:
            failed[side] = beta
            continue
        return _closer(failed[side], beta, answer, halvings, certify)
    return None


def _closer(
    outside_rad: float, inside_rad: float, answer: Answer, halvings: int, certify: Callable[[float], Answer | None]
) -> Answer:
    for _ in range(halvings):
        middle = 0.5 * (outside_rad + inside_rad)
        found = certify(middle)
        if found is None:
            outside_rad = middle
        else:
            inside_rad, answer = middle, found
    return answer
