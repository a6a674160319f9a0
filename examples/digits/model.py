"""A small classifier of scikit-learn's handwritten digits, as a package of three segments.

A perceptron of three hidden layers, trained by scikit-learn on part of the 1 797 images of 8 x 8 and written as
ONNX, one segment a hidden layer; the other images are left for calibration and test.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from devices.package import Exit, ExitKind, Package, SegmentSource, write_package

HIDDEN = (48, 48, 48)
OPSET = 17


@dataclass(frozen=True)
class Digits:
    """Images (n, 64) with values 0..1 and their classes, shuffled, those for training first."""

    images: NDArray[np.float32]
    classes: NDArray[np.int64]
    training: int


def load(training: int = 600, seed: int = 0) -> Digits:
    """Return the digits."""
    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    return Digits((images[order] / 16.0).astype(np.float32), classes[order].astype(np.int64), training)


def train(digits: Digits, seed: int = 0) -> Any:
    """Return a perceptron, an MLPClassifier, fitted to the training images."""
    network = MLPClassifier(HIDDEN, alpha=1e-3, learning_rate_init=3e-3, max_iter=2000, tol=1e-5, random_state=seed)
    return network.fit(digits.images[: digits.training], digits.classes[: digits.training])


def write(folder: Path, network: Any, *, probabilities: bool = False) -> Package:
    """Write the perceptron as a package: a segment a hidden layer, the last with the answer."""
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    names = ["image", *(f"hidden{k}" for k in range(1, len(layers))), "answer"]
    segments = []
    for index, (weight, bias) in enumerate(layers[:-1]):
        parts = [(weight, bias, names[index], names[index + 1], "Relu")]
        if index == len(layers) - 2:
            parts.append((*layers[-1], names[index + 1], "answer", "Softmax" if probabilities else "Identity"))
        segments.append(SegmentSource(f"layer{index + 1}", _segment(f"layer{index + 1}", parts)))
    return write_package(
        folder,
        name="digits",
        version="1",
        segments=segments,
        exits=[Exit("final", segments[-1].id, "answer", kind=ExitKind.CLASSIFICATION)],
        license="BSD-3-Clause",
        origin="scikit-learn's digits, multi-layer perceptron",
        description="Handwritten digits, 8 x 8, ten classes.",
    )


def _segment(name: str, parts: list[tuple[Any, Any, str, str, str]]) -> Any:
    nodes, weights = [], []
    for weight, bias, read, made, activation in parts:
        constants = [np.asarray(weight, np.float32), np.asarray(bias, np.float32)]
        names = [f"{made}_w", f"{made}_b"]
        weights += [numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True)]
        nodes.append(helper.make_node("Gemm", [read, *names], [f"{made}_z"]))
        nodes.append(helper.make_node(activation, [f"{made}_z"], [made]))
    reads = helper.make_tensor_value_info(parts[0][2], TensorProto.FLOAT, ["N", len(parts[0][0])])
    width = len(parts[-1][1])
    makes = helper.make_tensor_value_info(parts[-1][3], TensorProto.FLOAT, ["N", width])
    graph = helper.make_graph(nodes, name, [reads], [makes], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
