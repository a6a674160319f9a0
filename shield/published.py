"""The published tolerable deadline: a table over (xi, beta), one per ring of distance, kept for comparison.

At a state (xi, beta) of the ring with offset o, at top speed and at r = r_min(xi) + o,

    sqrt(2) L_h |f| t exp(L_f t) = h(r, xi)   =>   deadline = W0(L_f h/(sqrt(2) L_h |f|))/L_f - eps,
    f = (v cos(xi - beta), -(v/r) sin(xi - beta) - (v/l_r) sin beta),
    L_h = max(1/r_bar^2, sigma/(2 r_bar)),   L_f = v_max,   eps = 10 ms,

clipped to [0, T_outer] of the ring. A cell of the table holds the least of its four corners. The cells start at -pi and
-beta_max and have the steps of the authors' tables, whose last row and column are cut off at pi and beta_max.

Reference: Odema et al., EnergyShield, arXiv 2302.06572, and the tables of its artifact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from shield.answer import Certificate, Deadline
from shield.arc import Reach
from shield.barrier import Array, barrier_of, barrier_value, covered, least_distance, polar_of
from shield.state import Disc, State
from shield.vehicle import Barrier, Vehicle

SAFETY_TIME_S = 0.010
"""eps of the published bound [s]."""


@dataclass(frozen=True, slots=True)
class Ring:
    """One published table: states farther than `offset_m` beyond r_min, and the steps of its cells."""

    offset_m: float
    longest_s: float
    xi_step_rad: float
    beta_step_rad: float


RINGS = (
    Ring(1.0, 0.10, 0.02454848723258296, 0.0024544606087920084),
    Ring(2.0, 0.11, 0.03443784766883873, 0.003443353947276684),
    Ring(4.0, 0.12, 0.042439617069771174, 0.004243914041197283),
    Ring(6.0, 0.13, 0.03128608926544629, 0.003128526376523666),
    Ring(8.0, 0.14, 0.019173004507581748, 0.0019170874881158095),
    Ring(16.0, 0.14, 0.03462000830447742, 0.003461348331472991),
)
"""The rings of the authors' tables, nearest first; the steps are constants, used for every vehicle."""


@dataclass(frozen=True, slots=True)
class Table:
    """Deadlines of one ring: `deadline_s[i, j]` [s] of the cell that starts at (-pi + i step, -beta_max + j step)."""

    ring: Ring
    beta_max_rad: float
    deadline_s: Array

    def at(self, xi_rad: float, beta_rad: float) -> float:
        """Return the deadline [s] of the cell that holds (xi, beta)."""
        rows, columns = self.deadline_s.shape
        i = int((xi_rad + math.pi) / self.ring.xi_step_rad)
        j = int((beta_rad + self.beta_max_rad) / self.ring.beta_step_rad)
        return float(self.deadline_s[min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)])


def pointwise_deadline(vehicle: Vehicle, offset_m: float, xi_rad: npt.ArrayLike, beta_rad: npt.ArrayLike) -> Array:
    """Return the published formula [s] at single states, not yet clipped.

    Args:
        offset_m: Distance beyond r_min(xi) [m].
        xi_rad, beta_rad: Angle and slip angle [rad], any shapes that broadcast.
    """
    barrier = barrier_of(vehicle)
    xi, beta = np.asarray(xi_rad, dtype=np.float64), np.asarray(beta_rad, dtype=np.float64)
    r = least_distance(barrier, xi) + offset_m
    outward = np.cos(xi - beta)
    around = -np.sin(xi - beta) / r - np.sin(beta) / vehicle.l_r_m
    speed = vehicle.v_max_mps * np.hypot(outward, around)
    slope = max(1.0 / barrier.r_bar_m**2, barrier.sigma / (2.0 * barrier.r_bar_m))
    growth = vehicle.v_max_mps
    loose = lambert_w(growth * barrier_value(barrier, r, xi) / (math.sqrt(2.0) * slope * speed)) / growth
    return np.asarray(loose - SAFETY_TIME_S)


