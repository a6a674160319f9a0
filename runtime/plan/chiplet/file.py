"""The file of `headway plan --chiplets`: a package, the patterns of it to compare, and what runs on it.

Reference: docs/chiplets.md has every key.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from devices.chiplet.chip import E_MAC_J
from devices.chiplet.package import Package, make_package
from devices.chiplet.tables import load_table, shipped
from runtime.plan.chiplet.mix import Mix, Work
from runtime.plan.chiplet.search import Effort
from runtime.plan.errors import PlanError, named

FORMAT = 1
Count = Annotated[int, msgspec.Meta(ge=1)]


class _Package(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rows: Annotated[int, msgspec.Meta(ge=1, le=16)]
    columns: Annotated[int, msgspec.Meta(ge=1, le=16)]
    pes: Count
    patterns: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("ws", "os", "checkerboard", "sides")
    l2_bytes: Count = 10_000_000
    lanes: Count = 1
    mac_j: Annotated[float, msgspec.Meta(gt=0.0)] = E_MAC_J


class _Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    table: Annotated[str, msgspec.Meta(min_length=1)]
    batch: Count = 1
    name: str | None = None


class _Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    from_memory: tuple[str, ...]


class _Effort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    windows: Annotated[int, msgspec.Meta(ge=1, le=16)] = 3
    steps: Annotated[int, msgspec.Meta(ge=0)] = 300
    seed: int = 0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    name: str
    package: _Package
    models: Annotated[tuple[_Model, ...], msgspec.Meta(min_length=1)]
    effort: _Effort = _Effort()
    pipeline: _Pipeline | None = None


class Request(msgspec.Struct, frozen=True):
    """What a file asks for.

    Args:
        from_memory: Models whose input comes from memory, for a pipeline; None to schedule one run of the mix.
    """

    mix: Mix
    packages: tuple[Package, ...]
    effort: Effort
    from_memory: tuple[str, ...] | None


def read_request(path: Path) -> Request:
    """Return what a file asks for; tables that aren't shipped are looked for beside the file.

    Raises:
        PlanError: The file can't be read, or a key, pattern or size is wrong.
        TableError: A layer table is missing or wrong.
    """
    try:
        given = msgspec.toml.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: {error}") from error
    if given.format != FORMAT:
        raise PlanError(f"{path}: this version reads format {FORMAT}, not {given.format}")
    try:
        works = tuple(_work(path.parent, model) for model in given.models)
        mix = Mix(given.name, works)
        shape = given.package
        packages = tuple(
            make_package(p, shape.rows, shape.columns, shape.pes, shape.l2_bytes, shape.lanes, shape.mac_j)
            for p in shape.patterns
        )
    except ValueError as error:
        raise PlanError(f"{path}: {error}") from error
    names = {work.name for work in works}
    sources = None if given.pipeline is None else given.pipeline.from_memory
    if sources is not None and not set(sources) <= names:
        raise PlanError(
            f"{path}: pipeline.from_memory {named(sources)}: must be among the models {named(sorted(names))}"
        )
    return Request(mix, packages, Effort(given.effort.windows, given.effort.steps, given.effort.seed), sources)


def _work(folder: Path, model: _Model) -> Work:
    table = model.table if model.table in shipped() else str(folder / model.table)
    return Work(model.name or Path(model.table).stem, load_table(table), model.batch)
