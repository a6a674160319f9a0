"""What an ONNX model computes, operator by operator, as far as its latency depends on it.

Operators are taken as onnxruntime runs them: batch normalisation and activations after a convolution or a matrix
product, and the addition of a shortcut, cost nothing of their own, they run within it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx

from devices.errors import ProfileError
from devices.predict.regress import Floats

KINDS = ("conv", "depthwise", "matmul", "pool", "move", "elementwise")
_MATMUL = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
_POOL = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum")
_MOVE = (
    *("Transpose", "Concat", "Split", "Slice", "Cast", "Reshape", "Flatten", "Gather", "Pad", "Resize", "Squeeze"),
    *("Unsqueeze", "Expand", "Tile", "ReorderInput", "ReorderOutput", "Identity"),
)
_FREE = ("Constant", "ConstantOfShape", "Shape", "Dropout", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
_FOLDED = ("BatchNormalization", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Add")

Shape = Sequence[int]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Args:
        kind: One of `KINDS`.
        macs: Multiply-accumulates.
        read, written, weights: Elements of its inputs, outputs and constant inputs.
    """

    kind: str
    macs: int
    read: int
    written: int
    weights: int

    @property
    def features(self) -> list[float]:
        """Operations, then what they fall into, none of them negative."""
        operations = 2 * self.macs + self.written
        depth = self.macs / max(self.written, 1)
        kinds = [float(self.kind == kind) for kind in KINDS]
        return [float(operations), float(self.read), float(self.written), float(self.weights), depth, *kinds]


def table(operators: Iterable[Operator]) -> Floats:
    """Return the features of operators, a row each."""
    return np.array([operator.features for operator in operators], dtype=np.float64)


def operator(op_type: str, inputs: Sequence[Shape], outputs: Sequence[Shape], constants: int) -> Operator:
    """Describe an operator by its type and the shapes of its tensors.

    Args:
        op_type: ONNX's or onnxruntime's name of it.
        inputs, outputs: Shapes; a convolution's second input is its kernel.
        constants: Elements of its constant inputs, where known; 0 for a matrix product's own are derived.
    """
    read, written = sum(map(prod, inputs)), sum(map(prod, outputs))
    if op_type in ("Conv", "FusedConv", "ConvTranspose") and len(inputs) > 1:
        kernel = inputs[1]
        kind = "depthwise" if len(inputs[0]) > 1 and kernel[1] < inputs[0][1] else "conv"
        weights = prod(kernel)
        macs = prod(inputs[0] if op_type == "ConvTranspose" else outputs[0]) * prod(kernel[1:])
        return Operator(kind, macs, max(read - weights, 1), written, weights)
    if op_type in _MATMUL and inputs and inputs[0]:
        inner = inputs[0][-1]
        return Operator("matmul", written * inner, prod(inputs[0]), written, max(constants, inner * outputs[0][-1]))
    kind = "pool" if op_type in _POOL else "move" if op_type in _MOVE else "elementwise"
    return Operator(kind, 0, read, written, constants)


def operators_of(model: bytes, batch: int = 1) -> tuple[Operator, ...]:
    """Return the operators of an ONNX model that take time.

    Args:
        model: The model.
        batch: What open sizes stand for.
    Raises:
        ProfileError: It is no model, or the shapes within can't be told.
    """
    try:
        parsed = onnx.load_from_string(model)
        shapes = _shapes(parsed, batch)
    except Exception as error:  # protobuf and onnx raise unrelated types
        raise ProfileError(f"cannot tell what the model computes: {error}") from error
    constant = {tensor.name: prod(tensor.dims) for tensor in parsed.graph.initializer}
    return tuple(_walk(parsed.graph, shapes, constant))


def _walk(graph: Any, shapes: Mapping[str, Shape], constant: Mapping[str, int]) -> Iterable[Operator]:
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    fused: set[str] = set()  # tensors that a convolution or a matrix product makes, activation and all
    for node in graph.node:
        if node.op_type in _FOLDED and any(name in fused and readers[name] == 1 for name in node.input):
            fused.update(node.output)
            continue
        if node.op_type in _FREE:
            continue
        names = [name for name in node.input if name]
        unknown = [name for name in (*names, *node.output) if name and name not in shapes]
        if unknown:
            if all(name in constant for name in names):
                continue
            raise ProfileError(f"{node.op_type} {node.name!r}: the shape of {unknown} can't be told")
        if node.op_type in ("Conv", *_MATMUL):
            fused.update(node.output)
        constants = sum(constant.get(name, 0) for name in names)
        yield operator(node.op_type, [shapes[n] for n in names], [shapes[n] for n in node.output if n], constants)


def _shapes(model: Any, batch: int) -> dict[str, Shape]:
    for value in model.graph.input:
        for size in value.type.tensor_type.shape.dim:
            if not size.HasField("dim_value"):
                size.dim_value = batch
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in sizes):
            found.setdefault(value.name, tuple(int(size.dim_value) for size in sizes))
    return found
