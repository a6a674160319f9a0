"""The `backup` deadline of many states at once, for maps and searches.

From the place s each manoeuvre that is clear there stays clear up to the obstacles' next entry into its dilated
curve; a hop takes the longest, and the next begins there. In the body frame of s the entry is the first root of a
quadratic in t = (2/kappa) tan(kappa s/2) (`shield.events`), and along the arc t runs 0 ... inf, -inf ... 0, that is u
= -1/t runs upwards: the first entry of all obstacles is the least u, so that one arc tangent per state and manoeuvre
is enough.

The manoeuvres are the two circles, the straight line and, with one obstacle, the turns that end in a straight; with
several obstacles those turns are left out, and the answer is then at most what `tolerable_deadline` gives. A hop ends
`STEP_BACK_M` early, so that the next one sees the entry it stopped at ahead of itself.

Rounding can hide the roots of a shallow crossing. So the held arc ends where it misses a disc by less than `GRAZE`, as
in the single query, and a manoeuvre counts as clear only where it is so by more: passing an edge more closely later, it
then comes in by less than rounding, which the margin on every radius holds.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shield.backup.question import MARGIN_M, MARGIN_RELATIVE
from shield.events import GRAZE, LEAST_INNER_M
from shield.manoeuvre import grip_slip_rad
from shield.reach import soonest_s
from shield.vehicle import Bounds, Vehicle

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

STEP_BACK_M = 1e-6
"""How far before an entry a hop ends [m]."""

HOPS_AT_MOST = 200
"""Hops after which the search for one state ends with what it has."""

PAIRS_AT_ONCE = 8192
"""State-obstacle pairs worked on at once, so that the arrays stay in the cache."""

FOREVER = math.inf


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Deadline [s], distance [m] and limiting obstacle of every state; -1 where the cap limits."""

    deadline_s: Array
    distance_m: Array
    obstacle: NDArray[np.intp]


