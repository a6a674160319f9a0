"""Every damage of a package is refused, with its reason, before anything of it runs."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from devices.package import PackageError, load_package
from tests.models import CHANNELS, model, write_exit_package

Damage = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_exit_package(tmp_path / "p")
    return tmp_path / "p"


def edit(old: str, new: str, count: int = 1) -> Damage:
    """Replace text in package.toml."""

    def damage(folder: Path) -> None:
        path = folder / "package.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, count))

    return damage


def exchange(segment_id: str, data: bytes | Any) -> Damage:
    """Put another ONNX file in a segment's place, with the hash that fits it."""

    def damage(folder: Path) -> None:
        replace_file(folder, segment_id, data if isinstance(data, bytes) else data.SerializeToString())

    return damage


def replace_file(folder: Path, segment_id: str, data: bytes) -> None:
    path = folder / f"{segment_id}.onnx"
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(data)
    edit(old, hashlib.sha256(data).hexdigest())(folder)


def change(segment_id: str, how: Callable[[Any], object]) -> Damage:
    """Change a segment's model, with the hash that fits."""

    def damage(folder: Path) -> None:
        proto = onnx.load_model_from_string((folder / f"{segment_id}.onnx").read_bytes())
        how(proto)
        replace_file(folder, segment_id, proto.SerializeToString())

    return damage


def both(*damages: Damage) -> Damage:
    def damage(folder: Path) -> None:
        for one in damages:
            one(folder)

    return damage


