"""The union of stages against networks built independently: the original, and the original with weights set to zero."""

import copy
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from runtime.pack.width import WidthPlan, make_plan, partition, read_network, write_width_package
from tests.runtime.pack_width.nets import CLASSES, FAMILIES, IMAGE, Case, answers, case, error, graph, images, make

THREE = (0.5, 0.25, 0.25)
TOLERANCE = 1e-5
# module and the spaces it writes and reads, of the small networks by hand
VGG = {
    "features.0": ("features.0", None),
    "features.4": ("features.4", "features.0"),
    "features.7": ("features.7", "features.4"),
    "classifier.0": ("classifier.0", "features.7"),
}
RESNET = {
    "conv1": ("conv1", None),
    "layer1.0.conv1": ("layer1.0.conv1", "conv1"),
    "layer1.0.conv2": ("conv1", "layer1.0.conv1"),
    "layer1.1.conv1": ("layer1.1.conv1", "conv1"),
    "layer1.1.conv2": ("conv1", "layer1.1.conv1"),
    "layer2.0.conv1": ("layer2.0.conv1", "conv1"),
    "layer2.0.conv2": ("layer2.0.conv2", "layer2.0.conv1"),
    "layer2.0.downsample.0": ("layer2.0.conv2", "conv1"),
    "layer2.1.conv1": ("layer2.1.conv1", "layer2.0.conv2"),
    "layer2.1.conv2": ("layer2.0.conv2", "layer2.1.conv1"),
    "layer3.0.conv1": ("layer3.0.conv1", "layer2.0.conv2"),
    "layer3.0.conv2": ("layer3.0.conv2", "layer3.0.conv1"),
    "layer3.0.downsample.0": ("layer3.0.conv2", "layer2.0.conv2"),
    "layer3.1.conv1": ("layer3.1.conv1", "layer3.0.conv2"),
    "layer3.1.conv2": ("layer3.0.conv2", "layer3.1.conv1"),
}


def stage_of(done: Case, space: str) -> torch.Tensor:
    """Return the stage of each original channel of a space."""
    numbers = torch.full((done.parts.graph.spaces[space].channels,), -1)
    for stage in range(done.parts.plan.stages):
        numbers[list(done.parts.channels(space, stage))] = stage
    assert (numbers >= 0).all()
    return numbers


def masked(done: Case, table: dict[str, tuple[str, str | None]], stage: int) -> Any:
    """Return the original with the weights that the plan forbids set to zero, its classifier as a stage reads it."""
    model = copy.deepcopy(done.model)
    columns = {layer.name: layer.reads for layer in done.parts.graph.layers}
    columns |= {f"{name}.0": column for name, column in columns.items() if name.endswith("downsample")}
    with torch.no_grad():
        for name, (writes, reads) in table.items():
            if reads is not None:
                kept = allowed(done, stage_of(done, reads)[None, :], stage_of(done, writes)[:, None], columns[name])
                model.get_submodule(name).weight[~kept] = 0.0
        head = model.fc if hasattr(model, "fc") else model.classifier[-1]
        last = done.parts.graph.features[done.parts.graph.last]
        seen = allowed(done, stage_of(done, str(last.space)), torch.tensor(stage), last.name)
        head.weight[:, ~seen] = 0.0
    return model


def allowed(done: Case, read: torch.Tensor, made: torch.Tensor, column: str) -> torch.Tensor:
    """Return whether channels of the stages `made` may read those of the stages `read` at a column."""
    reuse = torch.tensor(done.parts.plan.reuse)[:, done.parts.graph.columns.index(column)]
    return (read == made) | ((read < made) & reuse[read])


