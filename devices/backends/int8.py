"""Backend `int8`: onnxruntime on the CPU with weights of 8 bits; activations are quantised as they come.

Dynamic quantisation needs no calibration data. Memory of the weights falls to a quarter. Where the processor's integer
instructions are fast, matrix products are faster too; convolutions need not be: a profile tells. What it costs in
accuracy is the model's affair and has to be measured on it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from devices.backends.onnxruntime import LoadedSession, OnnxRuntimeBackend
from devices.errors import BackendError
from devices.package.graph import Segment


class Int8Backend(OnnxRuntimeBackend):
    """onnxruntime's CPU provider with quantised weights.

    Args:
        device: Name of the device in replies and profiles.
        threads: Intra-op threads.
    """

    reads_files = False

    def __init__(self, device: str = "cpu+int8", *, threads: int = 1) -> None:
        super().__init__(device, threads=threads)

    def load(self, segment: Segment, model: bytes) -> LoadedSession:
        """Quantise a segment and make it ready to run.

        Raises:
            BackendError: onnxruntime can't quantise or refuses the model.
        """
        return super().load(segment, _quantise(segment, model))


def _quantise(segment: Segment, model: bytes) -> bytes:
    import onnx

    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:  # some versions ask for sympy and do not say so to pip
        raise BackendError(f"onnxruntime cannot quantise here: {error}: pip install {error.name}") from error
    try:
        with TemporaryDirectory() as folder, _quiet():
            path = Path(folder) / "int8.onnx"
            quantize_dynamic(onnx.load_from_string(model), path, weight_type=QuantType.QUInt8)
            return path.read_bytes()
    except Exception as error:  # the quantiser raises whatever its operators do
        raise BackendError(f"segment {segment.id!r}: cannot quantise {segment.path.name}: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the quantiser's advice, which goes to the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
