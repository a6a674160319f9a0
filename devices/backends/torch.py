"""Backend `torch`: an ONNX segment converted to torch modules (onnx2torch), on a CPU or an NVIDIA GPU.

The converter is not taken at its word: at load the converted segment and onnxruntime run the same random input, and
outputs that differ by more than `TOLERANCE` of their largest entry make loading fail. Single precision is IEEE's: TF32
is switched off for the process. A value is a tensor on the device. A run is stopped between two graph nodes, and on a
GPU is over when the kernels launched until then are.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from devices.backend import CancelToken, Value
from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.errors import BackendError, RunCancelledError, SegmentError
from devices.package.graph import Segment
from devices.samples import sample_inputs
from devices.tensor import Array

PRECISIONS = ("f32", "bf16", "f16")
TOLERANCE = {"f32": 1e-3, "f16": 2e-2, "bf16": 1e-1}


class TorchBackend:
    """torch on one device.

    Args:
        device: Name of the device in replies and profiles.
        target: torch's name of it: "cpu", "cuda:0".
        precision: "f32", "bf16" or "f16"; the latter two compute under autocast, outputs keep their declared type.
        threads: Intra-op threads on a CPU; torch keeps one number for the whole process, the last one set.
    Raises:
        BackendError: torch or onnx2torch is not installed, or there is no such device.
        ValueError: Unknown precision.
    """

    name = "torch"
    merges = True

    def __init__(
        self, device: str = "torch:cpu", *, target: str = "cpu", precision: str = "f32", threads: int = 1
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision = {precision!r}: must be one of {list(PRECISIONS)}")
        if threads < 1:
            raise ValueError(f"threads = {threads}: must be at least 1")
        self.torch = _torch()
        try:
            self.target = self.torch.device(target)
        except RuntimeError as error:
            raise BackendError(f"{device}: torch knows no device {target!r}: {error}") from error
        self._check_target(device)
        self.device = device
        self.precision = precision
        self.threads = threads

    def _check_target(self, device: str) -> None:
        kind = self.target.type
        if kind not in ("cpu", "cuda"):
            raise BackendError(f"{device}: only cpu and cuda are supported, not {kind}")
        if kind == "cuda":
            count = self.torch.cuda.device_count()
            if (self.target.index or 0) >= count:
                raise BackendError(f"{device}: torch {self.torch.__version__} sees {count} CUDA devices")

    def load(self, segment: Segment, model: bytes) -> "LoadedModule":
        """Make a segment ready to run, and check it against onnxruntime.

        Raises:
            BackendError: The converter refuses the model, or what it made computes something else.
        """
        self.torch.set_num_threads(self.threads)
        loaded = LoadedModule(self, segment, self._convert(segment, model))
        inputs = sample_inputs(segment.inputs)
        try:
            made = loaded.run({name: self.upload(array) for name, array in inputs.items()})
        except SegmentError as error:
            raise BackendError(f"segment {segment.id!r}: torch refuses {segment.path.name}: {error}") from error
        right = OnnxRuntimeBackend("cpu").load(segment, model).run(inputs)
        for name, array in right.items():
            _check_same(segment, name, self.download(made[name]), array, TOLERANCE[self.precision])
        return loaded

    def _convert(self, segment: Segment, model: bytes) -> Any:
        import onnx

        try:
            module = _converter()(onnx.load_from_string(model))
        except BackendError:
            raise
        except Exception as error:  # the converter raises whatever its operators do
            raise BackendError(f"segment {segment.id!r}: torch refuses {segment.path.name}: {error}") from error
        return module.to(self.target).eval()

    def upload(self, array: Array) -> Value:
        """Bring a tensor to the device; on the CPU it is shared, unless it is read-only."""
        sound = np.ascontiguousarray(array)
        return self.torch.from_numpy(sound if sound.flags.writeable else sound.copy()).to(self.target)

    def device_bytes(self) -> int | None:
        """Return the memory of the GPU that tensors hold [byte]; None on the CPU, whose memory is the process's."""
        return int(self.torch.cuda.memory_allocated(self.target)) if self.target.type == "cuda" else None

    def download(self, value: Value) -> Array:
        """Bring a tensor back from the device."""
        array: Array = value.cpu().numpy()
        return array


