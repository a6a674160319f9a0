"""Which constant backup manoeuvre rescues a held slip angle for a given time: one look, no search.

A pair (hold beta for t, then m) is certified when, wherever on the arc the vehicle can be within t and the switch time
after, it has hit nothing and the manoeuvre m started there clears every obstacle. m is of constant control, a circle, a
line or braking, so that the vehicle can carry it out without knowing where it is. The tolerable deadline asks for the
longest such t over all manoeuvres together and has to search for it; whether a given t is certified takes one family
of manoeuvres, that of the way driven in t.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shield.arc import Reach
from shield.backup.along import cover_from
from shield.backup.family import Family, FamilyOf
from shield.backup.question import Cover, Question, bodies_of
from shield.deadline import Method, tolerable_deadline
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle

DEADLINE_GRAIN, DEADLINE_GRAIN_S = 0.02, 1e-3
"""A deadline is found to this share of itself, or to this [s]."""


class _ConstantFamilyOf(FamilyOf):
    """The family without the turns that end in a straight: those need the state while they run."""

    def after(self, distance_m: float) -> Family:
        """Return the manoeuvres of constant control that may start anywhere up to `distance_m` [m]."""
        return replace(super().after(distance_m), turns=())


@dataclass(frozen=True, slots=True)
class Pair:
    """`beta_rad` may be held for `hold_s` after the observation [s], `manoeuvre` taking over whenever it must."""

    beta_rad: float
    hold_s: float
    manoeuvre: Manoeuvre


class Asking:
    """One held slip angle, asked about for several times.

    Args:
        vehicle: Vehicle with its declared bounds.
        state: Pose and speed at the observation, with the slip angle to hold from there on.
        obstacles: Discs at the observation, grown for the commands in flight.
        cap_s: Longest time asked about [s].
    """

    def __init__(self, vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float) -> None:
        bounds = vehicle.bounds
        self.reach = Reach.of(vehicle, state.speed_mps)
        speeds = [max(disc.speed_max_mps, bounds.obstacle_speed_mps) for disc in obstacles]
        self.moving = max(speeds, default=0.0) > 0.0
        self.family_of = _ConstantFamilyOf(vehicle, state.beta_rad, self.reach, None, self.moving)
        self.switch_s = bounds.switch_time_s
        # Times count from the observation, so that the state has no age.
        self.question = Question(
            vehicle,
            state.beta_rad,
            bodies_of(vehicle, state, obstacles),
            self.family_of,
            bounds.position_m,
            self.reach.distance_m(cap_s),
            speeds if self.moving else [],
        )

    def cover(self, time_s: float) -> tuple[Cover, float]:
        """Return how far the manoeuvres, as they are after `time_s`, cover the arc, and the way asked about [m]."""
        way_m = self.reach.distance_m(time_s)
        if self.family_of.refused:
            return Cover(0.0, [], {}, f"bound:{self.family_of.refused}"), way_m
        return cover_from(self.question, 0.0, way_m, time_s + self.switch_s if self.moving else 0.0), way_m


def certified_pair(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], holds_s: Sequence[float]) -> Pair | None:
    """Return the pair with the first of `holds_s` that can be certified; None when none can.

    Args:
        vehicle: Vehicle with its declared bounds.
        state: Pose and speed at the observation, with the slip angle to hold from there on.
        obstacles: Discs at the observation, grown for the commands in flight.
        holds_s: Times to try, longest first [s].
    """
    asking = Asking(vehicle, state, obstacles, max(holds_s))
    for hold_s in holds_s:
        cover, way_m = asking.cover(hold_s)
        for manoeuvre, until_m in cover.until_m.items():
            if until_m >= way_m:
                return Pair(state.beta_rad, hold_s, manoeuvre)
    return None


def quick_deadline(
    vehicle: Vehicle, state: State, obstacles: Sequence[Disc], least_s: float, cap_s: float, guess_s: float = math.inf
) -> tuple[float, str]:
    """Return a tolerable deadline that a tick of the guard has time for [s], and what limits it.

    The `backup` deadline where the manoeuvres do not change with the way driven, so that one look finds it. Else the
    same over the manoeuvres of constant control alone, found to 2 % and rounded down: beside brakes, the turns that end
    in a straight hardly ever make it longer and make every look ten times as long.

    Args:
        vehicle, state, obstacles: As for `certified_pair`.
        least_s: A time that is known to be certified [s].
        cap_s: Longest deadline asked about [s].
        guess_s: About what is expected, such as the last tick's answer [s]; a good one saves looks.
    """
    asking = Asking(vehicle, state, obstacles, cap_s)
    if not (asking.moving or asking.family_of.grows):
        found = tolerable_deadline(Method.BACKUP, vehicle, state, obstacles, cap_s)
        return found.deadline_s, found.limited_by
    low, high, limit = least_s, cap_s, ""
    tries = (
        [cap_s] if guess_s >= cap_s else [guess_s * (1.0 - DEADLINE_GRAIN / 2), guess_s * (1.0 + DEADLINE_GRAIN / 2)]
    )
    while tries or not limit or high - low > max(DEADLINE_GRAIN_S, DEADLINE_GRAIN * low):
        time_s = tries.pop(0) if tries else _between(low, high, bool(limit))
        if not low < time_s <= high or (limit and time_s == high):
            continue
        cover, way_m = asking.cover(time_s)
        if cover.limit:
            high, limit = time_s, cover.limit
            if not asking.moving:
                # Later manoeuvres need more room, so what those of a later time cover is covered earlier too.
                low = max(low, asking.reach.time_s(min(cover.end_m, way_m)))
        elif time_s >= cap_s:
            return cap_s, "cap"
        else:
            low = time_s
    return low, limit


def _between(low_s: float, high_s: float, bounded: bool) -> float:
    """Return the next time to try: the end until it has failed, a step up while the end is far, else the middle [s]."""
    if not bounded:
        return high_s
    return 0.5 * (low_s + high_s) if high_s < 4.0 * low_s else 2.0 * low_s + DEADLINE_GRAIN_S
