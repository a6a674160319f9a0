"""The mesh, the patterns and the shipped layer tables."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.chiplet.package import PATTERNS, Package, make_package
from devices.chiplet.tables import TableError, load_table, shipped, source

# multiply-accumulates of one 224 x 224 picture as their papers and torchvision's own table of models give them [1e9]
PUBLISHED_GMACS = {
    "resnet50": 4.09,
    "googlenet": 1.50,
    "vgg16": 15.47,
    "mobilenet_v2": 0.30,
    "mobilenet_v3_large": 0.22,
    "efficientnet_b0": 0.39,
    "densenet121": 2.83,
    "regnet_x_800mf": 0.80,
}


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), data=st.data())
def test_hops_are_the_least_number_of_links(rows: int, columns: int, data: st.DataObject) -> None:
    package = make_package("ws", rows, columns, 256)
    start = data.draw(st.integers(0, rows * columns - 1))
    reached, edge, steps = {start}, {start}, 0
    while edge:
        for chiplet in edge:
            assert package.hops(start, chiplet) == package.hops(chiplet, start) == steps
        edge = {other for chiplet in edge for other in package.neighbours(chiplet)} - reached
        reached |= edge
        steps += 1
    assert len(reached) == rows * columns


@given(columns=st.integers(1, 6))
def test_memory_is_reached_by_the_nearer_side(columns: int) -> None:
    package = make_package("ws", 1, columns, 256)
    for chiplet in range(columns):
        left, right = chiplet + 1, columns - chiplet
        assert package.memory_hops(chiplet) == min(left, right)
        assert package.side(chiplet) == ("left" if left <= right else "right")


def flows(package: Package) -> str:
    return "".join("o" if chiplet.dataflow == "os" else "w" for chiplet in package.chiplets)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("ws", "wwwwwwwww"),
        ("os", "ooooooooo"),
        ("checkerboard", "wowowowow"),
        ("sides", "owoowoowo"),
        ("centre", "wowwowwow"),
        ("one", "wwwwowwww"),
        ("monolithic-ws", "w"),
        ("monolithic-os", "o"),
    ],
)
def test_patterns(pattern: str, expected: str) -> None:
    package = make_package(pattern, 3, 3, 256, 1000)
    assert flows(package) == expected
    assert sum(chiplet.pes for chiplet in package.chiplets) == 9 * 256
    assert sum(chiplet.l2_bytes for chiplet in package.chiplets) == 9 * 1000
    assert pattern in PATTERNS


def test_an_unknown_pattern_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"pattern 'stripes': one of ws, os"):
        make_package("stripes", 3, 3, 256)


def test_chiplets_must_fill_the_mesh() -> None:
    one = make_package("ws", 1, 1, 256).chiplets
    with pytest.raises(ValueError, match="1 chiplets don't fill 2 x 2"):
        Package("odd", 2, 2, one)


@pytest.mark.parametrize("name", PUBLISHED_GMACS)
def test_tables_have_the_published_work(name: str) -> None:
    macs = sum(layer.macs for layer in load_table(name))
    assert macs / 1e9 == pytest.approx(PUBLISHED_GMACS[name], abs=0.006)


@pytest.mark.parametrize(
    ("name", "weights"),
    # 12 width² a layer: four of attention, eight of the feed-forward layers; unet without its biases
    [
        ("bert_base", 12 * 12 * 768**2),
        ("bert_large", 24 * 12 * 1024**2),
        ("gpt2_large", 36 * 12 * 1280**2),
        ("unet", 31_023_808),
    ],
)
def test_tables_have_the_networks_weights(name: str, weights: int) -> None:
    assert sum(layer.weight_bytes for layer in load_table(name)) == weights


def test_every_table_loads_and_says_where_it_is_from() -> None:
    assert len(shipped()) >= 18
    for name in shipped():
        assert load_table(name)
        assert "made by examples/chiplet_tables.py" in source(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,kind,k,c,r,s,y,x,stride,copies\n", "has no layers"),
        ("name,kind,k,c,r,s,y,x,stride,copies\na,pool,1,1,1,1,1,1,1,1\n", "row 1: kind 'pool'"),
        ("name,kind,k,c,r,s,y,x,stride,copies\na,conv,0,1,1,1,1,1,1,1\n", "row 1: .*k is 0"),
        ("name,kind,k,c,r,s,y,x,stride,copies\na,conv,x,1,1,1,1,1,1,1\n", "row 1: .*'x'"),
        ("name,kind,k\na,conv,1\n", "row 1: 'c'"),
        ("name,kind,k,c,r,s,y,x,stride,copies\na,conv,1,1\n", "row 1:"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(TableError, match=said):
        load_table(str(tmp_path / "own.csv"))


def test_a_missing_table_is_refused_with_the_shipped_ones() -> None:
    with pytest.raises(TableError, match="no layer table 'resnet51': shipped are bert_base"):
        load_table("resnet51")
