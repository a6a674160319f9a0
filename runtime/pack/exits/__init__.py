"""Exits with a guarantee: heads fitted between a package's segments, thresholds that keep a disagreement bound."""

from runtime.pack.exits.errors import AnswerError, CalibrationError, CutError, ExitsError, TooFewSamplesError
from runtime.pack.exits.fit import calibrate_exits, fit_exits, write_exits
from runtime.pack.exits.record import check_record
from runtime.pack.exits.scores import Score
from runtime.pack.exits.seams import seams
from runtime.pack.exits.settings import ExitReport, ExitSettings, FittedExits

__all__ = [
    "AnswerError",
    "CalibrationError",
    "CutError",
    "ExitReport",
    "ExitSettings",
    "ExitsError",
    "FittedExits",
    "Score",
    "TooFewSamplesError",
    "calibrate_exits",
    "check_record",
    "fit_exits",
    "seams",
    "write_exits",
]
