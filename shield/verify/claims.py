"""What is proved about the barrier and the arithmetic of a vehicle, each as a verdict on one cell.

With c(xi) = (sigma cos(xi/2) + 1 - sigma)/r_bar the barrier is h = c(xi) - 1/r. Distances enter as u = 1/(r - e_p), so
that the whole domain up to infinity is the box u in [0, 1/r_bar].

    admissible   wherever h >= 0 in every state the declared errors allow, some slip angle within full lock and grip has
                 dh/ds + K h > 0 in all of them: the admissible set of `shield.filter` is never empty
    inclusion    {h >= 0} lies inside the backup set: for xi in [xi_K, pi], xi_K = pi - atan2(R, -l + sqrt(l^2 + 2 R
                 (rho - rho_r))),  r_min(xi) >= -rho sin(xi - b) + sqrt(rho^2 sin^2(xi - b) + R^2 + 2 R rho)
    rounding     what floating point does to a position along a held arc and to h stays below a tenth of the margins by
                 which `shield.hold` and `shield.backup` round towards safety

The walk of `shield.hold` is sound by its second-order bound if h is right to its margin, which `rounding` proves on the
whole domain. Reference: Ferlez et al., ShieldNN, arXiv 2006.09564 (why the set must be nonempty).
"""

import math

from flint import arb

from shield.backup.question import MARGIN_M
from shield.barrier import barrier_of, class_k_gain
from shield.hold import VALUE_MARGIN
from shield.manoeuvre import grip_slip_rad
from shield.vehicle import Vehicle
from shield.verify.cells import Cell, Verdict, ball, middle
from shield.verify.deadlines import reference_radius_m

SLOPE_MARGIN = 1e-7
"""dh/ds + K h [1/m^2] is proved to stay above this; the margin on a slip angle changes it by 100 times less."""

FARTHEST_M = 1000.0
"""Distances and arc lengths up to which `rounding` looks [m]."""

ULP = 2.0**-52
"""Relative error allowed to every operation and library function: twice that of correct rounding."""


def admissible_box(vehicle: Vehicle) -> Cell:
    """Return the box (xi [rad], u [1/m]); negative xi follows by mirroring."""
    return ((0.0, math.pi), (0.0, 1.0 / barrier_of(vehicle).r_bar_m))


def admissible(vehicle: Vehicle, cell: Cell) -> Verdict:
    """Decide whether one slip angle serves a whole cell (xi, u)."""
    barrier, bounds, l_r = barrier_of(vehicle), vehicle.bounds, arb(vehicle.l_r_m)
    xi, u, pad = ball(*cell[0]), ball(*cell[1]), arb(bounds.position_m)
    most = arb(cell[1][1])
    tilt = arb(bounds.heading_rad) + (pad * most / (1 + pad * most)).asin()
    sigma, r_bar = arb(barrier.sigma), arb(barrier.r_bar_m)
    value = (sigma * ((xi + tilt) / 2).cos() + 1 - sigma) / r_bar - u
    if value < 0:
        return Verdict.TRUE  # nothing is claimed where h may be negative
    turn, limit = sigma / (2 * r_bar), grip_slip_rad(vehicle)
    slack = pad * (2 * most**3 + turn * most**2)
    slack += tilt * (most**2 + turn * (arb(1.5) * most + arb(limit).sin() / (2 * l_r)))
    gain = class_k_gain(barrier)
    near = u / (1 + pad * u)
    cosine = near * near * xi.cos() + turn * (xi / 2).sin() * near * xi.sin()
    sine = near * near * xi.sin() + turn * (xi / 2).sin() * (1 / l_r - near * xi.cos())
    error = bounds.steering_rad + bounds.steering_bias_rad
    best = arb(_steepest(vehicle, cell, limit), error)
    if cosine * best.cos() + sine * best.sin() + gain * max(0.0, float(value.lower())) - slack > SLOPE_MARGIN:
        return Verdict.TRUE
    every = [ball(-limit + 2 * limit * i / 32, -limit + 2 * limit * (i + 1) / 32) for i in range(32)]
    most_gain = gain * float(value.upper()) - slack
    if value > 0 and all(cosine * beta.cos() + sine * beta.sin() + most_gain < 0 for beta in every):
        return Verdict.FALSE
    return Verdict.UNDECIDED


