"""What cannot be partitioned is refused with the part that does not fit."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from runtime.pack.width import WidthError, make_plan, partition, read_network
from tests.runtime.pack_width.nets import IMAGE, images, make


def grouped(model: Any) -> None:
    model.features[4] = nn.Conv2d(8, 12, 3, padding=1, groups=4)


def dilated(model: Any) -> None:
    model.features[4] = nn.Conv2d(8, 12, 3, padding=2, dilation=2)


def named_padding(model: Any) -> None:
    model.features[4] = nn.Conv2d(8, 12, 3, padding="same")


def sigmoid(model: Any) -> None:
    model.features[2] = nn.Sigmoid()


def ceiling(model: Any) -> None:
    model.features[3] = nn.MaxPool2d(2, ceil_mode=True)


def uneven(model: Any) -> None:
    model.avgpool = nn.AdaptiveAvgPool2d(3)


def no_classifier(model: Any) -> None:
    model.classifier = nn.Sequential(nn.Flatten())


def squeeze(model: Any) -> None:
    model.layer2[0].se = nn.Identity()


def no_statistics(model: Any) -> None:
    model.layer2[0].bn1 = nn.BatchNorm2d(12, track_running_stats=False)


def long_shortcut(model: Any) -> None:
    model.layer2[0].downsample = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(8, 12, 1), nn.BatchNorm2d(12))


def tanh_gelu(model: Any) -> None:
    model.encoder.layers[0].mlp[1] = nn.GELU(approximate="tanh")


def extra_keys(model: Any) -> None:
    model.encoder.layers[0].self_attention = nn.MultiheadAttention(24, 4, add_bias_kv=True)


def two_heads(model: Any) -> None:
    model.heads = nn.Sequential(nn.Linear(24, 8), nn.Linear(8, 5))


@pytest.mark.parametrize(
    ("family", "damage", "words"),
    [
        ("vgg", grouped, "features.4.*no groups"),
        ("vgg", dilated, "features.4.*no dilation"),
        ("vgg", named_padding, "'same'"),
        ("vgg", sigmoid, "features.2 is a Sigmoid"),
        ("vgg", ceiling, "features.3.*no ceil mode"),
        ("vgg", uneven, "avgpool.*cells of one size"),
        ("vgg", no_classifier, "must end with a Linear"),
        ("resnet", squeeze, "layer2.0 weighs its channels by each other"),
        ("resnet", no_statistics, "statistics"),
        ("resnet", long_shortcut, "layer2.0.downsample"),
        ("vit", tanh_gelu, "layers.0.mlp"),
        ("vit", extra_keys, "layers.0.self_attention"),
        ("vit", two_heads, "heads is"),
    ],
)
def test_a_part_of_another_kind_is_named(family: str, damage: Callable[[Any], None], words: str) -> None:
    model = make(family)
    damage(model)
    with pytest.raises(WidthError, match=words):
        read_network(model, IMAGE)


def test_another_layout_or_image_is_refused() -> None:
    with pytest.raises(WidthError, match="Sequential is laid out as no family known here"):
        read_network(nn.Sequential(nn.Linear(2, 2)), IMAGE)
    with pytest.raises(WidthError, match="must be \\(channels, height, width\\)"):
        read_network(make("vgg"), (16, 16))
    with pytest.raises(WidthError, match="has another size"):
        read_network(make("vit"), (3, 32, 32))


def test_convolutions_with_a_bias_and_strides_and_dropout_are_read() -> None:
    torch.manual_seed(0)
    model = make("vgg")
    model.features = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, (2, 1)),
        nn.BatchNorm2d(8),
        nn.Dropout(),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(8, 16, 1),
    )
    model.eval()
    image = torch.from_numpy(images())
    assert torch.allclose(read_network(model, IMAGE)(image), model(image), atol=1e-6)


def test_without_torch_the_error_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("runtime.pack.width")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'headway\[torch\]'"):
        importlib.import_module("runtime.pack.width")


def test_an_order_that_loses_channels_or_parts_a_head_is_refused() -> None:
    network = read_network(make("vit"), IMAGE)
    plan = make_plan(network.graph, (0.5, 0.5))
    order = {space.name: tuple(range(space.channels)) for space in network.graph.spaces.values()}
    twice = order | {"conv_proj": (0, *range(23))}
    parted = order | {"layers.0.query": (1, 0, *range(2, 24))}
    shifted = order | {"layers.0.query": (*range(3, 24), *range(3))}
    for wrong in (twice, parted, shifted):
        with pytest.raises(WidthError, match="must name each of its 24 channels once"):
            partition(network, plan, wrong)
    with pytest.raises(WidthError, match="must be of every space"):
        partition(network, plan, {"conv_proj": order["conv_proj"]})
