"""The trained digits package and evidence made up from a known population."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from devices.package import Package
from examples.digits import model as digits_model
from examples.digits.model import Digits


@dataclass(frozen=True)
class TrainedDigits:
    """Images, and the classifier of them as packages with logits and with probabilities as the answer."""

    data: Digits
    logits: Package
    probabilities: Package


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> TrainedDigits:
    """The digits and two packages of one perceptron trained on the first 600 images."""
    folder: Path = tmp_path_factory.mktemp("digits")
    data = digits_model.load()
    network = digits_model.train(data)
    return TrainedDigits(
        data,
        digits_model.write(folder / "logits", network),
        digits_model.write(folder / "probabilities", network, probabilities=True),
    )