def _steepest(vehicle: Vehicle, cell: Cell, limit: float) -> float:
    """Return the slip angle with the largest dh/ds in the middle of the cell, the steering error off full lock.

    dh/ds = A cos(beta) + B sin(beta) peaks at atan2(B, A).
    """
    barrier, bounds = barrier_of(vehicle), vehicle.bounds
    xi, u = middle(cell)
    near = u / (1.0 + bounds.position_m * u)
    turn = barrier.sigma / (2.0 * barrier.r_bar_m) * math.sin(0.5 * xi)
    cosine = near * near * math.cos(xi) + turn * near * math.sin(xi)
    sine = near * near * math.sin(xi) + turn * (1.0 / vehicle.l_r_m - near * math.cos(xi))
    peak = math.atan2(sine, cosine)
    inside = limit - 1e-9
    return min(max(peak, -inside), inside)


def inclusion_box(vehicle: Vehicle) -> Cell:
    """Return the range of xi [rad] in which the barrier's set could reach out of the backup set."""
    radius, l_r, rho, rho_rear = _turning(vehicle)
    apex = -l_r + math.sqrt(l_r**2 + 2.0 * radius * (rho - rho_rear))
    # Rounded outwards, so that the range proved holds the exact one.
    return ((math.pi - math.atan2(radius, apex) - 1e-12, math.pi + 1e-12),)


def inclusion(vehicle: Vehicle, cell: Cell) -> Verdict:
    """Decide r_min(xi) >= the edge of the backup set in a whole cell of xi."""
    barrier = barrier_of(vehicle)
    radius, _, _, _ = _turning(vehicle)
    rho = arb(vehicle.l_r_m) / arb(grip_slip_rad(vehicle)).sin()
    xi = ball(*cell[0])
    least = arb(barrier.r_bar_m) / (arb(barrier.sigma) * (xi / 2).cos() + 1 - arb(barrier.sigma))
    side = rho * (xi - arb(grip_slip_rad(vehicle))).sin()
    edge = -side + (side * side + arb(radius) ** 2 + 2 * arb(radius) * rho).sqrt()
    if least - edge > 0:
        return Verdict.TRUE
    return Verdict.FALSE if least - edge < 0 else Verdict.UNDECIDED


def _turning(vehicle: Vehicle) -> tuple[float, float, float, float]:
    slip = grip_slip_rad(vehicle)
    l_r = vehicle.l_r_m
    return barrier_of(vehicle).r_bar_m, l_r, l_r / math.sin(slip), l_r / math.tan(slip)


def rounding_box(vehicle: Vehicle) -> Cell:
    """Return the box (r [m], s [m])."""
    return ((reference_radius_m(vehicle), FARTHEST_M), (0.0, FARTHEST_M))


def rounding(vehicle: Vehicle, cell: Cell) -> Verdict:
    """Decide whether rounding stays below a tenth of the margins in a whole cell (r, s), for every xi and beta.

    First-order error bounds of `_Walk.polar` and of h, every operation allowed `ULP`, second orders covered by the last
    factor; headings up to 1000 rad.
    """
    r, s, ulp, pi = arb(cell[0][1]), arb(cell[1][1]), arb(ULP), arb.pi()
    half = s * arb(vehicle.beta_max_rad).sin() / (2 * arb(vehicle.l_r_m))
    half_error = 4 * ulp * half
    start_error = 2004 * ulp * r
    chord_error = s * (4 * ulp + half_error / 2)
    angle_error = half_error + ulp * (half + pi)
    place_error = start_error + chord_error + s * (angle_error + 2 * ulp) + 2 * ulp * (r + s)
    r_error = arb(2).sqrt() * place_error + 2 * ulp * (r + s)
    small = r_error * arb(1.01) < MARGIN_M / 10
    barrier = vehicle.barrier
    if barrier is not None:
        least = arb(barrier.r_bar_m) * (1 - arb(10) ** -9)
        xi_error = r_error / least + 2 * half_error + ulp * (4000 + 8 * half + 8 * pi)
        h_error = r_error / least**2 + arb(barrier.sigma) / (2 * arb(barrier.r_bar_m)) * xi_error + 8 * ulp / least
        small = small and h_error * arb(1.01) < VALUE_MARGIN / 10
    return Verdict.TRUE if small else Verdict.FALSE
