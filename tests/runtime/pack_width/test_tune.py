"""From training to certified exits on scikit-learn's digits, with a tiny network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from devices.package import Package
from runtime.pack.exits import ExitSettings, calibrate_exits, write_exits
from runtime.pack.width import (
    PartitionedNetwork,
    Tuning,
    WidthError,
    WidthNetwork,
    fine_tune,
    make_plan,
    partition,
    rank_channels,
    read_network,
    write_width_package,
)
from runtime.pack.width.models import Vgg
from runtime.pack.width.nodes import matrix_nodes
from tests.runtime.pack_width.nets import IMAGE, answers, make

FIT, CHOOSE = 800, 1400


@dataclass(frozen=True)
class Digits:
    """Images (n, 1, 8, 8), classes, the whole network and its stages, trained on the first 800."""

    images: Any
    classes: Any
    whole: WidthNetwork
    parts: PartitionedNetwork
    package: Package


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """Digits, a network trained on them, and its three stages."""
    datasets = pytest.importorskip("sklearn.datasets")
    raw, classes = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(raw))
    images = torch.from_numpy((raw[order] / 8.0 - 1.0).astype(np.float32).reshape(-1, 1, 8, 8))
    labels = torch.from_numpy(classes[order].astype(np.int64))
    torch.manual_seed(0)
    model = read_network(Vgg([12, "M", 24, "M", 32], 10, channels=1).train(), (1, 8, 8))
    parts = partition(model, make_plan(model.graph, (1.0,)))
    fine_tune(parts, model, images[:FIT], labels[:FIT], Tuning(7, 100, 1.5e-2, distillation=0.0))
    whole = parts.network
    whole.head = parts.exits[0]
    ordered = rank_channels(whole, images=images[:FIT], labels=labels[:FIT])
    parts = partition(whole, make_plan(whole.graph, (0.5, 0.25, 0.25)), ordered)
    fine_tune(parts, whole, images[:FIT], labels[:FIT], Tuning(5, 100, 1e-2))
    package = write_width_package(tmp_path_factory.mktemp("digits") / "1", parts, name="digits")
    return Digits(images, labels, whole, parts, package)


def test_every_exit_answers_well_and_the_last_as_the_whole(digits: Digits) -> None:
    held = slice(CHOOSE, None)
    said = answers(digits.package, digits.images[held].numpy())
    right = [float(np.mean(logits.argmax(1) == digits.classes[held].numpy())) for logits in said]
    with torch.no_grad():
        whole = float((digits.whole(digits.images[held]).argmax(1) == digits.classes[held]).float().mean())
    assert whole > 0.93
    assert min(right) > 0.9
    assert right[-1] > whole - 0.02


def test_thresholds_are_certified_and_hold_on_images_that_chose_nothing(digits: Digits, tmp_path: Path) -> None:
    settings = ExitSettings(max_disagreement=0.03, delta=0.05, fit_share=0.2)
    fitted = calibrate_exits(digits.package, {"image": digits.images[FIT:CHOOSE].numpy()}, settings)
    package = write_exits(tmp_path / "certified", digits.package, fitted)
    logits = answers(package, digits.images[CHOOSE:].numpy())
    chances = np.exp(logits[0] - logits[0].max(axis=1, keepdims=True))
    sure = (chances / chances.sum(axis=1, keepdims=True)).max(axis=1)
    leaves = sure >= float(package.exits[0].threshold or 0.0)
    differs = logits[0].argmax(1) != logits[-1].argmax(1)
    assert leaves.mean() > 0.5
    assert (leaves & differs).mean() < 0.04
    assert package.mac_share("exit1") < 0.6


def test_nothing_leaves_before_thresholds_are_chosen(digits: Digits) -> None:
    assert [taken.threshold for taken in digits.package.exits] == [float("inf"), float("inf"), None]


def test_the_package_file_tells_p_and_i_and_the_work(digits: Digits) -> None:
    told = digits.package.card["width"]
    assert told["columns"] == list(digits.parts.graph.columns)
    assert told["shares"] == [list(row) for row in digits.parts.plan.shares]
    assert sum(told["stage_macs"]) == sum(segment.macs for segment in digits.package.segments)
    assert told["whole_macs"] == digits.whole.graph.macs


def test_training_is_repeatable_and_leaves_torchs_own_chance_alone(digits: Digits) -> None:
    def tuned() -> tuple[Any, Any]:
        parts = partition(digits.whole, digits.parts.plan)
        torch.manual_seed(3)
        history = fine_tune(parts, digits.whole, digits.images[:128], None, Tuning(epochs=2, seed=7))
        assert torch.equal(torch.rand(3), after)
        return history, parts

    torch.manual_seed(3)
    after = torch.rand(3)
    (first, one), (second, two) = tuned(), tuned()
    assert first == second
    assert first[1] < first[0]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_the_whole_network_is_not_trained(digits: Digits) -> None:
    before = [parameter.clone() for parameter in digits.whole.parameters()]
    parts = partition(digits.whole, digits.parts.plan)
    fine_tune(parts, digits.whole, digits.images[:64], digits.classes[:64], Tuning(epochs=1))
    assert all(torch.equal(a, b) for a, b in zip(before, digits.whole.parameters(), strict=True))


@pytest.mark.parametrize("family", ["vgg", "resnet", "vit"])
def test_each_family_learns(family: str) -> None:
    network = read_network(make(family), IMAGE)
    images = torch.randn(32, *IMAGE, generator=torch.Generator().manual_seed(0))
    parts = partition(network, make_plan(network.graph, (0.5, 0.5)))
    history = fine_tune(parts, network, images, None, Tuning(epochs=8, batch=16))
    assert history[-1] < 0.7 * history[0]


def test_what_does_not_fit_is_refused(digits: Digits) -> None:
    with pytest.raises(WidthError, match="2 weights for 3 exits"):
        fine_tune(digits.parts, digits.whole, digits.images[:9], None, Tuning(weights=(1.0, 1.0)))
    with pytest.raises(WidthError, match="3 labels"):
        fine_tune(digits.parts, digits.whole, digits.images[:9], digits.classes[:3])
    with pytest.raises(ValueError, match="distillation = 2"):
        Tuning(distillation=2.0)
    with pytest.raises(ValueError, match="epochs = 0"):
        Tuning(epochs=0)


def test_a_package_that_says_something_else_is_not_written(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "runtime.pack.width.export.matrix_nodes",
        lambda build, x, weight, bias, output: matrix_nodes(build, x, 1.01 * weight, bias, output),
    )
    with pytest.raises(WidthError, match="away from torch"):
        write_width_package(tmp_path / "p", digits.parts, name="p")
    assert not (tmp_path / "p").exists()
