"""Heads as ONNX segments: pooled tensors in, answer and confidence out.

The answer has the final answer's form, columns and dtype; the confidence is float32 [N, 1]. A window's confidence is
max(low - p, p - high), at least 0 exactly where the walk ends.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from devices.tensor import TensorSpec
from runtime.pack.exits.answers import AnswerForm
from runtime.pack.exits.graph import GraphBuilder
from runtime.pack.exits.heads import ClassifierHead, Linear, RegressorHead
from runtime.pack.exits.pooling import pool_nodes
from runtime.pack.exits.scores import Score

Window = tuple[float, float]


def export_head(
    segment_id: str,
    head: ClassifierHead | RegressorHead,
    reads: Sequence[TensorSpec],
    answer: TensorSpec,
    confidence: str,
    form: AnswerForm,
    *,
    grid: int = 1,
    score: Score = Score.MAX_PROBABILITY,
    temperature: float = 1.0,
    window: Window | None = None,
) -> Any:
    """Return the onnx.ModelProto of a head.

    Args:
        segment_id: Name of the graph.
        reads: Tensors it pools.
        answer: Declaration of its answer.
        confidence: Name of its confidence.
        form: What the final answer is.
        window: (low, high) of a window score; None gives p itself as the confidence, to choose the window with.
    """
    build = GraphBuilder(segment_id)
    features = pool_nodes(build, reads, grid)
    if isinstance(head, ClassifierHead):
        logits = _linear_nodes(build, head.logits, features)
        raw = _answer_nodes(build, logits, form)
        sure = score_nodes(build, logits, form.classes, score, temperature)
        if score is Score.WINDOW and window is not None:
            sure = _window_nodes(build, sure, window)
    else:
        raw, sure = _regressor_nodes(build, head, features)
    build.node("Cast", raw, output=answer.name, to=helper.np_dtype_to_tensor_dtype(np.dtype(answer.dtype)))
    build.node("Identity", sure, output=confidence)
    return build.model(reads, [answer, TensorSpec(confidence, "float32", (answer.shape[0], 1))])


def _linear_nodes(build: GraphBuilder, linear: Linear, x: str) -> str:
    """Append (x - mean) W / scale + b; folding the mean into b would cancel away the last digits of float32."""
    centred = build.node("Sub", x, build.weight(linear.mean.astype(np.float32)))
    weight = build.weight((linear.weight / linear.scale[:, None]).astype(np.float32))
    return build.node("Gemm", centred, weight, build.weight(linear.bias.astype(np.float32)))


def _answer_nodes(build: GraphBuilder, logits: str, form: AnswerForm) -> str:
    if form.columns > 1:
        return build.node("Softmax", logits, axis=1) if form.probabilities else logits
    first, second = build.nodes("Split", [logits, build.weight(np.array([1, 1], np.int64))], 2, axis=1)
    logit = build.node("Sub", second, first)
    return build.node("Sigmoid", logit) if form.probabilities else logit


def _regressor_nodes(build: GraphBuilder, head: RegressorHead, features: str) -> tuple[str, str]:
    centred = build.node("Sub", features, build.weight(head.values.mean.astype(np.float32)))
    z = build.node("Mul", centred, build.weight((1.0 / head.values.scale).astype(np.float32)))
    weights = [build.weight(w.astype(np.float32)) for w in (head.values.weight, head.values.bias)]
    doubled = build.node("Concat", z, build.node("Mul", z, z), axis=1)
    log_error = _linear_nodes(build, head.error, doubled)
    return build.node("Gemm", z, *weights), build.node("Sigmoid", build.node("Neg", log_error))


def score_nodes(build: GraphBuilder, logits: str, classes: int, score: Score, temperature: float = 1.0) -> str:
    """Append the score of logits [N, C] and return the name of its [N, 1]."""
    scaled = logits if temperature == 1.0 else build.node("Mul", logits, build.number(1.0 / temperature))
    if score is Score.ENERGY:
        energy = build.node("ReduceLogSumExp", scaled, axes=[1], keepdims=1)
        return energy if temperature == 1.0 else build.node("Mul", energy, build.number(temperature))
    if score is Score.ENTROPY:
        logs = build.node("LogSoftmax", scaled, axis=1)
        terms = build.node("Mul", build.node("Exp", logs), logs)
        total = build.node("ReduceSum", terms, build.weight(np.array([1], np.int64)), keepdims=1)
        share = build.node("Mul", total, build.number(1.0 / float(np.log(classes))))
        return build.node("Add", share, build.number(1.0))
    p = build.node("Softmax", scaled, axis=1)
    if score is Score.MAX_PROBABILITY:
        return build.node("ReduceMax", p, axes=[1], keepdims=1)
    if score is Score.WINDOW:
        return build.nodes("Split", [p, build.weight(np.array([1, 1], np.int64))], 2, axis=1)[1]
    top = build.nodes("TopK", [p, build.weight(np.array([2], np.int64))], 2, axis=1)[0]
    first, second = build.nodes("Split", [top, build.weight(np.array([1, 1], np.int64))], 2, axis=1)
    return build.node("Sub", first, second)


def _window_nodes(build: GraphBuilder, p: str, window: Window) -> str:
    """Append max(low - p, p - high); the sign of a float difference is exact."""
    below = build.node("Sub", build.number(window[0]), p)
    above = build.node("Sub", p, build.number(window[1]))
    return build.node("Max", below, above)
