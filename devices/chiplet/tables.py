"""Layer tables of networks, shipped as CSV files with their source; your own may be read by path.

One row a layer in the order in which they run: name,kind,k,c,r,s,y,x,stride,copies, as in `Layer`; the first line is a
comment with the source. examples/chiplet_tables.py makes the shipped ones from the networks' definitions.
"""

import csv
from functools import lru_cache
from pathlib import Path
from typing import get_args

from devices.chiplet.layer import Kind, Layer
from devices.errors import DeviceError

FOLDER = Path(__file__).with_name("tables")
SIZES = ("k", "c", "r", "s", "y", "x", "stride", "copies")


class TableError(DeviceError):
    """A layer table is missing or wrong."""


def shipped() -> tuple[str, ...]:
    """Return the names of the shipped tables."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.csv")))


@lru_cache(maxsize=64)
def load_table(name: str) -> tuple[Layer, ...]:
    """Return the layers of a shipped table, or of a CSV file.

    Raises:
        TableError: There is none, or a row isn't a layer.
    """
    path = FOLDER / f"{name}.csv" if name in shipped() else Path(name)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"no layer table {name!r}: shipped are {', '.join(shipped())}; or a CSV file") from error
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    layers = tuple(_layer(path, number, row) for number, row in enumerate(rows, 1))
    if not layers:
        raise TableError(f"layer table {path} has no layers")
    return layers


def source(name: str) -> str:
    """Return where a shipped table comes from."""
    return (FOLDER / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")


def _layer(path: Path, number: int, row: dict[str, str]) -> Layer:
    try:
        kind = row["kind"]
        if kind not in get_args(Kind):
            raise ValueError(f"kind {kind!r}: one of {', '.join(get_args(Kind))}")
        sizes = {name: int(row[name]) for name in SIZES}
        return Layer(name=row["name"], kind=kind, **sizes)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(f"layer table {path}, row {number}: {error}") from error
