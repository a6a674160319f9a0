"""Tables of a scenario file, read key by key; errors tell the key, its value and what would be right.

A number that may differ from seed to seed is written as `[low, high]` and drawn evenly from there:

    s_m = 40.0            # always
    s_m = [35.0, 45.0]    # drawn for each seed
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from carla_bridge.errors import ScenarioError


@dataclass(frozen=True, slots=True)
class Range:
    """Where a number is drawn from, evenly; both ends the same: always that number."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Return a number of the range; a generator is asked exactly once, also where there is no choice."""
        return self.low + (self.high - self.low) * float(rng.random())

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"


ZERO = Range(0.0, 0.0)
"""Always 0."""

ONE = Range(1.0, 1.0)
"""Always 1."""


class Table:
    """One table of a file.

    Args:
        values: What TOML made of it.
        where: What to put in front of its keys in errors, such as "road.toml: obstacle[0].".
        known: Every key that it may have.
    Raises:
        ScenarioError: it is no table, or has another key.
    """

    def __init__(self, values: Any, where: str, known: Iterable[str]) -> None:
        if not isinstance(values, dict):
            raise ScenarioError(f"{where.rstrip('.')} = {values!r}: must be a table of keys and values")
        self._values, self._where = values, where
        names = sorted(known)
        for key in values:
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ScenarioError(f"{where}{key}: unknown key; {hint}known here are {', '.join(names)}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def where(self, key: str) -> str:
        """Return what a key of this table is called in errors."""
        return f"{self._where}{key}"

    def number(
        self, key: str, default: float | None = None, *, least: float = -math.inf, positive: bool = False
    ) -> float:
        """Return a finite number, not below `least`, or above 0; without a default it must be there."""
        return _number(self._values.get(key, default), self.where(key), least, positive)

    def optional(self, key: str, *, positive: bool = True) -> float | None:
        """Return a positive number (or one not below 0), or None where the key is left out."""
        if key not in self._values:
            return None
        return self.number(key, least=0.0, positive=positive)

    def range(
        self, key: str, default: Range | None = None, *, least: float = -math.inf, positive: bool = False
    ) -> Range:
        """Return where a number is drawn from: written as one number, or as [low, high]."""
        value = self._values.get(key)
        if value is None and key not in self._values and default is not None:
            return default
        if not isinstance(value, list):
            single = _number(value, self.where(key), least, positive, " or [low, high]")
            return Range(single, single)
        if len(value) != 2:
            raise ScenarioError(f"{self.where(key)} = {value!r}: a range is two numbers, [low, high]")
        low, high = (_number(end, f"{self.where(key)}[{i}]", least, positive) for i, end in enumerate(value))
        if low > high:
            raise ScenarioError(f"{self.where(key)} = {value!r}: the first number must not be above the second")
        return Range(low, high)

    def whole(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        """Return a whole number that is not below `least`."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            kind = "that is not negative" if least == 0 else f"from {least} up"
            raise ScenarioError(f"{self.where(key)} = {value!r}: must be a whole number {kind}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string that is not empty."""
        value = self._values.get(key, default)
        if not isinstance(value, str) or not value:
            raise ScenarioError(f"{self.where(key)} = {value!r}: must be a string that is not empty")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        """Return one of `choices`."""
        value = self._values.get(key, default)
        if value not in choices:
            raise ScenarioError(f"{self.where(key)} = {value!r}: must be one of {', '.join(choices)}")
        return str(value)

    def table(self, key: str, known: Iterable[str]) -> "Table":
        """Return a table within this one, empty where the key is left out."""
        return Table(self._values.get(key, {}), f"{self.where(key)}.", known)

    def raw(self, key: str) -> Any:
        """Return a value as TOML gave it; None where the key is left out."""
        return self._values.get(key)

    def items(self, key: str) -> list[tuple[Any, str]]:
        """Return each item of a list of tables with its name in errors; empty where the key is left out."""
        value = self._values.get(key, [])
        if not isinstance(value, list):
            raise ScenarioError(f"{self.where(key)} = {value!r}: must be a list of tables, [[{key}]]")
        return [(item, f"{self.where(key)}[{number}]") for number, item in enumerate(value)]


def _number(value: object, where: str, least: float, positive: bool, more: str = "") -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and value >= least and (not positive or value > 0.0):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    if positive and is_number:
        raise ScenarioError(f"{where} = {value!r}: must be positive")
    kind = "a number that is not negative" if least == 0.0 else "a finite number"
    if math.isfinite(least) and least != 0.0:
        kind = f"a number from {least:g} up"
    raise ScenarioError(f"{where} = {value!r}: must be {kind}{more}")
