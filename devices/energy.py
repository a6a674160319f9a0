"""Energy of a device: one interface, for meters that measure and for a power that is merely declared.

The declared model is E = P_idle t + (P_busy - P_idle) t_busy. Every reading says by its meter's origin whether it was
measured or declared; the two are never added up silently.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from devices.clock import Clock, MonotonicClock
from devices.profile import Origin


class EnergyMeter(Protocol):
    """Tells the energy a device has used."""

    @property
    def name(self) -> str:
        """Name of the meter."""
        ...

    @property
    def origin(self) -> Origin:
        """Whether its readings are measured or declared."""
        ...

    def energy_j(self) -> float:
        """Return the energy used since the meter was opened [J]; never decreases."""
        ...


class DeclaredMeter:
    """Energy by a declared power, for devices without a meter.

    Args:
        busy_w: Power while at least one piece of work is under way [W].
        idle_w: Power otherwise [W].
        clock: What times are taken on.
        name: Name of the meter.
    Raises:
        ValueError: A power is negative or not finite, or idle takes more than busy.
    """

    origin = Origin.DECLARED

    def __init__(
        self, busy_w: float, idle_w: float = 0.0, *, clock: Clock | None = None, name: str = "declared"
    ) -> None:
        if not 0.0 <= idle_w <= busy_w < float("inf"):
            raise ValueError(f"busy_w = {busy_w!r}, idle_w = {idle_w!r}: must be finite with 0 <= idle_w <= busy_w")
        self.name = name
        self._busy_w = busy_w
        self._idle_w = idle_w
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()
        self._under_way = 0
        self._energy_j = 0.0
        self._read_s = self._clock.now_s()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Hold the busy power while the block runs; blocks may overlap on several threads."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def energy_j(self) -> float:
        """Return the energy used since the meter was opened [J]."""
        self._change(0)
        return self._energy_j

    def _change(self, begun: int) -> None:
        with self._lock:
            now_s = self._clock.now_s()
            power_w = self._busy_w if self._under_way else self._idle_w
            self._energy_j += power_w * (now_s - self._read_s)
            self._read_s = now_s
            self._under_way += begun
