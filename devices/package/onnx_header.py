"""What an ONNX file declares about itself, read without running it and without following it to other files."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from devices.errors import PackageError
from devices.tensor import ANY, DTYPES, MAX_TENSOR_BYTES, TensorSpec


def read_header(what: str, data: bytes) -> tuple[Any, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the model and the declarations of its inputs and outputs.

    Args:
        what: Name of the file for messages.
        data: The file's bytes.
    Returns:
        The onnx.ModelProto, the inputs that are not constants, the outputs.
    Raises:
        PackageError: Not an ONNX file, weights outside the file, or a tensor that is undeclared or too large.
    """
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, TypeError) as error:
        raise PackageError(f"{what} is not an ONNX file ({error}): export it again") from error
    if not model.graph.output or not model.opset_import:
        raise PackageError(f"{what} is not an ONNX file: it declares no output or no operator set")
    _check_weights(what, model, len(data))
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(what, value) for value in model.graph.input if value.name not in constants)
    return model, inputs, tuple(_spec(what, value) for value in model.graph.output)


def _spec(what: str, value: Any) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind not in ("tensor_type", None):
        raise PackageError(
            f"{what}: {value.name!r} is a {str(kind).removesuffix('_type')}, not a tensor: export the model without it "
            "(a scikit-learn classifier with options={'zipmap': False})"
        )
    if kind is None or not value.type.tensor_type.HasField("shape"):
        raise PackageError(f"{what}: {value.name!r} is not a tensor of declared shape: export it with its shape")
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name
    except (KeyError, TypeError, ValueError):
        dtype = f"type {value.type.tensor_type.elem_type}"
    if dtype not in DTYPES:
        raise PackageError(f"{what}: {value.name!r} has element {dtype}: must be one of {sorted(DTYPES)}")
    spec = TensorSpec(value.name, dtype, tuple(map(_size, value.type.tensor_type.shape.dim)))
    check_spec(what, spec)
    return spec


def _size(dimension: Any) -> int | str:
    return int(dimension.dim_value) if dimension.HasField("dim_value") else dimension.dim_param or ANY


def check_spec(what: str, spec: TensorSpec) -> None:
    """Refuse a declaration with an unknown dtype, a size below 1, or more memory than a tensor may take.

    Raises:
        PackageError: Names the tensor and what would be right.
    """
    if spec.dtype not in DTYPES:
        raise PackageError(f"{what}: {spec.name!r} has dtype {spec.dtype!r}: must be one of {sorted(DTYPES)}")
    if any(size < 1 if isinstance(size, int) else not size for size in spec.shape):
        raise PackageError(f"{what}: {spec} has an empty size: every size must be at least 1 or a name")
    if spec.least_bytes > MAX_TENSOR_BYTES:
        raise PackageError(f"{what}: {spec} takes {spec.least_bytes} bytes: must be at most {MAX_TENSOR_BYTES}")


def _check_weights(what: str, model: Any, file_bytes: int) -> None:
    for tensor in weights_of(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise PackageError(
                f"{what}: weight {tensor.name!r} lies outside the file (external data): headway pack takes it in"
            )
        elements = 1
        for size in tensor.dims:
            elements *= int(size)
        # int4 packs two elements a byte; nothing packs tighter than four.
        if any(size < 0 for size in tensor.dims) or elements > 4 * file_bytes:
            raise PackageError(
                f"{what}: weight {tensor.name!r} declares shape {list(tensor.dims)}, more than the file's "
                f"{file_bytes} bytes can hold"
            )


def weights_of(model: Any) -> Iterator[Any]:
    """Yield every onnx.TensorProto of a model: weights, constants, those of branches and functions too."""
    yield from _graph_weights(model.graph)
    for function in model.functions:
        yield from _node_weights(function.node)


def _graph_weights(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_weights(graph.node)


def _node_weights(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _graph_weights(attribute.g)
            for graph in attribute.graphs:
                yield from _graph_weights(graph)
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