def masked_transformer(done: Case, image: torch.Tensor) -> torch.Tensor:
    """Run the original with zeroed weights; a row's LayerNorm averages over the channels whose weights are not zero."""
    model, stream = done.model, stage_of(done, "conv_proj")

    def through(
        norm: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        out = torch.zeros(*x.shape[:-1], len(weight))
        for stage in range(done.parts.plan.stages):
            seen = (stream <= stage).float()
            mean = (x * seen).sum(-1, keepdim=True) / seen.sum()
            spread = ((x - mean) ** 2 * seen).sum(-1, keepdim=True) / seen.sum()
            y = ((x - mean) / torch.sqrt(spread + norm.eps) * norm.weight + norm.bias) * seen
            out[..., rows == stage] = (y @ weight.T + bias)[..., rows == stage]
        return out

    def plain(x: torch.Tensor, module: Any, reads: torch.Tensor) -> torch.Tensor:
        return x @ (module.weight * (reads[None, :] <= stream[:, None])).T + module.bias

    x = model.conv_proj(image).flatten(2).transpose(1, 2)
    x = torch.cat([model.class_token.expand(len(x), -1, -1), x], 1) + model.encoder.pos_embedding
    for index, block in enumerate(model.encoder.layers):
        heads = stage_of(done, f"layers.{index}.query")
        attention = block.self_attention
        q, k, v = (
            through(block.ln_1, x, w, b, heads).unflatten(2, (4, 6)).transpose(1, 2)
            for w, b in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + plain(mixed, attention.out_proj, heads)
        hidden = stage_of(done, f"layers.{index}.hidden")
        y = torch.nn.functional.gelu(through(block.ln_2, x, block.mlp[0].weight, block.mlp[0].bias, hidden))
        x = x + plain(y, block.mlp[2], hidden)
    return model.heads(model.encoder.ln(x[:, 0]))


@pytest.mark.parametrize("family", FAMILIES)
def test_with_all_features_reused_the_union_is_the_masked_network(family: str, tmp_path: Path) -> None:
    done = case(tmp_path / "p", family, make_plan(graph(family), THREE, exchanges=None))
    masks: dict[str, Callable[[torch.Tensor], Any]] = {
        "vgg": lambda x: masked(done, VGG, 2)(x),
        "resnet": lambda x: masked(done, RESNET, 2)(x),
        "vit": lambda x: masked_transformer(done, x),
    }
    with torch.no_grad():
        wanted = masks[family](torch.from_numpy(images()))
        whole = done.model(torch.from_numpy(images()))
    got = answers(done.package, images())[-1]
    assert error(got, wanted) < TOLERANCE
    assert error(got, whole) > 100 * TOLERANCE  # the zeroed weights do matter


@pytest.mark.parametrize(("family", "table"), [("vgg", VGG), ("resnet", RESNET)])
def test_with_some_features_reused_each_exit_is_the_network_without_the_others_weights(
    family: str, table: dict[str, tuple[str, str | None]], tmp_path: Path
) -> None:
    known = graph(family)
    shares = make_plan(known, THREE, exchanges=0).shares
    row = st.lists(st.booleans(), min_size=len(known.columns), max_size=len(known.columns)).map(tuple)

    @settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.tuples(row, row, row))
    def check(reuse: tuple[tuple[bool, ...], ...]) -> None:
        done = case(tmp_path / "p", family, WidthPlan(shares, reuse))
        with torch.no_grad():
            wanted = [masked(done, table, stage)(torch.from_numpy(images())) for stage in range(3)]
        for got, want in zip(answers(done.package, images()), wanted, strict=True):
            assert error(got, want) < TOLERANCE

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_stage_is_the_original(family: str, tmp_path: Path) -> None:
    done = case(tmp_path / "p", family, make_plan(graph(family), (1.0,), exchanges=None))
    assert [segment.id for segment in done.package.segments] == ["stage1-group1"]
    assert error(answers(done.package, images())[-1], done.model(torch.from_numpy(images()))) < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_meet_only_at_exchanges_and_never_read_later_ones(family: str, tmp_path: Path) -> None:
    done = case(tmp_path / "p", family, make_plan(graph(family), THREE, exchanges=2))
    assert len(done.package.segments) == 3 * 3
    met = {done.parts.graph.columns[j] for j in done.parts.plan.exchanges}
    for segment in done.package.segments:
        stage = int(segment.id[5])
        for spec in segment.inputs:
            if spec.name == "image":
                continue
            maker, feature = int(spec.name[5]), spec.name.split(".", 1)[1]
            assert maker <= stage
            assert maker == stage or feature in met
    assert done.package.needed("exit1") == ("stage1-group1", "stage1-group2", "stage1-group3")


def test_without_reuse_stages_have_nothing_in_common(tmp_path: Path) -> None:
    done = case(tmp_path / "p", "resnet", make_plan(graph("resnet"), THREE, exchanges=0))
    assert [[spec.name for spec in segment.inputs] for segment in done.package.segments] == [["image"]] * 3


def test_every_batch_size_runs(tmp_path: Path) -> None:
    for family in FAMILIES:
        done = case(tmp_path / family, family, make_plan(graph(family), THREE))
        together = answers(done.package, images(4))
        alone = [answers(done.package, images(4)[row : row + 1]) for row in range(4)]
        for index, said in enumerate(together):
            for row in range(4):
                assert abs(said[row] - alone[row][index][0]).max() < 1e-5


@pytest.fixture(scope="module")
def torchvision_models() -> Any:
    """torchvision's models; skips where they cannot be had, a build that does not fit torch included."""
    try:
        return importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as reason:
        pytest.skip(f"torchvision cannot be imported: {reason}")


def small_torchvision_vgg(models: Any) -> Any:
    """Return torchvision's VGG with few channels: its own classifier alone has 120 million weights."""
    with torch.device("meta"):
        model = models.VGG(torch.nn.Sequential(), num_classes=CLASSES)
    model.features = models.vgg.make_layers([8, "M", 16, "M"], batch_norm=True)
    linear = [torch.nn.Linear(16 * 49, 32), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(32, CLASSES)]
    model.classifier = torch.nn.Sequential(*linear)
    return model


@pytest.mark.parametrize(("name", "side"), [("resnet18", 32), ("resnet50", 32), ("vgg", 28), ("vit", 32)])
def test_torchvisions_layouts_are_read(name: str, side: int, torchvision_models: Any) -> None:
    torch.manual_seed(0)
    if name == "vit":
        model = torchvision_models.VisionTransformer(side, 8, 2, 4, 32, 64, num_classes=CLASSES)
        torch.nn.init.normal_(model.heads.head.weight)
    elif name == "vgg":
        model = small_torchvision_vgg(torchvision_models)
    else:
        model = getattr(torchvision_models, name)(num_classes=CLASSES)
    image = torch.randn(1, 3, side, side)
    network = read_network(model.eval(), image.shape[1:])
    with torch.no_grad():
        assert error(network(image).numpy(), model(image)) < TOLERANCE
        parts = partition(network, make_plan(network.graph, (0.5, 0.5)))
        assert [tuple(logits.shape) for logits in parts(image)] == [(1, CLASSES)] * 2


def test_a_network_that_trains_on_is_not_touched(tmp_path: Path) -> None:
    model = make("resnet")
    before = copy.deepcopy(model.state_dict())
    parts = partition(read_network(model, IMAGE), make_plan(graph("resnet"), THREE))
    write_width_package(tmp_path / "p", parts, name="p")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
