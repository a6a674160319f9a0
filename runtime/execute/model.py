"""A model that is loaded on a device and warm."""

from dataclasses import dataclass

import numpy as np

from devices.backend import CancelToken
from devices.chain import Chain, ExitAnswer
from devices.package.graph import Package
from devices.tensor import Array, TensorSpec
from runtime.execute.latency import ModelLatency


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """One version of a model on one device.

    Args:
        package: What it was loaded from.
        chain: Its segments on the device.
        latency: How long it takes there.
    """

    package: Package
    chain: Chain
    latency: ModelLatency

    @property
    def device(self) -> str:
        """Name of the device it runs on."""
        return self.chain.backend.device

    def measure(self, first_exit: int, *, record: bool) -> None:
        """Run once to the end on zeros, and note the times if asked to.

        Raises:
            SegmentError: The model fails on zeros.
        """
        recorder = Recorder(self.latency, first_exit) if record else None
        inputs = {spec.name: zeros(spec) for spec in self.package.inputs}
        self.chain.run_checked(inputs, CancelToken(), recorder, first_exit)


class Recorder:
    """Notes when each exit of one run answered; never takes one."""

    def __init__(self, latency: ModelLatency, first_exit: int) -> None:
        self._latency = latency
        self._first_exit = first_exit
        self._last_s = 0.0

    def __call__(self, answer: ExitAnswer) -> bool:
        """Note an exit; return False: the run goes on."""
        self.note(answer.index, answer.elapsed_s)
        return False

    def note(self, index: int, elapsed_s: float) -> None:
        """Note that the exit at place `index` answered `elapsed_s` [s] of the device's time after the start."""
        window = self._latency.first if index == self._first_exit else self._latency.step
        window[index].add(elapsed_s - self._last_s)
        self._last_s = elapsed_s


def zeros(spec: TensorSpec) -> Array:
    """Return a tensor of zeros that fits `spec`, open sizes at 1."""
    return np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], dtype=spec.dtype)
