"""Layers and steps of one stage as ONNX nodes, batch normalisation folded into the weights."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.pack.exits.graph import GraphBuilder
from runtime.pack.width.graph import Activation, Step, StepKind
from runtime.pack.width.network import Cell

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


def array(tensor: Any) -> Floats:
    """Return a tensor's values."""
    return np.asarray(tensor.detach().cpu().numpy(), np.float32)


def layer_nodes(
    build: GraphBuilder, cell: Cell, x: str, rows: slice, places: Places, activation: Activation, output: str
) -> None:
    """Append a layer's rows `rows` on the channels `places`, which x holds in that order, written as `output`."""
    weight, bias = _folded(cell)
    weight = weight[rows][:, places]
    bias = None if bias is None else bias[rows]
    made = output if activation is Activation.NONE else None
    if weight.ndim == 4:
        y = _convolution(build, cell.core, x, weight, bias, made)
    else:
        y = matrix_nodes(build, x, weight, bias, made)
    if activation is Activation.RELU:
        build.node("Relu", y, output=output)
    elif activation is Activation.GELU:
        curve = build.node("Erf", build.node("Mul", y, build.number(2.0**-0.5)))
        half = build.node("Mul", y, build.node("Add", curve, build.number(1.0)))
        build.node("Mul", half, build.number(0.5), output=output)


def matrix_nodes(build: GraphBuilder, x: str, weight: Floats, bias: Floats | None, output: str | None) -> str:
    """Append x W' + b, whatever axes come before the channels, and return its name."""
    turned = build.weight(weight.T.copy())
    if bias is None:
        return build.node("MatMul", x, turned, output=output)
    return build.node("Add", build.node("MatMul", x, turned), build.weight(bias), output=output)


def normal_nodes(build: GraphBuilder, norm: Any, x: str, places: Places) -> str:
    """Append the LayerNorm of the channels `places`, over those alone, and return its name."""
    weights = [build.weight(array(norm.weight)[places])]
    if norm.bias is not None:
        weights.append(build.weight(array(norm.bias)[places]))
    return build.node("LayerNormalization", x, *weights, axis=-1, epsilon=norm.eps)


def _convolution(
    build: GraphBuilder, core: Any, x: str, weight: Floats, bias: Floats | None, output: str | None
) -> str:
    weights = [build.weight(value) for value in (weight, bias) if value is not None]
    return build.node(
        "Conv",
        x,
        *weights,
        output=output,
        kernel_shape=list(weight.shape[2:]),
        strides=list(core.stride),
        pads=[*core.padding, *core.padding],
    )


def _folded(cell: Cell) -> tuple[Floats, Floats | None]:
    """Return weight and bias of the layer that does what layer and batch normalisation do."""
    weight = array(cell.core.weight)
    bias = None if cell.core.bias is None else array(cell.core.bias)
    if cell.norm is None:
        return weight, bias
    gain = array(cell.norm.weight) / np.sqrt(array(cell.norm.running_var) + cell.norm.eps)
    shift = array(cell.norm.bias) + gain * ((0.0 if bias is None else bias) - array(cell.norm.running_mean))
    return (weight * gain[:, None, None, None]).astype(np.float32), shift.astype(np.float32)


def step_nodes(build: GraphBuilder, step: Step, reads: list[str], own: slice, tokens: Any, output: str) -> None:
    """Append a step on a stage's own tensors, written as `output`; `own` is where its channels lie in the whole."""
    x = reads[0]
    match step.kind:
        case StepKind.ADD:
            build.node("Add", *reads, output=output)
        case StepKind.RELU:
            build.node("Relu", x, output=output)
        case StepKind.FLATTEN:
            build.node("Flatten", x, axis=1, output=output)
        case StepKind.PICK:
            first = build.node("Gather", x, build.weight(np.array([0], np.int64)), axis=1)
            build.node("Flatten", first, axis=1, output=output)
        case StepKind.TOKENS:
            _token_nodes(build, x, array(tokens.first)[own], array(tokens.places)[:, own], output)
        case StepKind.ATTEND:
            _attention_nodes(build, reads, step.sizes[0], own.stop - own.start, output)
        case StepKind.MEAN_POOL:
            build.node("AveragePool", x, output=output, kernel_shape=list(step.sizes), strides=list(step.sizes))
        case StepKind.MAX_POOL:
            kernel, stride, padding = step.sizes
            sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
            build.node("MaxPool", x, output=output, **sizes)


def _token_nodes(build: GraphBuilder, x: str, first: Floats, places: Floats, output: str) -> None:
    """Append places added to rows of patches, before which a row of zeros stands for the class token."""
    flat = build.node("Reshape", x, build.weight(np.array([0, 0, -1], np.int64)))
    rows = build.node("Transpose", flat, perm=[0, 2, 1])
    padded = build.node("Pad", rows, build.weight(np.array([0, 1, 0, 0, 0, 0], np.int64)))
    added = places.copy()
    added[0] += first
    build.node("Add", padded, build.weight(added), output=output)


def _attention_nodes(build: GraphBuilder, reads: list[str], size: int, channels: int, output: str) -> None:
    shape = build.weight(np.array([0, 0, channels // size, size], np.int64))
    turns = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])  # keys stand crosswise
    q, k, v = (
        build.node("Transpose", build.node("Reshape", x, shape), perm=turn)
        for x, turn in zip(reads, turns, strict=True)
    )
    likeness = build.node("Mul", build.node("MatMul", q, k), build.number(size**-0.5))
    mixed = build.node("MatMul", build.node("Softmax", likeness, axis=-1), v)
    rows = build.node("Transpose", mixed, perm=[0, 2, 1, 3])
    build.node("Reshape", rows, build.weight(np.array([0, 0, channels], np.int64)), output=output)
