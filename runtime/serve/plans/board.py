"""What the board itself tells: which devices are hot, and which cores are busy with other work.

A device is hot while its thermal zone is at or above the zone's first trip point, or a declared limit, until it is 3
degrees below; or for ten seconds after its core's count of throttlings has risen. An idle device whose core is busy for
a share b of the time with other work has what is left of it, and is counted as 1 / (1 - b) times as slow, at most ten
times; one that runs requests tells by them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devices import host
from devices.errors import BackendError
from devices.open import parse_device
from runtime.config import HeatSection
from runtime.errors import ConfigurationError

LOOK_S = 0.5
COOLER_C = 3.0
THROTTLED_S = 10.0
BUSY = 0.5
MOST_SLOWDOWN = 10.0
_ZONES = {
    "cpu": re.compile(r"cpu|x86_pkg|soc|package|k10|tj", re.IGNORECASE),
    "cuda": re.compile(r"gpu", re.IGNORECASE),
    "gpu": re.compile(r"gpu", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a device is on the board: its core, and its kind as zones are named by it."""

    core: int | None
    kind: str


class Board:
    """The board under the devices.

    Args:
        devices: Their names.
        heat: Zones, limits and slowdowns that were declared, by device.
        root: Where the host's files are.
    Raises:
        ConfigurationError: A zone that was declared isn't there, or tells no limit and none was declared.
    """

    def __init__(self, devices: Sequence[str], heat: Mapping[str, HeatSection], root: Path) -> None:
        self._heat, self._root = heat, root
        self._spots = {name: _spot(name) for name in devices}
        self.hot: dict[str, str] = {}
        """Hot devices, and why they count as such."""
        self.busy: dict[str, float] = {}
        """Share of time that the core of each pinned device was busy with other work, where it was idle itself."""
        self._looked_s = float("-inf")
        self._throttled = host.throttled_counts(root)
        self._throttled_until: dict[int, float] = {}
        self._ticks = host.busy_ticks(root)
        unknown = sorted(heat.keys() - self._spots.keys())
        if unknown:
            raise ConfigurationError(f"plans.heat names {unknown}: serve.devices are {list(devices)}")
        self._check(host.zones(root))

    def look(self, now_s: float, idle_since: Callable[[str], float]) -> None:
        """Look again, at most twice a second.

        Args:
            idle_since: Tells when a device last ran [s].
        """
        since_s = self._looked_s
        if now_s - since_s < LOOK_S:
            return
        self._looked_s = now_s
        zones = host.zones(self._root)
        self._count_throttled(now_s)
        hot = {name: self._why_hot(name, spot, zones, now_s) for name, spot in self._spots.items()}
        self.hot = {name: why for name, why in hot.items() if why is not None}
        self._look_at_cores(since_s, idle_since)

    def slowdown(self) -> dict[str, float]:
        """Return how many times as slow idle devices are for other work on their cores."""
        return {
            name: min(MOST_SLOWDOWN, 1.0 / max(1e-3, 1.0 - share)) for name, share in self.busy.items() if share >= BUSY
        }

    def declared_slowdown(self, name: str) -> float | None:
        """Return how many times as slow a device was declared to be while it is hot."""
        return self._heat[name].slowdown if name in self._heat else None

    def _check(self, zones: tuple[host.Zone, ...]) -> None:
        for name, given in self._heat.items():
            found = self._zones_of(name, self._spots[name], zones)
            known = sorted({zone.name for zone in zones})
            if given.zone is not None and not found:
                raise ConfigurationError(f"plans.heat.{name}.zone = {given.zone!r}: the zones here are {known}")
            if given.limit_c is None and all(zone.limit_c is None for zone in found):
                raise ConfigurationError(f"plans.heat.{name}: no zone of it tells where it slows down: give limit_c")

    def _zones_of(self, name: str, spot: _Spot, zones: tuple[host.Zone, ...]) -> list[host.Zone]:
        given = self._heat[name].zone if name in self._heat else None
        if given is not None:
            return [zone for zone in zones if given in (zone.name, zone.folder)]
        shape = _ZONES.get(spot.kind)
        return [] if shape is None else [zone for zone in zones if shape.search(zone.name)]

    def _why_hot(self, name: str, spot: _Spot, zones: tuple[host.Zone, ...], now_s: float) -> str | None:
        declared_c = self._heat[name].limit_c if name in self._heat else None
        for zone in self._zones_of(name, spot, zones):
            limit_c = zone.limit_c if declared_c is None else declared_c
            if limit_c is None:
                continue
            if zone.temperature_c >= limit_c - (COOLER_C if name in self.hot else 0.0):
                return f"{zone.name} is at {zone.temperature_c:.0f} degC, its limit {limit_c:.0f}"
        if spot.core is not None and now_s < self._throttled_until.get(spot.core, 0.0):
            return f"core {spot.core} was slowed down for heat"
        return None

    def _count_throttled(self, now_s: float) -> None:
        counts = host.throttled_counts(self._root)
        for core, count in counts.items():
            if count > self._throttled.get(core, count):
                self._throttled_until[core] = now_s + THROTTLED_S
        self._throttled = counts

    def _look_at_cores(self, since_s: float, idle_since: Callable[[str], float]) -> None:
        before, self._ticks = self._ticks, host.busy_ticks(self._root)
        for name, spot in self._spots.items():
            if spot.core not in before or spot.core not in self._ticks:
                continue
            busy, every = (now - then for now, then in zip(self._ticks[spot.core], before[spot.core], strict=True))
            if every <= 0 or idle_since(name) > since_s:
                self.busy.pop(name, None)
                continue
            share = busy / every
            self.busy[name] = 0.5 * (self.busy.get(name, share) + share)


def _spot(name: str) -> _Spot:
    try:
        parsed = parse_device(name)
    except BackendError:
        return _Spot(None, "")
    return _Spot(parsed.core, parsed.target.lower().partition(":")[0])