def ring_table(vehicle: Vehicle, ring: Ring) -> Table:
    """Return the table of one ring for a vehicle; built once and remembered."""
    return _build(barrier_of(vehicle), vehicle.l_r_m, vehicle.beta_max_rad, vehicle.v_max_mps, ring)


@lru_cache(maxsize=64)
def _build(barrier: Barrier, l_r_m: float, beta_max_rad: float, v_max_mps: float, ring: Ring) -> Table:
    vehicle = Vehicle(l_r_m=l_r_m, beta_max_rad=beta_max_rad, v_max_mps=v_max_mps, barrier=barrier)
    xi = cell_edges(math.pi, ring.xi_step_rad)
    beta = cell_edges(beta_max_rad, ring.beta_step_rad)
    corner = np.clip(pointwise_deadline(vehicle, ring.offset_m, xi[:, None], beta), 0.0, ring.longest_s)
    along = np.minimum(corner[:-1], corner[1:])
    table = np.minimum(along[:, :-1], along[:, 1:])
    table.setflags(write=False)
    return Table(ring, beta_max_rad, table)


def cell_edges(half_width_rad: float, step_rad: float) -> Array:
    """Return the edges [rad] of cells of one step over [-half_width, half_width], the last cell cut off at the end."""
    cells = math.ceil(2.0 * half_width_rad / step_rad)
    edges = -half_width_rad + step_rad * np.arange(cells + 1)
    edges[-1] = half_width_rad
    return np.asarray(edges)


def lambert_w(z: npt.ArrayLike) -> Array:
    """Return the principal branch W0 of the Lambert function, w exp(w) = z, for z >= 0, by Halley's iteration."""
    value = np.asarray(z, dtype=np.float64)
    w = np.log1p(value)  # an upper bound of W0 that is right to first order at 0
    for _ in range(8):  # cubic: five reach the last bit for z up to 1e300
        power = np.exp(w)
        excess = w * power - value
        w = w - excess / (power * (w + 1.0) - (w + 2.0) * excess / (2.0 * w + 2.0))
    return np.asarray(w)


def published_deadline(vehicle: Vehicle, state: State, obstacles: Sequence[Disc], cap_s: float = 10.0) -> Deadline:
    """Return the published table's deadline: the least over the obstacles, 0 inside the innermost ring.

    The ring is the largest with r > r_min(xi) + offset; with a declared position error e_p every ring between those of
    r - e_p and r counts. Nothing else of the bounds enters, and obstacles are taken to stand still: this is for
    comparison, never a guarantee.

    Args:
        state: Pose and held slip angle; `tolerable_deadline` has checked every number. The speed is not used.
        obstacles: Discs; one larger than the barrier's has the deadline 0.
        cap_s: Longest deadline of interest [s].
    Raises:
        ValueError: the vehicle has no barrier.
    """
    deadline_s, limited_by = cap_s, "cap"
    for index, disc in enumerate(obstacles):
        found_s = _of_disc(vehicle, state, disc)
        if found_s < deadline_s:
            deadline_s, limited_by = found_s, f"obstacle:{index}"
    distance_m = Reach.of(vehicle, None).distance_m(deadline_s)
    certificate = Certificate((), None, 0.0, 0.0, vehicle.fingerprint())
    return Deadline(deadline_s, distance_m, limited_by, None, certificate, guarantee=False)


def _of_disc(vehicle: Vehicle, state: State, disc: Disc) -> float:
    barrier = barrier_of(vehicle)
    if not covered(vehicle, disc):
        return 0.0
    polar = polar_of(state, disc)
    beyond_m = polar.r_m - float(least_distance(barrier, polar.xi_rad))
    nearest_m = beyond_m - vehicle.bounds.position_m
    if nearest_m <= RINGS[0].offset_m:
        return 0.0
    # Rings cut their cells in different places, so that a nearer one can hold more: every ring in question counts.
    last = max(index for index, ring in enumerate(RINGS) if beyond_m > ring.offset_m)
    first = max(index for index, ring in enumerate(RINGS) if nearest_m > ring.offset_m)
    return min(ring_table(vehicle, ring).at(polar.xi_rad, state.beta_rad) for ring in RINGS[first : last + 1])
