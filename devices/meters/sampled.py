"""Energy from power that is sampled now and then, by the trapezoidal rule.

    E = sum of (P_i + P_{i+1}) / 2 (t_{i+1} - t_i)

Between two samples the power may have been either one's all the time: the error is at most half their difference times
the time between, if it did not go beyond both, plus half the sensor's resolution all along. Samples that come late make
it grow.
"""

import threading
from collections.abc import Callable

from devices.clock import Clock, MonotonicClock
from devices.errors import MeterError
from devices.meters.meter import Reading
from devices.profile.figures import Origin


class SampledMeter:
    """Adds up sampled power.

    Args:
        name: Name of the meter.
        power_w: Returns the present power [W]; raises MeterError.
        resolution_w: Least step of the sensor [W].
        period_s: Time between samples [s]; None: no thread samples, `sample` is called from outside.
        clock: What times are taken on.
    Raises:
        MeterError: The first sample fails.
    """

    origin = Origin.MEASURED

    def __init__(
        self,
        name: str,
        power_w: Callable[[], float],
        *,
        resolution_w: float = 0.0,
        period_s: float | None = 0.02,
        clock: Clock | None = None,
    ) -> None:
        if period_s is not None and not 0.0 < period_s < float("inf"):
            raise ValueError(f"period_s = {period_s!r}: must be a positive, finite time")
        self.name = name
        self._power_w = power_w
        self._resolution_w = resolution_w
        self._period_s = period_s
        self._clock = clock or MonotonicClock()
        self._lock = threading.Lock()
        self._energy_j = self._error_j = 0.0
        self._failure: MeterError | None = None
        self._last_w, self._last_s = power_w(), self._clock.now_s()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if period_s is not None:
            self._thread = threading.Thread(target=self._serve, args=(period_s,), name="headway-meter", daemon=True)
            self._thread.start()

    def sample(self) -> None:
        """Take one sample.

        Raises:
            MeterError: The sensor can't be read, or says nonsense.
        """
        with self._lock:
            power_w, now_s = self._power_w(), self._clock.now_s()
            if not 0.0 <= power_w < float("inf"):
                raise MeterError(f"{self.name} says {power_w!r} W: must be finite and not negative")
            elapsed_s = now_s - self._last_s
            self._energy_j += 0.5 * (power_w + self._last_w) * elapsed_s
            self._error_j += 0.5 * (abs(power_w - self._last_w) + self._resolution_w) * elapsed_s
            self._last_w, self._last_s = power_w, now_s

    def read(self) -> Reading:
        """Return the energy since the meter was opened.

        Raises:
            MeterError: The sensor could not be read, now or by the sampling thread.
        """
        if self._failure is not None:
            raise MeterError(f"{self.name} failed while sampling: {self._failure}") from self._failure
        self.sample()
        return Reading(self._energy_j, self._error_j)

    def close(self) -> None:
        """Stop sampling."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _serve(self, period_s: float) -> None:
        while not self._closed.wait(period_s):
            try:
                self.sample()
            except MeterError as error:
                self._failure = error
                return
