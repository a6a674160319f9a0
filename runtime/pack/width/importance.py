"""Which channels matter most, so that stage 1 gets the best.

    L1, L2    the norm of the weights that make a channel, batch normalisation folded in
    TAYLOR    mean over images of |sum over positions of x dL/dx|: how much the loss would change, to first order,
              were the channel zero (Molchanov et al., arXiv 1611.06440), L the cross-entropy to the labels or, without
              labels, to the network's own classes

A space's channels are scored together: over all layers that make them, or all columns that lie in it. Channels that
stay together (a head) are scored by their sum and keep their order.
"""

from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtime.pack.width.errors import WidthError
from runtime.pack.width.network import WidthNetwork, check_images
from runtime.pack.width.partition import Order


class Criterion(StrEnum):
    """What a channel's importance is."""

    L1 = "l1"
    L2 = "l2"
    TAYLOR = "taylor"


def rank_channels(
    network: WidthNetwork,
    criterion: Criterion = Criterion.TAYLOR,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    batch: int = 64,
) -> Order:
    """Return, by space, the channels from the most to the least important.

    Args:
        network: The whole.
        criterion: What importance is.
        images: Calibration images (n, C, H, W) for TAYLOR.
        labels: Their classes (n,); None takes the network's own.
        batch: Images run at once.
    Raises:
        WidthError: TAYLOR without images, or images or labels that do not fit.
    """
    if criterion is Criterion.TAYLOR:
        if images is None:
            raise WidthError("the criterion taylor needs calibration images")
        check_images(network.graph, images, labels)
        scores = _taylor(network, images, labels, batch)
    else:
        scores = _norms(network, 1 if criterion is Criterion.L1 else 2)
    return {name: _order(score, network.graph.spaces[name].unit) for name, score in scores.items()}


def _order(scores: Tensor, unit: int) -> tuple[int, ...]:
    units = torch.argsort(scores.view(-1, unit).sum(dim=1), descending=True, stable=True)
    return tuple(int(place) for place in (units[:, None] * unit + torch.arange(unit)).flatten())


def _norms(network: WidthNetwork, power: int) -> dict[str, Tensor]:
    scores = {space.name: torch.zeros(space.channels) for space in network.graph.spaces.values()}
    for layer in network.graph.layers:
        cell = network.cell(layer.name)
        rows = cell.core.weight.detach().flatten(1).norm(p=power, dim=1)
        if cell.norm is not None:
            rows = rows * (cell.norm.weight.detach().abs() / torch.sqrt(cell.norm.running_var + cell.norm.eps))
        scores[network.graph.space_of(layer.writes).name] += rows
    return scores


def _taylor(network: WidthNetwork, images: Tensor, labels: Tensor | None, batch: int) -> dict[str, Tensor]:
    graph = network.graph
    scores = {space.name: torch.zeros(space.channels) for space in graph.spaces.values()}
    network = network.eval()
    for start in range(0, len(images), batch):
        with torch.enable_grad():
            values = network.features(images[start : start + batch])
            logits = network.answer(values)
            wanted = logits.argmax(dim=1) if labels is None else labels[start : start + batch]
            loss = functional.cross_entropy(logits, wanted, reduction="sum")
            columns = [values[column] for column in graph.columns]
            slopes = torch.autograd.grad(loss, columns)
        for column, value, slope in zip(graph.columns, columns, slopes, strict=True):
            scores[graph.space_of(column).name] += _effects(graph.features[column], (value * slope).detach())
    return scores


def _effects(feature: Any, products: Tensor) -> Tensor:
    """Return |sum over positions| of each channel, summed over images."""
    channels = products.shape[feature.axis] // feature.repeat
    rows = products.movedim(feature.axis, 1).reshape(len(products), channels, -1)
    return rows.sum(dim=2).abs().sum(dim=0)
