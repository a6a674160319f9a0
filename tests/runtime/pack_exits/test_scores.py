"""Confidence scores: ranges, orders, known values, and the same from numpy and from ONNX."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from devices.tensor import TensorSpec
from runtime.pack.exits.export import score_nodes
from runtime.pack.exits.graph import GraphBuilder
from runtime.pack.exits.scores import Score, confidence, softmax

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 7)), elements=st.floats(-30, 30, width=32))
TEMPERATURES = st.sampled_from([0.5, 1.0, 3.0])
BOUNDED = [Score.MAX_PROBABILITY, Score.MARGIN, Score.ENTROPY]


@given(logits=LOGITS, score=st.sampled_from(BOUNDED), temperature=TEMPERATURES, shift=st.floats(-50, 50))
def test_probability_scores_lie_within_0_to_1_and_ignore_a_shift(
    logits: np.ndarray[Any, np.dtype[np.float64]], score: Score, temperature: float, shift: float
) -> None:
    sure = confidence(score, logits, temperature)
    assert np.all((sure >= -1e-12) & (sure <= 1.0 + 1e-12))
    np.testing.assert_allclose(confidence(score, logits + shift, temperature), sure, atol=1e-9)


@given(logits=LOGITS, temperature=TEMPERATURES, shift=st.floats(-50, 50))
def test_energy_moves_with_a_shift_and_bounds_the_largest_logit(
    logits: np.ndarray[Any, np.dtype[np.float64]], temperature: float, shift: float
) -> None:
    energy = confidence(Score.ENERGY, logits, temperature)
    top = logits.max(axis=1)
    assert np.all((energy >= top - 1e-9) & (energy <= top + temperature * np.log(logits.shape[1]) + 1e-9))
    np.testing.assert_allclose(confidence(Score.ENERGY, logits + shift, temperature), energy + shift, atol=1e-9)


def test_known_values() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25]]))
    assert confidence(Score.MAX_PROBABILITY, logits)[0] == pytest.approx(0.5)
    assert confidence(Score.MARGIN, logits)[0] == pytest.approx(0.25)
    assert confidence(Score.ENTROPY, logits)[0] == pytest.approx(1.0 - 1.5 * np.log(2) / np.log(3))
    assert confidence(Score.ENERGY, logits)[0] == pytest.approx(0.0)
    assert confidence(Score.WINDOW, np.log([[0.2, 0.8]]))[0] == pytest.approx(0.8)
    assert confidence(Score.ENTROPY, np.zeros((1, 4)))[0] == pytest.approx(0.0)


@given(logits=LOGITS, score=st.sampled_from([*BOUNDED, Score.ENERGY]))
def test_raising_the_largest_logit_never_lowers_a_score(
    logits: np.ndarray[Any, np.dtype[np.float64]], score: Score
) -> None:
    surer = logits.copy()
    surer[np.arange(len(logits)), logits.argmax(axis=1)] += 1.0
    assert np.all(confidence(score, surer) >= confidence(score, logits) - 1e-9)


@pytest.mark.parametrize("score", list(Score))
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_onnx_says_what_numpy_says(score: Score, temperature: float) -> None:
    classes = 2 if score is Score.WINDOW else 6
    logits = np.random.default_rng(0).normal(size=(50, classes)).astype(np.float32) * 4
    build = GraphBuilder("score")
    build.node("Identity", score_nodes(build, "z", classes, score, temperature), output="sure")
    model = build.model([TensorSpec("z", "float32", ("N", classes))], [TensorSpec("sure", "float32", ("N", 1))])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = confidence(score, logits.astype(np.float64), temperature)
    np.testing.assert_allclose(session.run(None, {"z": logits})[0][:, 0], expected, atol=1e-5)


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4 - np.log(3.0)]])), [[0.75, 0.25]])


@pytest.mark.parametrize(
    ("score", "shape", "temperature", "message"),
    [
        (Score.MARGIN, (1, 1), 1.0, "at least 2"),
        (Score.WINDOW, (1, 3), 1.0, "exactly 2"),
        (Score.ENERGY, (1, 3), 0.0, "temperature = 0.0"),
        (Score.ENERGY, (1, 3), float("nan"), "temperature = nan"),
    ],
)
def test_misuse_is_told(score: Score, shape: tuple[int, int], temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confidence(score, np.zeros(shape), temperature)
