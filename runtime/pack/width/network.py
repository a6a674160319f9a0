"""The torch side of a network that can be partitioned: weights by layer, and how parts run on whole features."""

import copy
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from runtime.pack.width.errors import WidthError
from runtime.pack.width.graph import IMAGE, Activation, Feature, Graph, Layer, Space, Step, StepKind


class Cell(nn.Module):  # type: ignore[misc]
    """The weights of one layer.

    Args:
        core: A Conv2d without groups, or a Linear.
        norm: BatchNorm2d after it, or None.
        before: LayerNorm over the channels it reads, or None.
    """

    def __init__(self, core: Any, norm: Any = None, before: Any = None) -> None:
        super().__init__()
        self.core, self.norm, self.before = core, norm, before

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution or linear map of x with `weight` in place of its own; the bias is not added."""
        if isinstance(self.core, nn.Conv2d):
            return functional.conv2d(x, weight, None, self.core.stride, self.core.padding)
        return functional.linear(x, weight)

    def finish(self, y: Tensor, activation: Activation) -> Tensor:
        """Add the bias to a product, normalise and activate."""
        if self.core.bias is not None:
            y = (
                y + self.core.bias.view(-1, *[1] * (y.ndim - 2))
                if isinstance(self.core, nn.Conv2d)
                else y + self.core.bias
            )
        if self.norm is not None:
            y = self.norm(y)
        return activate(y, activation)


class Tokens(nn.Module):  # type: ignore[misc]
    """A class token (D,) and places (T, D) of a vision transformer."""

    def __init__(self, first: Tensor, places: Tensor) -> None:
        super().__init__()
        self.first = nn.Parameter(first.detach().clone().float().cpu())
        self.places = nn.Parameter(places.detach().clone().float().cpu())


class WidthNetwork(nn.Module):  # type: ignore[misc]
    """A network as a graph with weights; as a module it computes what the original does.

    Args:
        graph: Layers and steps.
        cells: Cell or Tokens by name.
        head: The classifier, a Cell with a Linear that reads `graph.last`.
    """

    def __init__(self, graph: Graph, cells: dict[str, nn.Module], head: Cell) -> None:
        super().__init__()
        self.graph = graph
        self.cells = nn.ModuleDict({_key(name): cell for name, cell in cells.items()})
        self.head = head

    def cell(self, name: str) -> Any:
        """Return a layer's or step's weights."""
        return self.cells[_key(name)]

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """Return every feature of a batch of images."""
        values = {IMAGE: image}
        for part in self.graph.parts:
            if isinstance(part, Layer):
                cell, x = self.cell(part.name), values[part.reads]
                x = x if cell.before is None else cell.before(x)
                values[part.writes] = cell.finish(cell.product(x, cell.core.weight), part.activation)
            else:
                values[part.writes] = run_step(part, [values[name] for name in part.reads], self.weights_of(part))
        return values

    def weights_of(self, part: Step) -> Any:
        """Return a step's weights, or None."""
        return self.cell(part.name) if part.kind is StepKind.TOKENS else None

    def forward(self, image: Tensor) -> Tensor:
        """Return the answer's logits, shape (N, classes)."""
        return self.answer(self.features(image))

    def answer(self, values: dict[str, Tensor]) -> Tensor:
        """Return the logits that follow from the features."""
        x = values[self.graph.last]
        x = x if self.head.before is None else self.head.before(x)
        return self.head.finish(self.head.product(x, self.head.core.weight), Activation.NONE)


def _key(name: str) -> str:
    return name.replace(".", "/")


def check_images(graph: Graph, images: Tensor, labels: Tensor | None) -> None:
    """Refuse images or labels that do not fit a network.

    Raises:
        WidthError: Another shape, another dtype, no image, or as many labels as images are not given.
    """
    wanted = graph.features[IMAGE].shape[1:]
    if (
        not torch.is_tensor(images)
        or images.dtype != torch.float32
        or tuple(images.shape[1:]) != wanted
        or not len(images)
    ):
        told = f"{images.dtype} {tuple(images.shape)}" if torch.is_tensor(images) else type(images).__name__
        raise WidthError(f"images are {told}: must be a float32 tensor (n, {', '.join(map(str, wanted))})")
    if labels is not None and len(labels) != len(images):
        raise WidthError(f"{len(labels)} labels for {len(images)} images: must be one each")
    if labels is not None and not (torch.is_tensor(labels) and labels.dtype == torch.int64 and labels.ndim == 1):
        raise WidthError(
            f"labels are a {type(labels).__name__} of {getattr(labels, 'dtype', 'none')}: must be an int64 tensor"
        )
    if labels is not None and not (0 <= int(labels.min()) and int(labels.max()) < graph.classes):
        raise WidthError(f"labels lie within {int(labels.min())}..{int(labels.max())}: must be 0..{graph.classes - 1}")


def activate(y: Tensor, activation: Activation) -> Tensor:
    """Return the activation of y."""
    if activation is Activation.RELU:
        return functional.relu(y)
    return functional.gelu(y) if activation is Activation.GELU else y


def run_step(step: Step, reads: Sequence[Tensor], tokens: Any = None) -> Tensor:
    """Return what a step makes of whole features."""
    x = reads[0]
    match step.kind:
        case StepKind.ADD:
            return x + reads[1]
        case StepKind.RELU:
            return functional.relu(x)
        case StepKind.MAX_POOL:
            return functional.max_pool2d(x, step.sizes[0], step.sizes[1], step.sizes[2])
        case StepKind.MEAN_POOL:
            return functional.avg_pool2d(x, step.sizes)
        case StepKind.FLATTEN:
            return x.flatten(1)
        case StepKind.PICK:
            return x[:, 0]
        case StepKind.TOKENS:
            rows = torch.cat([tokens.first.expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], dim=1)
            return rows + tokens.places
    q, k, v = (part.unflatten(2, (-1, step.sizes[0])).transpose(1, 2) for part in reads)
    shares = torch.softmax(q @ k.transpose(2, 3) / step.sizes[0] ** 0.5, dim=3)
    return (shares @ v).transpose(1, 2).flatten(2)


