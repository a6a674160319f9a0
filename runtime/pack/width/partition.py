"""A network partitioned along its width: stages that read earlier stages' features where I says so, an exit each.

Channels are first put in order of importance, so that stage 1 gets the best; a stage is then a run of channels in every
space. The weight from channel b to channel a is kept when a's stage may read b's at that column, and is zero otherwise:

    y_a = sum_b W_ab [stage(b) in R(stage(a))] x_b,     R(i) = {i} and the k < i with I_k = 1.

So all stages train at once in one pass of the full network with masked weights, and are cut apart when they are
written. A LayerNorm takes mean and variance over the channels of R(i).
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from runtime.pack.width.errors import WidthError
from runtime.pack.width.graph import IMAGE, Feature, Graph, Layer
from runtime.pack.width.network import Cell, Tokens, WidthNetwork, run_step
from runtime.pack.width.plan import WidthPlan, part_columns, stage_ends

Order = dict[str, tuple[int, ...]]  # by space: the original channel at each new place


class PartitionedNetwork(nn.Module):  # type: ignore[misc]
    """A network whose channels are split over stages; as a module it gives each stage's logits.

    Args:
        network: The whole; it is copied.
        plan: P and I.
        order: The original channel at each place, by space, best first; None keeps the order.
    Raises:
        WidthError: The plan or the order does not fit.
    """

    def __init__(self, network: WidthNetwork, plan: WidthPlan, order: Order | None = None) -> None:
        super().__init__()
        self.ends = stage_ends(network.graph, plan)
        self.plan = plan
        self.order = order or {s.name: tuple(range(s.channels)) for s in network.graph.spaces.values()}
        _check_order(network.graph, self.order)
        self.network = copy.deepcopy(network)
        _reorder(self.network, self.order)
        self.exits = nn.ModuleList(copy.deepcopy(self.network.head) for _ in range(plan.stages))
        del self.network.head
        for index, layer in enumerate(self.graph.layers):
            self.register_buffer(f"mask{index}", self._mask(layer), persistent=False)

    @property
    def graph(self) -> Graph:
        """The network's."""
        return self.network.graph

    def channels(self, space: str, stage: int) -> tuple[int, ...]:
        """Return the original numbers of the channels a stage has in a space."""
        return self.order[space][self.ends[space][stage] : self.ends[space][stage + 1]]

    def own(self, feature: str, stage: int) -> slice:
        """Return where a stage's elements lie along a feature's channel axis; the image is everybody's."""
        known = self.graph.features[feature]
        if known.space is None:
            return slice(0, known.shape[known.axis])
        ends = self.ends[known.space]
        return slice(ends[stage] * known.repeat, ends[stage + 1] * known.repeat)

    def read_by(self, stage: int, feature: str) -> tuple[int, ...]:
        """Return the stages whose elements of a column a stage reads; of the image, it alone."""
        if self.graph.features[feature].space is None:
            return (stage,)
        return self.plan.read_by(stage, self.graph.columns.index(feature))

    def read_places(self, stage: int, feature: str) -> Tensor:
        """Return the places along a feature's channel axis that a stage reads, rising."""
        parts = [self.own(feature, k) for k in self.read_by(stage, feature)]
        return torch.cat([torch.arange(part.start, part.stop) for part in parts])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the logits (N, classes) of every exit, stage 1's first."""
        values, masks = {IMAGE: image}, dict(self.named_buffers(recurse=False))
        for index, layer in enumerate(self.graph.layers):
            masks[layer.name] = masks[f"mask{index}"]
        for part in self.graph.parts:
            if isinstance(part, Layer):
                values[part.writes] = self._layer(part, values[part.reads], masks[part.name])
            else:
                weights = self.network.weights_of(part)
                values[part.writes] = run_step(part, [values[name] for name in part.reads], weights)
        last = values[self.graph.last]
        return [self._exit(stage, head, last) for stage, head in enumerate(self.exits)]

    def _layer(self, layer: Layer, x: Tensor, mask: Tensor) -> Tensor:
        cell = self.network.cell(layer.name)
        if cell.before is None:
            return cell.finish(cell.product(x, cell.core.weight * mask), layer.activation)
        rows = []
        for stage in range(self.plan.stages):
            places = self.read_places(stage, layer.reads)
            rows.append(
                functional.linear(
                    _normalise(cell.before, x, places), cell.core.weight[self.own(layer.writes, stage)][:, places]
                )
            )
        return cell.finish(torch.cat(rows, dim=-1), layer.activation)

    def _exit(self, stage: int, head: Any, x: Tensor) -> Tensor:
        places = self.read_places(stage, self.graph.last)
        seen = x[..., places] if head.before is None else _normalise(head.before, x, places)
        return functional.linear(seen, head.core.weight[:, places], head.core.bias)

    def _mask(self, layer: Layer) -> Tensor:
        core = self.network.cell(layer.name).core
        mask = torch.zeros(core.weight.shape[:2])
        for stage in range(self.plan.stages):
            mask[self.own(layer.writes, stage)] = torch.zeros(1, mask.shape[1]).index_fill(
                1, self.read_places(stage, layer.reads), 1.0
            )
        return mask.view(*mask.shape, *[1] * (core.weight.ndim - 2))


