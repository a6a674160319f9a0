"""Read profiles: what a board's units cost, each figure with its unit and where it comes from.

A profile file is TOML::

    format = 1
    name = "drive_px2"
    device = "NVIDIA Drive PX 2"
    [sources.energyshield]
    cite = "Odema et al., ..."
    origin = "published"           # published, measured or declared
    license = "figures quoted as facts"
    [[models]]                     # whole models
    model = "ResNet-152"
    input = "160x80"
    latency = { value = 16.211, unit = "ms", source = "energyshield" }
    power = { value = 7.0, unit = "W", source = "energyshield" }      # optional
    energy = { value = 113.48, unit = "mJ", source = "energyshield" } # optional; latency x power where not given

and [[segments]], [[transitions]], [[clocks]] and [units], which docs/profiles.md explains. Figures are kept in SI
units. Energy, power and latency of one entry must agree to within rounding, percentiles must not fall, and no two
entries may tell of the same thing.
"""

import tomllib
from collections.abc import Hashable, Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import msgspec

from devices.errors import ProfileError
from devices.profile.figures import (
    Clocks,
    Figure,
    Latency,
    ModelFigures,
    Profile,
    SegmentFigures,
    Source,
    Transition,
    Unit,
)

FORMAT = 1
AGREEMENT = 0.005  # figures that contradict each other by more than rounding does are an error
_UNITS = {
    "latency": {"s": 1.0, "ms": 1e-3, "us": 1e-6},
    "power": {"W": 1.0, "mW": 1e-3},
    "energy": {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6},
    "size": {"B": 1.0, "kB": 1e3, "MB": 1e6, "KiB": 2.0**10, "MiB": 2.0**20},
    "frequency": {"Hz": 1.0, "MHz": 1e6, "GHz": 1e9},
}

