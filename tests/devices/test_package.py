"""What a sound package is: written, read back, walked."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from devices.package import Exit, ExitKind, PackageError, SegmentSource, load_package, write_package
from devices.package.macs import count_macs
from devices.package.toml import dump_toml
from tests.models import CHANNELS, COLUMNS, exit_segments, exits, model, write_exit_package


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    written = write_exit_package(tmp_path / "toy" / "1")
    package = load_package(str(tmp_path / "toy" / "1"))
    assert package == written
    assert (package.name, package.version, package.license) == ("toy", "1", "Apache-2.0")
    assert [str(spec) for spec in package.inputs] == ["image float32[N,3,16,16]"]
    assert package.exit("exit1") == Exit("exit1", "head1", "answer1", "confidence1", ExitKind.REGRESSION, 2.0)
    assert package.answer_names == ("a", "b", "c", "d")
    assert sorted(path.name for path in (tmp_path / "toy").iterdir()) == ["1"]


def test_exits_need_only_what_their_answers_depend_on(tmp_path: Path) -> None:
    package = write_exit_package(tmp_path / "p")
    assert package.needed("exit2") == ("trunk1", "trunk2", "head2")
    assert [(e.id, added) for e, added in package.walk()] == [
        ("exit1", ("trunk1", "head1")),
        ("exit2", ("trunk2", "head2")),
        ("exit3", ("trunk3", "head3")),
    ]
    assert package.walk(2)[0][1] == ("trunk1", "trunk2", "trunk3", "head3")


def test_macs_are_counted_from_the_operators(tmp_path: Path) -> None:
    package = write_exit_package(tmp_path / "p")
    trunk1, deeper, head = 16 * 16 * 9 * 3 * CHANNELS, 16 * 16 * 9 * CHANNELS * CHANNELS, CHANNELS * (COLUMNS + 1)
    assert package.segment("trunk1").macs == trunk1
    assert package.macs_to("exit1") == trunk1 + head
    assert package.macs_to("exit3") == trunk1 + 2 * deeper + 3 * head
    assert package.mac_share("exit1") == (trunk1 + head) / (trunk1 + 2 * deeper + 3 * head)
    assert package.mac_share("exit3") == 1.0


def test_macs_of_transposed_and_grouped_operators() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], group=4, kernel_shape=[3, 3]),
        helper.make_node("ConvTranspose", ["y", "v"], ["z"]),
        helper.make_node("Flatten", ["z"], ["f"]),
        helper.make_node("Gemm", ["g", "f"], ["out"], transA=1, transB=1),
    ]
    weights = {
        "w": np.zeros((8, 1, 3, 3), np.float32),
        "v": np.zeros((8, 2, 2, 2), np.float32),
        "g": np.zeros((2 * 4 * 4, 5), np.float32),
    }
    proto = model(nodes, [("x", (1, 4, 5, 5))], [("out", (5, 1))], weights)
    assert count_macs(proto) == 8 * 3 * 3 * 9 + 8 * 3 * 3 * 2 * 2 * 2 + 5 * 2 * 4 * 4


def test_a_plain_onnx_file_is_a_package_of_one_segment(tmp_path: Path) -> None:
    path = tmp_path / "whole.onnx"
    path.write_bytes(exit_segments()[1].SerializeToString())
    package = load_package(path)
    assert (package.name, package.version) == ("whole", "0")
    assert [segment.id for segment in package.segments] == ["whole"]
    assert package.exits == (Exit("final", "whole", "answer3"),)
    assert package.model("whole") == path.read_bytes()


def test_segments_may_be_listed_in_any_order(tmp_path: Path) -> None:
    sources = [SegmentSource(name, proto) for name, proto in exit_segments()[0].items()]
    package = write_package(tmp_path / "p", name="p", version="1", segments=sources[::-1], exits=exits())
    ids = [segment.id for segment in package.segments]
    assert ids.index("trunk1") < ids.index("trunk2") < ids.index("trunk3") < ids.index("head3")


def test_an_exit_hands_out_what_its_segment_makes_for_nobody_else(tmp_path: Path) -> None:
    both = model(
        [
            helper.make_node("Relu", ["x"], ["f"]),
            helper.make_node("Neg", ["x"], ["n"]),
            helper.make_node("Abs", ["x"], ["a"]),
        ],
        [("x", (1, 4))],
        [("f", (1, 4)), ("n", (1, 4)), ("a", (1, 4))],
    )
    last = model([helper.make_node("Exp", ["f"], ["e"])], [("f", (1, 4))], [("e", (1, 4))])
    package = write_package(
        tmp_path / "p",
        name="p",
        version="1",
        segments=[SegmentSource("both", both), SegmentSource("last", last)],
        exits=[Exit("first", "both", "n", "n", threshold=9.0), Exit("final", "last", "e")],
    )
    assert set(package.exit_outputs("first")) == {"n", "a"}
    assert package.exit_outputs("final") == ("e",)


def test_rewriting_replaces_the_package(tmp_path: Path) -> None:
    first = write_exit_package(tmp_path / "p", version="1")
    second = write_exit_package(tmp_path / "p", version="2")
    assert load_package(tmp_path / "p").version == "2"
    assert first.digest != second.digest
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_nothing_else_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "thesis.txt").write_text("the only copy")
    with pytest.raises(PackageError, match="is no model package"):
        write_exit_package(tmp_path / "p")
    assert (tmp_path / "p" / "thesis.txt").read_text() == "the only copy"


def test_a_package_that_would_not_load_is_not_left_behind(tmp_path: Path) -> None:
    sources = [SegmentSource(name, proto) for name, proto in exit_segments()[0].items()]
    with pytest.raises(PackageError, match="leads to no exit"):
        write_package(tmp_path / "p", name="p", version="1", segments=sources, exits=exits()[:2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ask", ["segment", "exit", "needed", "macs_to", "exit_index"])
def test_unknown_names_are_answered_with_the_known_ones(tmp_path: Path, ask: str) -> None:
    package = write_exit_package(tmp_path / "p")
    with pytest.raises(KeyError, match=r"has no (segment|exit) 'none': one of \['(trunk|exit)1'"):
        getattr(package, ask)("none")


def test_a_segment_exchanged_after_loading_is_noticed(tmp_path: Path) -> None:
    package = write_exit_package(tmp_path / "p")
    (tmp_path / "p" / "head1.onnx").write_bytes((tmp_path / "p" / "head2.onnx").read_bytes())
    with pytest.raises(PackageError, match="damaged or exchanged"):
        package.model("head1")


plain = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(st.characters(codec="utf-8"))
)
values = st.one_of(plain, st.lists(plain, max_size=3))
tables = st.recursive(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), values, max_size=4),
    lambda inner: st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=8),
        st.one_of(
            values, inner, st.lists(inner, min_size=1, max_size=2), st.lists(st.one_of(plain, inner), max_size=3)
        ),
        max_size=4,
    ),
    max_leaves=12,
)


@given(tables)
def test_toml_reads_back_as_written(table: dict[str, Any]) -> None:
    assert tomllib.loads(dump_toml(table)) == table


def test_toml_refuses_what_it_has_no_word_for() -> None:
    with pytest.raises(TypeError, match="is a NoneType"):
        dump_toml({"x": None})
