"""The clocks of devices: what they are, and setting one where the host lets us (DVFS).

    cpu:1, cpu        cpufreq of the core or of all cores: scaling_min_freq = scaling_max_freq = f, or scaling_setspeed
                      under the governor "userspace"
    cuda:0            devfreq of a Jetson's GPU: min_freq = max_freq = f; else NVML's locked clocks

A level is named by its clock ("1377 MHz") or by a word that is given one. Everything is read below a root, so that
tests can make up a board; what was there before is written back by `restore`.
"""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from devices.errors import BackendError, ClockError
from devices.host import ROOT
from devices.open import parse_device

SAME = 0.03
"""Relative difference up to which two clocks count as one level."""
_UNITS = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
_CLOCK = re.compile(r"(?:.*[^0-9.])?([0-9]+(?:\.[0-9]+)?)\s*([kmg]?hz)\s*", re.IGNORECASE)
_GPUS = ("*gpu*", "*.gv11b", "*.ga10b", "*.gp10b", "*.gm20b")


class ClockControl(Protocol):
    """The clock of one device."""

    @property
    def domain(self) -> str:
        """What is set with it: devices of one domain have one clock."""
        ...

    @property
    def locked(self) -> str | None:
        """Why it may not be set, None where it may."""
        ...

    def present_hz(self) -> float:
        """Return the clock under load as things are set [Hz].

        Raises:
            ClockError: It can't be read.
        """
        ...

    def set(self, clock_hz: float) -> None:
        """Set the clock [Hz].

        Raises:
            ClockError: It may not be set, or not to this.
        """
        ...

    def restore(self) -> None:
        """Write back what was set before, if anything was changed."""
        ...


def level_hz(level: str) -> float | None:
    """Return the clock that a level's name ends in, as "1377 MHz" or "gpu@1.2GHz" [Hz]; None where it tells none."""
    found = _CLOCK.fullmatch(level)
    return None if found is None else float(found[1]) * _UNITS[found[2].lower()]


def same_clock(one_hz: float, other_hz: float) -> bool:
    """Whether two clocks count as one level."""
    return abs(one_hz - other_hz) <= SAME * max(one_hz, other_hz)


def find_clock(device: str, root: Path = ROOT, *, nvml: Any = None) -> ClockControl:
    """Return the clock of a device.

    Args:
        device: Its name, as of `devices.open`.
        root: Where the host's files are.
        nvml: The NVML binding; None: nvidia-ml-py's.
    Raises:
        ClockError: The host shows no clock of it.
    """
    try:
        name = parse_device(device)
    except BackendError as error:
        raise ClockError(str(error)) from error
    kind, _, number = name.target.lower().partition(":")
    if kind == "cpu":
        core = "[0-9]*" if name.core is None else str(name.core)
        folders = sorted(root.glob(f"sys/devices/system/cpu/cpu{core}/cpufreq"))
        if not folders:
            raise ClockError(f"{device}: the kernel shows no cpufreq for it, as in a virtual machine")
        return SysfsClock(device, folders, _CPUFREQ)
    if kind == "cuda":
        gpus = [folder for shape in _GPUS for folder in sorted(root.glob(f"sys/class/devfreq/{shape}"))]
        if gpus:
            return SysfsClock(device, gpus[:1], _DEVFREQ)
        return NvmlClock(device, int(number or 0), nvml)
    raise ClockError(f"{device}: no way is known to its clock")


@dataclass(frozen=True, slots=True)
class _Files:
    low: str
    high: str
    least: str
    greatest: str
    governor: str
    unit_hz: float


_CPUFREQ = _Files(
    "scaling_min_freq", "scaling_max_freq", "cpuinfo_min_freq", "cpuinfo_max_freq", "scaling_governor", 1e3
)
_DEVFREQ = _Files("min_freq", "max_freq", "available_frequencies", "available_frequencies", "governor", 1.0)


