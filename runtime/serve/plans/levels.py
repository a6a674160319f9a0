"""The levels of one device: the clock that each stands for, and setting it where that may be."""

from collections.abc import Mapping
from pathlib import Path

from devices.errors import ClockError
from devices.levels import ClockControl, find_clock, level_hz, same_clock
from runtime.plan.problem import Device


class Levels:
    """A device's levels.

    Args:
        device: With its levels by name.
        named_hz: Clocks of levels whose names don't tell them [Hz].
        root: Where the host's files are.
        clock: The device's clock; None: the host's.
    """

    def __init__(
        self, device: Device, named_hz: Mapping[str, float], root: Path, clock: ClockControl | None = None
    ) -> None:
        self._device = device.name
        self._hz = {level: named_hz.get(level, level_hz(level)) for level in device.levels}
        self._clock: ClockControl | None = clock
        self._locked: str | None = None
        try:
            self._clock = clock or find_clock(device.name, root)
            self._locked = self._clock.locked
        except ClockError as error:
            self._locked = str(error)

    @property
    def domain(self) -> str:
        """What is set with it: devices of one domain have one clock."""
        return self._device if self._clock is None else self._clock.domain

    def hz(self, level: str) -> float | None:
        """Return a level's clock [Hz], None where nobody has told it."""
        return self._hz.get(level)

    def barred(self, level: str) -> str | None:
        """Return why a level can't be had, None where it can: it may be set, or it is the present one."""
        wanted_hz = self.hz(level)
        if wanted_hz is None:
            return f"its name tells no clock: give one with plans.levels, as {self._device!r} = {{ {level!r} = 1.2e9 }}"
        if self._locked is None:
            return None
        if self._clock is None:
            return f"it can't be set: {self._locked}"
        try:
            present_hz = self._clock.present_hz()
        except ClockError as error:
            return str(error)
        if same_clock(present_hz, wanted_hz):
            return None
        return f"it can't be set: {self._locked}; the clock is at {present_hz / 1e6:.0f} MHz"

    def apply(self, level: str) -> None:
        """Set a level.

        Raises:
            ClockError: The host does not take it.
        """
        wanted_hz = self.hz(level)
        if wanted_hz is not None and self._clock is not None and self._locked is None:
            self._clock.set(wanted_hz)

    def restore(self) -> None:
        """Set the clock back to what it was at the start.

        Raises:
            ClockError: The host does not take it.
        """
        if self._clock is not None:
            self._clock.restore()


def levels_of(
    devices: Mapping[str, Device], named_hz: Mapping[str, Mapping[str, float]], root: Path
) -> dict[str, Levels]:
    """Return the levels of the devices that have several."""
    return {
        name: Levels(device, named_hz.get(name, {}), root) for name, device in devices.items() if len(device.levels) > 1
    }
