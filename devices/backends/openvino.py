"""Backend `openvino`: one compiled model a segment on Intel processors, graphics and NPUs.

On processors that can, OpenVINO computes in bf16 unless told otherwise; here f32 is the default, and the precision that
the compiled model reports must be the one asked for, or loading fails. A model is compiled for the exact shapes it is
given, batch 1 at once and others when they first come: that is faster than one model for open sizes.

A run that can be stopped goes through `start_async`; a synchronous `infer` runs to its end whatever `cancel` says. The
asynchronous one runs on threads of OpenVINO's own. TBB gives these, for each run, the cores that any thread of the
process had when OpenVINO was first used; so one core can be chosen, once, for all of a process: every thread is put
there meanwhile. Pinning a thread of OpenVINO's has no effect; its own pinning puts every model on the first core, and
reserves a core for each segment if asked to.

OpenVINO tells its makers of each import, unless openvino-telemetry is missing: here it always seems to be.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np

from devices.backend import CancelToken, Value
from devices.errors import BackendError, RunCancelledError, SegmentError
from devices.package.graph import Segment
from devices.samples import sample_inputs
from devices.tensor import Array

PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
MAX_SHAPES = 8  # compiled at a time for one segment; the one unused for longest goes


class OpenVinoBackend:
    """OpenVINO on one of its devices.

    Args:
        device: Name of the device in replies and profiles.
        target: OpenVINO's name of it: "CPU", "GPU", "GPU.1", "NPU".
        precision: "f32", "bf16" or "f16"; None: f32, and f16 on an NPU, which has no other.
        threads: Threads of inference on a CPU.
        core: Processor core that inference runs on; one for all of the process.
    Raises:
        BackendError: OpenVINO is not installed or has no such device, or runs on other cores in this process already.
        ValueError: Unknown precision, or no threads.
    """

    name = "openvino"
    merges = True

    def __init__(
        self,
        device: str = "openvino:CPU",
        *,
        target: str = "CPU",
        precision: str | None = None,
        threads: int = 1,
        core: int | None = None,
    ) -> None:
        wanted = precision or ("f16" if target.startswith("NPU") else "f32")
        if wanted not in PRECISIONS:
            raise ValueError(f"precision = {wanted!r}: must be one of {list(PRECISIONS)}")
        if threads < 1:
            raise ValueError(f"threads = {threads}: must be at least 1")
        available = _USE.begin(device, core, target == "CPU").available_devices
        if target not in available and f"{target}.0" not in available:
            raise BackendError(f"{device}: OpenVINO has no {target} here: it has {available}")
        self.device = device
        self.target = target
        self.precision = wanted
        self.threads = threads

    def load(self, segment: Segment, model: bytes) -> "LoadedModel":
        """Make a segment ready to run, compiled for batch 1.

        Raises:
            BackendError: OpenVINO refuses the model, or compiled it for another device or precision.
        """
        loaded = LoadedModel(self, segment, model)
        loaded.request(sample_inputs(segment.inputs))
        return loaded

    def upload(self, array: Array) -> Value:
        """Return the array itself: the request reads it where it lies."""
        return array

    def download(self, value: Value) -> Array:
        """Return the array itself."""
        array: Array = value
        return array

    @property
    def settings(self) -> dict[str, Any]:
        """OpenVINO's properties for compiling."""
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": self.precision}
        if self.target == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        return settings


class _Use:
    """OpenVINO in this process, and the core that it was put on when it was first used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: Any = None
        self._core: int | None = None

    def begin(self, device: str, core: int | None, computes_here: bool) -> Any:
        """Return OpenVINO, to run on a core.

        Raises:
            BackendError: It is not installed, or runs elsewhere already.
        """
        with self._lock:
            if self._library is None:
                with _threads_on(core):
                    self._library = _openvino().Core()
                    # Only this has TBB look up the threads' cores.
                    _ = self._library.available_devices
                self._core = core
            elif computes_here and core != self._core:
                wants, has = ("any core" if item is None else f"core {item}" for item in (core, self._core))
                raise BackendError(
                    f"{device}: OpenVINO keeps the cores that it was first used with, here {has}: it can't have {wants}"
                    " in the same process"
                )
            return self._library

    def compile(self, *arguments: Any) -> Any:
        """Compile a model."""
        with self._lock:
            return self._library.compile_model(*arguments)

    def read(self, model: bytes) -> Any:
        """Read a model."""
        return self._library.read_model(model)


_USE = _Use()


@contextmanager
def _threads_on(core: int | None) -> Iterator[None]:
    """Have every thread of the process on one core while the block runs, where they are if None."""
    if core is None:
        yield
        return
    usual = os.sched_getaffinity(os.getpid())
    before = {}
    for thread in _threads():
        with suppress(ProcessLookupError):  # it ended
            before[thread] = os.sched_getaffinity(thread)
            os.sched_setaffinity(thread, {core})
    try:
        yield
    finally:
        for thread in _threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, before.get(thread, usual))


def _threads() -> list[int]:
    return [int(thread) for thread in os.listdir("/proc/self/task")]


def _openvino() -> Any:
    try:
        with _without_telemetry():
            return import_module("openvino")
    except ImportError as error:
        raise BackendError("OpenVINO is not installed: pip install 'headway[openvino]'") from error


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Have `openvino_telemetry` seem not installed while the block runs; leave it be where something imported it."""
    name = "openvino_telemetry"
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]


