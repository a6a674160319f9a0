"""Does a process grow? A line through the samples of its resident memory, and whether its slope is zero within noise.

The samples after the first fifth are averaged in 20 blocks, so that neighbours say little about each other; a line is
fitted to the means by least squares. Its slope is called zero if the 95 % interval (Student's t) holds zero, or if it
amounts to less than 16 pages over the whole run.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

_BLOCKS = 20
LEAST = 25
_LEAST_PAGES = 16
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Series:
    """Samples of one size over time, in memory that is all taken at the start: kept as they come they would be growth.

    Args:
        room: How many samples there is room for; those beyond are dropped.
    """

    def __init__(self, room: int) -> None:
        self._times_s, self._sizes_b = np.full(room, np.nan), np.full(room, np.nan)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, at_s: float, size_b: float) -> None:
        """Take a sample."""
        if self._count < len(self._times_s):
            self._times_s[self._count], self._sizes_b[self._count] = at_s, size_b
            self._count += 1

    def growth(self) -> dict[str, Any]:
        """Return how the samples grow; see `growth`."""
        return growth(self._times_s[: self._count].tolist(), self._sizes_b[: self._count].tolist())


def growth(times_s: Sequence[float], sizes_b: Sequence[float]) -> dict[str, Any]:
    """Return how memory grows: the slope's estimate and the half width of its 95 % interval [kB/h].

    Args:
        times_s: When each sample was taken [s], rising.
        sizes_b: Resident memory [B].
    Raises:
        ValueError: fewer than 25 samples.
    """
    if len(times_s) < LEAST:
        raise ValueError(f"{len(times_s)} samples: a slope needs {LEAST}")
    kept = len(times_s) // 5
    blocks = zip(np.array_split(times_s[kept:], _BLOCKS), np.array_split(sizes_b[kept:], _BLOCKS), strict=True)
    x, y = np.array([(np.mean(when), np.mean(size)) for when, size in blocks]).T
    spread = float(np.sum((x - x.mean()) ** 2))
    slope = float(np.sum((x - x.mean()) * (y - y.mean()))) / spread
    rest = y - y.mean() - slope * (x - x.mean())
    half = float(student.ppf(0.975, _BLOCKS - 2)) * math.sqrt(float(np.sum(rest**2)) / (_BLOCKS - 2) / spread)
    small = abs(slope) * (times_s[-1] - times_s[kept]) < _LEAST_PAGES * _PAGE_BYTES
    return {
        "slope_kb_per_h": 3.6 * slope,
        "half width_kb_per_h": 3.6 * half,
        "zero": bool(abs(slope) <= half or small),
        "first_kb": sizes_b[kept] / 1e3,
        "last_kb": sizes_b[-1] / 1e3,
        "samples": len(times_s),
    }


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory [B]."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
