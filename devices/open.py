"""Open a device by its name.

    cpu                     onnxruntime on the CPU, one thread
    cpu:1                   the same on processor core 1
    cuda:0                  onnxruntime's CUDA provider, GPU 0
    onnxruntime:TensorRT    any execution provider that this onnxruntime has, by its name
    openvino:CPU            OpenVINO's CPU, GPU or NPU; openvino:GPU.1 its GPU 1
    openvino:CPU:1          on processor core 1; one choice for all of the process
    torch:cpu, torch:cuda:0 torch; torch:cpu:1 on processor core 1
    null:PROFILE            computes nothing and takes the times of a profile (a shipped name or a file)

Options follow with a plus: `openvino:CPU+bf16` and `torch:cuda:0+f16` choose a precision, `cpu+int8` quantises weights,
`cpu+threads=2` sets the threads, `cuda:0+fallback` allows nodes on the CPU, `null:p.toml+unit=cpu:0` says which of a
profile's units to imitate. Two names are two devices: `cpu:0` and `cpu:1+int8`, or `cpu:0` and `openvino:CPU+bf16`,
are two unlike units of one board.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from devices.backend import Backend
from devices.errors import BackendError
from devices.package.graph import Package

PRECISIONS = ("f32", "bf16", "f16", "int8")
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """A device that was opened.

    Args:
        name: What it was opened by.
        backend: The device.
        cores: Processor cores that its worker should be pinned to; None: wherever the kernel likes.
    """

    name: str
    backend: Backend
    cores: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class DeviceName:
    """A device's name, taken apart.

    Args:
        text: The name.
        backend: "onnxruntime", "openvino", "torch" or "null".
        target: The backend's own word for the device.
        core: Processor core to run on.
        options: Options by name; a flag's value is "".
    """

    text: str
    backend: str
    target: str
    core: int | None
    options: Mapping[str, str]

    @property
    def precision(self) -> str | None:
        """The precision asked for."""
        return next((name for name in PRECISIONS if name in self.options), None)

    @property
    def threads(self) -> int:
        """The threads asked for, 1 where none.

        Raises:
            BackendError: It is no positive number.
        """
        given = self.options.get("threads", "1")
        if not given.isascii() or not given.isdecimal() or int(given) < 1:
            raise BackendError(f"device {self.text!r}: threads={given!r} must be a positive number")
        return int(given)


def parse_device(text: str) -> DeviceName:
    """Take a device's name apart.

    Raises:
        BackendError: It names no backend, or an option or core makes no sense.
    """
    body, *pieces = text.strip().split("+")
    options = dict(_option(text, piece) for piece in pieces)
    backend, _, target = body.partition(":")
    if backend in ("cpu", "cuda"):
        backend, target = "onnxruntime", body
    if backend not in _OPENERS:
        raise BackendError(f"device {text!r}: begins with none of cpu, cuda, {', '.join(_OPENERS)}")
    if not target:
        raise BackendError(f"device {text!r}: {backend}: must be followed by a {_FOLLOWED_BY[backend]}")
    core = None
    word, _, number = target.partition(":")
    if word.lower() == "cpu" and number:
        target, core = word, _number(text, "core", number)
    chosen = [name for name in PRECISIONS if name in options]
    if len(chosen) > 1:
        raise BackendError(f"device {text!r}: {' and '.join(chosen)} exclude each other")
    return DeviceName(text.strip(), backend, target, core, options)


def open_device(text: str, package: Package | None = None) -> OpenDevice:
    """Open a device by its name.

    Args:
        text: The name, as the module says.
        package: The package to be run; `null:` needs it, to find its segments in the profile.
    Raises:
        BackendError: The name makes no sense, the backend is not installed, or it has no such device.
        ProfileError: The profile of a null device lacks the package's segments.
    """
    name = parse_device(text)
    if name.core is not None:
        allowed = os.sched_getaffinity(0)
        if name.core not in allowed:
            raise BackendError(f"device {text!r}: core {name.core} is not open to this process: {sorted(allowed)} are")
        if name.threads != 1:
            raise BackendError(f"device {text!r}: {name.threads} threads don't fit on one core")
    try:
        backend = _OPENERS[name.backend](name, package)
    except ValueError as error:
        raise BackendError(f"device {text!r}: {error}") from error
    return OpenDevice(name.text, backend, None if name.core is None else frozenset((name.core,)))


def _onnxruntime(name: DeviceName, package: Package | None) -> Backend:
    from devices.backends.cuda import CudaBackend
    from devices.backends.int8 import Int8Backend
    from devices.backends.onnxruntime import OnnxRuntimeBackend

    _only(name, {"f32", "int8", "threads", "fallback"})
    word, _, number = name.target.partition(":")
    provider = _PROVIDERS.get(word.lower(), word)
    if name.precision == "int8":
        if provider != _PROVIDERS["cpu"]:
            raise BackendError(f"device {name.text!r}: int8 is for the CPU")
        return Int8Backend(name.text, threads=name.threads)
    fallback = "fallback" in name.options
    if provider in (_PROVIDERS["cuda"], _PROVIDERS["tensorrt"]):
        _only(name, {"f32", "fallback"})
        gpu = _number(name.text, "device", number) if number else 0
        return CudaBackend(name.text, provider=provider, gpu=gpu, allow_fallback=fallback)
    options = {"device_id": str(_number(name.text, "device", number))} if number else {}
    return OnnxRuntimeBackend(
        name.text, provider=provider, threads=name.threads, allow_fallback=fallback, provider_options=options
    )


def _openvino(name: DeviceName, package: Package | None) -> Backend:
    from devices.backends.openvino import OpenVinoBackend

    _only(name, {"f32", "bf16", "f16", "threads"})
    return OpenVinoBackend(
        name.text,
        target=name.target.upper(),
        precision=name.precision,
        threads=name.threads,
        core=name.core,
    )


def _torch(name: DeviceName, package: Package | None) -> Backend:
    from devices.backends.torch import TorchBackend

    _only(name, {"f32", "bf16", "f16", "threads"})
    return TorchBackend(name.text, target=name.target, precision=name.precision or "f32", threads=name.threads)


def _null(name: DeviceName, package: Package | None) -> Backend:
    from devices.backends.null import NullBackend
    from devices.profile import load_profile

    _only(name, {"unit"})
    if package is None:
        raise BackendError(f"device {name.text!r}: a null device needs the package whose times it takes")
    profile = load_profile(name.target)
    return NullBackend(profile.times_s(package, name.options.get("unit")), device=name.text)


_OPENERS: dict[str, Callable[[DeviceName, Package | None], Backend]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
    "null": _null,
}
_FOLLOWED_BY = {
    "onnxruntime": f"provider, as {', '.join(_PROVIDERS)}",
    "openvino": "device, as CPU, GPU, NPU",
    "torch": "device, as cpu, cuda:0",
    "null": "profile",
}


def _only(name: DeviceName, known: set[str]) -> None:
    """Refuse options that the backend does not have: one that is silently ignored helps nobody."""
    for option in name.options:
        if option not in known:
            raise BackendError(
                f"device {name.text!r}: {name.backend} has no option {option!r}: it has {', '.join(sorted(known))}"
            )


def _option(text: str, piece: str) -> tuple[str, str]:
    option, equals, value = piece.partition("=")
    takes_value = option in ("threads", "unit")
    if not option or takes_value != bool(equals and value):
        raise BackendError(f"device {text!r}: option {piece!r} must be {'name=value' if takes_value else 'a word'}")
    return option, value


def _number(text: str, what: str, given: str) -> int:
    if not given.isascii() or not given.isdecimal():
        raise BackendError(f"device {text!r}: {what} {given!r} must be a number")
    return int(given)
