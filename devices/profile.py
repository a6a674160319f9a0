"""Device profiles: what a device costs, each figure with its unit and where it comes from.

A profile file is TOML::

    format = 1
    name = "drive_px2"
    device = "NVIDIA Drive PX 2"
    [sources.energyshield]
    cite = "Odema et al., ..."
    origin = "published"           # published, measured or declared
    license = "figures quoted as facts"
    [[models]]
    model = "ResNet-152"
    input = "160x80"
    latency = { value = 16.211, unit = "ms", source = "energyshield" }
    power = { value = 7.0, unit = "W", source = "energyshield" }      # optional
    energy = { value = 113.48, unit = "mJ", source = "energyshield" } # optional; latency x power where not given

Figures are kept in SI units. Energy, power and latency of one entry must agree to within rounding.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import msgspec

from devices.errors import ProfileError
from devices.package.graph import Package

FORMAT = 1
AGREEMENT = 0.005  # figures that contradict each other by more than rounding does are an error
_UNITS = {
    "latency": {"s": 1.0, "ms": 1e-3, "us": 1e-6},
    "power": {"W": 1.0, "mW": 1e-3},
    "energy": {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6},
}


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


class _FigureTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: Annotated[float, msgspec.Meta(gt=0.0)]
    unit: str
    source: str


class _ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    input: str
    latency: _FigureTable
    power: _FigureTable | None = None
    energy: _FigureTable | None = None


class _ProfileFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    name: str
    device: str
    sources: dict[str, Source]
    models: Annotated[list[_ModelTable], msgspec.Meta(min_length=1)]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number in SI units, as it was given, and its source."""

    value: float
    given: str
    source: Source


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What one model costs on the device.

    Args:
        model: The model's name.
        input: Size of its input, as the source names it.
        latency: Time of one run [s].
        power: Power while it runs [W].
        energy: Energy of one run [J]; None where neither it nor the power is known.
    """

    model: str
    input: str
    latency: Figure
    power: Figure | None
    energy: Figure | None


@dataclass(frozen=True, slots=True)
class Profile:
    """A device with its figures."""

    name: str
    device: str
    description: str
    models: tuple[ModelFigures, ...]

    def figures(self, model: str, input: str) -> ModelFigures:
        """Return what a model costs at an input size.

        Raises:
            ProfileError: The profile has no such entry; the message lists those it has.
        """
        for entry in self.models:
            if (entry.model, entry.input) == (model, input):
                return entry
        known = [f"{entry.model} {entry.input}" for entry in self.models]
        raise ProfileError(f"profile {self.name!r} has no {model} {input}: it has {known}")


def load_profile(name: str | Path) -> Profile:
    """Return a shipped profile by name, or the one in a file.

    Args:
        name: A shipped profile's name, or a path that ends in .toml.
    Raises:
        ProfileError: There is none, or its file has an unknown key or unit, lacks a source, or contradicts itself.
    """
    place: Path | Traversable = Path(name)
    if not str(name).endswith(".toml"):
        shipped = files("devices") / "profiles"
        names = sorted(item.name.removesuffix(".toml") for item in shipped.iterdir() if item.name.endswith(".toml"))
        if name not in names:
            raise ProfileError(f"there is no profile {name!r}: shipped are {names}, a file's path ends in .toml")
        place = shipped / f"{name}.toml"
    try:
        tables = tomllib.loads(place.read_text(encoding="utf-8"))
        parsed = msgspec.convert(tables, _ProfileFile)
    except OSError as error:
        raise ProfileError(f"profile {name} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ProfileError(f"profile {name}: {error}") from error
    if parsed.format != FORMAT:
        raise ProfileError(f"profile {name}: format is {parsed.format}: this version reads format {FORMAT}")
    entries = tuple(_entry(parsed, table) for table in parsed.models)
    return Profile(parsed.name, parsed.device, parsed.description, entries)


def _entry(parsed: _ProfileFile, table: _ModelTable) -> ModelFigures:
    what = f"profile {parsed.name!r}: {table.model} {table.input}"
    latency = _figure(what, "latency", table.latency, parsed.sources)
    power = None if table.power is None else _figure(what, "power", table.power, parsed.sources)
    energy = None if table.energy is None else _figure(what, "energy", table.energy, parsed.sources)
    if power is not None:
        product_j = latency.value * power.value
        if energy is None:
            energy = Figure(product_j, f"{latency.given} x {power.given}", power.source)
        elif abs(energy.value - product_j) > AGREEMENT * product_j:
            raise ProfileError(f"{what}: energy {energy.given} is not {latency.given} x {power.given}")
    return ModelFigures(table.model, table.input, latency, power, energy)


def _figure(what: str, quantity: str, table: _FigureTable, sources: Mapping[str, Source]) -> Figure:
    scale = _UNITS[quantity].get(table.unit)
    if scale is None:
        raise ProfileError(f"{what}: {quantity} has unit {table.unit!r}: must be one of {list(_UNITS[quantity])}")
    if table.source not in sources:
        raise ProfileError(f"{what}: {quantity} has source {table.source!r}: must be one of {sorted(sources)}")
    return Figure(table.value * scale, f"{table.value:g} {table.unit}", sources[table.source])


def times_by_macs(package: Package, latency_s: float) -> dict[str, float]:
    """Share a latency out over a package's segments by their multiply-accumulates.

    t_i = latency x macs_i / sum of macs: an assumption, to be used where no segment was measured.

    Args:
        package: The package.
        latency_s: Time of all segments together [s].
    Returns:
        Time of each segment by id [s].
    Raises:
        ProfileError: No segment declares multiply-accumulates.
    """
    total = sum(segment.macs for segment in package.segments)
    if total == 0:
        raise ProfileError(f"package {package.name!r} declares no multiply-accumulates to share a time out by")
    return {segment.id: latency_s * segment.macs / total for segment in package.segments}
