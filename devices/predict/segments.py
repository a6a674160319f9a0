"""Predict a segment's latency from its operators.

    t = overhead + sum over operators of exp(regression(features))

The overhead is what a run costs beyond its operators: the least among the models that were timed, since whatever
disturbs a run can only add to it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from devices.errors import ProfileError
from devices.predict.operators import Operator, operators_of, table
from devices.predict.regress import Boosted, Floats, Predictor
from devices.predict.timing import TimedModel


class SegmentPredictor:
    """Predicts segments of one device from models timed on it.

    Args:
        timed: The models.
        fit: Makes a predictor of features and times [s].
    Raises:
        ProfileError: There is nothing to learn from.
    """

    def __init__(self, timed: Sequence[TimedModel], fit: Callable[[Floats, Floats], Predictor] = Boosted) -> None:
        samples = [sample for model in timed for sample in model.operators]
        if not samples:
            raise ProfileError("there is no timed operator to learn from")
        self._predictor = fit(
            table(sample.operator for sample in samples), np.array([sample.time_s for sample in samples])
        )
        self.overhead_s = max(0.0, min(m.run_s - sum(s.time_s for s in m.operators) for m in timed))

    def predict_operators(self, operators: Sequence[Operator]) -> Floats:
        """Return the time of each operator [s]."""
        return self._predictor.predict(table(operators)) if operators else np.zeros(0)

    def predict(self, model: bytes, batch: int = 1) -> float:
        """Return the time of one run of an ONNX model [s].

        Raises:
            ProfileError: It can't be told what the model computes.
        """
        return self.overhead_s + float(self.predict_operators(operators_of(model, batch)).sum())