def _normalise(norm: Any, x: Tensor, places: Tensor) -> Tensor:
    """Return the LayerNorm of some channels, over those alone."""
    bias = None if norm.bias is None else norm.bias[places]
    return functional.layer_norm(x[..., places], (len(places),), norm.weight[places], bias, norm.eps)


def _check_order(graph: Graph, order: Order) -> None:
    if order.keys() != graph.spaces.keys():
        raise WidthError(f"an order of {sorted(order)}: must be of every space, {sorted(graph.spaces)}")
    for space in graph.spaces.values():
        places, unit = order[space.name], space.unit
        whole = all(places[k] == places[k - k % unit] + k % unit for k in range(len(places)))
        if sorted(places) != list(range(space.channels)) or not whole or any(c % unit for c in places[::unit]):
            raise WidthError(
                f"the order of {space.name!r} must name each of its {space.channels} channels once, "
                f"in runs of {unit} that stay together"
            )


def _reorder(network: WidthNetwork, order: Order) -> None:
    """Put a network's channels in another order, in place; what it computes stays the same."""
    graph, done = network.graph, set[Any]()
    with torch.no_grad():
        for layer in graph.layers:
            cell = network.cell(layer.name)
            _permute(cell.core, 0, torch.tensor(order[graph.space_of(layer.writes).name]))
            if cell.norm is not None:
                _permute(cell.norm, 0, torch.tensor(order[graph.space_of(layer.writes).name]))
            if part_columns(graph, layer) is not None:
                _permute_read(cell, graph.features[layer.reads], order, done)
        _permute_read(network.head, graph.features[graph.last], order, done)
        for part in graph.parts:
            tokens = None if isinstance(part, Layer) else network.weights_of(part)
            if isinstance(tokens, Tokens):
                places = torch.tensor(order[graph.space_of(part.writes).name])
                tokens.first.copy_(tokens.first[places])
                tokens.places.copy_(tokens.places[:, places])


def _permute_read(cell: Cell, read: Feature, order: Order, done: set[Any]) -> None:
    channels = torch.tensor(order[str(read.space)])
    places = (channels[:, None] * read.repeat + torch.arange(read.repeat)).flatten()
    _permute(cell.core, 1, places)
    if cell.before is not None and cell.before not in done:  # queries, keys and values share one
        done.add(cell.before)
        _permute(cell.before, 0, places)


def _permute(module: Any, axis: int, places: Tensor) -> None:
    """Reorder a module's weights along their outputs (0, and all vectors) or their inputs (1)."""
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for name, tensor in tensors:
        if tensor.ndim > axis and (axis == 0 or name == "weight"):
            tensor.copy_(tensor.index_select(axis, places))


def partition(network: WidthNetwork, plan: WidthPlan, order: Order | None = None) -> PartitionedNetwork:
    """Return a network partitioned along its width; see PartitionedNetwork."""
    return PartitionedNetwork(network, plan, order)
