"""Small networks of the three families with weights that are not at their beginnings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain, ExitAnswer
from devices.package import Package
from devices.tensor import Array
from runtime.pack.width import (
    PartitionedNetwork,
    WidthPlan,
    partition,
    rank_channels,
    read_network,
    write_width_package,
)
from runtime.pack.width.graph import Graph
from runtime.pack.width.importance import Criterion
from runtime.pack.width.models import ResNet, Vgg, VisionTransformer

IMAGE = (3, 16, 16)
CLASSES = 5
FAMILIES = ("vgg", "resnet", "vit")


@dataclass(frozen=True)
class Case:
    """A model, a partition of it, and the package that was written."""

    model: Any
    parts: PartitionedNetwork
    package: Package


def make(family: str, seed: int = 0) -> Any:
    """Return a model of a family in eval mode."""
    torch.manual_seed(seed)
    models: dict[str, Callable[[], Any]] = {
        "vgg": lambda: Vgg([8, "M", 12, 16, "M"], CLASSES, hidden=(16,)),
        "resnet": lambda: ResNet((8, 12, 16), CLASSES, depth=2),
        "vit": lambda: VisionTransformer(16, 4, 24, 4, 32, 2, CLASSES),
    }
    model = models[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()


def images(count: int = 3, seed: int = 1) -> Array:
    """Return random images."""
    return np.random.default_rng(seed).normal(size=(count, *IMAGE)).astype(np.float32)


def case(folder: Path, family: str, plan: WidthPlan, seed: int = 0) -> Case:
    """Partition a model, its channels in order of their norm, and write it."""
    model = make(family, seed)
    network = read_network(model, IMAGE)
    parts = partition(network, plan, rank_channels(network, Criterion.L2))
    return Case(model, parts, write_width_package(folder, parts, name=family))


def graph(family: str) -> Graph:
    """Return a family's graph."""
    return read_network(make(family), IMAGE).graph


def answers(package: Package, image: Array) -> list[Array]:
    """Return what every exit says."""
    said: list[ExitAnswer] = []

    def keep(answer: ExitAnswer) -> bool:
        said.append(answer)
        return False

    Chain(package, OnnxRuntimeBackend()).run({"image": image}, on_exit=keep)
    return [answer.answer for answer in said]


def error(got: Array, wanted: Any) -> float:
    """Return the largest deviation, relative to the largest value wanted."""
    reference = np.asarray(wanted.detach().numpy())
    return float(np.abs(got - reference).max() / np.abs(reference).max())
