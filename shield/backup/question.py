"""One state's question with every fixed bound in its numbers.

Rounding: every obstacle is taken larger by `MARGIN_M` and `MARGIN_RELATIVE` of its distance, far more than the
arithmetic can be wrong, so that a deadline is always rounded towards safety.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from shield.backup.family import FamilyOf
from shield.backup.many import Array
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle

MARGIN_M = 1e-6
"""Declared rounding margin on every obstacle's radius [m]."""

MARGIN_RELATIVE = 1e-9
"""Declared rounding margin on every obstacle's radius, per metre of its distance."""

Body = tuple[float, float, float]
"""Body coordinates of an obstacle's centre at the start and its radius with every fixed bound in it [m]."""


@dataclass(slots=True)
class Question:
    """One state's question.

    Args:
        vehicle: Vehicle with its declared bounds.
        beta_rad: Slip angle held [rad].
        bodies: Obstacles in the body frame.
        family_of: The manoeuvres as a function of the distance driven.
        along_m: Error of the place along the arc at its start, e [m]; odometry drift adds to it on the way.
        cap_m: Distance beyond which nothing is asked [m].
        speeds: Top speeds of the obstacles [m/s]; empty when none moves.
        levels: How many times a piece of a braking path may be cut where obstacles move.
    """

    vehicle: Vehicle
    beta_rad: float
    bodies: list[Body]
    family_of: FamilyOf
    along_m: float
    cap_m: float
    speeds: list[float] = field(default_factory=list)
    levels: int = 3
    _table: Array | None = None

    def columns(self) -> Array:
        """Return the obstacles as rows x, y, radius [m]."""
        if self._table is None:
            self._table = np.array(list(zip(*self.bodies, strict=True))).reshape(3, -1)
        return self._table


@dataclass(slots=True)
class Cover:
    """How far the arc is covered, by what, and what ends it ("" when it reaches what was asked).

    Args:
        end_m: End of the cover [m].
        pieces: Manoeuvre, start and end of each piece, in order [m].
        until_m: Per manoeuvre clear at the start of the cover, up to where it stays clear [m].
        limit: "obstacle:<index>" or "bound:<name>".
    """

    end_m: float
    pieces: list[tuple[Manoeuvre, float, float]]
    until_m: dict[Manoeuvre, float]
    limit: str


def bodies_of(vehicle: Vehicle, state: State, obstacles: Sequence[Disc]) -> list[Body]:
    """Return the obstacles in the body frame, grown by every bound that does not depend on the way driven."""
    bounds = vehicle.bounds
    cosine, sine = math.cos(state.heading_rad), math.sin(state.heading_rad)
    x0, y0 = state.x_m, state.y_m
    fixed = vehicle.radius_m + bounds.position_m + MARGIN_M
    fixed += bounds.odometry_drift * vehicle.v_max_mps * bounds.sensing_age_s
    per_metre = MARGIN_RELATIVE + 2.0 * math.sin(0.5 * min(math.pi, bounds.heading_rad))
    bodies = []
    for disc in obstacles:
        x, y = disc.x_m - x0, disc.y_m - y0
        radius = disc.radius_m + fixed + per_metre * math.hypot(x, y)
        bodies.append((cosine * x + sine * y, cosine * y - sine * x, radius))
    return bodies


def grown(question: Question, radius: Array, elapsed_s: float) -> Array:
    return radius + np.array(question.speeds) * elapsed_s if question.speeds else radius
