"""Predict the latency of what was not measured, from what it computes; docs/profiles.md says how well."""

from devices.predict.operators import Operator, operators_of
from devices.predict.regress import Adapted, Boosted, FlopsOnly, LogLinear, Predictor, relative_errors
from devices.predict.segments import SegmentPredictor
from devices.predict.timing import TimedOperator, time_operators

__all__ = [
    "Adapted",
    "Boosted",
    "FlopsOnly",
    "LogLinear",
    "Operator",
    "Predictor",
    "SegmentPredictor",
    "TimedOperator",
    "operators_of",
    "relative_errors",
    "time_operators",
]
