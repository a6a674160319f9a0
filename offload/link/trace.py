"""A recorded link, replayed: rate, round-trip time and queueing delay by time, from a CSV file.

    time_s,rate_mbps,rtt_ms,queue_ms
    0.0,18.2,31,0.4
    0.5,3.9,85,2.1

A row holds from its time until the next one's. After the last row the trace begins anew; the last row lasts as long as
the one before it. Only time and rate must be there. `rate_bps` [bit/s], `rtt_s` and `queue_s` may stand in place of the
columns above; 1 Mbit is 2^20 bit, as everywhere here.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offload.errors import LinkError
from offload.radio import MEGABIT

_UNITS = {
    "time_s": ("time_s", 1.0),
    "rate_mbps": ("rate_bps", float(MEGABIT)),
    "rate_bps": ("rate_bps", 1.0),
    "rtt_ms": ("rtt_s", 1e-3),
    "rtt_s": ("rtt_s", 1.0),
    "queue_ms": ("queue_s", 1e-3),
    "queue_s": ("queue_s", 1.0),
}
_MOST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Trace:
    """One quantity by time, repeated for ever.

    Args:
        times_s: Ascending, from 0 on; when each value begins to hold [s].
        values: The values.
        period_s: When the trace begins anew [s].
    Raises:
        LinkError: times that do not ascend from 0, a value below 0, or a period that ends before the last value begins.
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]
    period_s: float

    def __post_init__(self) -> None:
        times = np.asarray(self.times_s)
        if not len(times) or len(times) != len(self.values):
            raise LinkError(f"a trace of {len(times)} times and {len(self.values)} values: must be as many, and some")
        if times[0] != 0.0 or not np.isfinite(times).all() or (np.diff(times) <= 0.0).any():
            raise LinkError("a trace's times must ascend from 0")
        if not (np.isfinite(self.values).all() and min(self.values) >= 0.0):
            raise LinkError("a trace's values must be numbers that are not negative")
        if not math.isfinite(self.period_s) or self.period_s <= times[-1]:
            raise LinkError(f"period_s = {self.period_s!r}: must be after the last time, {times[-1]} s")

    def at(self, times_s: NDArray[Any]) -> NDArray[np.float64]:
        """Return the values that hold at `times_s` [s]."""
        rows = np.searchsorted(self.times_s, times_s % self.period_s, side="right") - 1
        return np.asarray(self.values)[rows]


def read_trace(path: Path) -> dict[str, Trace]:
    """Return the traces of a CSV file by quantity: "rate_bps", and "rtt_s" and "queue_s" where there.

    Raises:
        LinkError: the file cannot be read, a column is unknown, missing or given twice, or a number is none.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LinkError(f"cannot read the trace {path}: {error}") from error
    if len(rows) < 2 or len(rows) > _MOST_ROWS:
        raise LinkError(f"{path} has {len(rows)} lines: a header and 1 to {_MOST_ROWS - 1} rows are wanted")
    names = [name.strip() for name in rows[0]]
    unknown = [name for name in names if name not in _UNITS]
    if unknown:
        raise LinkError(f"{path}: unknown column {unknown[0]!r}: there are {', '.join(_UNITS)}")
    quantities = [_UNITS[name][0] for name in names]
    if len(set(quantities)) < len(quantities) or not {"time_s", "rate_bps"} <= set(quantities):
        raise LinkError(f"{path}: columns {', '.join(names)}: a time and a rate are wanted, and nothing twice")
    factors = [_UNITS[name][1] for name in names]
    table: list[list[float]] = []
    for number, row in enumerate(rows[1:], 2):
        try:
            if len(row) != len(names):
                raise ValueError(f"{len(row)} columns instead of {len(names)}")
            table.append([float(text) * factor for text, factor in zip(row, factors, strict=True)])
        except ValueError as error:
            raise LinkError(f"{path}, line {number}: {error}") from error
    columns = dict(zip(quantities, zip(*table, strict=True), strict=True))
    first_s = columns["time_s"][0]
    times_s = tuple(time_s - first_s for time_s in columns.pop("time_s"))
    last_s = times_s[-1] - times_s[-2] if len(times_s) > 1 else 1.0
    try:
        return {name: Trace(times_s, values, times_s[-1] + last_s) for name, values in columns.items()}
    except LinkError as error:
        raise LinkError(f"{path}: {error}") from error
