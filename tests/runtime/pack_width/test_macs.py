"""The paper's formula against full layers counted in torch, and against the ONNX files."""

from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from runtime.pack.width import WidthPlan, make_plan, partition, read_network, stage_macs, write_width_package
from runtime.pack.width.graph import Layer
from runtime.pack.width.macs import rounded_shares
from runtime.pack.width.plan import groups
from tests.runtime.pack_width.nets import FAMILIES, IMAGE, graph, images, make


def layer_macs(model: Any) -> list[int]:
    """Return the multiply-accumulates of every convolution and linear layer, counted as a torch model runs."""
    found = []

    def note(module: Any, _: Any, out: Any) -> None:
        found.append(prod(out.shape) // module.weight.shape[0] * prod(module.weight.shape))

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(note)
    model(torch.from_numpy(images(1)))
    return found


@pytest.mark.parametrize("family", ["vgg", "resnet"])
def test_full_layers_cost_what_torch_does(family: str) -> None:
    known, found = graph(family), layer_macs(make(family))
    assert sorted(found) == sorted([*(layer.macs for layer in known.layers), known.classes * 16])
    assert known.macs == sum(found)


def test_a_transformers_full_cost_is_the_textbooks() -> None:
    tokens, size, hidden = 17, 24, 32
    block = 4 * tokens * size * size + 2 * tokens * size * hidden + 2 * tokens * tokens * size
    assert graph("vit").macs == 16 * size * 48 + 2 * block + size * 5


def test_a_stage_of_a_chain_costs_the_formula_by_hand() -> None:
    known = graph("vgg")  # 8 -> 12 -> 16 -> 16, halves: no rounding
    plan = WidthPlan(((0.5,) * 4, (0.5,) * 4), ((True, False, True, False), (False,) * 4))
    full = [3 * 8 * 9 * 256, 8 * 12 * 9 * 64, 12 * 16 * 9 * 64, 16 * 16, 16 * 5]
    read = [[1, 0.5, 0.5, 0.5, 0.5], [1, 1, 0.5, 1, 0.5]]  # sum over k of (I_k, or 1 for k = i) p_k
    made = [0.5, 0.5, 0.5, 0.5, 1]
    for stage in range(2):
        wanted = [m * p * r for m, p, r in zip(full, made, read[stage], strict=True)]
        assert [value for value in stage_macs(known, plan)[stage] if value] == wanted


@st.composite
def plans(draw: st.DrawFn, family: str) -> WidthPlan:
    """Draw P, a share a space, and I for a family."""
    known = graph(family)
    stages = draw(st.integers(1, 3))
    shares = {}
    for name in known.spaces:
        raw = draw(st.lists(st.floats(0.1, 1.0), min_size=stages, max_size=stages))
        shares[name] = [value / sum(raw) for value in raw]
    plan = make_plan(known, shares[next(iter(shares))], spaces=dict(shares), exchanges=0)
    rows = st.lists(st.booleans(), min_size=plan.columns, max_size=plan.columns).map(tuple)
    return WidthPlan(plan.shares, tuple(draw(rows) for _ in range(stages)))


@pytest.mark.parametrize("family", FAMILIES)
def test_formula_and_files_agree_for_any_p_and_i(family: str, tmp_path: Path) -> None:
    network = read_network(make(family), IMAGE)

    @settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(plans(family))
    def check(plan: WidthPlan) -> None:
        package = write_width_package(tmp_path / "p", partition(network, plan), name="p")
        table, numbers = stage_macs(network.graph, plan), groups(network.graph, plan)
        for stage, row in enumerate(table):
            for group in range(len(plan.exchanges) + 1):
                told = sum(value for value, number in zip(row, numbers, strict=False) if number == group)
                told += row[-1] if group == len(plan.exchanges) else 0
                assert package.segment(f"stage{stage + 1}-group{group + 1}").macs == told

    check()


def test_rounding_to_whole_channels_is_told() -> None:
    known = graph("vgg")
    plan = make_plan(known, (0.7, 0.3), exchanges=None)
    shares = rounded_shares(known, plan)
    assert [tuple(float(s) for s in shares[name]) for name in known.spaces] == [
        (6 / 8, 2 / 8),
        (8 / 12, 4 / 12),
        (11 / 16, 5 / 16),
        (11 / 16, 5 / 16),
    ]
    asked = 0.7 * 0.7 * known.layers[1].macs
    assert stage_macs(known, plan)[0][known.parts.index(known.layers[1])] == 6 / 8 * 8 / 12 * known.layers[1].macs
    assert isinstance(known.parts[0], Layer)
    assert abs(6 / 8 * 8 / 12 * known.layers[1].macs - asked) / asked < 0.03
