"""Forms of the final answer and what counts as a disagreement."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from devices.package import ExitKind
from devices.tensor import TensorSpec
from runtime.pack.exits.answers import AnswerForm, answer_form
from runtime.pack.exits.errors import AnswerError

SPEC = TensorSpec("answer", "float32", ("N", 3))


@pytest.mark.parametrize(
    ("rows", "probabilities"),
    [
        ([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], True),
        ([[0.2, 0.3, 0.6], [1.0, 0.0, 0.0]], False),
        ([[-0.1, 0.6, 0.5], [1.0, 0.0, 0.0]], False),
        ([[2.0, 3.0, 5.0], [1.0, 0.0, 0.0]], False),
    ],
)
def test_probabilities_are_told_from_logits(rows: list[list[float]], probabilities: bool) -> None:
    form = answer_form(SPEC, ExitKind.CUSTOM, None, None, np.array(rows, np.float32))
    assert (form.kind, form.probabilities, form.classes) == (ExitKind.CLASSIFICATION, probabilities, 3)
    np.testing.assert_allclose(form.targets(np.array(rows)).sum(axis=1), 1.0)


def test_one_column_is_the_second_of_two_classes() -> None:
    values = np.array([[0.1], [0.7]], np.float32)
    form = answer_form(SPEC, ExitKind.CLASSIFICATION, None, None, values)
    np.testing.assert_allclose(form.targets(values), [[0.9, 0.1], [0.3, 0.7]], atol=1e-6)
    np.testing.assert_array_equal(form.decisions(values), [0, 1])
    logits = np.array([[-2.0], [3.0]], np.float32)
    form = answer_form(SPEC, ExitKind.CLASSIFICATION, None, None, logits)
    np.testing.assert_allclose(form.targets(logits)[:, 1], 1 / (1 + np.exp([2.0, -3.0])), atol=1e-6)
    np.testing.assert_array_equal(form.decisions(logits), [0, 1])
    assert form.classes == 2


def test_one_column_of_a_custom_answer_is_a_regression() -> None:
    form = answer_form(SPEC, ExitKind.CUSTOM, None, 0.5, np.array([[0.1], [0.7]], np.float32))
    assert (form.kind, form.tolerance) == (ExitKind.REGRESSION, (0.5,))


def test_classes_disagree_and_values_disagree_beyond_their_tolerance() -> None:
    form = AnswerForm(ExitKind.CLASSIFICATION, 3)
    final = np.array([[1.0, 0.0, 0.0]] * 3, np.float32)
    said = np.array([[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [np.nan, 0.0, 0.0]], np.float32)
    np.testing.assert_array_equal(form.differs(said, final), [False, True, True])
    form = AnswerForm(ExitKind.REGRESSION, 2, tolerance=(0.5, 5.0))
    final = np.zeros((4, 2), np.float32)
    said = np.array([[0.5, -5.0], [0.6, 0.0], [0.0, -5.1], [0.0, np.inf]], np.float32)
    np.testing.assert_array_equal(form.differs(said, final), [False, True, True, True])


@pytest.mark.parametrize(
    ("spec", "answers", "message"),
    [
        (TensorSpec("answer", "int64", ("N", 3)), np.zeros((2, 3), np.int64), "floating-point"),
        (SPEC, np.zeros((2, 3, 4), np.float32), r"\[N, C\]"),
        (SPEC, np.array([[0.0], [np.inf]], np.float32), "input 1 is not finite"),
    ],
)
def test_answers_of_no_known_form_are_refused(spec: TensorSpec, answers: NDArray[Any], message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        answer_form(spec, ExitKind.CLASSIFICATION, None, None, answers)
