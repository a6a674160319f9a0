"""Backend `null`: every segment takes a fixed time and computes nothing; outputs are filled with constants.

On a virtual clock the time passes at once, firing timers on the way; on any other clock the thread really waits. So the
executor, the scheduler and whole experiments run without hardware, and on a virtual clock the same way each time.
"""

import threading
from collections.abc import Mapping

import numpy as np

from devices.backend import CancelToken, Value
from devices.clock import Clock, MonotonicClock, VirtualClock
from devices.errors import BackendError, RunCancelledError
from devices.package.graph import Segment
from devices.tensor import Array


class NullBackend:
    """A device that takes its time and does nothing.

    Args:
        times_s: Time of each segment by id [s].
        device: Name of the device.
        clock: The clock on which the time passes.
        fill: Value of every element of an output, by tensor name; 0 where not given.
    Raises:
        ValueError: A time is negative or not finite.
    """

    name = "null"
    merges = False  # its times are those of single segments

    def __init__(
        self,
        times_s: Mapping[str, float],
        *,
        device: str = "null:0",
        clock: Clock | None = None,
        fill: Mapping[str, float] | None = None,
    ) -> None:
        for segment_id, time_s in times_s.items():
            if not 0.0 <= time_s < float("inf"):
                raise ValueError(f"times_s[{segment_id!r}] = {time_s!r}: must be a finite time that is not negative")
        self.device = device
        self.clock = clock or MonotonicClock()
        self._times_s = dict(times_s)
        self._fill = dict(fill or {})

    def load(self, segment: Segment, model: bytes) -> "NullSegment":
        """Make a segment ready to take its time.

        Raises:
            BackendError: No time is known for it.
        """
        if segment.id not in self._times_s:
            raise BackendError(f"no time is known for segment {segment.id!r}: known are {sorted(self._times_s)}")
        return NullSegment(segment, self._times_s[segment.id], self._fill, self.device, self.clock)

    def upload(self, array: Array) -> Value:
        """Return the array itself."""
        return array

    def download(self, value: Value) -> Array:
        """Return the array itself."""
        array: Array = value
        return array


class NullSegment:
    """One segment of the null backend."""

    def __init__(self, segment: Segment, time_s: float, fill: Mapping[str, float], device: str, clock: Clock) -> None:
        self._segment = segment
        self._time_s = time_s
        self._fill = fill
        self._device = device
        self._clock = clock

    def run(self, inputs: Mapping[str, Value], cancel: CancelToken | None = None) -> dict[str, Value]:
        """Let the segment's time pass and return constants of the declared shapes.

        Raises:
            RunCancelledError: `cancel` was cancelled before or meanwhile.
        """
        token = cancel or CancelToken()
        if not token.cancelled:
            self._pass_time(token)
        if token.cancelled:
            raise RunCancelledError(f"segment {self._segment.id!r} was stopped on {self._device}")
        sizes = self._sizes(inputs)
        return {
            spec.name: np.full(
                [size if isinstance(size, int) else sizes.get(size, 1) for size in spec.shape],
                self._fill.get(spec.name, 0.0),
                dtype=spec.dtype,
            )
            for spec in self._segment.outputs
        }

    def _pass_time(self, token: CancelToken) -> None:
        if isinstance(self._clock, VirtualClock):
            self._clock.advance(self._time_s, until=lambda: token.cancelled)
            return
        stopped = threading.Event()
        token.bind(stopped.set)
        try:
            stopped.wait(self._time_s)
        finally:
            token.unbind(stopped.set)

    def _sizes(self, inputs: Mapping[str, Value]) -> dict[str, int]:
        return {
            name: actual
            for spec in self._segment.inputs
            for name, actual in zip(spec.shape, np.shape(inputs[spec.name]), strict=True)
            if isinstance(name, str)
        }
