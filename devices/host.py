"""What the board itself says: processor, clocks, governor, temperature, memory, and what this process may do.

Everything is read below a root, so that tests can make up a board.
"""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Clock:
    """One processor core's clock: present, least and greatest [Hz], and who sets it."""

    core: int
    now_hz: float
    least_hz: float
    greatest_hz: float
    governor: str


@dataclass(frozen=True, slots=True)
class Zone:
    """One thermal zone: its temperature, where the board slows down or stops, if told [degC], and its folder's name."""

    name: str
    temperature_c: float
    limit_c: float | None
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the board [byte]."""

    total: int
    available: int


def processor(root: Path = ROOT) -> str:
    """Return the processor's name and how many cores are open to this process."""
    rows = (_text(root / "proc/cpuinfo") or "").splitlines()
    named = [row.split(":", 1)[1].strip() for row in rows if row.startswith(("model name", "Hardware"))]
    board = _text(root / "proc/device-tree/model")
    name = (board or "").strip("\0 ") or (named[0] if named else os.uname().machine)
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def clocks(root: Path = ROOT) -> tuple[Clock, ...]:
    """Return each core's clock; empty where the kernel shows none, as on most virtual machines."""
    found = []
    for folder in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"):
        khz = [_number(folder / name) for name in ("scaling_cur_freq", "cpuinfo_min_freq", "cpuinfo_max_freq")]
        if None not in khz:
            now, least, greatest = (1e3 * value for value in khz if value is not None)
            governor = _text(folder / "scaling_governor") or "unknown"
            found.append(Clock(int(folder.parent.name.removeprefix("cpu")), now, least, greatest, governor))
    return tuple(sorted(found, key=lambda clock: clock.core))


def zones(root: Path = ROOT) -> tuple[Zone, ...]:
    """Return the thermal zones; empty where the kernel shows none."""
    found = []
    for folder in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        milli = _number(folder / "temp")
        if milli is not None:
            limits = sorted(_limits_c(folder))
            limit_c = limits[0] if limits else None
            found.append(Zone(_text(folder / "type") or folder.name, milli * 1e-3, limit_c, folder.name))
    return tuple(found)


def throttled_counts(root: Path = ROOT) -> dict[int, int]:
    """Return how often each core was slowed down for heat since the start, where the processor counts that."""
    found = {}
    for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"):
        count = _number(path)
        if count is not None:
            found[int(path.parent.parent.name.removeprefix("cpu"))] = int(count)
    return found


def busy_ticks(root: Path = ROOT) -> dict[int, tuple[int, int]]:
    """Return by core the clock ticks since the start that it was busy, and all; empty where the kernel doesn't tell."""
    found = {}
    for row in (_text(root / "proc/stat") or "").splitlines():
        name, *ticks = row.split()
        if name.startswith("cpu") and name != "cpu" and len(ticks) >= 8:
            user, nice, system, idle, waiting, *more = map(int, ticks[:8])
            busy = user + nice + system + sum(more)
            found[int(name.removeprefix("cpu"))] = (busy, busy + idle + waiting)
    return found


def memory(root: Path = ROOT) -> Memory | None:
    """Return total and available memory, None where the kernel does not tell."""
    rows = dict(row.split(":", 1) for row in (_text(root / "proc/meminfo") or "").splitlines() if ":" in row)
    try:
        total, available = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return None
    return Memory(total, available)


def resident_bytes() -> int:
    """Return the memory this process holds [byte]."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize()


def may_run_realtime() -> bool:
    """Whether this process may give its threads a real-time priority; tried, and undone at once."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    os.sched_setscheduler(0, policy, priority)
    return True


def lockable_bytes() -> int | None:
    """Return how much memory this process may lock [byte], None for all."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return None if limit == resource.RLIM_INFINITY or os.geteuid() == 0 else limit


def _limits_c(folder: Path) -> Iterator[float]:
    for kind in folder.glob("trip_point_*_type"):
        if _text(kind) in ("passive", "hot", "critical"):
            milli = _number(kind.with_name(kind.name.replace("_type", "_temp")))
            if milli is not None and milli > 0:
                yield milli * 1e-3


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(file: Path) -> float | None:
    try:
        return float(_text(file) or "")
    except ValueError:
        return None