_Positive = Annotated[float, msgspec.Meta(gt=0.0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class _FigureTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: _Positive
    unit: str
    source: str


class _EnergyTable(_FigureTable, frozen=True, forbid_unknown_fields=True):
    error: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0


class _LatencyTable(_FigureTable, frozen=True, forbid_unknown_fields=True):
    p99: _Positive | None = None
    p999: _Positive | None = None
    max: _Positive | None = None
    samples: Annotated[int, msgspec.Meta(ge=0)] = 0


class _ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    input: str
    latency: _FigureTable
    power: _FigureTable | None = None
    energy: _FigureTable | None = None
    unit: str = ""


class _SegmentTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    segment: str
    unit: str
    latency: _LatencyTable
    batch: _Count = 1
    after_idle: _LatencyTable | None = None
    beside_load: _LatencyTable | None = None
    energy: _EnergyTable | None = None
    memory: _FigureTable | None = None
    output: _FigureTable | None = None
    sha256: str = ""


class _TransitionTable(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"origin": "from", "target": "to"}
):
    model: str
    after: str
    origin: str
    target: str
    latency: _FigureTable


class _ClocksTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    of: str
    values: Annotated[list[_Positive], msgspec.Meta(min_length=1)]
    unit: str
    source: str


class _UnitTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    description: str = ""


class _ProfileFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    name: str
    device: str
    sources: dict[str, Source]
    models: list[_ModelTable] = []
    segments: list[_SegmentTable] = []
    transitions: list[_TransitionTable] = []
    clocks: list[_ClocksTable] = []
    units: dict[str, _UnitTable] = {}
    description: str = ""


def shipped_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that ship with Headway."""
    folder = files("devices") / "profiles"
    return tuple(sorted(i.name.removesuffix(".toml") for i in folder.iterdir() if i.name.endswith(".toml")))


def load_profile(name: str | Path) -> Profile:
    """Return a shipped profile by name, or the one in a file.

    Args:
        name: A shipped profile's name, or a path that ends in .toml.
    Raises:
        ProfileError: There is none, or its file has an unknown key or unit, lacks a source, or contradicts itself.
    """
    place: Path | Traversable = Path(name)
    if not str(name).endswith(".toml"):
        if name not in shipped_profiles():
            listed = list(shipped_profiles())
            raise ProfileError(f"there is no profile {str(name)!r}: shipped are {listed}, a file's path ends in .toml")
        place = files("devices") / "profiles" / f"{name}.toml"
    try:
        tables = tomllib.loads(place.read_text(encoding="utf-8"))
        parsed = msgspec.convert(tables, _ProfileFile)
    except OSError as error:
        raise ProfileError(f"profile {name} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ProfileError(f"profile {name}: {error}") from error
    if parsed.format != FORMAT:
        raise ProfileError(f"profile {name}: format is {parsed.format}: this version reads format {FORMAT}")
    if not (parsed.models or parsed.segments):
        raise ProfileError(f"profile {name} has no figures: at least one [[models]] or [[segments]] must be there")
    return _Reader(parsed).profile()


class _Reader:
    """Turns a parsed file into a profile."""

    def __init__(self, parsed: _ProfileFile) -> None:
        self._file = parsed
        self._what = f"profile {parsed.name!r}"

    def profile(self) -> Profile:
        """Return the profile.

        Raises:
            ProfileError: A unit or source is unknown, or figures contradict each other.
        """
        file = self._file
        self._once("model", ((table.model, table.input, table.unit) for table in file.models))
        self._once("segment", ((table.model, table.segment, table.unit, table.batch) for table in file.segments))
        self._once("transition", ((table.model, table.after, table.origin, table.target) for table in file.transitions))
        self._once("unit's clocks", (table.of for table in file.clocks))
        return Profile(
            file.name,
            file.device,
            file.description,
            tuple(map(self._model, file.models)),
            tuple(map(self._segment, file.segments)),
            tuple(map(self._transition, file.transitions)),
            tuple(Unit(name, table.description) for name, table in file.units.items()),
            tuple(map(self._clocks, file.clocks)),
        )

    def _once(self, kind: str, keys: Iterable[Hashable]) -> None:
        seen: set[Hashable] = set()
        for key in keys:
            if key in seen:
                raise ProfileError(f"{self._what} has two figures for the {kind} {key}: one must go")
            seen.add(key)

    def _model(self, table: _ModelTable) -> ModelFigures:
        what = f"{self._what}: {table.model} {table.input}"
        latency = self._figure(what, "latency", table.latency)
        power = self._maybe(what, "power", table.power)
        energy = self._maybe(what, "energy", table.energy)
        if power is not None:
            product_j = latency.value * power.value
            if energy is None:
                energy = Figure(product_j, f"{latency.given} x {power.given}", power.source)
            elif abs(energy.value - product_j) > AGREEMENT * product_j:
                raise ProfileError(f"{what}: energy {energy.given} is not {latency.given} x {power.given}")
        return ModelFigures(table.model, table.input, latency, power, energy, table.unit)

    def _segment(self, table: _SegmentTable) -> SegmentFigures:
        what = f"{self._what}: {table.model} {table.segment} on {table.unit} at batch {table.batch}"
        error_j = 0.0
        if table.energy is not None:
            error_j = table.energy.error * self._scale(what, "energy", "energy", table.energy.unit)
        return SegmentFigures(
            table.model,
            table.segment,
            table.unit,
            table.batch,
            self._latency(what, "latency", table.latency),
            None if table.after_idle is None else self._latency(what, "after_idle", table.after_idle),
            None if table.beside_load is None else self._latency(what, "beside_load", table.beside_load),
            self._maybe(what, "energy", table.energy),
            error_j,
            self._maybe(what, "memory", table.memory, "size"),
            self._maybe(what, "output", table.output, "size"),
            table.sha256,
        )

    def _latency(self, what: str, key: str, table: _LatencyTable) -> Latency:
        scale = self._scale(what, key, "latency", table.unit)
        rising = [value for value in (table.value, table.p99, table.p999, table.max) if value is not None]
        if rising != sorted(rising):
            raise ProfileError(
                f"{what}: {key} has percentiles {', '.join(map(str, rising))} {table.unit}: they must not fall"
            )
        p99_s, p999_s, max_s = (
            None if value is None else value * scale for value in (table.p99, table.p999, table.max)
        )
        source = self._source(what, key, table.source)
        return Latency(table.value * scale, source, p99_s, p999_s, max_s, table.samples)

    def _transition(self, table: _TransitionTable) -> Transition:
        what = f"{self._what}: {table.model} from {table.origin} to {table.target} after {table.after}"
        latency = self._figure(what, "latency", table.latency)
        return Transition(table.model, table.after, table.origin, table.target, latency)

    def _clocks(self, table: _ClocksTable) -> Clocks:
        what = f"{self._what}: clocks of {table.of}"
        scale = self._scale(what, "values", "frequency", table.unit)
        if table.values != sorted(set(table.values)):
            raise ProfileError(f"{what}: {table.values} must rise")
        return Clocks(table.of, tuple(v * scale for v in table.values), self._source(what, "values", table.source))

    def _maybe(self, what: str, key: str, table: _FigureTable | None, quantity: str | None = None) -> Figure | None:
        return None if table is None else self._figure(what, key, table, quantity)

    def _figure(self, what: str, key: str, table: _FigureTable, quantity: str | None = None) -> Figure:
        scale = self._scale(what, key, quantity or key, table.unit)
        return Figure(table.value * scale, f"{table.value:g} {table.unit}", self._source(what, key, table.source))

    def _scale(self, what: str, key: str, quantity: str, unit: str) -> float:
        scales: Mapping[str, float] = _UNITS[quantity]
        if unit not in scales:
            raise ProfileError(f"{what}: {key} has unit {unit!r}: must be one of {', '.join(scales)}")
        return scales[unit]

    def _source(self, what: str, key: str, name: str) -> Source:
        if name not in self._file.sources:
            raise ProfileError(
                f"{what}: {key} has source {name!r}: must be one of {', '.join(sorted(self._file.sources))}"
            )
        return self._file.sources[name]
