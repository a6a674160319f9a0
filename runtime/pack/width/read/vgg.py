"""VGG: a chain of convolutions and poolings, then linear layers, the last of which is the classifier."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from runtime.pack.width.errors import WidthError
from runtime.pack.width.graph import IMAGE, Activation, StepKind
from runtime.pack.width.network import Draft, WidthNetwork
from runtime.pack.width.read.pooling import adaptive, max_pool


def read_vgg(model: Any, image: Sequence[int]) -> WidthNetwork:
    """Return a VGG (`features`, `avgpool`, `classifier`) as a network.

    Raises:
        WidthError: A module in it is of no kind known here.
    """
    draft = Draft("vgg", image)
    x = _chain(draft, "features", list(model.features), IMAGE)
    if hasattr(model, "avgpool"):
        x = adaptive(draft, "avgpool", x, model.avgpool)
    x = draft.step(StepKind.FLATTEN, "flat", [x])
    linear = [module for module in model.classifier if not isinstance(module, nn.Flatten)]
    if not linear or not isinstance(linear[-1], nn.Linear):
        raise WidthError("the classifier of a VGG must end with a Linear")
    x = _chain(draft, "classifier", linear[:-1], x)
    return draft.finish(x, linear[-1])


def _chain(draft: Draft, stem: str, modules: list[Any], x: str) -> str:
    index = 0
    while index < len(modules):
        module, name = modules[index], f"{stem}.{index}"
        index += 1
        if isinstance(module, nn.Conv2d | nn.Linear):
            norm = modules[index] if index < len(modules) and isinstance(modules[index], nn.BatchNorm2d) else None
            index += norm is not None
            active = index < len(modules) and isinstance(modules[index], nn.ReLU)
            index += active
            x = draft.layer(name, x, module, norm=norm, activation=Activation.RELU if active else Activation.NONE)
        elif isinstance(module, nn.MaxPool2d):
            x = max_pool(draft, name, x, module)
        elif isinstance(module, nn.ReLU):
            x = draft.step(StepKind.RELU, name, [x])
        elif not isinstance(module, nn.Dropout | nn.Identity):
            raise WidthError(f"{name} is a {type(module).__name__}: must be Conv2d, Linear, BatchNorm2d after a "
                             "convolution, ReLU, MaxPool2d or Dropout")  # fmt: skip
    return x
