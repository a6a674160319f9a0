"""A profile in memory: figures in SI units, each with its source.

A profile is of one board. The board has units (a processor core, a GPU, a DLA); whole models and single segments have
figures on a unit, at a batch. Going from one unit to another in the middle of a model may cost a transition.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import msgspec

from devices.errors import ProfileError
from devices.package.graph import Package


class Origin(StrEnum):
    """How a figure came to be."""

    PUBLISHED = "published"
    MEASURED = "measured"
    DECLARED = "declared"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where figures come from."""

    cite: str
    origin: Origin
    license: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A number in SI units, as it was given, and its source."""

    value: float
    given: str
    source: Source


@dataclass(frozen=True, slots=True)
class Latency:
    """The time of one run, as far as it is known.

    Args:
        p50_s: Median [s]; the mean where the source gives that alone.
        source: Where it comes from.
        p99_s, p999_s, max_s: 99 %, 99.9 % and greatest [s].
        samples: Runs that were timed; 0 where not told.
    """

    p50_s: float
    source: Source
    p99_s: float | None = None
    p999_s: float | None = None
    max_s: float | None = None
    samples: int = 0


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What one whole model costs.

    Args:
        model: The model's name.
        input: Size of its input, as the source names it.
        latency: Time of one run [s].
        power: Power while it runs [W].
        energy: Energy of one run [J]; None where neither it nor the power is known.
        unit: The board's unit it ran on; "" where the profile tells of one alone.
    """

    model: str
    input: str
    latency: Figure
    power: Figure | None
    energy: Figure | None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class SegmentFigures:
    """What one segment costs on one unit at one batch.

    Args:
        model, segment: The package and the segment in it.
        unit: The unit it ran on.
        batch: Inputs in one run.
        latency: One run after another, nothing beside it.
        after_idle: Each run after a pause.
        beside_load: One run after another beside a busy neighbour.
        energy: Energy of one run, the unit's idle power included [J].
        energy_error_j: How far the meter may be off on it [J].
        memory: Memory it takes once loaded and run [byte].
        output: Size of the tensors it hands on [byte].
        sha256: Hash of the segment's file, or "".
    """

    model: str
    segment: str
    unit: str
    batch: int
    latency: Latency
    after_idle: Latency | None = None
    beside_load: Latency | None = None
    energy: Figure | None = None
    energy_error_j: float = 0.0
    memory: Figure | None = None
    output: Figure | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    """What it costs to go on with a model on another unit after a segment [s]."""

    model: str
    after: str
    origin: str
    target: str
    latency: Figure


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of the board and what is worth telling of it."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The frequencies that a unit can be set to [Hz], ascending."""

    unit: str
    frequencies_hz: tuple[float, ...]
    source: Source


@dataclass(frozen=True)
class Profile:
    """A board with its figures."""

    name: str
    device: str
    description: str = ""
    models: tuple[ModelFigures, ...] = ()
    segments: tuple[SegmentFigures, ...] = ()
    transitions: tuple[Transition, ...] = ()
    units: tuple[Unit, ...] = ()
    clocks: tuple[Clocks, ...] = ()

    def figures(self, model: str, input: str, unit: str | None = None) -> ModelFigures:
        """Return what a whole model costs at an input size.

        Raises:
            ProfileError: The profile has no such entry; the message lists those it has.
        """
        for entry in self.models:
            if (entry.model, entry.input) == (model, input) and unit in (None, entry.unit):
                return entry
        known = [f"{entry.model} {entry.input} {entry.unit}".strip() for entry in self.models]
        raise ProfileError(f"profile {self.name!r} has no {model} {input}{f' on {unit}' if unit else ''}: {_of(known)}")

    @cached_property
    def by_segment(self) -> dict[tuple[str, str, str, int], SegmentFigures]:
        """Every segment's figures by model, segment, unit and batch."""
        return {(entry.model, entry.segment, entry.unit, entry.batch): entry for entry in self.segments}

    def segment(self, model: str, segment: str, unit: str, batch: int = 1) -> SegmentFigures:
        """Return what a segment costs on a unit at a batch.

        Raises:
            ProfileError: The profile has no such entry; the message says which units and batches it has.
        """
        entry = self.by_segment.get((model, segment, unit, batch))
        if entry is None:
            known = [f"{e.unit} batch {e.batch}" for e in self.segments if (e.model, e.segment) == (model, segment)]
            what = f"segment {segment!r} of {model!r} on {unit!r} at batch {batch}"
            raise ProfileError(f"profile {self.name!r} has no {what}: {_of(known)}")
        return entry

    def units_of(self, model: str) -> tuple[str, ...]:
        """Return the units on which segments of a model were measured."""
        return tuple(dict.fromkeys(entry.unit for entry in self.segments if entry.model == model))

    def times_s(self, package: Package, unit: str | None = None, batch: int = 1) -> dict[str, float]:
        """Return the median time of every segment of a package on one unit [s].

        Args:
            package: The package.
            unit: The unit; None where the profile has the model on one alone.
            batch: Inputs in one run.
        Raises:
            ProfileError: A segment is missing, was measured from another file, or the unit must be told.
        """
        if unit is None:
            units = self.units_of(package.name)
            if len(units) != 1:
                raise ProfileError(f"profile {self.name!r} has {package.name!r} on {list(units)}: say which unit")
            unit = units[0]
        entries = {part.id: self.segment(package.name, part.id, unit, batch) for part in package.segments}
        for part in package.segments:
            if entries[part.id].sha256 not in ("", part.sha256):
                raise ProfileError(
                    f"profile {self.name!r}: segment {part.id!r} of {package.name!r} was measured from a file with "
                    f"SHA-256 {entries[part.id].sha256}, the package's has {part.sha256}: measure it again"
                )
        return {segment_id: entry.latency.p50_s for segment_id, entry in entries.items()}


def _of(known: Iterable[str]) -> str:
    listed = list(known)
    return f"it has {listed}" if listed else "it has none of that kind"
