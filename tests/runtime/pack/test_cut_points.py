"""Cut points: what crosses, what counts as a cut, which are found, and what is said where there is none."""

from pathlib import Path

import pytest

from runtime.pack.cut_graph import Graph, read_graph
from runtime.pack.cut_points import crossing, cut_at, find_cuts, front
from runtime.pack.errors import PackError
from tests.runtime.pack.nets import SIZE, WIDTH, branching, exported, residual, two_inputs, two_outputs

IMAGE_BYTES = WIDTH * SIZE * SIZE * 4


def graph_of(path: Path) -> Graph:
    return read_graph(path.name, path.read_bytes())


@pytest.fixture
def net(tmp_path: Path) -> Graph:
    return graph_of(residual(tmp_path / "net.onnx"))


def test_a_residual_net_is_cut_at_block_ends_by_one_tensor_and_within_blocks_by_two(net: Graph) -> None:
    names = [cut.name for cut in find_cuts(net)]
    for index in range(4):
        assert f"b{index}" in names
        assert f"b{index}_4" in names
    for index in range(1, 4):
        assert f"b{index - 1}+b{index}_1" in names
        assert f"b{index - 1}+b{index}_2" in names
        assert f"b{index}_1" not in names
    assert len(names) == len(set(names))


def test_the_input_that_both_halves_read_crosses_too(net: Graph) -> None:
    cuts = {cut.name: cut for cut in find_cuts(net)}
    assert cuts["b1"].crossing_bytes == IMAGE_BYTES
    assert cuts["b0_2"].crossing_bytes == 2 * IMAGE_BYTES  # the skip of the first block is the image
    assert cuts["y_f"].crossing_bytes == WIDTH * 4


def test_every_cut_leaves_nothing_else_to_cross(tmp_path: Path) -> None:
    for build in (residual, two_inputs, two_outputs, exported, branching):
        graph = graph_of(build(tmp_path / "net.onnx"))
        for cut in find_cuts(graph):
            assert crossing(graph, cut.before) == set(cut.tensors)
            assert front(graph, cut.tensors) == cut.before
            assert 0.0 < cut.work_share <= 1.0
            for index, node in enumerate(graph.nodes):  # the front half needs nothing of the other
                if cut.before >> index & 1:
                    assert all(cut.before >> graph.makers[name] & 1 for name in node.reads if name in graph.makers)


def test_an_input_that_joins_late_stays_behind(tmp_path: Path) -> None:
    graph = graph_of(two_inputs(tmp_path / "net.onnx"))
    cut = cut_at(graph, ["p"], "net.onnx")
    assert not cut.before >> graph.makers["t"] & 1
    assert cut.crossing_bytes == WIDTH * 4 + IMAGE_BYTES


def test_a_head_on_the_way_stays_in_front_and_its_answer_crosses(tmp_path: Path) -> None:
    graph = graph_of(two_outputs(tmp_path / "net.onnx"))
    cut = cut_at(graph, ["b1"], "net.onnx")
    assert cut.before >> graph.makers["early"] & 1
    assert cut.crossing_bytes == IMAGE_BYTES + IMAGE_BYTES + 2 * 4  # b1, the outputs b0 and early


def test_what_depends_on_no_input_becomes_a_weight(tmp_path: Path) -> None:
    graph = graph_of(exported(tmp_path / "net.onnx"))
    assert "pads" not in graph.makers
    assert "ConstantOfShape" not in [node.proto.op_type for node in graph.nodes]
    spec = graph.spec("r")
    assert spec is not None
    assert spec.shape == ("N", WIDTH, SIZE, SIZE)


def test_sizes_are_computed_in_front_and_cross_beside_a_cut(tmp_path: Path) -> None:
    graph = graph_of(exported(tmp_path / "net.onnx"))
    assert graph.sizes == {"shape", "batch", "batches", "target"}
    cut = cut_at(graph, ["r"], "net.onnx")
    assert (cut.name, cut.tensors) == ("r", ("r", "target"))
    assert cut.crossing_bytes == IMAGE_BYTES + 2 * 8  # and not the image besides, to tell the batch
    assert cut_at(graph, ["r", "batch"], "net.onnx") == cut
    assert "r" in [found.name for found in find_cuts(graph)]
    with pytest.raises(PackError, match="can't be cut at batch: sizes cross beside other tensors; 'padded'"):
        cut_at(graph, ["batch"], "net.onnx")


def test_what_a_branch_reads_from_outside_is_read(tmp_path: Path) -> None:
    graph = graph_of(branching(tmp_path / "net.onnx"))
    assert {"b0", "large"} <= set(graph.nodes[graph.makers["chosen"]].reads)
    names = [cut.name for cut in find_cuts(graph)]
    assert "large" not in names
    assert "b0+large" in names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nope"], "has no tensor 'nope' to cut at: there are 'b0_4'|there are"),
        (["image"], "it is an input"),
        (["B1_"], "did you mean 'b1_1'"),
        (["b1_2"], "can't be cut at b1_2 alone: 'b0' would cross beside it: cut at 'b1_2\\+b0'"),
        (["y"], "nothing lies behind it"),
        (["b0", "b1"], "at 'b0\\+b1' only 'b1' crosses"),
    ],
)
def test_what_is_no_cut_is_refused_with_what_would_be_one(net: Graph, names: list[str], message: str) -> None:
    with pytest.raises(PackError, match=message):
        cut_at(net, names, "net.onnx")
