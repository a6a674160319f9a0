"""ResNet: blocks of two or three convolutions, added to what they read."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from runtime.pack.width.errors import WidthError
from runtime.pack.width.graph import IMAGE, Activation, StepKind
from runtime.pack.width.network import Draft, WidthNetwork
from runtime.pack.width.read.pooling import adaptive, max_pool


def read_resnet(model: Any, image: Sequence[int]) -> WidthNetwork:
    """Return a ResNet (`conv1`, `bn1`, `maxpool`, `layer1`..., `avgpool`, `fc`) as a network.

    Raises:
        WidthError: A part is missing or of another kind.
    """
    draft = Draft("resnet", image)
    x = draft.layer("conv1", IMAGE, model.conv1, norm=model.bn1, activation=Activation.RELU)
    pool = getattr(model, "maxpool", None)
    if isinstance(pool, nn.MaxPool2d):
        x = max_pool(draft, "maxpool", x, pool)
    depth = 1
    while hasattr(model, f"layer{depth}"):
        for index, block in enumerate(getattr(model, f"layer{depth}")):
            x = _block(draft, f"layer{depth}.{index}", block, x)
        depth += 1
    x = draft.step(StepKind.FLATTEN, "flat", [adaptive(draft, "avgpool", x, model.avgpool)])
    return draft.finish(x, model.fc)


def _block(draft: Draft, name: str, block: Any, x: str) -> str:
    """Append a block; without a shortcut convolution it writes into the space it reads from."""
    count = 3 if hasattr(block, "conv3") else 2
    if not all(hasattr(block, f"{kind}{k}") for k in range(1, count + 1) for kind in ("conv", "bn")):
        raise WidthError(f"{name} is a {type(block).__name__}: must have conv1, bn1, conv2, bn2 and maybe conv3, bn3")
    if any(hasattr(block, part) for part in ("se", "attention")):
        raise WidthError(f"{name} weighs its channels by each other, which stages cannot do by themselves")
    shortcut = getattr(block, "downsample", None)
    y, space = x, None if shortcut is not None else draft.space(x)
    for k in range(1, count):
        convolution, norm = getattr(block, f"conv{k}"), getattr(block, f"bn{k}")
        y = draft.layer(f"{name}.conv{k}", y, convolution, norm=norm, activation=Activation.RELU)
    convolution, norm = getattr(block, f"conv{count}"), getattr(block, f"bn{count}")
    y = draft.layer(f"{name}.conv{count}", y, convolution, norm=norm, space=space)
    if shortcut is not None:
        if len(shortcut) != 2:
            raise WidthError(f"{name}.downsample is {shortcut}: must be a convolution and its normalisation")
        x = draft.layer(f"{name}.downsample", x, shortcut[0], norm=shortcut[1], space=draft.space(y))
    return draft.step(StepKind.RELU, name, [draft.step(StepKind.ADD, f"{name}.add", [x, y])])
