"""The answer to "how long may the held control be kept": the deadline, what ends it, and what proves it."""

from dataclasses import dataclass

from shield.manoeuvre import Manoeuvre


@dataclass(frozen=True, slots=True)
class Interval:
    """`manoeuvre` may start anywhere between `start_m` and `end_m` [m] of the held arc, the switch time included."""

    start_m: float
    end_m: float
    manoeuvre: Manoeuvre


@dataclass(frozen=True, slots=True)
class Certificate:
    """What proves a deadline: for every place on the held arc a manoeuvre that clears every listed obstacle.

    Args:
        intervals: In order, without a gap from 0 to the certified distance; empty when nothing is certified.
        single: The constant manoeuvre that serves longest from the start of the arc, for when the state is lost.
        single_until_m: Up to where on the arc `single` may start [m].
        single_until_s: The least time in which that place can be reached [s].
        bounds: Fingerprint of the vehicle and its declared bounds.
    """

    intervals: tuple[Interval, ...]
    single: Manoeuvre | None
    single_until_m: float
    single_until_s: float
    bounds: str


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long the held control may be kept, and why no longer.

    Args:
        deadline_s: Tolerable deadline [s], at most the cap asked for.
        distance_m: Arc length that the deadline allows [m].
        limited_by: "obstacle:<index>", "bound:<name>" or "cap".
        manoeuvre: The manoeuvre that is due at the deadline; None when there is none.
        certificate: What proves it.
        guarantee: Whether the deadline is a guarantee for every listed obstacle at once.
    """

    deadline_s: float
    distance_m: float
    limited_by: str
    manoeuvre: Manoeuvre | None
    certificate: Certificate
    guarantee: bool
