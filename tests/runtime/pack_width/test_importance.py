"""Importance of channels against norms by hand, and against what the loss does when a channel is scaled."""

import copy

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from runtime.pack.width import Criterion, WidthError, rank_channels, read_network
from tests.runtime.pack_width.nets import CLASSES, FAMILIES, IMAGE, images, make


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("criterion", list(Criterion))
def test_an_order_is_a_permutation_that_keeps_heads_together(family: str, criterion: Criterion) -> None:
    network = read_network(make(family), IMAGE)
    order = rank_channels(network, criterion, torch.from_numpy(images()))
    for name, space in network.graph.spaces.items():
        assert sorted(order[name]) == list(range(space.channels))
        for start in range(0, space.channels, space.unit):
            head = order[name][start : start + space.unit]
            assert head == tuple(range(head[0], head[0] + space.unit))


@pytest.mark.parametrize("criterion", list(Criterion))
def test_a_channel_that_is_never_anything_comes_last(criterion: Criterion) -> None:
    model = make("vgg")
    with torch.no_grad():
        model.features[4].weight[5] = 0.0
        model.features[5].running_mean[5] = model.features[5].bias[5] = 0.0
    order = rank_channels(read_network(model, IMAGE), criterion, torch.from_numpy(images()))
    assert order["features.4"][-1] == 5


def test_norms_are_those_of_the_folded_weights() -> None:
    model = make("vgg")
    norm = model.features[1]
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    rows = (model.features[0].weight * gain[:, None, None, None]).flatten(1).detach()
    network = read_network(model, IMAGE)
    for criterion, scores in ((Criterion.L1, rows.abs().sum(1)), (Criterion.L2, rows.square().sum(1).sqrt())):
        wanted = torch.argsort(scores, descending=True).tolist()
        assert list(rank_channels(network, criterion)["features.0"]) == wanted


@pytest.mark.parametrize("labelled", [True, False])
def test_taylor_is_the_slope_of_the_loss_in_a_channels_scale(labelled: bool) -> None:
    model = make("vgg").double()
    image = torch.from_numpy(images(4)).double()
    labels = torch.tensor([0, 1, 2, 3]) % CLASSES if labelled else model(image).argmax(1)

    def loss(channel: int, scale: float, row: int) -> float:
        changed = copy.deepcopy(model)
        with torch.no_grad():
            changed.classifier[0].weight[:, channel] *= scale
            logits = changed(image[row : row + 1])
        return float(torch.nn.functional.cross_entropy(logits, labels[row : row + 1]))

    effects = [
        sum(abs(loss(channel, 1.0 + 1e-5, row) - loss(channel, 1.0 - 1e-5, row)) for row in range(4))
        for channel in range(16)
    ]
    wanted = sorted(range(16), key=lambda channel: -effects[channel])
    order = rank_channels(
        read_network(model.float(), IMAGE), Criterion.TAYLOR, image.float(), labels if labelled else None, batch=3
    )
    assert list(order["features.7"]) == wanted


def test_taylor_needs_images_and_as_many_labels() -> None:
    network = read_network(make("vgg"), IMAGE)
    with pytest.raises(WidthError, match="needs calibration images"):
        rank_channels(network, Criterion.TAYLOR)
    with pytest.raises(WidthError, match=r"torch.float64 \(3, 3, 16, 16\): must be a float32 tensor \(n, 3, 16, 16\)"):
        rank_channels(network, images=torch.from_numpy(images()).double())
    with pytest.raises(WidthError, match="images are torch"):
        rank_channels(network, images=torch.zeros(0, 3, 16, 16))
    with pytest.raises(WidthError, match="1 labels for 3 images"):
        rank_channels(network, Criterion.TAYLOR, torch.from_numpy(images()), torch.tensor([0]))
    with pytest.raises(WidthError, match="labels are a ndarray of int32: must be an int64 tensor"):
        rank_channels(network, Criterion.TAYLOR, torch.from_numpy(images()), np.zeros(3, np.int32))
    with pytest.raises(WidthError, match=r"labels lie within 0\.\.5: must be 0\.\.4"):
        rank_channels(network, Criterion.TAYLOR, torch.from_numpy(images()), torch.tensor([0, 5, 1]))
