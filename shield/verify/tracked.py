"""A number with the rounding it gathers: what a formula gives anywhere in a cell, and how far floating point is off.

`Tracked` holds a ball of python-flint's arb around every exact value of an expression over a cell, and a bound on the
error that the same expression, carried out in double precision, has gathered so far. Each operation adds the errors of
its operands and one rounding, u = 2^-53 of its result, so that the shield's own formulas, given such numbers, tell
their own error. Bounds are summed in double precision and taken larger by `GROWTH`, far more than that sum can be off.
"""

from flint import arb

UNIT = 2.0**-53
"""Relative error of one operation in double precision, rounded to nearest."""

LIBRARY = 2.0 * UNIT
"""Relative error allowed to sin, cos and atan: one unit in the last place."""

GROWTH = 1.0 + 1e-12

SMALLEST = 1e-290
"""Covers what underflow takes from one operation."""


class Tracked:
    """One number: `ball` around the exact value over the cell, `error` of the value in floating point.

    Comparisons answer "may be": an event that some state of the cell asks for is looked at.
    """

    __slots__ = ("ball", "error")

    def __init__(self, ball: arb | float, error: float = 0.0) -> None:
        self.ball = ball if isinstance(ball, arb) else arb(ball)
        self.error = error

    @property
    def most(self) -> float:
        """Largest size of the value in floating point."""
        return _size(self.ball) * GROWTH + self.error

    def __add__(self, other: "Tracked | float") -> "Tracked":
        other = _as_tracked(other)
        return _rounded(self.ball + other.ball, self.error + other.error)

    def __sub__(self, other: "Tracked | float") -> "Tracked":
        other = _as_tracked(other)
        return _rounded(self.ball - other.ball, self.error + other.error)

    def __rsub__(self, other: float) -> "Tracked":
        return _as_tracked(other) - self

    def __mul__(self, other: "Tracked | float") -> "Tracked":
        if other is self:
            size = _size(self.ball)
            square = (self.ball * self.ball).nonnegative_part()
            return _rounded(square, self.error * (2.0 * size + self.error))
        other = _as_tracked(other)
        error = _size(self.ball) * other.error + _size(other.ball) * self.error + self.error * other.error
        return _rounded(self.ball * other.ball, error)

    def __neg__(self) -> "Tracked":
        return Tracked(-self.ball, self.error)

    def __gt__(self, other: float) -> bool:
        return float(self.ball.upper()) + self.error >= other

    __radd__ = __add__
    __rmul__ = __mul__


def _as_tracked(value: "Tracked | float") -> Tracked:
    return value if isinstance(value, Tracked) else Tracked(arb(value))


def _size(ball: arb) -> float:
    return float(ball.abs_upper())


def _rounded(ball: arb, error: float) -> Tracked:
    return Tracked(ball, (error + UNIT * (_size(ball) + error) + SMALLEST) * GROWTH)
