"""Where two values differ first, in the order of their fields."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that came out otherwise than recorded.

    Args:
        path: The file.
        where: Which decision.
        field: Which field of it.
        recorded, repeated: What it was, and what it came out as.
    """

    path: Path
    where: str
    field: str
    recorded: Any
    repeated: Any

    def __str__(self) -> str:
        return f"{self.path.name}: {self.where}: {self.field} was {self.recorded!r}, comes out as {self.repeated!r}"


def first_difference(recorded: Any, repeated: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Return the dotted name of the first part that differs, with both values; None where nothing does."""
    if isinstance(recorded, dict) and isinstance(repeated, dict):
        for key in [*recorded, *(key for key in repeated if key not in recorded)]:
            if key not in recorded or key not in repeated:
                return f"{name}{key}", recorded.get(key, "missing"), repeated.get(key, "missing")
            found = first_difference(recorded[key], repeated[key], f"{name}{key}.")
            if found is not None:
                return found
        return None
    if isinstance(recorded, list | tuple) and isinstance(repeated, list | tuple):
        if len(recorded) != len(repeated):
            return f"{name}length", len(recorded), len(repeated)
        for index, (one, other) in enumerate(zip(recorded, repeated, strict=True)):
            found = first_difference(one, other, f"{name}{index}.")
            if found is not None:
                return found
        return None
    return None if _same(recorded, repeated) else (name.rstrip("."), recorded, repeated)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return (one == other and math.copysign(1.0, one) == math.copysign(1.0, other)) or (
            one != one and other != other
        )
    return type(one) is type(other) and bool(one == other)
