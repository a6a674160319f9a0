"""A declared power in place of a meter: E = P_idle t + (P_busy - P_idle) t_busy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from devices.clock import Clock, MonotonicClock
from devices.meters.meter import Reading
from devices.profile.figures import Origin


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

    def read(self) -> Reading:
        """Return the energy used since the meter was opened; its error is unknown, as declared power is."""
        self._change(0)
        return Reading(self._energy_j)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def _change(self, begun: int) -> None:
        with self._lock:
            now_s = self._clock.now_s()
            power_w = self._busy_w if self._under_way else self._idle_w
            self._energy_j += power_w * (now_s - self._read_s)
            self._read_s = now_s
            self._under_way += begun
