"""What a backend is: it loads a segment onto one device and runs it, and can be stopped in mid-run from another thread.

One file a backend under devices/backends/. Tensors that stay on the device travel between segments as opaque values;
`upload` and `download` convert at the edges. On a CPU a value is the numpy array itself and neither copies.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from devices.package.graph import Segment
from devices.tensor import Array

Value = Any  # a tensor in the backend's own form, kept on its device


class CancelToken:
    """Stops whatever runs under it; any thread may call `cancel`, once is enough and twice does no harm.

    `interrupt` stops what runs now and no more: after `resume` it can be run again. A backend knows no difference.

    A backend binds a hook for as long as it runs. Needs no lock: `bind` publishes the hook before it reads the flag and
    `cancel` sets the flag before it reads the hooks, so one of the two calls it, perhaps both. Hooks are idempotent.
    """

    __slots__ = ("_cancelled", "_hooks", "_interrupted")

    def __init__(self) -> None:
        self._cancelled = False
        self._interrupted = False
        self._hooks: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """Whether what runs must stop: `cancel` was called, or `interrupt` and `resume` not since."""
        return self._cancelled or self._interrupted

    def cancel(self) -> None:
        """Stop what runs under this token, now and in future."""
        self._cancelled = True
        self._call_hooks()

    def interrupt(self) -> None:
        """Stop what runs under this token now; it may be run again."""
        self._interrupted = True
        self._call_hooks()

    def resume(self) -> bool:
        """Take back an interruption; return whether what runs under this token may go on."""
        self._interrupted = False
        return not self._cancelled

    def _call_hooks(self) -> None:
        for hook in tuple(self._hooks):
            hook()

    def bind(self, hook: Callable[[], None]) -> None:
        """Have `hook` called when the token is cancelled, at once if it already is."""
        self._hooks.append(hook)
        if self.cancelled:
            hook()

    def unbind(self, hook: Callable[[], None]) -> None:
        """Forget a hook that `bind` was given."""
        self._hooks.remove(hook)


class Loaded(Protocol):
    """A segment that is ready to run on its device."""

    def run(self, inputs: Mapping[str, Value], cancel: CancelToken | None = None) -> dict[str, Value]:
        """Return the segment's outputs by name.

        Raises:
            RunCancelledError: `cancel` was cancelled before or while it ran; the segment can be run again.
            SegmentError: It failed.
        """
        ...


class Backend(Protocol):
    """One device, opened."""

    @property
    def name(self) -> str:
        """Name of the backend, as of its file."""
        ...

    @property
    def device(self) -> str:
        """Name of the device, as "cpu:0"."""
        ...

    @property
    def merges(self) -> bool:
        """Whether segments that always run together may be given to it as one ONNX model."""
        ...

    def load(self, segment: Segment, model: bytes) -> Loaded:
        """Make a segment ready to run.

        Raises:
            BackendError: The backend refuses the model.
        """
        ...

    def upload(self, array: Array) -> Value:
        """Bring a tensor to the device."""
        ...

    def download(self, value: Value) -> Array:
        """Bring a tensor back from the device."""
        ...
