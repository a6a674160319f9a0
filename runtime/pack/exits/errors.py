"""Errors of fitting and calibrating exits.

ExitsError               a PackError, see runtime/pack/errors.py
├── CutError             there is no place for the exits that were asked for, or the package has exits already
├── AnswerError          the final answer is of no form that an exit can be fitted to or compared with
└── CalibrationError     the calibration inputs are too few, or no exit can be certified with them
    └── TooFewSamplesError   holds the number that is needed
"""

from runtime.pack.errors import PackError


class ExitsError(PackError):
    """Base of every error that fitting or calibrating exits raises on its own account."""


class CutError(ExitsError):
    """There is no place for the exits; the message says which there are."""


class AnswerError(ExitsError):
    """The final answer cannot be distilled or compared; the message says what it is and what would be right."""


class CalibrationError(ExitsError):
    """The calibration inputs do not carry the guarantee; the message says what would."""


class TooFewSamplesError(CalibrationError):
    """There are fewer samples to choose thresholds with than any guarantee needs.

    Args:
        samples: How many there are.
        needed: How many there must be.
    """

    def __init__(self, samples: int, needed: int, alpha: float, delta: float) -> None:
        super().__init__(
            f"exits refused: {samples} calibration samples are left to choose thresholds with, but a disagreement of "
            f"at most {alpha:g} with probability {1.0 - delta:g} needs at least {needed} even if none disagrees: "
            "bring more calibration inputs or ask for less"
        )
        self.samples = samples
        self.needed = needed