class Draft:
    """Collects the parts of a network that is being read, and runs each on a blank image to know its shapes.

    Args:
        family: Of the graph.
        image: Sizes of one image (channels, height, width).
    """

    def __init__(self, family: str, image: Sequence[int]) -> None:
        if len(image) != 3 or min(image) < 1:
            raise WidthError(f"an image of sizes {tuple(image)}: must be (channels, height, width)")
        self._family = family
        self._values = {IMAGE: torch.zeros(1, *image)}
        self._features = {IMAGE: Feature(IMAGE, None, (1, *image))}
        self._spaces: dict[str, Space] = {}
        self._parts: list[Layer | Step] = []
        self._cells: dict[str, nn.Module] = {}
        self._normals: dict[int, Any] = {}  # a LayerNorm that several layers read through stays one

    def shape(self, feature: str) -> tuple[int, ...]:
        """Return a feature's sizes at batch 1."""
        return self._features[feature].shape

    def space(self, feature: str) -> str:
        """Return the name of a feature's space."""
        name = self._features[feature].space
        if name is None:
            raise WidthError("the image has no channels to share out")
        return name

    def layer(
        self,
        name: str,
        reads: str,
        core: Any,
        *,
        norm: Any = None,
        before: Any = None,
        activation: Activation = Activation.NONE,
        space: str | None = None,
        unit: int = 1,
    ) -> str:
        """Append a layer and return the feature it writes; without `space` its channels are a new one.

        Raises:
            WidthError: It is of no kind that can be partitioned.
        """
        _check_core(name, core, norm)
        if before is not None and not isinstance(before, nn.LayerNorm):
            raise WidthError(f"layer {name!r} reads through a {type(before).__name__}: must be a LayerNorm")
        cell = copy.deepcopy(Cell(core, norm)).float().cpu().eval()
        if before is not None:
            cell.before = self._normals.setdefault(id(before), copy.deepcopy(before).float().cpu())
        with torch.no_grad():
            x = self._values[reads] if before is None else cell.before(self._values[reads])
            y = cell.finish(cell.product(x, cell.core.weight), activation)
        axis = 1 if isinstance(core, nn.Conv2d) else y.ndim - 1
        if space is None:
            space = name
            self._spaces[name] = Space(name, core.weight.shape[0], unit)
        if self._spaces[space].channels != core.weight.shape[0]:
            raise WidthError(
                f"layer {name!r} makes {core.weight.shape[0]} channels, not {self._spaces[space].channels}"
            )
        positions = prod(y.shape) // y.shape[axis]
        self._parts.append(Layer(name, reads, name, activation, positions * prod(core.weight.shape)))
        self._cells[name] = cell
        return self._keep(Feature(name, space, tuple(y.shape), axis), y)

    def step(
        self, kind: StepKind, name: str, reads: Sequence[str], sizes: Sequence[int] = (), tokens: Any = None
    ) -> str:
        """Append a step and return the feature it writes."""
        first = self._features[reads[0]]
        macs = 0
        if kind is StepKind.ATTEND:
            macs = 2 * first.shape[1] * prod(first.shape[1:])  # the products with keys and with values
        step = Step(kind, name, tuple(reads), name, tuple(sizes), macs)
        with torch.no_grad():
            y = run_step(step, [self._values[read] for read in reads], tokens)
        axis = 2 if kind is StepKind.TOKENS else min(first.axis, y.ndim - 1)
        repeat = prod(first.shape[2:]) if kind is StepKind.FLATTEN else first.repeat
        if tokens is not None:
            self._cells[name] = tokens
        self._parts.append(step)
        return self._keep(Feature(name, first.space, tuple(y.shape), axis, repeat), y)

    def _keep(self, feature: Feature, value: Tensor) -> str:
        if feature.name in self._features:
            raise WidthError(f"two parts of the network are called {feature.name!r}")
        self._features[feature.name], self._values[feature.name] = feature, value
        return feature.name

    def finish(self, last: str, core: Any, before: Any = None) -> WidthNetwork:
        """Return the network, whose classifier `core` reads the feature `last`."""
        _check_core("the classifier", core, None)
        graph = Graph(self._family, tuple(self._parts), self._features, self._spaces, last, int(core.weight.shape[0]))
        head = copy.deepcopy(Cell(core, None, before)).float().cpu().eval()
        network = WidthNetwork(graph, self._cells, head)
        network.eval()
        return network


def _check_core(name: str, core: Any, norm: Any) -> None:
    if not isinstance(core, nn.Conv2d | nn.Linear):
        raise WidthError(f"layer {name!r} is a {type(core).__name__}: must be a Conv2d or a Linear")
    if isinstance(core, nn.Conv2d) and (core.groups != 1 or set(core.dilation) != {1} or core.padding_mode != "zeros"):
        raise WidthError(f"layer {name!r}: {core}: must have no groups, no dilation, and zero padding")
    if isinstance(core, nn.Conv2d) and isinstance(core.padding, str):
        raise WidthError(f"layer {name!r} has padding {core.padding!r}: must be numbers")
    if norm is not None and not (isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats and norm.affine):
        raise WidthError(f"layer {name!r} is followed by {norm}: must be a BatchNorm2d with weights and statistics")
