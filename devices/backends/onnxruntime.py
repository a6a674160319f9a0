"""Backend `onnxruntime`: one session a segment on the execution provider that was asked for.

onnxruntime falls back to the CPU silently, for a whole model or for single nodes, and lists the asked-for provider all
the same; here that is an error unless allowed, and `LoadedSession.placed` tells how many nodes each provider got.

One intra-op thread: a second one makes the run several times slower as soon as the other core is busy. On the CPU
`session.run` wraps numpy arrays without copying, both ways, and costs 3 us against 30 us for the Python binding calls:
a value is the array itself. A run is stopped through its own RunOptions, whose grain is one graph node; the session
stays usable.

All CPU sessions of a process share one memory arena. With an arena each, a model in three segments touches three times
the memory: EfficientNet-Lite0 then takes 6 % longer than in one session instead of 3 %.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime

from devices.backend import CancelToken, Value
from devices.errors import BackendError, RunCancelledError, SegmentError
from devices.package.graph import Segment
from devices.tensor import Array

CPU = "CPUExecutionProvider"
_QUIET = 4  # fatal only: every stopped run would log an error


class OnnxRuntimeBackend:
    """onnxruntime on one execution provider.

    Args:
        device: Name of the device in replies and profiles.
        provider: Execution provider; tensors are handed over and taken back in host memory.
        threads: Intra-op threads.
        allow_fallback: Accept that some or all nodes run on another provider.
        provider_options: Options of the provider, as {"device_id": "1"}.
    Raises:
        BackendError: The provider is not in this onnxruntime.
    """

    name = "onnxruntime"
    merges = True
    reads_files = True

    def __init__(
        self,
        device: str = "cpu:0",
        *,
        provider: str = CPU,
        threads: int = 1,
        allow_fallback: bool = False,
        provider_options: Mapping[str, str] | None = None,
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads = {threads}: must be at least 1")
        available = onnxruntime.get_available_providers()
        if provider not in available and not allow_fallback:
            raise BackendError(f"this onnxruntime has no {provider}: it has {available}")
        self.device = device
        self.provider = provider if provider in available else CPU
        self.threads = threads
        self.allow_fallback = allow_fallback
        self._provider_options = dict(provider_options or {}) if self.provider == provider else {}

    def load(self, segment: Segment, model: bytes) -> "LoadedSession":
        """Make a segment ready to run.

        Raises:
            BackendError: onnxruntime refuses the model, or runs it on another provider than the one asked for.
        """
        return self._load(segment, model)

    def load_file(self, segment: Segment, path: Path) -> "LoadedSession":
        """Make a segment ready to run; its weights are read straight from the file, and never held beside the session.

        Raises:
            BackendError: As for `load`.
        """
        return self._load(segment, str(path))

    def _load(self, segment: Segment, model: bytes | str) -> "LoadedSession":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _QUIET
        if self.provider == CPU:
            _share_arena()
            options.add_session_config_entry("session.use_env_allocators", "1")
        else:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            options.add_session_config_entry("session.disable_cpu_ep_fallback", str(int(not self.allow_fallback)))
        providers = [(self.provider, self._provider_options)]
        try:
            session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
        except Exception as error:  # onnxruntime raises a dozen unrelated types, some plain RuntimeError
            raise BackendError(f"segment {segment.id!r}: onnxruntime refuses {segment.path.name}: {error}") from error
        session._model_bytes = None  # kept for that fallback: as much memory again as the weights take
        used = session.get_providers()
        if used[0] != self.provider and not self.allow_fallback:
            raise BackendError(f"segment {segment.id!r}: onnxruntime took {used[0]} instead of {self.provider}")
        return self._ready(session, segment)

    def _ready(self, session: Any, segment: Segment) -> "LoadedSession":
        return LoadedSession(session, segment, self.device)

    def upload(self, array: Array) -> Value:
        """Return the array itself: the session reads it where it lies."""
        return array

    def download(self, value: Value) -> Array:
        """Return the array itself: it wraps the session's output where it lies."""
        array: Array = value
        return array


@cache
def _share_arena() -> None:
    """Make the process's one CPU arena, which grows by what is asked for and not by powers of two."""
    kind, memory = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    settings = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, memory), settings)


class LoadedSession:
    """One segment in one session."""

    __slots__ = ("_device", "_infer", "_outputs", "_segment_id", "_session", "placed")

    def __init__(self, session: Any, segment: Segment, device: str) -> None:
        self.placed = _nodes_by_provider(session)
        self._session = session
        self._infer = getattr(session, "_sess", session).run  # what `run` calls once it has looked at the names
        self._segment_id = segment.id
        self._outputs = [spec.name for spec in segment.outputs]
        self._device = device

    def run(self, inputs: Mapping[str, Value], cancel: CancelToken | None = None) -> dict[str, Value]:
        """Return the segment's outputs by name.

        Raises:
            RunCancelledError: `cancel` was cancelled before or while it ran.
            SegmentError: onnxruntime failed.
        """
        if cancel is None:
            return self._run(inputs, None, None)
        if cancel.cancelled:
            raise RunCancelledError(f"segment {self._segment_id!r} was stopped before it began on {self._device}")
        options = onnxruntime.RunOptions()
        options.log_severity_level = _QUIET
        stop = _Stop(options)
        cancel.bind(stop)
        try:
            return self._run(inputs, options, cancel)
        finally:
            cancel.unbind(stop)

    def _run(self, inputs: Mapping[str, Value], options: Any, cancel: CancelToken | None) -> dict[str, Value]:
        try:
            values = self._call(inputs, options)
        except Exception as error:  # onnxruntime raises a dozen unrelated types, some plain RuntimeError
            if cancel is not None and cancel.cancelled:
                raise RunCancelledError(f"segment {self._segment_id!r} was stopped on {self._device}") from error
            raise SegmentError(f"segment {self._segment_id!r} failed on {self._device}: {error}") from error
        return dict(zip(self._outputs, values, strict=True))

    def _call(self, inputs: Mapping[str, Value], options: Any) -> Sequence[Value]:
        values: Sequence[Value] = self._infer(self._outputs, inputs, options)
        return values


def _nodes_by_provider(session: Any) -> dict[str, int]:
    """Return how many nodes each provider runs; empty on the CPU alone and where this onnxruntime can't tell."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    placed: dict[str, int] = {}
    if tell is None or session.get_providers() == [CPU]:
        return placed
    for part in tell():
        placed[part.ep_name] = placed.get(part.ep_name, 0) + len(part.get_nodes())
    return placed


class _Stop:
    """Terminates one run; callable once or often."""

    __slots__ = ("_options",)

    def __init__(self, options: Any) -> None:
        self._options = options

    def __call__(self) -> None:
        self._options.terminate = True