class LoadedModel:
    """One segment, compiled for the shapes it was given so far."""

    def __init__(self, backend: OpenVinoBackend, segment: Segment, model: bytes) -> None:
        self._backend = backend
        self._segment = segment
        self._requests: dict[tuple[tuple[int, ...], ...], Any] = {}
        try:
            self._graph = _USE.read(_in_one_piece(model))
        except Exception as error:  # protobuf's and OpenVINO's own, of no common type
            raise BackendError(f"segment {segment.id!r}: OpenVINO refuses {segment.path.name}: {error}") from error

    def run(self, inputs: Mapping[str, Value], cancel: CancelToken | None = None) -> dict[str, Value]:
        """Return the segment's outputs by name.

        Raises:
            RunCancelledError: `cancel` was cancelled before or while it ran.
            SegmentError: OpenVINO failed.
        """
        token = cancel or CancelToken()
        if token.cancelled:
            raise RunCancelledError(f"segment {self._segment.id!r} was stopped before it began on {self._where}")
        try:
            request = self.request(inputs)
            self._infer(request, inputs, token)
            return {spec.name: np.array(request.get_tensor(spec.name).data) for spec in self._segment.outputs}
        except (RuntimeError, BackendError) as error:
            if token.cancelled:
                raise RunCancelledError(f"segment {self._segment.id!r} was stopped on {self._where}") from error
            raise SegmentError(f"segment {self._segment.id!r} failed on {self._where}: {error}") from error

    def request(self, inputs: Mapping[str, Array]) -> Any:
        """Return the request for tensors of these shapes, compiling it where there is none.

        Raises:
            BackendError: OpenVINO refuses the shapes, or compiled for another device or precision.
        """
        shapes = tuple(inputs[spec.name].shape for spec in self._segment.inputs)
        request = self._requests.pop(shapes, None) or self._compile(shapes)
        self._requests[shapes] = request
        while len(self._requests) > MAX_SHAPES:
            del self._requests[next(iter(self._requests))]
        return request

    @property
    def _where(self) -> str:
        return self._backend.device

    def _infer(self, request: Any, inputs: Mapping[str, Array], token: CancelToken) -> None:
        request.start_async({name: np.ascontiguousarray(array) for name, array in inputs.items()}, share_inputs=True)
        token.bind(request.cancel)
        try:
            request.wait()
        finally:
            token.unbind(request.cancel)

    def _compile(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        backend = self._backend
        what = f"segment {self._segment.id!r}: OpenVINO"
        named = {spec.name: list(shape) for spec, shape in zip(self._segment.inputs, shapes, strict=True)}
        try:
            self._graph.reshape(named)
            compiled = _USE.compile(self._graph, backend.target, backend.settings)
        except RuntimeError as error:
            raise BackendError(f"{what} refuses {self._segment.path.name} at {named}: {error}") from error
        devices = compiled.get_property("EXECUTION_DEVICES")
        if {device.split(".")[0] for device in devices} != {backend.target.split(".")[0]}:
            raise BackendError(f"{what} took {devices} instead of {backend.target}")
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if precision not in (backend.precision, PRECISIONS[backend.precision]):
            raise BackendError(f"{what} computes in {precision} on {backend.target}, not in {backend.precision}")
        return compiled.create_infer_request()


def _in_one_piece(model: bytes) -> bytes:
    """Write a model anew: one that is pieces of protobuf one after another is sound, but OpenVINO finds it empty."""
    import onnx

    whole: bytes = onnx.load_from_string(model).SerializeToString()
    return whole
