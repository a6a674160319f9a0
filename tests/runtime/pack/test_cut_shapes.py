"""Shapes that inference can't tell: found by running the model, and what is not guessed at."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from devices.package.macs import count_macs
from devices.tensor import TensorSpec
from runtime.pack.cut_graph import Graph, read_graph
from runtime.pack.cut_points import find_cuts
from runtime.pack.cut_shapes import observe_shapes
from tests.models import model
from tests.runtime.pack.nets import WIDTH, foreign, looping, tokens


def graph_of(path: Path) -> Graph:
    return read_graph(path.name, path.read_bytes())


def shape_of(graph: Graph, name: str) -> tuple[int | str, ...]:
    spec = graph.spec(name)
    assert spec is not None
    return spec.shape


def test_behind_a_foreign_operator_shapes_are_found_and_work_is_counted(tmp_path: Path) -> None:
    graph = graph_of(foreign(tmp_path / "net.onnx"))
    assert shape_of(graph, "scaled") == ("N", WIDTH)
    assert shape_of(graph, "r1") == ("N", WIDTH)
    assert count_macs(graph.model) == 3 * WIDTH * WIDTH + WIDTH * 3


def test_which_axis_is_the_batch_is_told(tmp_path: Path) -> None:
    graph = graph_of(tokens(tmp_path / "net.onnx"))
    assert shape_of(graph, "e") == ("N", "T", WIDTH)
    assert shape_of(graph, "t1") == ("T", "N", WIDTH)
    assert shape_of(graph, "first") == ("N", WIDTH)


def observed(proto: object, inputs: list[TensorSpec], *names: str) -> dict[str, tuple[int | str, ...]]:
    found = observe_shapes(proto, inputs, names)
    return {
        name: tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in value.type.tensor_type.shape.dim)
        for name, value in found.items()
    }


def test_sizes_that_follow_nothing_known_stay_open() -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["mixed"], axis=2),
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["after"], to=TensorProto.FLOAT),
    ]
    shape = ("N", "T", 4)
    proto = model(nodes, [("x", shape)], [("after", ("A", "B"))])
    inputs = [TensorSpec("x", "float32", shape)]
    assert observed(proto, inputs, "mixed", "flat", "places", "after") == {
        "mixed": ("", 4),
        "flat": ("N", ""),
        "places": ("", ""),
        "after": ("", ""),
    }


def test_a_model_that_runs_at_one_size_only_keeps_that_size_open() -> None:
    proto = model(
        [helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node("Identity", ["y"], ["z"])],
        [("x", ("N", "T", 4))],
        [("z", ("N", "T", 4))],
        {"w": np.zeros((16, 4), np.float32)},
    )
    assert observed(proto, [TensorSpec("x", "float32", ("N", "T", 4))], "y") == {"y": ("N", "", 4)}


def test_a_fixed_batch_gives_fixed_shapes() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], [("x", (1, 4))], [("y", (1, 4))])
    assert observed(proto, [TensorSpec("x", "float32", (1, 4))], "y") == {"y": (1, 4)}


def test_a_model_that_does_not_run_tells_nothing() -> None:
    nodes = [helper.make_node("Gather", ["w", "x"], ["y"])]
    proto = model(nodes, [("x", ("N",))], [("y", ("N",))], {"w": np.zeros(1, np.float32)})
    assert observed(proto, [TensorSpec("x", "float32", ("N",))], "y") == {}  # no index is a float


def test_behind_a_loop_every_size_is_open_and_it_can_be_cut_there(tmp_path: Path) -> None:
    graph = graph_of(looping(tmp_path / "net.onnx"))
    assert shape_of(graph, "looped") == ("?", "?", "?", "?")
    assert {"b0", "looped", "r1"} <= {cut.name for cut in find_cuts(graph)}
