"""A model that is loaded on its devices and warm."""

from dataclasses import dataclass

import numpy as np

from devices.backend import CancelToken
from devices.chain import Chain, ExitAnswer
from devices.package.graph import Package
from devices.tensor import Array, TensorSpec
from runtime.execute.latency import ModelLatency
from runtime.execute.spread import Spread
from runtime.execute.sprint import Sprint


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """One version of a model on its devices.

    Args:
        package: What it was loaded from.
        runs: Its segments on one device, or spread over several.
        latency: How long it takes there.
        last_exit: Place of the deepest exit that is run unless a request wants a deeper one.
        sprint: The shortest way through it, where there is one.
    """

    package: Package
    runs: Chain | Spread
    latency: ModelLatency
    last_exit: int
    sprint: Sprint | None = None

    @property
    def chain(self) -> Chain:
        """Its segments on one device.

        Raises:
            ValueError: It is spread over several.
        """
        if isinstance(self.runs, Spread):
            raise ValueError(f"model {self.package.name!r} is spread over {self.device}: it is no chain")
        return self.runs

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices it runs on."""
        return self.runs.devices if isinstance(self.runs, Spread) else (self.runs.backend.device,)

    @property
    def device(self) -> str:
        """The devices' names in one."""
        return " and ".join(self.devices)

    def measure(self, first_exit: int, *, record: bool) -> None:
        """Run a chain once to the end on zeros, and note the times if asked to.

        Raises:
            SegmentError: The model fails on zeros.
        """
        recorder = Recorder(self.latency, first_exit) if record else None
        self.chain.run_checked(self.zeros(), CancelToken(), recorder, first_exit)

    def zeros(self) -> dict[str, Array]:
        """Return inputs of zeros."""
        return {spec.name: zeros(spec) for spec in self.package.inputs}


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
        window[index].add(max(0.0, elapsed_s - self._last_s))  # on several devices a deeper exit may be ready first
        self._last_s = max(self._last_s, elapsed_s)


def zeros(spec: TensorSpec) -> Array:
    """Return a tensor of zeros that fits `spec`, open sizes at 1."""
    return np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], dtype=spec.dtype)
