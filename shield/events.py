"""When a point or a line fixed to the body meets an obstacle, while the vehicle drives along its held arc: closed form.

Seen from the body, an obstacle turns about C = (-l, l cot beta) with the curvature kappa of the arc. With
t = (2/kappa) tan(kappa s/2), which is s itself when kappa vanishes, sin(kappa s)/kappa = t/(1 + m) and
(1 - cos(kappa s))/kappa = (kappa t^2/2)/(1 + m), m = kappa^2 t^2/4, so that both questions are quadratic in t:

    circle of radius c about the body point f:  d = f - o, w = (cos beta - kappa f_y, sin beta + kappa f_x),
        (|w|^2 + kappa (d_y w_x - d_x w_y) + kappa^2 E/4) t^2 + 2 (d.w) t + E = 0,           E = |d|^2 - c^2
    line n.e = c:  W = (cos beta - kappa o_y, sin beta + kappa o_x),
        (kappa (n_y W_x - n_x W_y)/2 + kappa^2 Q/4) t^2 - (n.W) t + Q = 0,                   Q = n.o - c

and s = (2/kappa) atan(kappa t/2) modulo 2 pi/|kappa|. Nothing here divides by kappa before it is known to be away from
zero; the squared distance written as A + B cos(kappa s + phi) would, and loses every digit as beta tends to 0.
"""

import math

ARC_IS_LINE_RAD = 1e-12
"""An arc that turns less than this over the length asked about counts as a line: it strays by 5e-13 of its length."""

GRAZE = 1e-8
"""A quadratic that misses zero by less than this all along the arc counts as touching it: in m^2 for a circle, in m for
a line. Rounding can then hide no root of a deeper crossing (`shield.verify.everywhere`)."""

LEAST_INNER_M, LEAST_INNER_OF_ARC_M = 0.25, 1.0
"""A disc counts as lying inside a turning circle, or arc, only with this much room [m]: squares of less lose digits."""

HOLE_M = 0.002
"""Inside an arc with less room the whole hole counts as touched, and this much more [m]: its edge is off by less."""

Roots = list[float]


class Arc:
    """The held arc, with what every event along it needs.

    Args:
        beta_rad: Slip angle held [rad].
        l_r_m: Distance from the centre of gravity to the rear axle [m].
        length_m: Length asked about [m]; events beyond it are not reported.
    """

    __slots__ = ("cos_beta", "kappa", "length", "period", "sin_beta")

    def __init__(self, beta_rad: float, l_r_m: float, length_m: float) -> None:
        self.cos_beta = math.cos(beta_rad)
        self.sin_beta = math.sin(beta_rad)
        self.kappa = self.sin_beta / l_r_m
        if abs(self.kappa) * length_m < ARC_IS_LINE_RAD:
            self.kappa = 0.0
        self.period = 2.0 * math.pi / abs(self.kappa) if self.kappa != 0.0 else math.inf
        self.length = min(length_m, self.period)

    def seen_from(self, s: float, x: float, y: float) -> tuple[float, float]:
        """Return the body coordinates, after `s` metres, of a point that was at (x, y) at the start."""
        kappa = self.kappa
        if kappa == 0.0:
            return x - s * self.cos_beta, y - s * self.sin_beta
        # Half-angle form: chord 2 sin(kappa s/2)/kappa in the direction beta - kappa s/2, seen from the turned body.
        half = 0.5 * kappa * s
        sine, cosine = math.sin(half), math.cos(half)
        chord = 2.0 * sine / kappa
        away_x = x - chord * (self.cos_beta * cosine - self.sin_beta * sine)
        away_y = y - chord * (self.sin_beta * cosine + self.cos_beta * sine)
        cos_turn, sin_turn = 1.0 - 2.0 * sine * sine, 2.0 * sine * cosine
        return cos_turn * away_x + sin_turn * away_y, cos_turn * away_y - sin_turn * away_x

    def add_circle(self, roots: Roots, fx: float, fy: float, c: float, ox: float, oy: float) -> None:
        """Append every s in (0, length) at which the obstacle centre (ox, oy) is at distance `c` of the body point."""
        kappa = self.kappa
        dx, dy = fx - ox, fy - oy
        wx, wy = self.cos_beta - kappa * fy, self.sin_beta + kappa * fx
        e = dx * dx + dy * dy - c * c
        self._add(
            roots, wx * wx + wy * wy + kappa * (dy * wx - dx * wy) + 0.25 * kappa * kappa * e, dx * wx + dy * wy, e
        )

    def add_line(self, roots: Roots, nx: float, ny: float, c: float, ox: float, oy: float) -> None:
        """Append every s in (0, length) at which the obstacle centre is on the body line n.e = c."""
        kappa = self.kappa
        wx, wy = self.cos_beta - kappa * oy, self.sin_beta + kappa * ox
        q = nx * ox + ny * oy - c
        self._add(roots, 0.5 * kappa * (ny * wx - nx * wy) + 0.25 * kappa * kappa * q, -0.5 * (nx * wx + ny * wy), q)

    def add_ground_line(self, roots: Roots, nx: float, ny: float, c: float, fx: float, fy: float) -> None:
        """Append every s in (0, length) at which the body point f is on the line n.p = c that stays where it is."""
        kappa = self.kappa
        wx, wy = self.cos_beta - kappa * fy, self.sin_beta + kappa * fx
        q = nx * fx + ny * fy - c
        self._add(roots, 0.5 * kappa * (ny * wx - nx * wy) + 0.25 * kappa * kappa * q, 0.5 * (nx * wx + ny * wy), q)

    def _add(self, roots: Roots, a: float, half_b: float, c: float) -> None:
        """Append the solutions of a t^2 + 2 half_b t + c = 0 as arc lengths."""
        discriminant = half_b * half_b - a * c
        if discriminant < 0.0:
            if discriminant < -GRAZE * abs(a + 0.25 * self.kappa * self.kappa * c):
                return
            discriminant = 0.0
        q = math.sqrt(discriminant)
        q = -half_b - q if half_b > 0.0 else q - half_b
        kappa, period, length = self.kappa, self.period, self.length
        if kappa == 0.0:
            if q != 0.0 and 0.0 < c / q < length:
                roots.append(c / q)
            if a != 0.0 and 0.0 < q / a < length:
                roots.append(q / a)
            return
        # t = infinity is the far side of the circle, s = pi/|kappa|: the second root when the t^2 term vanishes.
        double = 2.0 / kappa
        s = double * math.atan(0.5 * kappa * c / q) if q != 0.0 else 0.5 * period
        if s < 0.0:
            s += period
        if 0.0 < s < length:
            roots.append(s)
        s = double * math.atan(0.5 * kappa * q / a) if a != 0.0 else 0.5 * period
        if s < 0.0:
            s += period
        if 0.0 < s < length:
            roots.append(s)