def backup_deadlines(
    vehicle: Vehicle,
    x_m: ArrayLike,
    y_m: ArrayLike,
    heading_rad: ArrayLike,
    beta_rad: ArrayLike,
    obstacle_x_m: ArrayLike,
    obstacle_y_m: ArrayLike,
    obstacle_radius_m: ArrayLike,
    cap_s: float = 10.0,
    speed_mps: ArrayLike | None = None,
) -> Deadlines:
    """Return the `backup` deadlines of N states among static discs.

    Args:
        vehicle: Vehicle without brakes; of its bounds only heading, speed and grip may be declared.
        x_m, y_m, heading_rad, beta_rad: Poses and held slip angles, shape (N,) [m, m, rad, rad].
        obstacle_x_m, obstacle_y_m, obstacle_radius_m: Discs, shape (M,) for all states or (N, M) for each its own [m].
        cap_s: Longest deadline asked about [s].
        speed_mps: Measured speeds, shape (N,) or () [m/s]; None: anywhere from standing to top speed.
    Raises:
        ValueError: a number is not finite, a radius is negative, a slip angle is beyond full lock, the cap is not
            positive, or the vehicle declares brakes or another bound (ask `tolerable_deadline` state by state).
    """
    bounds = vehicle.bounds
    kept = Bounds(
        heading_rad=bounds.heading_rad,
        speed_mps=bounds.speed_mps,
        lateral_accel_mps2=bounds.lateral_accel_mps2,
    )
    if vehicle.deceleration_mps2 is not None or bounds != kept:
        raise ValueError(
            "a batch takes a vehicle without brakes whose only bounds are heading, speed and grip: "
            f"{vehicle.name!r} declares more; ask tolerable_deadline state by state"
        )
    states = np.stack(np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (x_m, y_m, heading_rad, beta_rad))))
    discs = [np.asarray(v, np.float64) for v in (obstacle_x_m, obstacle_y_m, obstacle_radius_m)]
    if not (np.isfinite(states).all() and all(np.isfinite(v).all() for v in discs)):
        raise ValueError("every state and every obstacle must consist of finite numbers")
    if (discs[2] < 0.0).any():
        raise ValueError(f"the least obstacle radius is {discs[2].min()} m: none may be negative")
    if (np.abs(states[3]) > vehicle.beta_max_rad + 1e-9).any():
        raise ValueError(f"a slip angle of {np.abs(states[3]).max()} rad is beyond full lock, {vehicle.beta_max_rad:g}")
    if not 0.0 < cap_s < math.inf:
        raise ValueError(f"cap_s = {cap_s}: must be a finite number above zero")
    count, columns = states.shape[1], discs[0].shape[-1]
    distance, obstacle = np.empty(count), np.empty(count, np.intp)
    step = max(1, PAIRS_AT_ONCE // max(1, columns))
    for first in range(0, count, step):
        part = slice(first, first + step)
        ox, oy, radius = (v if v.ndim == 1 else v[part] for v in discs)
        distance[part], obstacle[part] = _distances(vehicle, states[:, part], ox, oy, radius, cap_s * vehicle.v_max_mps)
    deadline = np.minimum(cap_s, soonest_s(vehicle, speed_mps, distance))
    return Deadlines(deadline, distance, np.where(deadline < cap_s, obstacle, -1))


class _Chunk:
    """States still being followed: their arc and their obstacles seen from where they are."""

    __slots__ = ("cosine", "kappa", "period", "radius", "sine", "x", "y")

    def __init__(self, cosine: Array, sine: Array, kappa: Array, x: Array, y: Array, radius: Array) -> None:
        self.cosine, self.sine, self.kappa = cosine, sine, kappa
        self.x, self.y, self.radius = x, y, radius
        with np.errstate(divide="ignore"):
            self.period = 2.0 * math.pi / np.abs(kappa)

    def only(self, keep: Mask) -> "_Chunk":
        arrays = (self.cosine, self.sine, self.kappa, self.x, self.y, self.radius)
        return _Chunk(*(array[keep] for array in arrays))

    def advance(self, s: Array) -> None:
        """Move every state `s` metres on along its arc and see the obstacles from there."""
        half = 0.5 * self.kappa * s
        sine, cosine = np.sin(half), np.cos(half)
        chord = s * np.sinc(half / math.pi)
        away_x = self.x - (chord * (self.cosine * cosine - self.sine * sine))[:, None]
        away_y = self.y - (chord * (self.sine * cosine + self.cosine * sine))[:, None]
        turn_cos, turn_sin = (1.0 - 2.0 * sine * sine)[:, None], (2.0 * sine * cosine)[:, None]
        self.x, self.y = turn_cos * away_x + turn_sin * away_y, turn_cos * away_y - turn_sin * away_x

    def length_of(self, u: Array) -> Array:
        """Return the arc length [m] at which u = -1/t."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            t = -1.0 / u
            s = np.where(self.kappa == 0.0, t, np.arctan(0.5 * self.kappa * t) * (2.0 / self.kappa))
        s = np.where(s < 0.0, s + self.period, s)
        return np.where(u == np.inf, FOREVER, np.where(u == -np.inf, 0.0, s))

    def circle(self, fx: float, fy: float, rho: float) -> Array:
        """Return per pair the u of the next entry into the ring about the body point f, of radius rho, dilated.

        A radius of zero is the vehicle itself on the held arc.
        """
        kappa = self.kappa[:, None]
        dx, dy = fx - self.x, fy - self.y
        square = dx * dx + dy * dy
        outer, inner = rho + self.radius, rho - self.radius
        outside = square >= outer * outer + GRAZE
        inside = (inner > LEAST_INNER_M) & (square <= inner * inner - GRAZE)
        edge = np.where(outside, outer, inner)
        e = square - edge * edge
        wx, wy = self.cosine[:, None] - kappa * fy, self.sine[:, None] + kappa * fx
        a = wx * wx + wy * wy + kappa * (dy * wx - dx * wy) + 0.25 * kappa * kappa * e
        first, second = self._roots(a, dx * wx + dy * wy, e, GRAZE if rho == 0.0 else 0.0)
        return np.where(outside | inside, np.minimum(first, second), -np.inf)

    def straight(self) -> Array:
        """Return per pair the u of the next entry into the dilated line straight ahead."""
        kappa = self.kappa[:, None]
        x, y, radius = self.x, self.y, self.radius
        wx, wy = self.cosine[:, None] - kappa * y, self.sine[:, None] + kappa * x
        least = np.where((x > 0.0) & (np.abs(y) < radius + GRAZE), -np.inf, np.inf)
        for edge in (radius, -radius):
            q = y - edge
            for u in self._roots(0.5 * kappa * wx + 0.25 * kappa * kappa * q, -0.5 * wy, q):
                with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                    t = -1.0 / u
                    along = x * (1.0 + 0.25 * (kappa * t) ** 2) - wx * t - 0.5 * kappa * wy * t * t
                # An entry behind the centre of gravity is none; a number that is not one counts as ahead.
                least = np.minimum(least, np.where(along < 0.0, np.inf, u))
        return least

    def behind(self, nx: float, ny: float) -> Array:
        """Return per pair the u at which the obstacle stops lying behind the line n.e = 0."""
        kappa = self.kappa[:, None]
        wx, wy = self.cosine[:, None] - kappa * self.y, self.sine[:, None] + kappa * self.x
        q = nx * self.x + ny * self.y
        first, second = self._roots(
            0.5 * kappa * (ny * wx - nx * wy) + 0.25 * kappa * kappa * q, -0.5 * (nx * wx + ny * wy), q
        )
        return np.where(q < -GRAZE, np.minimum(first, second), -np.inf)

    def _roots(self, a: Array, half_b: Array, c: Array, graze: float = 0.0) -> tuple[Array, Array]:
        """Return u = -1/t of both roots of a t^2 + 2 half_b t + c; inf for none. A miss by `graze` has roots too."""
        discriminant = half_b * half_b - a * c
        none = discriminant < 0.0
        if graze > 0.0:
            none = discriminant < -graze * np.abs(a + 0.25 * (self.kappa * self.kappa)[:, None] * c)
        q = -(half_b + np.copysign(np.sqrt(np.maximum(discriminant, 0.0)), half_b))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            first, second = -q / c, -a / q
        lines = self.kappa == 0.0
        if lines.any():
            # On a line there is no coming round: t below zero lies behind for good.
            first = np.where(lines[:, None] & (first >= 0.0), np.inf, first)
            second = np.where(lines[:, None] & (second >= 0.0), np.inf, second)
        return np.where(none | np.isnan(first), np.inf, first), np.where(none | np.isnan(second), np.inf, second)


def _distances(
    vehicle: Vehicle, states: Array, ox: Array, oy: Array, radius: Array, cap_m: float
) -> tuple[Array, NDArray[np.intp]]:
    x0, y0, heading, beta = states
    count = beta.shape[0]
    cosine, sine = np.cos(heading)[:, None], np.sin(heading)[:, None]
    dx, dy = ox - x0[:, None], oy - y0[:, None]
    bounds, l_r = vehicle.bounds, vehicle.l_r_m
    per_metre = MARGIN_RELATIVE + 2.0 * math.sin(0.5 * min(math.pi, bounds.heading_rad))
    dilated = radius + (vehicle.radius_m + MARGIN_M) + per_metre * np.hypot(dx, dy)
    distance, obstacle = np.zeros(count), np.full(count, -1, np.intp)
    if dilated.shape[1] == 0:
        return np.full(count, cap_m), obstacle
    slip = grip_slip_rad(vehicle)
    rho, rho_rear = l_r / math.sin(slip), l_r / math.tan(slip)
    kappa = np.sin(beta) / l_r
    kappa = np.where(np.abs(kappa) * cap_m < 1e-12, 0.0, kappa)
    chunk = _Chunk(np.cos(beta), np.sin(beta), kappa, cosine * dx + sine * dy, cosine * dy - sine * dx, dilated)
    held = chunk.circle(0.0, 0.0, 0.0)
    limit = np.minimum(cap_m, chunk.length_of(held.min(axis=1)))
    obstacle = np.where(limit < cap_m, held.argmin(axis=1), -1)
    refused = np.abs(beta) > slip + 1e-9
    who = np.flatnonzero((limit > 0.0) & ~refused)
    chunk = chunk.only((limit > 0.0) & ~refused)
    for _ in range(HOPS_AT_MOST):
        if who.size == 0:
            break
        hop, blame = _hop(chunk, l_r, rho, rho_rear, slip)
        hop -= STEP_BACK_M
        stuck = hop < STEP_BACK_M
        distance[who] += np.where(stuck, 0.0, hop)
        obstacle[who[stuck]] = blame[stuck]
        # Once round the circle the same manoeuvres come again.
        done = (distance[who] >= limit[who]) | (distance[who] >= chunk.period)
        distance[who[done]] = limit[who[done]]
        keep = ~(stuck | done)
        who, hop = who[keep], hop[keep]
        chunk = chunk.only(keep)
        chunk.advance(hop)
    else:
        obstacle[who] = 0
    return distance, obstacle


def _hop(chunk: _Chunk, l_r: float, rho: float, rho_rear: float, slip: float) -> tuple[Array, NDArray[np.intp]]:
    """Return the longest stretch over the manoeuvres from where each state is, and the obstacle that ends it."""
    hop = np.full(chunk.kappa.shape[0], -1.0)
    blame = np.zeros(hop.shape, np.intp)

    def offer(which: Mask, part: _Chunk, u: Array) -> None:
        index = u.argmin(axis=1)
        length = part.length_of(u[np.arange(index.size), index])
        rows = np.flatnonzero(which)
        better = length > hop[rows]
        hop[rows[better]], blame[rows[better]] = length[better], index[better]

    turns = [(side * rho_rear, math.cos(slip), side * math.sin(slip)) for side in (1.0, -1.0)]
    pending = np.ones(hop.shape, bool)
    part = chunk
    for centre_y, _, _ in turns:
        offer(pending, part, part.circle(-l_r, centre_y, rho))
        pending = hop < FOREVER
        part = chunk.only(pending)
    offer(pending, part, part.straight())
    if chunk.x.shape[1] == 1:
        for _, nx, ny in turns:
            pending = hop < FOREVER
            part = chunk.only(pending)
            offer(pending, part, part.behind(nx, ny))
    return hop, blame
