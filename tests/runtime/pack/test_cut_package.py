"""Packages cut from models compute what the models compute, wherever they are cut; a wrong one is not written."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.errors import InputError, PackageError
from devices.package import Exit, SegmentSource, load_package, write_package
from runtime.pack.cut import Card, cut_model, place_cuts, read_model
from runtime.pack.cut_check import HALF_TOLERANCE, max_abs_error
from runtime.pack.cut_extract import extract_parts
from runtime.pack.cut_graph import read_graph
from runtime.pack.cut_points import Cut, find_cuts
from runtime.pack.errors import PackError
from tests.models import model
from tests.runtime.pack.nets import ALL, IMAGE, Net, exported, residual, two_inputs, two_outputs

CARD = Card("net")


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("nets")
    return {build.__name__: build(folder / f"{build.__name__}.onnx") for build in ALL}


@settings(max_examples=25)
@given(data=st.data())
@pytest.mark.parametrize("name", [build.__name__ for build in ALL])
def test_any_row_of_cuts_gives_the_same_outputs(
    nets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    whole, graph = read_model(nets[name])
    row: list[Cut] = []
    for cut in find_cuts(graph):
        follows = not row or (row[-1].before & ~cut.before == 0 and row[-1].before != cut.before)
        if follows and data.draw(st.integers(0, 4)) == 0:
            row.append(cut)
    parts = extract_parts(graph, row, name)
    package = write_package(
        tmp_path_factory.mktemp("cut") / "p",
        name="net",
        version="1",
        segments=[SegmentSource(f"part{index}", part) for index, part in enumerate(parts.models)],
        exits=[Exit("final", f"part{len(row)}", graph.outputs[0])],
    )
    assert len(package.segments) == len(row) + 1
    assert {spec.name for spec in package.inputs} == set(graph.inputs)
    assert max_abs_error(whole, package, what=name) < 1e-5
    for cut, (front, back) in zip(row, pairwise(package.segments), strict=True):
        made = {spec.name for spec in front.outputs} | {spec.name for spec in back.inputs}
        assert {parts.names.get(tensor, tensor) for tensor in cut.tensors} & made


@pytest.mark.parametrize(
    ("where", "parts"), [(0, 1), (1, 2), (3, 4), ("auto", 3), ("b0,b2", 3), ("b2,b0", 3), (" b1 ", 2)]
)
def test_where_to_cut_is_said_by_number_by_name_or_left_open(tmp_path: Path, where: int | str, parts: int) -> None:
    cut = cut_model(residual(tmp_path / "net.onnx"), tmp_path / "p", where, CARD)
    assert [segment.id for segment in cut.package.segments] == [f"part{k}" for k in range(1, parts + 1)]
    assert len(cut.cuts) == parts - 1
    assert cut.max_abs_error < 1e-5
    assert sum(segment.macs for segment in cut.package.segments) == 4 * 2 * 6 * 6 * 9 * 64 + 6 * 3
    assert load_package(tmp_path / "p").digest == cut.package.digest


def test_a_cut_at_two_tensors_is_named_with_a_plus(tmp_path: Path) -> None:
    cut = cut_model(residual(tmp_path / "net.onnx"), tmp_path / "p", "b0+b1_2,b2", CARD)
    assert [set(item.tensors) for item in cut.cuts] == [{"b0", "b1_2"}, {"b2"}]


def test_any_batch_goes_through_the_parts(tmp_path: Path) -> None:
    for build in (residual, exported):
        package = cut_model(build(tmp_path / "net.onnx"), tmp_path / build.__name__, "auto", CARD).package
        for batch in (1, 2, 7):
            result = Chain(package, OnnxRuntimeBackend(), merge=False).run({"image": np.ones((batch, 6, 8, 8), "f4")})
            assert result.exit is not None
            assert result.exit.answer.shape == (batch, 3)


def test_outputs_made_early_come_from_the_last_part_under_their_own_names(tmp_path: Path) -> None:
    package = cut_model(two_outputs(tmp_path / "net.onnx"), tmp_path / "p", "b1", CARD).package
    assert package.exit_outputs("final") == ("y", "early", "b0")
    assert {spec.name for spec in package.segments[0].outputs} == {"b0_early", "early_early", "b1"}


def test_a_dynamic_or_given_input_is_checked_too(tmp_path: Path) -> None:
    path = two_inputs(tmp_path / "net.onnx")
    fits = {"image": np.ones((5, 6, 8, 8), np.float32), "state": np.ones((5, 2), np.float32)}
    assert cut_model(path, tmp_path / "p", "p", CARD, given=[fits]).max_abs_error < 1e-5
    with pytest.raises(InputError, match=r"lacks \['state'\]"):
        cut_model(path, tmp_path / "q", "p", CARD, given=[{"image": fits["image"]}])
    assert not (tmp_path / "q").exists()


def test_parts_that_compute_something_else_are_refused(tmp_path: Path) -> None:
    whole, graph = read_model(residual(tmp_path / "net.onnx"))
    parts = extract_parts(graph, place_cuts(graph, whole, "b1", "net"), "net").models
    weight = parts[1].graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.001), weight.name))
    package = write_package(
        tmp_path / "p",
        name="net",
        version="1",
        segments=[SegmentSource("a", parts[0]), SegmentSource("b", parts[1])],
        exits=[Exit("final", "b", "y")],
    )
    with pytest.raises(PackError, match="output 'y' differs by"):
        max_abs_error(whole, package, what="net")


def test_half_precision_may_differ_by_its_own_rounding(tmp_path: Path) -> None:
    net = Net()
    net.add("Cast", ["image"], "h0", to=TensorProto.FLOAT16)
    for index in range(3):
        net.weights[f"w{index}"] = np.float16(1.1)
        net.add("Mul", [f"h{index}", f"w{index}"], f"m{index}")
        net.add("Sigmoid", [f"m{index}"], f"h{index + 1}")
    net.add("Cast", ["h3"], "y", to=TensorProto.FLOAT)
    path = net.write(tmp_path / "net.onnx", outputs=[("y", IMAGE[1])])
    assert cut_model(path, tmp_path / "p", "h1,m2", CARD).max_abs_error <= HALF_TOLERANCE
    assert HALF_TOLERANCE == 4 * np.finfo(np.float16).eps


def test_cuts_that_cross_each_other_are_refused(tmp_path: Path) -> None:
    net = Net()
    for name in ("left", "right"):
        net.add("Relu", [net.conv("image", f"{name}_1")], f"{name}_2")
        net.head(f"{name}_2", f"{name}_y")
    net.add("Add", ["left_y", "right_y"], "y")
    path = net.write(tmp_path / "net.onnx")
    data, graph = read_model(path)
    with pytest.raises(PackError, match=r"can't be cut at left_2 alone|do not follow each other"):
        extract_parts(graph, place_cuts(graph, data, "left_2,right_2", "net"), "net")


def external(path: Path) -> Path:
    proto = onnx.load(residual(path))
    onnx.save_model(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def external_missing(path: Path) -> Path:
    external(path).with_name("weights.bin").unlink()
    return path


def external_cut_short(path: Path) -> Path:
    weights = external(path).with_name("weights.bin")
    weights.write_bytes(weights.read_bytes()[:100])
    return path


def external_elsewhere(path: Path, where: str) -> Path:
    proto = onnx.load(external(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = where
    path.write_bytes(proto.SerializeToString())
    return path


def external_linked(path: Path) -> Path:
    weights = external(path).with_name("weights.bin")
    weights.unlink()
    weights.symlink_to("/etc/passwd")
    return path


def test_weights_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    packages = [
        cut_model(build(tmp_path / "net.onnx"), tmp_path / "p", "b1", CARD).package for build in (residual, external)
    ]
    assert [segment.sha256 for segment in packages[0].segments] == [segment.sha256 for segment in packages[1].segments]
    assert sorted(file.name for file in (tmp_path / "p").iterdir()) == ["package.toml", "part1.onnx", "part2.onnx"]


def idle_input(path: Path) -> Path:
    net = Net()
    net.head(net.block("image", "b0"), "y")
    return net.write(path, [IMAGE, ("idle", ("N", 2))])


def unsorted_nodes(path: Path) -> Path:
    proto = onnx.load(residual(path))
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save_model(proto, path)
    return path


def passed_through(path: Path) -> Path:
    net = Net()
    net.head(net.block("image", "b0"), "y")
    return net.write(path, outputs=[("y", ("N", 3)), IMAGE])


def unknown_operator(path: Path) -> Path:
    odd = [helper.make_node("Frobnicate", ["x"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    path.write_bytes(model(odd, [("x", (1,))], [("y", (1,))]).SerializeToString())
    return path


def garbage(path: Path) -> Path:
    path.write_bytes(b"no model")
    return path


@pytest.mark.parametrize(
    ("build", "where", "message"),
    [
        (external_missing, "auto", "its weights should lie in .*weights.bin, which is missing"),
        (external_cut_short, 0, "its weights can't be read"),
        (partial(external_elsewhere, where="/etc/passwd"), 0, "must be a relative path inside"),
        (partial(external_elsewhere, where="../weights.bin"), 0, "must be a relative path inside"),
        (external_linked, 0, "is a link to /etc/passwd"),
        (idle_input, "auto", "no output depends on input 'idle': remove it"),
        (unsorted_nodes, "auto", "before anything makes it"),
        (passed_through, "b0", "output 'image' is an input or a constant"),
        (unknown_operator, 0, "onnxruntime refuses"),
        (garbage, 0, "is not an ONNX file"),
        (residual, 99, "can't be cut 99 times: it has room for"),
        (residual, "b0,b0", "do not follow each other"),
        (lambda path: path, 0, "cannot read .*net.onnx: No such file"),
    ],
)
def test_what_cannot_be_packed_is_refused_and_nothing_written(
    tmp_path: Path, build: Callable[[Path], Path], where: int | str, message: str
) -> None:
    path = build(tmp_path / "net.onnx")
    with pytest.raises((PackError, PackageError), match=message):
        cut_model(path, tmp_path / "out" / "p", where, CARD)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_model_that_runs_on_given_inputs_only_needs_some(tmp_path: Path) -> None:
    net = Net()
    net.weights |= {"table": np.eye(3, dtype=np.float32)}
    net.add("Cast", ["index"], "i", to=7)
    net.add("Add", ["i", "offset"], "j")
    net.weights |= {"offset": np.array([-9], np.int64)}
    net.add("Gather", ["table", "j"], "row")
    net.add("Relu", ["row"], "y")
    path = net.write(tmp_path / "net.onnx", [("index", ("N",))], [("y", ("N", 3))])
    with pytest.raises(PackError, match=r"does not run on inputs of shape .* \(--check\)"):
        cut_model(path, tmp_path / "p", "row", CARD)
    fits = {"index": np.array([9.0, 11.0], np.float32)}
    assert cut_model(path, tmp_path / "p", "row", CARD, given=[fits]).max_abs_error == 0.0


def test_an_operator_set_nobody_declares_is_refused() -> None:
    odd = model([helper.make_node("Relu", ["x"], ["y"])], [("x", (2, 3))], [("y", (2, 3))])
    odd.opset_import[0].domain = "elsewhere"
    with pytest.raises(PackError, match=r"odd.onnx: the shapes of its tensors can't be inferred: .*No opset import"):
        read_graph("odd.onnx", odd.SerializeToString())
