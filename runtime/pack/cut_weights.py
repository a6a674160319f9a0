"""Take in the weights of a model that lie in files beside it, as PyTorch's exporter puts them (ONNX external data).

A package's segments must hold their weights, so that one hash covers them. Only files in the model's own folder are
read, and no links out of it.
"""

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from devices.package.onnx_header import weights_of
from devices.package.read import MAX_FILE_BYTES, inside
from runtime.pack.errors import PackError


def with_weights(path: Path, data: bytes) -> bytes:
    """Return the bytes of an ONNX file with all its weights inside; unchanged if they are, or if it is none.

    Args:
        path: The file.
        data: Its bytes.
    Raises:
        PackError: A file of weights is missing, too short, too large, or outside the model's folder.
        PackageError: A path of weights leads out of the folder.
    """
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, TypeError):
        return data  # whoever reads it next says what is wrong
    files = {_location(tensor) for tensor in weights_of(model) if tensor.data_location == onnx.TensorProto.EXTERNAL}
    if not files:
        return data
    total = len(data)
    for file in sorted(files):
        beside = inside(path.parent, file)
        if not beside.is_file():
            raise PackError(f"{path}: its weights should lie in {beside}, which is missing: keep the files together")
        total += beside.stat().st_size
    if total > MAX_FILE_BYTES:
        raise PackError(f"{path} and its weights have {total} bytes: must be at most {MAX_FILE_BYTES}")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (ValueError, RuntimeError, OSError, onnx.checker.ValidationError) as error:
        raise PackError(f"{path}: its weights can't be read: {error}") from error
    for tensor in weights_of(model):
        if tensor.data_location == onnx.TensorProto.DEFAULT:
            tensor.ClearField("data_location")  # as if it had been inside from the start
    return bytes(model.SerializeToString())


def _location(tensor: Any) -> str:
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")
