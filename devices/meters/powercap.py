"""Intel and AMD processors' RAPL counters through Linux powercap (/sys/class/powercap/intel-rapl:*).

A package's counter counts microjoules and starts again at zero after `max_energy_range_uj`. One wrap between two
readings shows as a decrease and is put right. More than one would not show: a reading that comes so late that the
package could have used the whole range at `greatest_w` is refused.
"""

from pathlib import Path

from devices.clock import Clock, MonotonicClock
from devices.errors import MeterError
from devices.meters.meter import Reading
from devices.profile.figures import Origin

ROOT = Path("/sys/class/powercap")
UPDATE_S = 1e-3  # the processor brings its counters up to date about once a millisecond


class PowercapMeter:
    """All processor packages of the machine, added up.

    Args:
        root: The powercap folder.
        greatest_w: Power that no package exceeds [W].
        clock: What times are taken on.
    Raises:
        MeterError: There is no package counter, or it may not be read.
    """

    origin = Origin.MEASURED

    def __init__(self, root: Path = ROOT, *, greatest_w: float = 1000.0, clock: Clock | None = None) -> None:
        self._clock = clock or MonotonicClock()
        zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _name(zone).startswith("package")]
        if not zones:
            raise MeterError(f"there is no processor package in {root}: machine or kernel has no RAPL counters")
        self.name = f"powercap {'+'.join(map(_name, zones))}"
        self._packages = [_Package(zone, greatest_w) for zone in zones]
        self._began_s = self._clock.now_s()
        self.read()

    def read(self) -> Reading:
        """Return the energy since the meter was opened.

        Raises:
            MeterError: A counter may not be read, makes no sense, or may have wrapped more than once.
        """
        now_s = self._clock.now_s()
        energy_j = sum(package.update(now_s) for package in self._packages)
        elapsed_s = now_s - self._began_s
        power_w = energy_j / elapsed_s if elapsed_s > 0.0 else 0.0
        return Reading(energy_j, power_w * 2.0 * UPDATE_S)

    def close(self) -> None:
        """Do nothing: the counters run on."""


class _Package:
    """One counter."""

    def __init__(self, zone: Path, greatest_w: float) -> None:
        self._file = zone / "energy_uj"
        self._range_uj = _number(zone / "max_energy_range_uj")
        self._longest_s = self._range_uj * 1e-6 / greatest_w
        self._last_uj: int | None = None
        self._last_s = 0.0
        self._total_uj = 0

    def update(self, now_s: float) -> float:
        """Read the counter and return the energy since the first time [J]."""
        uj = _number(self._file)
        if not 0 <= uj <= self._range_uj:
            raise MeterError(f"{self._file} says {uj} uJ: must lie within 0 and its range of {self._range_uj} uJ")
        if self._last_uj is not None:
            late_s = now_s - self._last_s
            if late_s > self._longest_s:
                raise MeterError(
                    f"{self._file} was last read {late_s:.0f} s ago and may have wrapped more than once: "
                    f"read it at least every {self._longest_s:.0f} s"
                )
            self._total_uj += uj - self._last_uj + (0 if uj >= self._last_uj else self._range_uj)
        self._last_uj, self._last_s = uj, now_s
        return self._total_uj * 1e-6


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(file: Path) -> int:
    try:
        return int(file.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise MeterError(
            f"{file} may not be read: run as root, or as root `chmod a+r {file}`; a udev rule outlives a restart"
        ) from error
    except (OSError, ValueError) as error:
        raise MeterError(f"{file} cannot be read: {error}") from error
