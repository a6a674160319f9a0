"""Small networks to cut: skips, two inputs, outputs on the way, computed shapes, branches, loops, words, constants."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.models import model

WIDTH = 6
SIZE = 8
IMAGE = ("image", ("N", WIDTH, SIZE, SIZE))


class Net:
    """Collects nodes and weights."""

    def __init__(self, seed: int = 0, width: int = WIDTH) -> None:
        self.width = width
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.rng = np.random.default_rng(seed)

    def add(self, op: str, reads: Sequence[str], made: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(reads), [made], name=f"node_{made}", **attributes))
        return made

    def weight(self, name: str, *shape: int) -> str:
        self.weights[name] = (self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return name

    def conv(self, read: str, made: str) -> str:
        weight = self.weight(f"{made}_w", self.width, self.width, 3, 3)
        return self.add("Conv", [read, weight], made, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def block(self, read: str, made: str) -> str:
        inner = self.add("Relu", [self.conv(read, f"{made}_1")], f"{made}_2")
        return self.add("Relu", [self.add("Add", [self.conv(inner, f"{made}_3"), read], f"{made}_4")], made)

    def head(self, read: str, made: str, columns: int = 3) -> str:
        pooled = self.add("Flatten", [self.add("GlobalAveragePool", [read], f"{made}_p")], f"{made}_f")
        return self.add("MatMul", [pooled, self.weight(f"{made}_w", self.width, columns)], made)

    def write(self, path: Path, inputs: Sequence[Any] = (IMAGE,), outputs: Sequence[Any] = (("y", ("N", 3)),)) -> Path:
        path.write_bytes(model(self.nodes, inputs, outputs, self.weights).SerializeToString())
        return path


def residual(path: Path, width: int = WIDTH) -> Path:
    """Four residual blocks and a head; the batch is open."""
    net = Net(width=width)
    read = "image"
    for index in range(4):
        read = net.block(read, f"b{index}")
    net.head(read, "y")
    return net.write(path, [("image", ("N", width, SIZE, SIZE))])


def two_inputs(path: Path) -> Path:
    """An image trunk; a state vector with a layer of its own joins late; the image is read again at the end."""
    net = Net(1)
    flat = net.add("Flatten", [net.add("GlobalAveragePool", [net.block("image", "b0")], "p")], "f")
    state = net.add("Tanh", [net.add("MatMul", ["state", net.weight("s_w", 2, WIDTH)], "s")], "t")
    again = net.add("Flatten", [net.add("GlobalMaxPool", ["image"], "g")], "h")
    net.add("Add", [net.add("Add", [flat, state], "j"), again], "k")
    net.add("MatMul", ["k", net.weight("y_w", WIDTH, 3)], "y")
    return net.write(path, [IMAGE, ("state", ("N", 2))])


def two_outputs(path: Path) -> Path:
    """A head on the way whose answer is an output, and features that are both an output and read on."""
    net = Net(2)
    net.block("image", "b0")
    net.head("b0", "early", 2)
    net.block("b0", "b1")
    net.head("b1", "y")
    features = ("b0", IMAGE[1])
    return net.write(path, outputs=[("y", ("N", 3)), ("early", ("N", 2)), features])


def exported(path: Path) -> Path:
    """What exporters leave: paddings computed from constants, a target shape computed from the batch."""
    net = Net(3)
    net.weights |= {"two": np.int64(2), "four": np.array([4], np.int64), "zero": np.array([0], np.int64)}
    net.weights |= {"ones": np.array([1, 1], np.int64), "minus": np.array([-1], np.int64)}
    net.add("ConstantOfShape", ["four"], "none", value=helper.make_tensor("v", TensorProto.INT64, [1], [0]))
    net.add("Concat", ["none", "zero", "zero", "ones"], "long", axis=0)
    net.nodes.append(helper.make_node("Slice", ["long", "zero", "four"], ["front"]))
    net.add("Concat", ["front", "zero", "zero", "ones"], "pads", axis=0)
    net.add("Pad", ["image", "pads"], "padded")
    net.add("Conv", ["padded", net.weight("c_w", WIDTH, WIDTH, 2, 2)], "c", kernel_shape=[2, 2])
    net.add("Relu", ["c"], "r")
    net.weights["first"] = np.array(0, np.int64)
    net.add("Gather", [net.add("Shape", ["image"], "shape"), "first"], "batch")
    net.add("Unsqueeze", ["batch", "zero"], "batches")
    net.add("Concat", ["batches", "minus"], "target", axis=0)
    net.add("GlobalAveragePool", [net.block("r", "b")], "p")
    net.add("Reshape", ["p", "target"], "flat")
    net.add("MatMul", ["flat", net.weight("y_w", WIDTH, 3)], "y")
    return net.write(path)


def branching(path: Path) -> Path:
    """An If whose branches read a tensor from outside."""
    net = Net(4)
    net.block("image", "b0")
    net.weights |= {"threshold": np.float32(0.1)}
    net.add("ReduceMean", ["b0"], "mean", keepdims=0)
    net.add("Greater", ["mean", "threshold"], "large")
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["b0"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, IMAGE[1])],
        )
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }
    net.add("If", ["large"], "chosen", **branches)
    net.block("chosen", "b1")
    net.head("b1", "y")
    return net.write(path)


def looping(path: Path) -> Path:
    """A Loop whose body reads a tensor and a weight from outside, and two blocks that share their weights."""
    net = Net(5)
    net.block("image", "b0")
    net.weights |= {"rounds": np.int64(3), "go": np.bool_(True), "shift": np.float32(0.25)}
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["on_out"]),
            helper.make_node("Add", ["inner", "b0"], ["sum"]),
            helper.make_node("Mul", ["sum", "shift"], ["inner_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("inner", TensorProto.FLOAT, IMAGE[1]),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("inner_out", TensorProto.FLOAT, IMAGE[1]),
        ],
    )
    net.add("Loop", ["rounds", "go", "b0"], "looped", body=body)
    first = net.add("Relu", [net.conv("looped", "c1")], "r1")
    second = net.add("Conv", [first, "c1_w"], "c2", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    net.head(net.add("Relu", [second], "r2"), "y")
    return net.write(path)


def tokens(path: Path) -> Path:
    """Words by number, of any count, through layers with the words first, as transformers are exported."""
    net = Net(6)
    net.weights |= {"table": net.rng.normal(size=(2, WIDTH)).astype(np.float32), "zero": np.array(0, np.int64)}
    read = net.add("Gather", ["table", "words"], "e")
    for index in range(3):
        turned = net.add("Transpose", [read], f"t{index}", perm=[1, 0, 2])
        made = net.add("MatMul", [turned, net.weight(f"w{index}", WIDTH, WIDTH)], f"m{index}")
        back = net.add("Transpose", [net.add("Tanh", [made], f"h{index}")], f"u{index}", perm=[1, 0, 2])
        read = net.add("Add", [read, back], f"s{index}")
    net.add("MatMul", [net.add("Gather", [read, "zero"], "first", axis=1), net.weight("y_w", WIDTH, 3)], "y")
    net.write(path, [("words", ("N", "T"))])
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    path.write_bytes(proto.SerializeToString())
    return path


def foreign(path: Path) -> Path:
    """What scikit-learn's exporter leaves: an operator unknown to inference, the class as the first output."""
    net = Net(7)
    scaling = {"offset": [0.5] * WIDTH, "scale": [2.0] * WIDTH}
    read = net.add("Scaler", ["x"], "scaled", domain="ai.onnx.ml", **scaling)
    for index in range(3):
        read = net.add(
            "Relu", [net.add("MatMul", [read, net.weight(f"w{index}", WIDTH, WIDTH)], f"m{index}")], f"r{index}"
        )
    net.add("Softmax", [net.add("MatMul", [read, net.weight("y_w", WIDTH, 3)], "z")], "y")
    net.add("ArgMax", ["y"], "label", axis=1, keepdims=0)
    net.write(path, [("x", ("N", WIDTH))], [("label", ("N",)), ("y", ("N", 3))])
    proto = onnx.load(path)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    path.write_bytes(proto.SerializeToString())
    return path


ALL = (residual, two_inputs, two_outputs, exported, branching, looping, tokens, foreign)
