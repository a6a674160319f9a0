"""The scheduler's two decisions about a request, as functions of numbers: whether to take it, whether an exit ends it.

    taken      ahead + p99 of the shallowest exit wanted + reserve  <=  time left
    ended      the exit is the deepest wanted, or is confident enough, or the next one cannot finish before the deadline

Given the same numbers they decide the same, so that a log of the numbers is enough to make a decision again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.execute.request import Ending

TRIAL_EVERY = 8


@dataclass(frozen=True, slots=True)
class Admission:
    """What a request is admitted by.

    Args:
        device: Where it would run, in words.
        exit_id: Shallowest exit wanted.
        waiting: Requests that wait, by device.
        most_waiting: How many may.
        entered: Whether it has its place in the queue already, and its turn has come.
        trial: Whether it was let in as a trial before.
        left_s: Time to its deadline [s]; None: it has none.
        first_s, least_s: p99 and least time to that exit [s].
        runs: How many runs these are from.
        ahead_s: Time for what comes first [s].
        reserve_s: Time kept for the reply [s].
        refusals: Hopeful refusals before this one.
    """

    device: str
    exit_id: str
    waiting: Mapping[str, int]
    most_waiting: int
    entered: bool
    trial: bool
    left_s: float | None
    first_s: float
    least_s: float
    runs: int
    ahead_s: float
    reserve_s: float
    refusals: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an admission.

    Args:
        refused: Why it is refused; None: it is taken.
        trial: Whether it is taken although its estimate says no.
        hopeful: Whether it counts as a hopeful refusal: it might have made it.
    """

    refused: str | None = None
    trial: bool = False
    hopeful: bool = False


_TAKEN = Verdict()


def admit(asked: Admission) -> Verdict:
    """Return whether a request is taken. One hopeful refusal in 8 is tried all the same.

    Without the trial, p99 would stay what it was in a bad moment, since what is refused is never measured.
    """
    for device, waiting in asked.waiting.items():
        if not asked.entered and waiting >= asked.most_waiting:
            return Verdict(f"{device} has {waiting} requests waiting: at most {asked.most_waiting}")
    left_s = asked.left_s
    if left_s is None or asked.trial:
        return _TAKEN
    needed_s = asked.ahead_s + asked.first_s + asked.reserve_s
    if needed_s <= left_s:
        return _TAKEN
    hopeful = asked.ahead_s + asked.least_s + asked.reserve_s <= left_s
    if hopeful and (asked.refusals + 1) % TRIAL_EVERY == 0:
        return Verdict(trial=True, hopeful=True)
    why = (
        f"{left_s * 1e3:.3f} ms are left, but {needed_s * 1e3:.3f} ms are needed: {asked.first_s * 1e3:.3f} ms to "
        f"exit {asked.exit_id!r} on {asked.device} (p99 of {asked.runs} runs), {asked.ahead_s * 1e3:.3f} ms for what "
        f"comes first, {asked.reserve_s * 1e3:.3f} ms for the reply"
    )
    return Verdict(why, hopeful=hopeful)


@dataclass(frozen=True, slots=True)
class ExitReached:
    """What an exit that has answered is judged by.

    Args:
        index, last: Its place, and that of the deepest exit wanted.
        confidence, threshold: Its confidence and what it takes to end there; None: it has none.
        left_s: Time to the deadline [s]; None: there is none.
        reserve_s: Time kept for the reply [s].
        next_least_s: Least time to the next exit [s]; 0 behind the last.
    """

    index: int
    last: int
    confidence: float | None
    threshold: float | None
    left_s: float | None
    reserve_s: float
    next_least_s: float


def end_at(reached: ExitReached) -> Ending | None:
    """Return why a run ends with this exit; None: it goes on."""
    if reached.index >= reached.last:
        return Ending.COMPLETE
    threshold, confidence = reached.threshold, reached.confidence
    if threshold is not None and confidence is not None and confidence >= threshold:
        return Ending.CONFIDENT
    if reached.left_s is not None and reached.left_s - reached.reserve_s < reached.next_least_s:
        return Ending.DEADLINE
    return None
