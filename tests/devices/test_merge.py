"""Merged segments: which run together, that they compute the same, and which are left as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.merge import merge_segments, run_together
from devices.package import Exit, Package, SegmentSource, write_package
from devices.tensor import Array
from tests.models import model, write_exit_package

SHAPE = ("N", 4)


def relay(reads: list[str], made: str, factor: float) -> Any:
    """Return a segment that sums what it reads and scales it; its inner names are those of all others."""
    nodes = [
        helper.make_node("Sum", reads, ["inner"], name="sum"),
        helper.make_node("Mul", ["inner", "w"], [made], name="mul"),
    ]
    return model(nodes, [(name, SHAPE) for name in reads], [(made, SHAPE)], {"w": np.float32(factor)})


def write(folder: Path, segments: dict[str, Any], exits: list[Exit]) -> Package:
    sources = [SegmentSource(name, proto) for name, proto in segments.items()]
    return write_package(folder, name="m", version="1", segments=sources, exits=exits)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_exit_package(tmp_path_factory.mktemp("models") / "toy")


def all_ids(package: Package) -> list[str]:
    return [segment.id for segment in package.segments]


def test_only_the_last_head_always_runs_with_its_trunk(package: Package) -> None:
    groups = run_together(package, all_ids(package), [])
    assert set(groups) == {("trunk1",), ("head1",), ("trunk2",), ("head2",), ("trunk3", "head3")}


def test_what_is_owed_outside_is_not_merged_with_what_an_exit_needs(package: Package) -> None:
    assert set(run_together(package, ["trunk1", "head1", "trunk2"], ["f2"])) == {("trunk1",), ("head1",), ("trunk2",)}
    assert set(run_together(package, ["trunk1", "trunk2"], ["f2"])) == {("trunk1", "trunk2")}


@given(data=st.data())
def test_any_graph_of_segments_computes_the_same_merged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    count = data.draw(st.integers(2, 6))
    segments, tensors = {}, ["x"]
    for index in range(count):
        reads = data.draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=3, unique=True))
        segments[f"s{index}"] = relay(reads, f"t{index}", 0.5 + index)
        tensors.append(f"t{index}")
    read = {name for proto in segments.values() for name in [value.name for value in proto.graph.input]}
    ends = [index for index in range(count) if f"t{index}" not in read]
    early = data.draw(st.sets(st.integers(0, count - 1)))
    chosen = sorted({*ends, *early})
    exits = [Exit(f"e{k}", f"s{k}", f"t{k}", f"t{k}", threshold=1e9) for k in chosen]
    package = write(tmp_path_factory.mktemp("m") / "p", segments, exits)
    inputs = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}
    apart, merged = (Chain(package, OnnxRuntimeBackend(), merge=merge) for merge in (False, True))
    for least in range(len(exits)):
        seen: list[list[tuple[str, list[float]]]] = [[], []]
        ran = []
        for chain, into in zip((apart, merged), seen, strict=True):

            def note(answer: Any, into: list[Any] = into) -> bool:
                into.append((answer.exit_id, answer.answer.tolist()))
                return False

            result = chain.run(inputs, on_exit=note, least_exit=exits[least].id)
            ran.append({time.segment_id for time in result.segments})
        assert seen[0] == seen[1]
        assert ran[0] == ran[1]


def test_merged_segments_are_timed_as_one(package: Package) -> None:
    chain = Chain(package, OnnxRuntimeBackend())
    result = chain.run({"image": np.zeros((1, 3, 16, 16), np.float32)})
    *_, trunk, head = result.segments
    assert (trunk.segment_id, head.segment_id) == ("trunk3", "head3")
    assert (trunk.elapsed_s, trunk.begin_s) == (0.0, head.begin_s)
    assert head.elapsed_s > 0.0


def test_a_merged_segment_hands_out_what_is_read_elsewhere(package: Package) -> None:
    merged = merge_segments(package, ["trunk1", "trunk2"])
    assert merged is not None
    segment, data = merged
    assert (segment.id, [spec.name for spec in segment.inputs]) == ("trunk1+trunk2", ["image"])
    assert [spec.name for spec in segment.outputs] == ["f1", "f2"]  # head1 reads f1
    run = OnnxRuntimeBackend().load(segment, data).run
    image = np.ones((2, 3, 16, 16), np.float32)
    apart = Chain(package, OnnxRuntimeBackend(), ["trunk1", "trunk2"]).run({"image": image}).outputs
    for name, array in run({"image": image}).items():
        np.testing.assert_allclose(array, apart[name], atol=1e-6)


def branching(read: str, made: str) -> Any:
    """Return a segment whose If reads a tensor from outside its branches, and a name that other segments have too."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["inner"], ["out"])],
            name,
            [],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, SHAPE)],
        )
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }
    nodes = [
        helper.make_node("Identity", [read], ["inner"]),
        helper.make_node("ReduceMax", ["inner"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "w"], ["large"]),
        helper.make_node("If", ["large"], [made], **branches),
    ]
    return model(nodes, [(read, SHAPE)], [(made, SHAPE)], {"w": np.float32(3.0)})


def test_branches_keep_reading_what_they_read(tmp_path: Path) -> None:
    segments = {"a": relay(["x"], "t", 2.0), "b": branching("t", "u"), "c": relay(["u"], "y", 3.0)}
    package = write(tmp_path / "p", segments, [Exit("e", "c", "y")])
    merged = Chain(package, OnnxRuntimeBackend())
    for values in ([1.0, 2.0, 0.0, 0.0], [-1.0, 1.0, 0.0, 0.0]):
        x: Array = np.array([values], np.float32)
        result = merged.run({"x": x})
        assert result.exit is not None
        expected = 3.0 * (-2.0 * x if 2.0 * x.max() > 3.0 else np.abs(2.0 * x))
        np.testing.assert_array_equal(result.exit.answer, expected)


def test_segments_of_different_operator_sets_stay_apart(tmp_path: Path) -> None:
    segments = {"a": relay(["x"], "t", 2.0), "b": relay(["t"], "y", 3.0)}
    segments["b"].opset_import[0].version = 18
    package = write(tmp_path / "p", segments, [Exit("e", "b", "y")])
    assert merge_segments(package, ["a", "b"]) is None
    result = Chain(package, OnnxRuntimeBackend()).run({"x": np.ones((1, 4), np.float32)})
    assert result.exit is not None
    np.testing.assert_array_equal(result.exit.answer, np.full((1, 4), 6.0, np.float32))
    assert all(time.elapsed_s > 0.0 for time in result.segments)


def test_merged_work_is_the_sum(package: Package) -> None:
    ids = ["trunk1", "trunk2", "trunk3", "head3"]
    merged = merge_segments(package, ids)
    assert merged is not None
    assert merged[0].macs == sum(package.segment(segment_id).macs for segment_id in ids) > 0
