"""Which constant backup manoeuvre rescues a held slip angle for a given time: one look, no search.

A pair (hold beta for t, then m) is certified when, wherever on the arc the vehicle can be within t and the switch time
after, it has hit nothing and the manoeuvre m started there clears every obstacle. m is of constant control, a circle, a
line or braking, so that the vehicle can carry it out without knowing where it is. The tolerable deadline asks for the
longest such t over all manoeuvres together and has to search for it; whether a given t is certified takes one family of
manoeuvres, that of the way driven in t.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shield.arc import Reach
from shield.backup.family import Family, FamilyOf
from shield.backup.question import Question, bodies_of, cover_from
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle


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


def certified_pair(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], holds_s: Sequence[float]) -> Pair | None:
    """Return the pair with the first of `holds_s` that can be certified; None when none can.

    Args:
        vehicle: Vehicle with its declared bounds.
        state: Pose and speed at the observation, with the slip angle to hold from there on.
        obstacles: Discs at the observation, grown for the commands in flight.
        holds_s: Times to try, longest first [s].
    """
    bounds = vehicle.bounds
    reach = Reach.of(vehicle, state.speed_mps)
    speeds = [max(disc.speed_max_mps, bounds.obstacle_speed_mps) for disc in obstacles]
    moving = max(speeds, default=0.0) > 0.0
    family_of = _ConstantFamilyOf(vehicle, state.beta_rad, reach, None, moving)
    if family_of.refused:
        return None
    age_s = bounds.sensing_age_s
    question = Question(
        vehicle,
        state.beta_rad,
        bodies_of(vehicle, state, obstacles),
        family_of,
        bounds.position_m + vehicle.v_max_mps * age_s,
        reach.distance_m(max(holds_s) + age_s),
        speeds if moving else [],
    )
    for hold_s in holds_s:
        way_m = reach.distance_m(hold_s + age_s)
        elapsed_s = hold_s + age_s + bounds.switch_time_s if moving else 0.0
        for manoeuvre, until_m in cover_from(question, 0.0, way_m, elapsed_s).until_m.items():
            if until_m >= way_m:
                return Pair(state.beta_rad, hold_s, manoeuvre)
    return None
