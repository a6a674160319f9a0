"""Packages whose segments can run at the same time, for benchmarks of the executor; weights are random, seeded.

python benchmarks/width_models.py FOLDER    write both, time every segment alone on one thread

`two_stages`: a convolutional network in two stages of half its width, which meet at most four times. `branches`:
chains of convolutions on one image that meet only at the end.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from machine import line, machine, spread

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import Exit, ExitKind, Package, SegmentSource, write_package
from devices.tensor import TensorSpec
from runtime.execute.model import zeros
from runtime.pack.exits.graph import GraphBuilder
from runtime.pack.width import make_plan, partition, read_network, write_width_package
from runtime.pack.width.models import Vgg

SIDE, CLASSES, BRANCH_CHANNELS, BRANCH_LAYERS = 32, 10, 64, 16


def two_stages(folder: Path, exchanges: int = 3, group_layers: int = 6, channels: int = 96) -> Package:
    """Write a network in two equal stages and return it: segments stage1-group1, stage2-group1, stage1-group2, ...

    Args:
        folder: Where it shall lie.
        exchanges: How often stage 2 reads what stage 1 made, 0..4.
        group_layers: Convolutions between two exchanges.
        channels: Of each convolution of the whole network.
    """
    torch.manual_seed(0)
    model = Vgg([channels] * group_layers * (exchanges + 1), CLASSES).eval()
    network = read_network(model, (3, SIDE, SIDE))
    at = network.graph.columns[group_layers - 1 :: group_layers][:exchanges]
    parts = partition(network, make_plan(network.graph, (0.5, 0.5), at=at))
    return write_width_package(folder, parts, name="two-stages", origin="random weights", license="Apache-2.0")


def branches(folder: Path, count: int = 2) -> Package:
    """Write a network of `count` equal chains on one image and return it: segments branch1, branch2, ..., join."""
    generator = np.random.default_rng(0)
    image = TensorSpec("image", "float32", ("N", 3, SIDE, SIDE))
    made = [TensorSpec(f"features{k + 1}", "float32", ("N", BRANCH_CHANNELS)) for k in range(count)]
    sources = []
    for spec in made:
        build = GraphBuilder(spec.name.replace("features", "branch"))
        x, read = image.name, 3
        for _ in range(BRANCH_LAYERS):
            weight = generator.normal(0.0, (2.0 / (9 * read)) ** 0.5, (BRANCH_CHANNELS, read, 3, 3)).astype(np.float32)
            convolved = build.node("Conv", x, build.weight(weight), kernel_shape=[3, 3], pads=[1] * 4)
            x, read = build.node("Relu", convolved), BRANCH_CHANNELS
        build.node("Flatten", build.node("GlobalAveragePool", x), axis=1, output=spec.name)
        sources.append(SegmentSource(build.name, build.model([image], [spec])))
    build = GraphBuilder("join")
    weight = generator.normal(size=(count * BRANCH_CHANNELS, CLASSES)).astype(np.float32)
    joined = build.node("Concat", *(spec.name for spec in made), axis=1)
    build.node("MatMul", joined, build.weight(weight), output="answer")
    model = build.model(made, [TensorSpec("answer", "float32", ("N", CLASSES))])
    return write_package(
        folder,
        name="branches",
        version="1",
        segments=[*sources, SegmentSource("join", model)],
        exits=[Exit("final", "join", "answer", kind=ExitKind.CLASSIFICATION)],
        license="Apache-2.0",
        origin="random weights",
    )


def side_by_side(package: Package, devices: Sequence[str]) -> dict[str, str]:
    """Return the device of each segment: stage or branch k goes to device k, what joins to the first."""
    stems = [segment.id.split("-")[0] for segment in package.segments]
    numbers = [int(stem[-1]) - 1 if stem[-1].isdigit() else 0 for stem in stems]
    return {segment.id: devices[k % len(devices)] for segment, k in zip(package.segments, numbers, strict=True)}


def segment_times(package: Package, rounds: int = 200) -> dict[str, list[float]]:
    """Return how long each segment takes by itself on one thread [s]."""
    backend = OnnxRuntimeBackend()
    times: dict[str, list[float]] = {}
    for segment in package.segments:
        loaded = backend.load(segment, package.model(segment.id))
        inputs = {spec.name: backend.upload(zeros(spec)) for spec in segment.inputs}
        for turn in range(rounds + 20):
            started = time.perf_counter()
            loaded.run(inputs)
            if turn >= 20:
                times.setdefault(segment.id, []).append(time.perf_counter() - started)
    return times


def main(argv: Sequence[str] | None = None) -> None:
    """Write both packages and print what each segment costs."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args(argv).folder
    print(line("machine", machine("onnxruntime", "torch")))
    for package in (two_stages(folder / "two-stages" / "1"), branches(folder / "branches" / "1")):
        for segment, times in segment_times(package).items():
            print(line(f"{package.name} {segment}", spread(times) | {"macs": package.segment(segment).macs}))


if __name__ == "__main__":
    main()
