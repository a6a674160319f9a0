"""What the final answer is, as something to distil and to compare with.

Classification [N, C]: rows that are all non-negative and sum to 1 are probabilities, all else logits; with one column a
value is the probability, or the logit, of the second of two classes. Two answers disagree when their classes differ.
Regression [N, C]: two answers disagree when some column differs by more than its tolerance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.package import ExitKind, Package
from devices.tensor import Array, TensorSpec
from runtime.pack.exits.errors import AnswerError
from runtime.pack.exits.scores import softmax

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """Form of the final answer.

    Args:
        kind: Classification or regression.
        columns: C.
        probabilities: Classification: values are probabilities rather than logits.
        tolerance: Regression: largest deviation, by column.
    """

    kind: ExitKind
    columns: int
    probabilities: bool = False
    tolerance: tuple[float, ...] = ()

    @property
    def classes(self) -> int:
        """Classes of a classification, 2 for a single column."""
        return max(self.columns, 2)

    def targets(self, answers: Array) -> Floats:
        """Return the class probabilities (n, classes) that a head is fitted to."""
        values = answers.astype(np.float64)
        if self.columns == 1:
            if not self.probabilities:
                return softmax(np.concatenate([np.zeros_like(values), values], axis=1))
            values = np.concatenate([1.0 - values, values], axis=1)
        elif not self.probabilities:
            return softmax(values)
        clipped = np.clip(values, 0.0, None)
        return np.asarray(clipped / clipped.sum(axis=1, keepdims=True))

    def decisions(self, answers: Array) -> Ints:
        """Return the class each answer stands for, shape (n,)."""
        if self.columns == 1:
            return (answers[:, 0] >= (0.5 if self.probabilities else 0.0)).astype(np.int64)
        return np.asarray(answers.argmax(axis=1), np.int64)

    def differs(self, answers: Array, final: Array) -> Bools:
        """Return which answers (n, C) disagree with the final ones; an answer that is not finite always does."""
        finite = np.isfinite(answers).all(axis=1)
        if self.kind is ExitKind.CLASSIFICATION:
            return np.asarray(~finite | (self.decisions(answers) != self.decisions(final)))
        deviation = np.abs(answers.astype(np.float64) - final.astype(np.float64))
        return np.asarray(~finite | (deviation > np.array(self.tolerance)).any(axis=1))


def check_answer(package: Package) -> None:
    """Refuse a final answer that exits can't be fitted to, as far as its declaration tells.

    Raises:
        AnswerError: No floating-point [N, C]; the message names the other outputs.
    """
    final = package.exits[-1]
    spec = package.tensors[final.answer]
    if spec.dtype.startswith("float") and len(spec.shape) == 2:
        return
    others = [str(package.tensors[name]) for name in package.exit_outputs(final.id) if name != final.answer]
    choice = f"; the model's other outputs are {', '.join(others)}: name one as the answer" if others else ""
    raise AnswerError(f"exits can't be fitted to the answer {spec}: must be a floating-point tensor [N, C]{choice}")


def answer_form(
    spec: TensorSpec,
    declared: ExitKind,
    asked: ExitKind | None,
    tolerance: float | tuple[float, ...] | None,
    answers: Array,
) -> AnswerForm:
    """Return the form of the final answer, told from its declaration and its values on the calibration inputs.

    Args:
        spec: The final answer's tensor.
        declared, asked: Kind by the package and by the caller; the caller's goes first.
        tolerance: Regression: largest deviation, by column or one for all.
        answers: Final answers of the calibration inputs, shape (n, C).
    Raises:
        AnswerError: No floating-point [N, C], a value is not finite, a regression without tolerance, or a kind that
            cannot be compared.
    """
    if not spec.dtype.startswith("float") or answers.ndim != 2:
        raise AnswerError(f"the final answer is {spec}: must be a floating-point tensor [N, C]")
    if not np.isfinite(answers).all():
        row = int(np.argwhere(~np.isfinite(answers))[0][0])
        raise AnswerError(f"the final answer to calibration input {row} is not finite: {answers[row]}")
    columns = answers.shape[1]
    kind = asked or declared
    if kind is ExitKind.CUSTOM:
        if asked is not None:
            raise AnswerError(
                f"kind is {asked}: exits are fitted to {ExitKind.CLASSIFICATION} or {ExitKind.REGRESSION}"
            )
        kind = ExitKind.CLASSIFICATION if columns > 1 else ExitKind.REGRESSION
    if kind is ExitKind.CLASSIFICATION:
        return AnswerForm(kind, columns, probabilities=_are_probabilities(answers))
    return AnswerForm(kind, columns, tolerance=_tolerances(tolerance, columns))


def _are_probabilities(answers: Array) -> bool:
    if answers.min() < 0.0 or answers.max() > 1.0 + _SUM_TOLERANCE:
        return False
    sums = answers.astype(np.float64).sum(axis=1)
    return answers.shape[1] == 1 or bool(np.abs(sums - 1.0).max() <= _SUM_TOLERANCE)


def _tolerances(tolerance: float | tuple[float, ...] | None, columns: int) -> tuple[float, ...]:
    if tolerance is None:
        raise AnswerError(
            f"the final answer is a regression of {columns} columns: tolerance must say which deviation from it "
            "counts as a disagreement"
        )
    each = (float(tolerance),) * columns if isinstance(tolerance, int | float) else tuple(map(float, tolerance))
    if len(each) != columns or not all(0.0 < value < np.inf for value in each):
        raise AnswerError(f"tolerance = {tolerance}: must be one positive number, or one for each of {columns} columns")
    return each
