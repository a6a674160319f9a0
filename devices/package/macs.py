"""Count the multiply-accumulates of an ONNX model at batch 1, from the shapes its operators declare.

Conv and ConvTranspose: output (input, if transposed) elements x channels per group x kernel elements.
MatMul and Gemm: output elements x inner size. Everything else counts nothing, as usual in the field.
"""

from collections.abc import Iterable
from math import prod
from typing import Any

import onnx

_MULTIPLYING = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def count_macs(model: Any) -> int:
    """Return the multiply-accumulates of an onnx.ModelProto at batch 1; an operator of unknown shape counts nothing."""
    return sum(macs_by_node(model))


def macs_by_node(model: Any) -> list[int]:
    """Return the multiply-accumulates of each node of an onnx.ModelProto at batch 1, in its order."""
    shapes = _shapes(model)
    return [_node_macs(node, shapes) if node.op_type in _MULTIPLYING else 0 for node in model.graph.node]


def _shapes(model: Any) -> dict[str, list[int]]:
    """Return the shapes inferred at batch 1; from those declared where inference stops, as at foreign operators."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if not dimension.HasField("dim_value"):
                dimension.dim_value = 1
    declared = list(fixed.graph.value_info)
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    known = _inferred(fixed)
    missing = [value for value in declared if value.name not in known and value.type.tensor_type.HasField("shape")]
    if missing:
        fixed.graph.value_info.extend(missing)
        known = {**_inferred(fixed), **known}
    return known


def _inferred(model: Any) -> dict[str, list[int]]:
    known = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError:
        return known
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in sizes):
            known.setdefault(value.name, [int(size.dim_value) for size in sizes])
    return known


def _node_macs(node: Any, shapes: dict[str, list[int]]) -> int:
    known: list[list[int]] = [shapes[name] for name in (node.input[0], node.input[1], node.output[0]) if name in shapes]
    if len(known) < 3:
        return 0
    left, right, out = known
    if node.op_type == "Conv":
        return prod(out) * prod(right[1:])
    if node.op_type == "ConvTranspose":
        return prod(left) * prod(right[1:])
    transposed = node.op_type == "Gemm" and _flag(node.attribute, "transA")
    return prod(out) * left[0 if transposed else -1]


def _flag(attributes: Iterable[Any], name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in attributes)
