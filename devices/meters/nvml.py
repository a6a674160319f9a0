"""NVIDIA GPUs through NVML (nvidia-ml-py).

From Volta on the driver keeps an energy counter of millijoules, brought up to date every tenth of a second or faster:
the error of a reading is the mean power times that, at both ends. Older GPUs tell their power alone, which is sampled.
"""

from importlib import import_module
from typing import Any

from devices.clock import Clock, MonotonicClock
from devices.errors import MeterError
from devices.meters.meter import Reading
from devices.meters.sampled import SampledMeter
from devices.profile.figures import Origin

UPDATE_S = 0.1


class NvmlMeter:
    """One GPU.

    Args:
        index: NVML's number of it, which CUDA shares unless told otherwise.
        library: The NVML binding; None: nvidia-ml-py's.
        period_s: Time between samples of a GPU without a counter [s]; None: nobody samples but `read`.
        clock: What times are taken on.
    Raises:
        MeterError: NVML is not installed, finds no driver or GPU, or the GPU tells no power.
    """

    origin = Origin.MEASURED

    def __init__(
        self, index: int = 0, *, library: Any = None, period_s: float | None = 0.02, clock: Clock | None = None
    ) -> None:
        self._nvml = library or _library()
        self._clock = clock or MonotonicClock()
        self._sampled: SampledMeter | None = None
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            if not 0 <= index < count:
                raise MeterError(f"NVML has no GPU {index}: it sees {count}")
            self._gpu = self._nvml.nvmlDeviceGetHandleByIndex(index)
            self.name = f"nvml {index} {_text(self._nvml.nvmlDeviceGetName(self._gpu))}"
        except self._nvml.NVMLError as error:
            raise MeterError(f"NVML finds no GPU: {error}: is the NVIDIA driver loaded?") from error
        try:
            self._first_mj = self._counter_mj()
        except self._nvml.NVMLError:
            self._sampled = SampledMeter(self.name, self._power_w, resolution_w=1.0, period_s=period_s, clock=clock)
        self._began_s = self._clock.now_s()

    def read(self) -> Reading:
        """Return the energy since the meter was opened.

        Raises:
            MeterError: The GPU is gone, or its counter went backwards.
        """
        if self._sampled is not None:
            return self._sampled.read()
        try:
            used_mj = self._counter_mj() - self._first_mj
        except self._nvml.NVMLError as error:
            raise MeterError(f"{self.name} can no longer be read: {error}") from error
        if used_mj < 0:
            raise MeterError(f"{self.name}: the energy counter went back by {-used_mj} mJ: was the driver loaded anew?")
        energy_j = used_mj * 1e-3
        elapsed_s = self._clock.now_s() - self._began_s
        return Reading(energy_j, 2.0 * UPDATE_S * energy_j / elapsed_s if elapsed_s > 0.0 else 0.0)

    def close(self) -> None:
        """Stop sampling; NVML stays open, as others may use it."""
        if self._sampled is not None:
            self._sampled.close()

    def _counter_mj(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))

    def _power_w(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._gpu)) * 1e-3
        except self._nvml.NVMLError as error:
            raise MeterError(f"{self.name} tells no power: {error}") from error


def gpu_bytes(index: int, library: Any = None) -> int:
    """Return the memory of a GPU that is in use, by whomever [byte].

    Raises:
        MeterError: NVML is not installed, or finds no such GPU.
    """
    nvml = library or _library()
    try:
        nvml.nvmlInit()
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index)).used)
    except nvml.NVMLError as error:
        raise MeterError(f"NVML tells no memory of GPU {index}: {error}") from error


def _library() -> Any:
    try:
        return import_module("pynvml")
    except ImportError as error:
        raise MeterError("nvidia-ml-py is not installed: pip install 'headway[nvml]'") from error


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
