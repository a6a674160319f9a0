"""What a network is to a partition along its width: layers and steps on named features, whose channels lie in spaces.

A space is a number of channels that residual additions tie together: all features in it are split alike. A layer
(convolution, linear) reads every channel of one feature and writes channels of another; a step (addition, pooling,
attention) works on each channel, or each head, by itself, so a stage takes it on its own channels alone. A column is a
feature that some layer reads: columns are the j of P and I.
"""

from dataclasses import dataclass
from enum import StrEnum

IMAGE = "image"  # the network's input, which every stage reads in full


class Activation(StrEnum):
    """What follows a layer."""

    NONE = "none"
    RELU = "relu"
    GELU = "gelu"


class StepKind(StrEnum):
    """What a step does."""

    ADD = "add"
    RELU = "relu"
    MAX_POOL = "max_pool"
    MEAN_POOL = "mean_pool"
    FLATTEN = "flatten"
    TOKENS = "tokens"
    ATTEND = "attend"
    PICK = "pick"


@dataclass(frozen=True, slots=True)
class Space:
    """Channels that are split alike.

    Args:
        name: After the first feature in it.
        channels: How many.
        unit: Channels that stay together: the size of an attention head; else 1.
    """

    name: str
    channels: int
    unit: int = 1

    @property
    def units(self) -> int:
        """Pieces that can be shared out."""
        return self.channels // self.unit


@dataclass(frozen=True, slots=True)
class Feature:
    """A tensor of the network.

    Args:
        name: Its name.
        space: Where its channels lie; None for the image.
        shape: Sizes at batch 1, the batch first.
        axis: Of the channels, 1 or the last.
        repeat: Neighbouring elements along the axis that belong to one channel (a flattened image's pixels).
    """

    name: str
    space: str | None
    shape: tuple[int, ...]
    axis: int = 1
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear map, with the normalisation of channels and the activation that follow.

    Args:
        name: Under which its weights are kept.
        reads, writes: Features.
        activation: Follows.
        macs: Multiply-accumulates of the whole layer at batch 1.
    """

    name: str
    reads: str
    writes: str
    activation: Activation
    macs: int


@dataclass(frozen=True, slots=True)
class Step:
    """An operation on each channel (or head) by itself.

    Args:
        kind: Which.
        name: Under which its weights are kept, if it has any.
        reads, writes: Features.
        sizes: MAX_POOL: kernel, stride, padding; MEAN_POOL: height and width of a cell; ATTEND: head size.
        macs: Multiply-accumulates at batch 1; only ATTEND has any.
    """

    kind: StepKind
    name: str
    reads: tuple[str, ...]
    writes: str
    sizes: tuple[int, ...] = ()
    macs: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """A network as layers and steps, in running order, down to the feature that its classifier reads.

    Args:
        family: "vgg", "resnet" or "vit".
        parts: Layers and steps.
        features: By name.
        spaces: By name.
        last: The feature the classifier reads.
        classes: Columns of the answer.
    """

    family: str
    parts: tuple[Layer | Step, ...]
    features: dict[str, Feature]
    spaces: dict[str, Space]
    last: str
    classes: int

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers alone."""
        return tuple(part for part in self.parts if isinstance(part, Layer))

    @property
    def columns(self) -> tuple[str, ...]:
        """The features that layers or the classifier read, the image left out, in the order they are made."""
        read = {layer.reads for layer in self.layers} | {self.last}
        return tuple(part.writes for part in self.parts if part.writes in read)

    def space_of(self, feature: str) -> Space:
        """Return the space of a feature's channels.

        Raises:
            KeyError: It is the image, or unknown.
        """
        name = self.features[feature].space
        if name is None:
            raise KeyError(f"{feature!r} is the image: every stage reads it in full")
        return self.spaces[name]

    def tied(self, space: str) -> tuple[str, ...]:
        """Return the columns whose channels lie in a space."""
        return tuple(column for column in self.columns if self.features[column].space == space)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network at batch 1, the classifier's included."""
        wide = self.features[self.last].shape[self.features[self.last].axis]
        return sum(part.macs for part in self.parts) + wide * self.classes