class SysfsClock:
    """A clock that the kernel shows as files.

    Args:
        device: The device's name.
        folders: One for each core, or that of a GPU.
        files: How the files are called.
    """

    def __init__(self, device: str, folders: Sequence[Path], files: _Files) -> None:
        self._device = device
        self._folders = tuple(dict.fromkeys(folder.resolve() for folder in folders))
        self._files = files
        self._before: dict[Path, str] = {}

    @property
    def domain(self) -> str:
        """The folders of the clock: cores of one policy share theirs."""
        return " ".join(map(str, self._folders))

    @property
    def locked(self) -> str | None:
        """Why it may not be set, None where it may."""
        for path in self._written():
            if not os.access(path, os.W_OK):
                return f"{path} may not be written"
        return None

    def present_hz(self) -> float:
        """Return the clock under load as things are set [Hz]."""
        folder = self._folders[0]
        governor = self._read(folder / self._files.governor)
        if governor == "userspace":
            return self._hz(folder / "scaling_setspeed")
        return self._hz(folder / (self._files.low if governor == "powersave" else self._files.high))

    def set(self, clock_hz: float) -> None:
        """Set the clock of every folder, and make sure that it was taken."""
        for folder in self._folders:
            least, greatest = self._limits_hz(folder)
            if not least * (1.0 - SAME) <= clock_hz <= greatest * (1.0 + SAME):
                raise ClockError(
                    f"{self._device}: {clock_hz / 1e6:.0f} MHz is outside of its {least / 1e6:.0f} to "
                    f"{greatest / 1e6:.0f} MHz"
                )
            value = str(round(min(greatest, max(least, clock_hz)) / self._files.unit_hz))
            low, high = folder / self._files.low, folder / self._files.high
            if self._read(folder / self._files.governor) == "userspace":
                order = [folder / "scaling_setspeed"]
            else:  # the lower end may never be above the upper one
                order = [high, low] if clock_hz >= self._hz(high) else [low, high]
            for path in order:
                self._write(path, value)
                if not same_clock(self._hz(path), clock_hz):
                    raise ClockError(f"{path} was set to {value} and says {self._read(path)}: the host overrules it")

    def restore(self) -> None:
        """Write back what was set before."""
        before, self._before = self._before, {}
        for path in before:  # in either order one end may be refused, as it would cross the other: then once more
            with suppress(OSError):
                path.write_text(before[path])
        for path, value in before.items():
            self._write(path, value)
        self._before = {}

    def _written(self) -> list[Path]:
        found = []
        for folder in self._folders:
            userspace = self._read(folder / self._files.governor) == "userspace"
            names = ("scaling_setspeed",) if userspace else (self._files.low, self._files.high)
            found += [folder / name for name in names]
        return found

    def _limits_hz(self, folder: Path) -> tuple[float, float]:
        values = []
        for name in (self._files.least, self._files.greatest):
            values += [float(text) * self._files.unit_hz for text in self._read(folder / name).split()]
        return min(values), max(values)

    def _hz(self, path: Path) -> float:
        try:
            return float(self._read(path)) * self._files.unit_hz
        except ValueError as error:
            raise ClockError(f"{path} says {self._read(path)!r}: must be a number") from error

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ClockError(f"{path} cannot be read: {error.strerror}") from error

    def _write(self, path: Path, value: str) -> None:
        self._before.setdefault(path, self._read(path))
        try:
            path.write_text(value)
        except OSError as error:
            raise ClockError(f"{path} cannot be set to {value}: {error.strerror}") from error


class NvmlClock:
    """The graphics clock of an NVIDIA GPU, by NVML.

    Args:
        device: The device's name.
        index: NVML's number of the GPU.
        library: The NVML binding; None: nvidia-ml-py's.
    Raises:
        ClockError: NVML is not installed, or finds no driver or GPU.
    """

    def __init__(self, device: str, index: int, library: Any = None) -> None:
        self._device = device
        self.domain = f"nvml {index}"
        self._changed = False
        try:
            self._nvml = library or import_module("pynvml")
        except ImportError as error:
            raise ClockError(f"{device}: NVML is not installed: pip install 'headway[nvml]'") from error
        self._try(self._nvml.nvmlInit)
        self._gpu = self._try(lambda: self._nvml.nvmlDeviceGetHandleByIndex(index))

    @property
    def locked(self) -> str | None:
        """Why it may not be set, None where it may: NVML lets root alone."""
        return None if os.geteuid() == 0 else f"{self._device}: NVML lets root alone set clocks"

    def present_hz(self) -> float:
        """Return the graphics clock [Hz]."""
        kind = self._nvml.NVML_CLOCK_GRAPHICS
        return 1e6 * float(self._try(lambda: self._nvml.nvmlDeviceGetClockInfo(self._gpu, kind)))

    def set(self, clock_hz: float) -> None:
        """Lock the graphics clock."""
        mhz = round(clock_hz / 1e6)
        self._try(lambda: self._nvml.nvmlDeviceSetGpuLockedClocks(self._gpu, mhz, mhz))
        self._changed = True

    def restore(self) -> None:
        """Let the driver choose again."""
        if self._changed:
            self._changed = False
            self._try(lambda: self._nvml.nvmlDeviceResetGpuLockedClocks(self._gpu))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._nvml.NVMLError as error:
            raise ClockError(f"{self._device}: NVML says {error}") from error
