"""The event that ends a deadline, F(e) = 0 for the disc's centre e in the body frame, with bounds on a neighbourhood.

`barrier`: F is h. `backup`, with instantaneous slip, one static disc of radius R and no brakes:

    F = min(|e| - R, max_j f_j(e))

with f_j >= 0 for each way in which some manoeuvre is clear: the turning circle of either side passes outside or inside
the disc (|e - f| - rho - R, rho - R - |e - f|), the disc lies beside the straight line (+-e_y - R), behind the vehicle
(-e_x) or behind the first direction of a turn that ends in a straight line (-e_x cos(b) -+ e_y sin(b)). Every f_j
changes by no more than e does, and de/ds = -w, w = (cos beta - k e_y, sin beta + k e_x).
"""

import math

import numpy as np
import numpy.typing as npt

from shield.barrier import barrier_of
from shield.deadline import Method
from shield.manoeuvre import grip_slip_rad
from shield.vehicle import Vehicle

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SLACK_M = 2e-6
"""What every comparison of a distance is demanded to hold by [m]: the code's own margin and rounding, twice."""

SLACK_H = 1e-8
"""The same for h [1/m] and, relative to its terms, for slopes."""

INFLATE = 1.0 + 1e-6
"""Factor on every radius."""


class Event:
    """F, its bounds on a neighbourhood of radius `eps` of e, and the signs of its slopes there."""

    def __init__(self, vehicle: Vehicle, method: Method) -> None:
        barrier = barrier_of(vehicle)
        self.l_r, self.radius, self.sigma = vehicle.l_r_m, barrier.r_bar_m, barrier.sigma
        self.method = method
        slip = grip_slip_rad(vehicle)
        self.slip, self.rho, self.rear = slip, vehicle.l_r_m / math.sin(slip), vehicle.l_r_m / math.tan(slip)

    def parts(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Return |e| - R (n,), f_j (n, m) and the gradients of f_j (n, m, 2) at e = (x, y), each (n,) [m]."""
        size = np.hypot(x, y)
        safe = np.maximum(size, 1e-9)
        values, gradients = [], []
        for side in (1.0, -1.0):
            dx, dy = x + self.l_r, y - side * self.rear
            far = np.maximum(np.hypot(dx, dy), 1e-9)
            values.append(far - self.rho - self.radius)
            gradients.append((dx / far, dy / far))
            if self.rho > self.radius:
                values.append(self.rho - self.radius - far)
                gradients.append((-dx / far, -dy / far))
        one, none = np.ones_like(x), np.zeros_like(x)
        cosine, sine = math.cos(self.slip), math.sin(self.slip)
        for value, gx, gy in (
            (y - self.radius, 0.0, 1.0),
            (-y - self.radius, 0.0, -1.0),
            (-x, -1.0, 0.0),
            (-(x * cosine + y * sine), -cosine, -sine),
            (-(x * cosine - y * sine), -cosine, sine),
        ):
            values.append(value)
            gradients.append((gx * one + none, gy * one))
        table = np.stack([np.stack(pair, axis=-1) for pair in gradients], axis=1)
        return safe - self.radius, np.stack(values, axis=1), table

    def bends(self, x: Array, y: Array) -> Array:
        """Return how fast each gradient can turn: 1/|e - f| for circles, 0 for lines; (n, m)."""
        found = []
        for side in (1.0, -1.0):
            far = np.maximum(np.hypot(x + self.l_r, y - side * self.rear), 1e-9)
            found += [1.0 / far] * (2 if self.rho > self.radius else 1)
        return np.stack([*found, *([np.zeros_like(x)] * 5)], axis=1)

    def value(self, x: Array, y: Array) -> Array:
        """Return F at e: a distance [m] for `backup`, h [1/m] for `barrier`."""
        if self.method is Method.BARRIER:
            return self.barrier(x, y)
        hold, ways, _ = self.parts(x, y)
        least: Array = np.minimum(hold, ways.max(axis=1))
        return least

    def level(self, x: Array, y: Array, eps: Array) -> tuple[Array, Array]:
        """Return how far beyond radius `eps` F > 0 is sure to reach, and F < 0; negative where it is not sure [m]."""
        value = self.value(x, y)
        if self.method is Method.BACKUP:
            return value - eps - SLACK_M, -value - eps - SLACK_M
        size = np.hypot(x, y)
        least = np.maximum(size - 1.5 * eps - 0.5, 0.5 * size)
        lip = np.sqrt(least**-4.0 + (self.sigma / (2.0 * self.radius) / least) ** 2)
        room = size - least
        ahead = np.minimum((value - SLACK_H) / lip, room) - eps
        behind = np.minimum((-value - SLACK_H) / lip, room) - eps
        return ahead - SLACK_M, behind - SLACK_M

    def barrier(self, x: Array, y: Array) -> Array:
        """Return h at e."""
        size = np.maximum(np.hypot(x, y), 1e-9)
        half = np.sqrt(np.clip(0.5 * (1.0 - x / size), 0.0, 1.0))
        found: Array = (self.sigma * half + 1.0 - self.sigma) / self.radius - 1.0 / size
        return found

    def slopes(self, x: Array, y: Array, eps: Array, beta: Array, dbeta: Array) -> tuple[Mask, Mask]:
        """Return where F strictly falls and where it strictly rises, wherever it matters, on the neighbourhood."""
        kappa, dkappa = np.sin(beta) / self.l_r, dbeta / self.l_r
        size = np.hypot(x, y)
        wx, wy = np.cos(beta) - kappa * y, np.sin(beta) + kappa * x
        # |w - w_c| with e anywhere within eps
        blur = (dbeta + dkappa * size + (np.abs(kappa) + dkappa) * eps) * INFLATE
        if self.method is Method.BARRIER:
            return self._barrier_slopes(x, y, eps, beta, dbeta)
        hold, ways, gradients = self.parts(x, y)
        speed = np.hypot(wx, wy)
        rate = -(gradients[:, :, 0] * wx[:, None] + gradients[:, :, 1] * wy[:, None])
        turn = self.bends(x, y) * eps[:, None]
        # a unit vector's direction is off by at most asin(turn): a chord of at most sqrt(2) turn
        error = np.where(turn < 0.7, math.sqrt(2.0) * turn * speed[:, None] + blur[:, None], np.inf) * INFLATE + SLACK_H
        matters = ways + eps[:, None] * INFLATE + SLACK_M >= 0.0
        toward = eps / np.maximum(size, 1e-9)
        rate0 = -(x * wx + y * wy) / np.maximum(size, 1e-9)
        error0 = np.where(toward < 0.7, math.sqrt(2.0) * toward * speed + blur, np.inf) * INFLATE + SLACK_H
        held = hold - eps * INFLATE - SLACK_M > 0.0
        # where one manoeuvre is sure to be clear, only the held arc decides
        served = ways.max(axis=1) - eps * INFLATE - SLACK_M > 0.0
        falls = (served | (~matters | (rate + error < 0.0)).all(axis=1)) & (held | (rate0 + error0 < 0.0))
        rises = (served | (~matters | (rate - error > 0.0)).all(axis=1)) & (held | (rate0 - error0 > 0.0))
        return falls, rises

    def _barrier_slopes(self, x: Array, y: Array, eps: Array, beta: Array, dbeta: Array) -> tuple[Mask, Mask]:
        size = np.maximum(np.hypot(x, y), 1e-9)
        least = np.maximum(size - eps, 1e-9)
        xi = np.arctan2(-y, -x)
        swing = np.where(eps < 0.7 * size, 1.2 * eps / size, np.inf)
        swing = np.minimum(swing, 10.0)
        gain = self.sigma / (2.0 * self.radius)
        kappa = np.sin(beta) / self.l_r
        outward, across = np.cos(xi - beta), np.sin(xi - beta)
        push = across / size + kappa
        turn = gain * np.sin(0.5 * xi)
        rate = outward / size**2 + turn * push
        spin = swing + dbeta
        shrink = eps / (size * least)
        error = spin / least**2 + 2.0 * eps / least**3
        push_error = spin / least + shrink + dbeta / self.l_r
        kinked = np.abs(xi) + swing >= math.pi
        turn_error = np.where(kinked, 2.0 * gain, 0.5 * gain * swing)
        error += turn_error * (np.abs(push) + push_error) + np.abs(turn) * push_error
        error = error * INFLATE + SLACK_H
        return rate + error < 0.0, rate - error > 0.0
