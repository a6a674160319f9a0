"""The package file, package.toml: its tables and keys, decoded strictly.

Every table is closed: an unknown key is an error. `[calibration]` and `[card]` are free. The format number is looked at
before anything else, so that a newer package is told apart from a damaged one.
"""

import re
import tomllib
from typing import Annotated, Any

import msgspec

from devices.errors import PackageError

FORMAT = 1
FILE_NAME = "package.toml"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Tensor = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0)]


class InputTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[inputs]]."""

    name: Tensor
    dtype: str
    shape: list[int | str]


class SegmentTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[segments]]."""

    id: Name
    file: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    sha256: Sha256
    inputs: list[Tensor]
    outputs: list[Tensor]
    macs: Count = 0


class ExitTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[exits]]."""

    id: Name
    segment: Name
    answer: Tensor
    confidence: Tensor | None = None
    kind: str = "custom"
    threshold: float | None = None


class AnswerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[answer]."""

    names: list[str] = []


class PackageFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    format: int
    name: Name
    version: Name
    license: str
    origin: str
    inputs: Annotated[list[InputTable], msgspec.Meta(min_length=1)]
    segments: Annotated[list[SegmentTable], msgspec.Meta(min_length=1)]
    exits: Annotated[list[ExitTable], msgspec.Meta(min_length=1)]
    description: str = ""
    answer: AnswerTable = AnswerTable()
    calibration: dict[str, Any] = {}
    card: dict[str, Any] = {}


def parse(what: str, data: bytes) -> PackageFile:
    """Decode a package file.

    Args:
        what: Path for messages.
        data: The file's bytes.
    Raises:
        PackageError: Not TOML, of an unknown format, or a key is missing, unknown or of the wrong kind.
    """
    try:
        tables = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise PackageError(f"{what} is not TOML: {error}") from error
    if tables.get("format") != FORMAT or isinstance(tables["format"], bool):
        given = tables.get("format", "missing")
        raise PackageError(f"{what}: format is {given!r}: this version reads format {FORMAT}")
    try:
        return msgspec.convert(tables, PackageFile)
    except (msgspec.ValidationError, RecursionError) as error:
        raise PackageError(f"{what}: {error}{_value_at(tables, str(error))}") from error


def _value_at(tables: Any, message: str) -> str:
    """Return ", not VALUE" for the place a validation message points at, as `$.segments[0].id`."""
    place = re.search(r"`\$((?:\.[A-Za-z0-9_]+|\[\d+\])+)`", message)
    if place is None:
        return ""
    value = tables
    try:
        for key, index in re.findall(r"\.([A-Za-z0-9_]+)|\[(\d+)\]", place.group(1)):
            value = value[key] if key else value[int(index)]
    except (KeyError, IndexError, TypeError):
        return ""
    return "" if isinstance(value, dict | list) else f", not {value!r}"
