"""Small packages without exits, and inputs whose answers vary."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from devices.package import Exit, ExitKind, Package, SegmentSource, write_package
from tests.models import exit_segments, model

SIZE = 8


def write_conv_package(folder: Path, kind: ExitKind = ExitKind.CUSTOM) -> Package:
    """Write three convolutions [N, 8, 8, 8] and a head of four columns, a segment each, with the final exit alone."""
    parts, _ = exit_segments(SIZE)
    last = model(
        [
            helper.make_node("GlobalAveragePool", ["f3"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["answer"]),
        ],
        [("f3", ("N", 8, SIZE, SIZE))],
        [("answer", ("N", 4))],
        {"w": np.random.default_rng(9).normal(size=(8, 4)).astype(np.float32)},
    )
    sources = [SegmentSource(name, parts[name]) for name in ("trunk1", "trunk2", "trunk3")]
    return write_package(
        folder,
        name="conv",
        version="1",
        segments=[*sources, SegmentSource("last", last)],
        exits=[Exit("final", "last", "answer", kind=kind)],
        license="Apache-2.0",
        origin="random weights",
        answer_names=["a", "b", "c", "d"],
    )


def images(samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Return images (n, 3, 8, 8) whose channels differ in strength."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=(samples, 3, 1, 1)) * 2.0
    return (strength + 0.3 * rng.normal(size=(samples, 3, SIZE, SIZE))).astype(np.float32)


def write_binary_package(folder: Path, *, probability: bool, columns: int) -> Package:
    """Write x [N, 6] -> h = Relu(x W) -> a binary answer of one or two columns, logits or probabilities."""
    rng = np.random.default_rng(3)
    hidden = model(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Tanh", ["z"], ["h"])],
        [("x", ("N", 6))],
        [("h", ("N", 12))],
        {"w": rng.normal(size=(6, 12)).astype(np.float32)},
    )
    activation = {(True, 1): "Sigmoid", (True, 2): "Softmax"}.get((probability, columns), "Identity")
    last = model(
        [
            helper.make_node("MatMul", ["h", "v"], ["u"]),
            helper.make_node("Tanh", ["u"], ["t"]),
            helper.make_node("MatMul", ["t", "y"], ["q"]),
            helper.make_node(activation, ["q"], ["answer"]),
        ],
        [("h", ("N", 12))],
        [("answer", ("N", columns))],
        {
            "v": rng.normal(size=(12, 12)).astype(np.float32),
            "y": rng.normal(size=(12, columns)).astype(np.float32),
        },
    )
    return write_package(
        folder,
        name="binary",
        version="1",
        segments=[SegmentSource("first", hidden), SegmentSource("last", last)],
        exits=[Exit("final", "last", "answer", kind=ExitKind.CLASSIFICATION)],
    )


def vectors(samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Return inputs (n, 6) of the binary package."""
    return np.random.default_rng(seed).normal(size=(samples, 6)).astype(np.float32)


def branched_package(folder: Path) -> Package:
    """Write two inputs whose features cross one seam together, one of them as tokens, and an integer beside them."""
    first: Any = model(
        [
            helper.make_node("Tanh", ["x"], ["a"]),
            helper.make_node("Tanh", ["tokens"], ["b"]),
        ],
        [("x", ("N", 6)), ("tokens", ("N", 5, 4))],
        [("a", ("N", 6)), ("b", ("N", 5, 4))],
    )
    last = model(
        [
            helper.make_node("ReduceMean", ["b"], ["m"], axes=[1], keepdims=0),
            helper.make_node("Concat", ["a", "m"], ["c"], axis=1),
            helper.make_node("MatMul", ["c", "w"], ["answer"]),
        ],
        [("a", ("N", 6)), ("b", ("N", 5, 4))],
        [("answer", ("N", 3))],
        {"w": np.random.default_rng(4).normal(size=(10, 3)).astype(np.float32)},
    )
    return write_package(
        folder,
        name="branched",
        version="1",
        segments=[SegmentSource("first", first), SegmentSource("last", last)],
        exits=[Exit("final", "last", "answer")],
    )
