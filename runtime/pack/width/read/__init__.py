"""Read a torch module of one of the three families as a network that can be partitioned along its width."""

from collections.abc import Sequence
from typing import Any

from runtime.pack.width.errors import WidthError
from runtime.pack.width.network import WidthNetwork
from runtime.pack.width.read.resnet import read_resnet
from runtime.pack.width.read.vgg import read_vgg
from runtime.pack.width.read.vit import read_vit

# what a module of the family has, and no other family does
_FAMILIES = (
    (("conv1", "bn1", "layer1", "fc"), read_resnet),
    (("conv_proj", "class_token", "encoder", "heads"), read_vit),
    (("features", "classifier"), read_vgg),
)


def read_network(model: Any, image: Sequence[int]) -> WidthNetwork:
    """Return a copy of a model as a network that can be partitioned; it computes what the model does in eval mode.

    Args:
        model: A module laid out as torchvision's VGG, ResNet (no groups) or VisionTransformer.
        image: Sizes of one image (channels, height, width).
    Raises:
        WidthError: It is of no such layout; the message names the part that does not fit.
    """
    for names, read in _FAMILIES:
        if all(hasattr(model, name) for name in names):
            return read(model, image)
    raise WidthError(
        f"{type(model).__name__} is laid out as no family known here: must have "
        + ", or ".join("/".join(names) for names, _ in _FAMILIES)
    )