class LoadedModule:
    """One segment as a torch module. One run at a time."""

    def __init__(self, backend: TorchBackend, segment: Segment, module: Any) -> None:
        self._backend = backend
        self._segment = segment
        self._module = module
        self._token: CancelToken | None = None
        for node in module.children():
            node.register_forward_pre_hook(self._check)

    def run(self, inputs: Mapping[str, Value], cancel: CancelToken | None = None) -> dict[str, Value]:
        """Return the segment's outputs by name.

        Raises:
            RunCancelledError: `cancel` was cancelled before or while it ran.
            SegmentError: torch failed.
        """
        self._token = cancel
        try:
            self._check()
            values = self._call(inputs)
        except RunCancelledError:
            self._wait()
            raise
        except Exception as error:  # torch raises whatever its kernels do
            raise SegmentError(f"segment {self._segment.id!r} failed on {self._backend.device}: {error}") from error
        finally:
            self._token = None
        self._wait()
        return values

    def _call(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        torch, precision = self._backend.torch, self._backend.precision
        dtype = torch.bfloat16 if precision == "bf16" else torch.float16
        cast = torch.autocast(self._backend.target.type, dtype=dtype, enabled=precision != "f32")
        with torch.inference_mode(), cast:
            made = self._module(*(inputs[spec.name] for spec in self._segment.inputs))
        values = (made,) if isinstance(made, torch.Tensor) else tuple(made)
        return {
            spec.name: value.to(getattr(torch, spec.dtype))
            for spec, value in zip(self._segment.outputs, values, strict=True)
        }

    def _check(self, *_: Any) -> None:
        if self._token is not None and self._token.cancelled:
            raise RunCancelledError(f"segment {self._segment.id!r} was stopped on {self._backend.device}")

    def _wait(self) -> None:
        if self._backend.target.type == "cuda":
            self._backend.torch.cuda.current_stream(self._backend.target).synchronize()


def _check_same(segment: Segment, name: str, made: Array, right: Array, tolerance: float) -> None:
    scale = float(np.abs(right.astype(np.float64)).max(initial=0.0))
    worst = float(np.abs(made.astype(np.float64) - right).max(initial=0.0)) if made.shape == right.shape else np.inf
    if not worst <= tolerance * scale + 1e-6:
        raise BackendError(
            f"segment {segment.id!r}: converted to torch, {name!r} {made.shape} is off by {worst:g} from onnxruntime's "
            f"{right.shape} of at most {scale:g}: more than {tolerance:g} of it"
        )


@cache
def _torch() -> Any:
    try:
        torch: Any = import_module("torch")
    except ImportError as error:
        raise BackendError("torch is not installed: pip install 'headway[torch]'") from error
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch


@cache
def _converter() -> Any:
    """Import onnx2torch.

    It imports torchvision for two operators of object detection. That is absent, or can't be imported, where torch
    is for the CPU alone: then a stand-in takes its place while onnx2torch is imported, and models with those operators
    are refused.
    """
    warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)  # its slices, checked at each load
    try:
        with _torchvision():
            return import_module("onnx2torch").convert
    except ImportError as error:
        raise BackendError(
            "onnx2torch is not installed: pip install 'headway[onnx2torch]', or, beside a torch for the CPU alone, "
            "pip install --no-deps onnx2torch"
        ) from error


@contextmanager
def _torchvision() -> Iterator[None]:
    """Have a module of that name while the block runs."""
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError):  # RuntimeError: it was built for another torch
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
    else:
        yield
        return
    stand_in = ModuleType("torchvision")
    stand_in.ops = ModuleType("torchvision.ops")  # type: ignore[attr-defined]
    for name in ("nms", "roi_align"):
        setattr(stand_in.ops, name, _no_detection)
    sys.modules.update({"torchvision": stand_in, "torchvision.ops": stand_in.ops})
    try:
        yield
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.ops"]


def _no_detection(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("operators of object detection need a torchvision that fits this torch")
