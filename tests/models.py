"""Small real models for tests, made with onnx.helper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from devices.package import Exit, ExitKind, Package, SegmentSource, write_package

Declaration = tuple[str, Sequence[int | str]]
CHANNELS = 8
COLUMNS = 4


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Declaration],
    outputs: Sequence[Declaration],
    weights: dict[str, Any] | None = None,
    dtype: int = TensorProto.FLOAT,
) -> Any:
    """Return an onnx.ModelProto with inputs and outputs of one dtype."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv_nodes(read: str, made: str, channels: int, seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Return a 3x3 convolution with ReLU from `channels` to CHANNELS, and its weights."""
    rng = np.random.default_rng(seed)
    weights = {f"{made}_w": (rng.normal(size=(CHANNELS, channels, 3, 3)) / 6).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", [read, f"{made}_w"], [f"{made}_z"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", [f"{made}_z"], [made]),
    ]
    return nodes, weights


def head_nodes(read: str, answer: str, confidence: str, seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Return pooling with a linear answer (N, COLUMNS) and a confidence (N, 1) in 0..1."""
    rng = np.random.default_rng(seed)
    weights = {
        f"{answer}_w": rng.normal(size=(CHANNELS, COLUMNS)).astype(np.float32),
        f"{confidence}_w": rng.normal(size=(CHANNELS, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", [read], [f"{answer}_pooled"]),
        helper.make_node("Flatten", [f"{answer}_pooled"], [f"{answer}_flat"]),
        helper.make_node("MatMul", [f"{answer}_flat", f"{answer}_w"], [answer]),
        helper.make_node("MatMul", [f"{answer}_flat", f"{confidence}_w"], [f"{confidence}_z"]),
        helper.make_node("Sigmoid", [f"{confidence}_z"], [confidence]),
    ]
    return nodes, weights


def exit_segments(size: int = 16) -> tuple[dict[str, Any], Any]:
    """Return the six segments of a three-exit model, by id, and the whole model with the final answer's output."""
    image: Declaration = ("image", ("N", 3, size, size))
    features: list[Declaration] = [(f"f{k}", ("N", CHANNELS, size, size)) for k in (1, 2, 3)]
    segments: dict[str, Any] = {}
    whole_nodes: list[Any] = []
    whole_weights: dict[str, Any] = {}
    read, channels = image, 3
    for k, made in enumerate(features, start=1):
        nodes, weights = conv_nodes(read[0], made[0], channels, seed=k)
        segments[f"trunk{k}"] = model(nodes, [read], [made], weights)
        whole_nodes += nodes
        whole_weights |= weights
        head, head_weights = head_nodes(made[0], f"answer{k}", f"confidence{k}", seed=10 + k)
        outputs: list[Declaration] = [(f"answer{k}", ("N", COLUMNS)), (f"confidence{k}", ("N", 1))]
        segments[f"head{k}"] = model(head, [made], outputs, head_weights)
        read, channels = made, CHANNELS
    whole = model([*whole_nodes, *head], [image], [("answer3", ("N", COLUMNS))], {**whole_weights, **head_weights})
    return segments, whole


def exits(thresholds: Sequence[float] = (2.0, 2.0, 0.0)) -> list[Exit]:
    """Return the exits of `exit_segments`; a threshold above 1 is never reached."""
    return [
        Exit(f"exit{k}", f"head{k}", f"answer{k}", f"confidence{k}", ExitKind.REGRESSION, threshold)
        for k, threshold in enumerate(thresholds, start=1)
    ]


def write_exit_package(
    folder: Path, *, name: str = "toy", version: str = "1", thresholds: Sequence[float] = (2.0, 2.0, 0.0)
) -> Package:
    """Write the three-exit package."""
    return write_package(
        folder,
        name=name,
        version=version,
        segments=[SegmentSource(segment_id, proto) for segment_id, proto in exit_segments()[0].items()],
        exits=exits(thresholds),
        license="Apache-2.0",
        origin="random weights",
        answer_names=["a", "b", "c", "d"],
    )


def endless_model() -> Any:
    """Return a model that multiplies matrices in a loop of 2^40 rounds: it ends only when it is stopped."""
    size = 64
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going_on"]),
            helper.make_node("MatMul", ["state", "w"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [size, size]),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [size, size]),
        ],
    )
    weights = {"rounds": np.int64(2**40), "go": np.True_, "w": np.eye(size, dtype=np.float32)}
    node = helper.make_node("Loop", ["rounds", "go", "f1"], ["answer2"], body=body)
    return model([node], [("f1", (size, size))], [("answer2", (size, size))], weights)


def write_endless_package(folder: Path, *, name: str = "endless") -> Package:
    """Write a package whose first exit answers at once and whose second never does unless it is stopped."""
    square: Declaration = ("f1", (64, 64))
    entry = model([helper.make_node("Identity", ["x"], ["f1"])], [("x", (64, 64))], [square])
    head = model(
        [
            helper.make_node("Identity", ["f1"], ["answer1"]),
            helper.make_node("ReduceMean", ["f1"], ["confidence1"], axes=[0, 1], keepdims=1),
        ],
        [square],
        [("answer1", (64, 64)), ("confidence1", (1, 1))],
    )
    return write_package(
        folder,
        name=name,
        version="1",
        segments=[SegmentSource("entry", entry), SegmentSource("head", head), SegmentSource("loop", endless_model())],
        exits=[Exit("quick", "head", "answer1", "confidence1", threshold=2.0), Exit("never", "loop", "answer2")],
    )
