"""Backend `onnxruntime` on an NVIDIA GPU: the CUDA and TensorRT providers, with tensors that stay on the GPU.

What a segment makes is an OrtValue in the GPU's memory; by IO binding it is left there and taken from there, so that
what one segment hands to the next never crosses the bus. Single precision is IEEE's: CUDA's TF32, which onnxruntime
switches on, is off. A run is stopped between two graph nodes, and is over when the kernels launched until then are.

The CUDA libraries are looked for where pip puts them (`onnxruntime-gpu[cuda,cudnn]`), then where the system does.
"""

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from devices.backend import Value
from devices.backends.onnxruntime import LoadedSession, OnnxRuntimeBackend
from devices.errors import BackendError, MeterError
from devices.meters.nvml import gpu_bytes
from devices.package.graph import Segment
from devices.tensor import Array

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_LIBRARIES = {CUDA: "libonnxruntime_providers_cuda.so", TENSORRT: "libonnxruntime_providers_tensorrt.so"}
_OPTIONS = {CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}}
_ERRORS = 3


class CudaBackend(OnnxRuntimeBackend):
    """onnxruntime on one NVIDIA GPU.

    Args:
        device: Name of the device in replies and profiles.
        provider: `CUDA` or `TENSORRT`.
        gpu: CUDA's number of the GPU.
        allow_fallback: Accept that some or all nodes run on the CPU.
        memory: Where tensors lie, in onnxruntime's words.
    Raises:
        BackendError: The provider is not in this onnxruntime, its libraries can't be loaded, or there is no such GPU.
    """

    def __init__(
        self,
        device: str = "cuda:0",
        *,
        provider: str = CUDA,
        gpu: int = 0,
        allow_fallback: bool = False,
        memory: str = "cuda",
    ) -> None:
        options = {"device_id": str(gpu)} | _OPTIONS.get(provider, {})
        super().__init__(device, provider=provider, allow_fallback=allow_fallback, provider_options=options)
        onnxruntime.set_default_logger_severity(_ERRORS)  # else it warns at each load
        if self.provider in _LIBRARIES:
            _load_libraries(device, self.provider)
        self._gpu = gpu
        self._place = (memory, gpu) if self.provider == provider else ("cpu", 0)
        try:
            onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), *self._place)
        except Exception as error:  # onnxruntime raises a dozen unrelated types, some plain RuntimeError
            raise BackendError(f"{device}: onnxruntime can't use GPU {gpu}: {error}") from error

    def _ready(self, session: Any, segment: Segment) -> "BoundSession":
        return BoundSession(session, segment, self.device, self._place)

    def upload(self, array: Array) -> Value:
        """Return the array itself: a run that takes it brings it to the GPU."""
        return np.ascontiguousarray(array)

    def download(self, value: Value) -> Array:
        """Bring a tensor back from the GPU."""
        array: Array = value if isinstance(value, np.ndarray) else value.numpy()
        return array

    def device_bytes(self) -> int | None:
        """Return the memory of the GPU that is in use, by whomever [byte]; None where NVML can't tell."""
        try:
            return gpu_bytes(self._gpu) if self._place[0] != "cpu" else None
        except MeterError:
            return None


class BoundSession(LoadedSession):
    """One segment in one session, whose tensors stay where it computes."""

    __slots__ = ("_place",)

    def __init__(self, session: Any, segment: Segment, device: str, place: tuple[str, int]) -> None:
        super().__init__(session, segment, device)
        self._place = place

    def _call(self, inputs: Mapping[str, Value], options: Any) -> Sequence[Value]:
        binding = self._session.io_binding()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, *self._place)
        self._session.run_with_iobinding(binding, options)
        values: Sequence[Value] = binding.get_outputs()
        return values


@cache
def _load_libraries(device: str, provider: str) -> None:
    """Load what a provider needs; onnxruntime itself would go on without it, on the CPU, and say why only in a log.

    Raises:
        BackendError: A library is missing.
    """
    with redirect_stdout(StringIO()):  # it prints what it did not find; what is really needed is told below
        getattr(onnxruntime, "preload_dlls", str)()  # from 1.21 on
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / _LIBRARIES[provider]))
    except OSError as error:
        needs = "onnxruntime-gpu[cuda,cudnn]" if provider == CUDA else "tensorrt"
        raise BackendError(
            f"{device}: onnxruntime can't load its {provider}: {error}: pip install '{needs}', of the release of CUDA "
            f"that this onnxruntime is for"
        ) from error
