"""Write the trained network as ONNX segments, batch normalisation folded into the convolutions.

The graphs are built node by node: names are ours, nothing of the training machine gets into the files, and the same
weights give the same bytes.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from perception.network import ANSWER_SCALE, PRESENCE, RANGE, RANGE_UNIT_M, ConvBlock, DrivingNet, Head, Residual

OPSET = 18
CUTS = ("frame", "cut1", "cut2", "deep3")
CUT_SHAPES = ((80, 160, 3), (32, 10, 20), (64, 5, 10), (128, 5, 10))


class GraphBuilder:
    """Collects nodes and weights of one segment."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node and return its output's name."""
        output = output or f"{self.name}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, value: NDArray[Any]) -> str:
        """Store a constant and return its name."""
        name = f"{self.name}_w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def block(self, block: nn.Module, x: str) -> str:
        """Append a ConvBlock or a Residual."""
        if isinstance(block, Residual):
            inner = self.block(block.second, self.block(block.first, x))
            return self.node("Relu", self.node("Add", x, inner))
        assert isinstance(block, ConvBlock)
        weight, bias = _folded(block)
        size, stride = block.conv.kernel_size[0], block.conv.stride[0]
        y = self.node(
            "Conv",
            x,
            self.weight(weight),
            self.weight(bias),
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[size // 2] * 4,
        )
        return self.node("Relu", y) if block.active else y

    def linear(self, layer: nn.Linear, x: str) -> str:
        """Append x W' + b."""
        weight, bias = (self.weight(_array(p)) for p in (layer.weight, layer.bias))
        return self.node("Gemm", x, weight, bias, transB=1)

    def model(self, inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
        """Return the checked model."""
        graph = helper.make_graph(self.nodes, self.name, inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="headway")
        model.ir_version = 9
        onnx.checker.check_model(model, full_check=True)
        return model


def export_trunk(network: DrivingNet, index: int) -> onnx.ModelProto:
    """Return trunk `index` (0, 1, 2) from one cut to the next; the first also normalises the frame."""
    build = GraphBuilder(f"trunk{index + 1}")
    x = CUTS[index]
    if index == 0:
        floats = build.node("Cast", x, to=TensorProto.FLOAT)
        centred = build.node("Sub", floats, build.weight(np.float32(128.0)))
        scaled = build.node("Mul", centred, build.weight(np.float32(1.0 / 64.0)))
        x = build.node("Transpose", scaled, perm=[0, 3, 1, 2])
    for block in network.trunks[index]:
        x = build.block(block, x)
    build.nodes[-1].output[0] = CUTS[index + 1]
    kind = TensorProto.UINT8 if index == 0 else TensorProto.FLOAT
    return build.model(
        [helper.make_tensor_value_info(CUTS[index], kind, ["N", *CUT_SHAPES[index]])],
        [helper.make_tensor_value_info(CUTS[index + 1], TensorProto.FLOAT, ["N", *CUT_SHAPES[index + 1]])],
    )


def export_exit(network: DrivingNet, index: int, slope: float, shift: float) -> onnx.ModelProto:
    """Return head `index` with its answers in their units and its confidence sigmoid(slope * logit + shift)."""
    head = network.heads[index]
    assert isinstance(head, Head)
    build = GraphBuilder(f"exit{index + 1}")
    flat = build.node("Flatten", build.block(head.squeeze, CUTS[index + 1]), axis=1)
    hidden = build.node("Relu", build.linear(head.hidden, flat))
    raw = build.linear(head.answer, hidden)
    answer = _answers(build, raw, f"answer{index + 1}")
    seen = build.node("Relu", build.linear(head.sure_hidden, build.node("Concat", hidden, raw, axis=1)))
    logit = build.node("Mul", build.linear(head.sure, seen), build.weight(np.float32(slope)))
    sure = build.node("Add", logit, build.weight(np.float32(shift)))
    confidence = build.node("Sigmoid", sure, output=f"confidence{index + 1}")
    return build.model(
        [helper.make_tensor_value_info(CUTS[index + 1], TensorProto.FLOAT, ["N", *CUT_SHAPES[index + 1]])],
        [
            helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["N", 6]),
            helper.make_tensor_value_info(confidence, TensorProto.FLOAT, ["N", 1]),
        ],
    )


def _answers(build: GraphBuilder, raw: str, output: str) -> str:
    def columns(first: int, last: int) -> str:
        ends = [build.weight(np.array([end], np.int64)) for end in (first, last, 1)]
        return build.node("Slice", raw, *ends)

    def scaled(first: int, last: int) -> str:
        return build.node("Mul", columns(first, last), build.weight(np.array(ANSWER_SCALE[first:last], np.float32)))

    presence = build.node("Sigmoid", columns(PRESENCE, PRESENCE + 1))
    distance = build.node("Mul", build.node("Exp", columns(RANGE, 6)), build.weight(np.float32(RANGE_UNIT_M)))
    parts = (scaled(0, PRESENCE), presence, scaled(PRESENCE + 1, RANGE), distance)
    return build.node("Concat", *parts, output=output, axis=1)


def _folded(block: ConvBlock) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight and bias of the convolution that does what convolution and normalisation do."""
    norm = block.norm
    gain = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    weight = _array(block.conv.weight) * gain[:, None, None, None]
    bias = _array(norm.bias) - _array(norm.running_mean) * gain
    return weight.astype(np.float32), bias.astype(np.float32)


def _array(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().float().numpy())