def flip_byte(folder: Path) -> None:
    data = bytearray((folder / "trunk2.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "trunk2.onnx").write_bytes(bytes(data))


def link_out(folder: Path) -> None:
    outside = folder.parent / "outside.onnx"
    os.replace(folder / "head1.onnx", outside)
    (folder / "head1.onnx").symlink_to(outside)


def link_to_itself(folder: Path) -> None:
    (folder / "head1.onnx").unlink()
    (folder / "head1.onnx").symlink_to("head1.onnx")


def folder_for_file(folder: Path) -> None:
    (folder / "head1.onnx").unlink()
    (folder / "head1.onnx").mkdir()


def put_weight_outside(proto: Any) -> None:
    weight = proto.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    weight.ClearField("raw_data")


def put_constant_outside(proto: Any) -> None:
    node = helper.make_node("Constant", [], ["secret"], value=TensorProto(data_type=TensorProto.FLOAT, dims=[1]))
    node.attribute[0].t.data_location = TensorProto.EXTERNAL
    inner = helper.make_graph([node], "inner", [], [])
    proto.graph.node.add(op_type="If", input=["c"], output=["d"]).attribute.append(
        helper.make_attribute("then_branch", inner)
    )


def grow_weight(proto: Any) -> None:
    proto.graph.initializer[0].dims[0] = 10 * 2**30


def undeclare_shape(proto: Any) -> None:
    proto.graph.output[0].type.tensor_type.ClearField("shape")


def make_text(proto: Any) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING


def make_sequence(proto: Any) -> None:
    proto.graph.output[0].type.Clear()
    proto.graph.output[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def no_output(proto: Any) -> None:
    del proto.graph.output[:]


features = ("N", CHANNELS, 16, 16)
doubles = model([helper.make_node("Cast", ["image"], ["f1"], to=11)], [("image", ("N", 3, 16, 16))], [("f1", features)])
doubles.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
cycle = model(
    [helper.make_node("Add", ["image", "f2"], ["f1"])],
    [("image", ("N", 3, 16, 16)), ("f2", features)],
    [("f1", features)],
)
whole_confidence = model(
    [helper.make_node("Cast", ["f1"], ["answer1"], to=7), helper.make_node("Cast", ["f1"], ["confidence1"], to=7)],
    [("f1", features)],
    [("answer1", ("N", 4)), ("confidence1", ("N", 1))],
)
for value in whole_confidence.graph.output:
    value.type.tensor_type.elem_type = TensorProto.INT64

DAMAGES: dict[str, tuple[Damage, str]] = {
    "no package file": (lambda f: (f / "package.toml").unlink(), "package.toml is missing"),
    "not TOML": (edit("format = 1", "format 1"), "is not TOML"),
    "not text": (lambda f: (f / "package.toml").write_bytes(b"\xff\xfe\x00"), "is not TOML"),
    "no format": (edit("format = 1\n", ""), "format is 'missing': this version reads format 1"),
    "newer format": (edit("format = 1", "format = 2"), "format is 2: this version reads format 1"),
    "true format": (edit("format = 1", "format = true"), "format is True"),
    "unknown key": (edit('origin = "', 'colour = "red"\norigin = "'), "unknown field `colour`"),
    "unknown key of an exit": (edit('kind = "', 'colour = "red"\nkind = "'), r"unknown field `colour`.*exits"),
    "missing key": (edit('license = "Apache-2.0"\n', ""), "missing required field `license`"),
    "wrong kind of value": (
        edit('license = "Apache-2.0"', "license = 2"),
        r"Expected `str`, got `int`.*license.*not 2",
    ),
    "name with a slash": (edit('name = "toy"', 'name = "../toy"'), r"name`, not '../toy'"),
    "negative work": (edit("macs = ", "macs = -"), r"`int` >= 0.*segments\[0\].macs`, not -"),
    "hash of another form": (edit('sha256 = "', 'sha256 = "X'), "sha256"),
    "missing file": (lambda f: (f / "head2.onnx").unlink(), "segment 'head2': head2.onnx is missing"),
    "wrong hash": (flip_byte, "segment 'trunk2': trunk2.onnx has SHA-256 .* damaged or exchanged"),
    "truncated": (exchange("head1", b""), "head1.onnx is not an ONNX file"),
    "not ONNX": (exchange("head1", b"<html>not found</html>"), "head1.onnx is not an ONNX file"),
    "no output": (change("head1", no_output), "declares no output"),
    "climbing path": (edit('file = "head1.onnx"', 'file = "../head1.onnx"'), "must be a relative path inside"),
    "absolute path": (edit('file = "head1.onnx"', 'file = "/etc/passwd"'), "must be a relative path inside"),
    "backslash": (edit('file = "head1.onnx"', r'file = "..\\head1.onnx"'), "must be a relative path inside"),
    "link out": (link_out, "is a link to .*outside.onnx: must lie inside"),
    "link to itself": (link_to_itself, "head1.onnx"),
    "folder for a file": (folder_for_file, "is not a regular file"),
    "external weight": (change("head1", put_weight_outside), "lies outside the file"),
    "external constant in a branch": (change("head1", put_constant_outside), "lies outside the file"),
    "weight of 10 GB": (change("head1", grow_weight), "more than the file's .* can hold"),
    "input of 10 GB": (edit("shape = [", "shape = [2684354560, "), "takes .* bytes: must be at most"),
    "empty size": (edit('["N", 3, 16, 16]', '["N", 3, 0, 16]'), "has an empty size"),
    "dtype": (edit('dtype = "float32"', 'dtype = "complex64"'), "'complex64': must be one of"),
    "text tensor": (change("head1", make_text), "'answer1' has element"),
    "sequence": (change("head1", make_sequence), "'answer1' is a sequence, not a tensor: export the model without it"),
    "undeclared shape": (change("head1", undeclare_shape), "is not a tensor of declared shape"),
    "other names": (edit('inputs = ["f1"]', 'inputs = ["f3"]'), r"lists \['f3'\]: must be the same names"),
    "segment twice": (edit('id = "head1"', 'id = "trunk1"'), r"\['trunk1'\] are listed twice"),
    "exit twice": (edit('id = "exit2"', 'id = "exit1"'), r"\['exit1'\] are listed twice"),
    "nobody produces": (edit('name = "image"', 'name = "picture"'), "reads tensor 'image', which no segment produces"),
    "two producers": (
        both(change("trunk2", lambda p: rename_output(p, "f1")), edit('outputs = ["f2"]', 'outputs = ["f1"]')),
        "tensor 'f1' is produced twice, by segment 'trunk1' and segment 'trunk2'",
    ),
    "produces an input": (
        both(change("trunk1", lambda p: rename_output(p, "image")), edit('outputs = ["f1"]', 'outputs = ["image"]')),
        "tensor 'image' is produced twice, by the package inputs and segment 'trunk1'",
    ),
    "cycle": (
        both(exchange("trunk1", cycle), edit('inputs = ["image"]', 'inputs = ["image", "f2"]')),
        "wait for each other: the graph must have no cycle",
    ),
    "dtypes disagree": (exchange("trunk1", doubles), "reads f1 float32.*, but it is produced as f1 float64"),
    "shapes disagree": (
        edit('["N", 3, 16, 16]', '["N", 3, 8, 16]'),
        r"but it is produced as image float32\[N,3,8,16\]",
    ),
    "exit of no segment": (edit('segment = "head1"', 'segment = "tail"'), "has no segment 'tail'"),
    "answer of another segment": (
        edit('answer = "answer1"', 'answer = "answer2"'),
        "'answer2' is no output of segment",
    ),
    "kind": (edit('kind = "regression"', 'kind = "guess"'), "kind is 'guess': must be one of"),
    "no threshold": (edit("threshold = 2.0\n", ""), "confidence and threshold go together"),
    "no confidence": (edit('confidence = "confidence1"\nthreshold = 2.0\n', ""), "only the last exit may lack"),
    "threshold that is none": (edit("threshold = 2.0", "threshold = nan"), "threshold is NaN"),
    "whole-number confidence": (exchange("head1", whole_confidence), "must be a floating-point tensor"),
    "answer names": (edit('names = ["a", ', "names = ["), "must have 3 columns"),
}


def rename_output(proto: Any, name: str) -> None:
    old = proto.graph.output[0].name
    proto.graph.output[0].name = name
    for node in proto.graph.node:
        node.output[:] = [name if made == old else made for made in node.output]


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_with_its_reason(folder: Path, name: str) -> None:
    damage, reason = DAMAGES[name]
    load_package(folder)
    damage(folder)
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    assert re.search(reason, str(caught.value)), caught.value


def test_a_dangling_tensor_and_an_unread_input_are_refused(folder: Path) -> None:
    spare = model(
        [helper.make_node("Relu", ["f1"], ["f2"]), helper.make_node("Neg", ["f1"], ["spare"])],
        [("f1", features)],
        [("f2", features), ("spare", features)],
    )
    both(exchange("trunk2", spare), edit('outputs = ["f2"]', 'outputs = ["f2", "spare"]'))(folder)
    with pytest.raises(PackageError, match="tensor 'spare' of segment 'trunk2' dangles"):
        load_package(folder)


def test_an_input_that_nothing_reads_is_refused(folder: Path) -> None:
    edit("[[inputs]]", '[[inputs]]\nname = "speed"\ndtype = "float32"\nshape = [1]\n\n[[inputs]]')(folder)
    with pytest.raises(PackageError, match="input 'speed' is read by no segment"):
        load_package(folder)


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"pickle")
    with pytest.raises(PackageError, match="does not exist"):
        load_package(tmp_path / "nowhere")
    with pytest.raises(PackageError, match="is no model package"):
        load_package(tmp_path / "model.pt")


@given(data=st.data())
def test_no_bytes_make_the_reader_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "p"
    write_exit_package(folder)
    segment_id = data.draw(st.sampled_from(["trunk1", "head3"]))
    content = bytearray((folder / f"{segment_id}.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    replace_file(folder, segment_id, bytes(content))
    try:
        load_package(folder)
    except PackageError:
        return


@given(data=st.data())
def test_no_text_makes_the_reader_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("fuzz") / "p"
    write_exit_package(folder)
    path = folder / "package.toml"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        content[start : start + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    path.write_bytes(bytes(content))
    try:
        load_package(folder)
    except PackageError:
        return


def test_the_weights_of_a_sound_package_are_where_they_belong(folder: Path) -> None:
    proto = onnx.load_model_from_string((folder / "trunk1.onnx").read_bytes())
    assert np.asarray(onnx.numpy_helper.to_array(proto.graph.initializer[0])).shape == (CHANNELS, 3, 3, 3)
