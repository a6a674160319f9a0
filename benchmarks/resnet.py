"""ResNet-18 with random weights as ONNX, whole and cut into segments with exits, for benchmarks without a download.

Layers, widths and strides are those of He et al., arXiv 1512.03385; batch normalisation is folded into convolutions.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from devices.package import Exit, ExitKind, Package, SegmentSource, write_package

CLASSES = 1000
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class GraphBuilder:
    """Collects nodes and weights."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(seed)

    def weight(self, name: str, *shape: int) -> str:
        """Add a weight of He-scaled noise and return its name."""
        scale = np.sqrt(2.0 / np.prod(shape[1:])) if len(shape) > 1 else 0.0
        self.weights.append(numpy_helper.from_array((self._rng.normal(size=shape) * scale).astype(np.float32), name))
        return name

    def conv(self, read: str, made: str, channels: tuple[int, int], kernel: int, stride: int, relu: bool = True) -> str:
        """Add a convolution with bias, and a ReLU."""
        weights = [
            self.weight(f"{made}_w", channels[1], channels[0], kernel, kernel),
            self.weight(f"{made}_b", channels[1]),
        ]
        out = f"{made}_z" if relu else made
        pads, strides = [kernel // 2] * 4, [stride, stride]
        self.nodes.append(
            helper.make_node("Conv", [read, *weights], [out], kernel_shape=[kernel] * 2, pads=pads, strides=strides)
        )
        if relu:
            self.nodes.append(helper.make_node("Relu", [out], [made]))
        return made

    def block(self, read: str, made: str, channels: tuple[int, int], stride: int) -> str:
        """Add a basic block."""
        inner = self.conv(read, f"{made}_1", channels, 3, stride)
        residual = self.conv(inner, f"{made}_2", (channels[1], channels[1]), 3, 1, relu=False)
        shortcut = read if channels[0] == channels[1] else self.conv(read, f"{made}_s", channels, 1, stride, relu=False)
        self.nodes.append(helper.make_node("Add", [residual, shortcut], [f"{made}_a"]))
        self.nodes.append(helper.make_node("Relu", [f"{made}_a"], [made]))
        return made

    def head(self, read: str, tag: str, channels: int) -> None:
        """Add pooling, a linear classifier and its greatest probability as confidence."""
        self.nodes += [
            helper.make_node("GlobalAveragePool", [read], [f"{tag}_p"]),
            helper.make_node("Flatten", [f"{tag}_p"], [f"{tag}_f"]),
            helper.make_node("MatMul", [f"{tag}_f", self.weight(f"{tag}_w", channels, CLASSES)], [f"answer{tag}"]),
            helper.make_node("Softmax", [f"answer{tag}"], [f"{tag}_q"]),
            helper.make_node("ReduceMax", [f"{tag}_q"], [f"confidence{tag}"], axes=[1], keepdims=1),
        ]

    def stages(self, read: str, size: int, which: range) -> tuple[str, int, int]:
        """Add some of the four stages, the stem before the first; return the last tensor, its channels and size."""
        channels = 3 if which.start == 0 else STAGES[which.start - 1][0]
        if which.start == 0:
            read = self.conv(read, "stem", (3, 64), 7, 2)
            pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
            self.nodes.append(helper.make_node("MaxPool", [read], ["pooled"], **pool))
            read, channels = "pooled", 64
        for stage in which:
            width, stride = STAGES[stage]
            read = self.block(read, f"s{stage}a", (channels, width), stride)
            read = self.block(read, f"f{stage}", (width, width), 1)
            channels = width
        return read, channels, size // 4 // 2 ** (which.stop - 1)

    def model(self, inputs: list[tuple[str, list[int]]], outputs: list[tuple[str, list[int]]]) -> onnx.ModelProto:
        """Return the model."""
        values = [
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in side] for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, "resnet18", values[0], values[1], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def whole_model(size: int) -> onnx.ModelProto:
    """Return ResNet-18 for one image of `size` x `size`."""
    builder = GraphBuilder()
    read, channels, _ = builder.stages("image", size, range(4))
    builder.head(read, "3", channels)
    return builder.model([("image", [1, 3, size, size])], [("answer3", [1, CLASSES]), ("confidence3", [1, 1])])


def write_cut(folder: Path, size: int, cuts: tuple[int, ...], exits: bool, name: str = "resnet18") -> Package:
    """Write ResNet-18 cut before the stages in `cuts`, with an exit at every cut if asked for."""
    borders = [0, *cuts, 4]
    image = [1, 3, size, size]
    sources, listed, reads = [], [], ("image", image)
    for start, stop in pairwise(borders):
        builder = GraphBuilder(seed=start)
        last, channels, side = builder.stages(reads[0], size, range(start, stop))
        features = (last, [1, channels, side, side])
        tag = str(stop - 1)
        answers = [(f"answer{tag}", [1, CLASSES]), (f"confidence{tag}", [1, 1])]
        if stop == 4:
            builder.head(last, tag, channels)
            sources.append(SegmentSource(f"trunk{tag}", builder.model([reads], answers)))
            listed.append(Exit(f"exit{tag}", f"trunk{tag}", *(a[0] for a in answers), ExitKind.CLASSIFICATION, 0.0))
            break
        sources.append(SegmentSource(f"trunk{tag}", builder.model([reads], [features])))
        if exits:
            head = GraphBuilder(seed=10 + stop)
            head.head(last, tag, channels)
            sources.append(SegmentSource(f"head{tag}", head.model([features], answers)))
            listed.append(Exit(f"exit{tag}", f"head{tag}", *(a[0] for a in answers), ExitKind.CLASSIFICATION, 2.0))
        reads = features
    return write_package(folder, name=name, version="1", segments=sources, exits=listed, origin="random weights")
