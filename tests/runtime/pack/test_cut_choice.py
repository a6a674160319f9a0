"""The choice of cuts: cheap before balanced, balanced among cheap ones, no fusion broken."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from devices.tensor import TensorSpec
from runtime.pack.cut import read_model
from runtime.pack.cut_choice import AUTO_COST, BROKEN, choose_cuts, choose_exit_cuts, price_cuts
from runtime.pack.cut_points import find_cuts
from runtime.pack.errors import PackError
from runtime.pack.exits.pooling import is_poolable
from tests.runtime.pack.nets import IMAGE, SIZE, Net, exported, foreign, residual, tokens

WIDE = 128  # wide enough that computing takes longer than passing on


def costs(path: Path) -> dict[str, float]:
    data, graph = read_model(path)
    return {choice.cut.name: choice.cost for choice in price_cuts(graph, data, find_cuts(graph))}


def test_cuts_that_break_a_fusion_are_dear(tmp_path: Path) -> None:
    found = costs(residual(tmp_path / "net.onnx", WIDE))
    for index in range(4):
        assert found[f"b{index}"] < BROKEN
        assert found[f"b{index}_4"] > BROKEN  # Add before its Relu
    assert found["b1+b2_1"] > BROKEN  # Conv before its Relu
    assert found["b1+b2_2"] == pytest.approx(2.0 * found["b1"])
    padded = costs(exported(tmp_path / "net.onnx"))
    assert padded["padded"] - padded["r"] > BROKEN  # Pad before its Conv


def bottleneck(path: Path) -> Path:
    """Eight blocks of equal work; those but one are followed by nothing narrow."""
    net = Net(width=WIDE)
    read = "image"
    for index in range(8):
        read = net.block(read, f"b{index}")
        if index in (2, 5):
            net.add("MaxPool", [read], f"small{index}", kernel_shape=[4, 4], strides=[4, 4])
            net.weights["sizes"] = np.array([1, 1, 4, 4], np.float32)
            read = net.add("Resize", [f"small{index}", "", "sizes"], f"wide{index}", mode="nearest")
    net.head(read, "y")
    return net.write(path, [("image", ("N", WIDE, SIZE, SIZE))])


def test_two_narrow_places_are_taken_before_more_equal_shares(tmp_path: Path) -> None:
    data, graph = read_model(bottleneck(tmp_path / "net.onnx"))
    assert [cut.name for cut in choose_cuts(graph, data, 2, cheap_only=False, what="net")] == ["small2", "small5"]


def test_among_equals_the_shares_of_work_decide(tmp_path: Path) -> None:
    data, graph = read_model(residual(tmp_path / "net.onnx", WIDE))
    assert [cut.name for cut in choose_cuts(graph, data, 1, cheap_only=False, what="net")] == ["b1"]
    assert [cut.name for cut in choose_cuts(graph, data, 3, cheap_only=False, what="net")] == ["b0", "b1", "b2"]


def test_auto_takes_fewer_cuts_where_there_are_no_more_cheap_ones(tmp_path: Path) -> None:
    data, graph = read_model(bottleneck(tmp_path / "net.onnx"))
    cheap = [choice for choice in price_cuts(graph, data, find_cuts(graph)) if choice.cost <= AUTO_COST]
    chosen = choose_cuts(graph, data, 99, cheap_only=True, what="net")
    assert 2 <= len(chosen) <= len(cheap)
    assert {cut.name for cut in chosen} <= {choice.cut.name for choice in cheap}


def test_auto_says_when_nothing_is_cheap(tmp_path: Path) -> None:
    net = Net()
    net.add("Relu", ["image"], "r")
    net.add("Neg", ["r"], "y")
    data, graph = read_model(net.write(tmp_path / "net.onnx", outputs=[("y", IMAGE[1])]))
    with pytest.raises(PackError, match=r"no cut that costs less than 1.5% of its time"):
        choose_cuts(graph, data, 2, cheap_only=True, what="net")


def batch_first(spec: TensorSpec) -> bool:
    return is_poolable(spec, 1, frozenset(("N",)))


@pytest.mark.parametrize("build", [residual, tokens, foreign])
@pytest.mark.parametrize("count", [1, 2])
def test_cuts_for_exits_are_spread_over_the_work_and_can_be_read(
    tmp_path: Path, build: Callable[[Path], Path], count: int
) -> None:
    data, graph = read_model(build(tmp_path / "net.onnx"))
    cuts = choose_exit_cuts(graph, data, count, batch_first, what="net")
    for index, cut in enumerate(cuts):
        assert cut.work_share == pytest.approx((index + 1) / (count + 1), abs=0.2)
        specs = [graph.spec(name) for name in cut.tensors]
        assert any(spec is not None and batch_first(spec) for spec in specs)


def test_where_no_head_could_read_there_is_no_exit(tmp_path: Path) -> None:
    data, graph = read_model(residual(tmp_path / "net.onnx"))
    with pytest.raises(PackError, match="net has room for 0 exits, not 1: a head reads a floating-point tensor"):
        choose_exit_cuts(graph, data, 1, lambda spec: False, what="net")
