"""P and I: what fits a network and what is refused."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("torch")

from runtime.pack.width import WidthError, WidthPlan, make_plan
from runtime.pack.width.plan import groups, split_units, stage_ends
from tests.runtime.pack_width.nets import FAMILIES, graph

SHARES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5).map(lambda raw: [x / sum(raw) for x in raw])


@given(SHARES, st.integers(1, 200))
def test_units_are_shared_out_whole_and_nearly_as_asked(shares: list[float], units: int) -> None:
    assume(units >= len(shares))
    counts = split_units(shares, units)
    assert sum(counts) == units
    assert min(counts) >= 1
    if all(share * units >= 1.0 for share in shares):
        assert all(abs(count - share * units) <= 1.0 + 1e-9 for count, share in zip(counts, shares, strict=True))


def test_equal_shares_of_a_divisible_width_are_equal() -> None:
    assert split_units((0.5, 0.25, 0.25), 48) == (24, 12, 12)
    assert split_units((1 / 3, 1 / 3, 1 / 3), 48) == (16, 16, 16)


def test_fewer_units_than_stages_are_refused() -> None:
    with pytest.raises(WidthError, match="4 channels \\(or heads\\) cannot be split over 5 stages"):
        split_units((0.2,) * 5, 4)


@pytest.mark.parametrize(
    ("shares", "reuse"),
    [
        (((0.5, 0.5), (0.5, 0.4)), ((True, True), (True, True))),
        (((1.5,), (-0.5,)), ((True,), (True,))),
        (((1.0,), (0.0,)), ((True,), (True,))),
        (((float("nan"),), (0.5,)), ((True,), (True,))),
        (((0.5, 0.5), (0.5,)), ((True, True), (True,))),
        (((0.5,), (0.5,)), ((True,),)),
        ((), ()),
    ],
)
def test_bad_tables_are_refused(shares: tuple[tuple[float, ...], ...], reuse: tuple[tuple[bool, ...], ...]) -> None:
    with pytest.raises(WidthError, match="P"):
        WidthPlan(shares, reuse)


def test_columns_that_a_residual_adds_must_be_split_alike() -> None:
    resnet = graph("resnet")
    plan = make_plan(resnet, (0.5, 0.5))
    shares = [list(row) for row in plan.shares]
    tied = resnet.columns.index("layer1.0")
    shares[0][tied], shares[1][tied] = 0.25, 0.75
    wrong = WidthPlan(tuple(tuple(row) for row in shares), plan.reuse)
    with pytest.raises(WidthError, match="added to each other"):
        wrong.check(resnet)


def test_a_space_may_have_shares_of_its_own() -> None:
    resnet = graph("resnet")
    plan = make_plan(resnet, (0.5, 0.5), spaces={"layer2.0.conv1": (0.75, 0.25)})
    assert stage_ends(resnet, plan)["layer2.0.conv1"] == (0, 9, 12)
    assert stage_ends(resnet, plan)["conv1"] == (0, 4, 8)


def test_a_head_is_never_parted() -> None:
    vit = graph("vit")
    assert stage_ends(vit, make_plan(vit, (0.6, 0.4)))["layers.0.query"] == (0, 12, 24)  # 2 and 2 heads of 6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("exchanges", [0, 1, 3, 4])
def test_as_many_exchanges_as_asked_part_the_layers_into_groups(family: str, exchanges: int) -> None:
    known = graph(family)
    plan = make_plan(known, (0.5, 0.5), exchanges=exchanges)
    assert len(plan.exchanges) == exchanges
    numbers = groups(known, plan)
    assert list(numbers) == sorted(numbers)
    assert exchanges == 0 or plan.exchanges[-1] == len(known.columns) - 1


def test_one_stage_exchanges_nothing() -> None:
    assert make_plan(graph("vgg"), (1.0,), exchanges=None).exchanges == ()


def test_there_are_no_more_exchanges_than_columns() -> None:
    assert make_plan(graph("vgg"), (0.5, 0.5), exchanges=99).exchanges == (0, 1, 2, 3)


def test_unknown_names_and_bad_numbers_are_told() -> None:
    known = graph("vgg")
    with pytest.raises(WidthError, match="nowhere"):
        make_plan(known, (0.5, 0.5), at=["nowhere"])
    with pytest.raises(WidthError, match="-1 exchanges"):
        make_plan(known, (0.5, 0.5), exchanges=-1)
    with pytest.raises(WidthError, match="needs 2 shares"):
        make_plan(known, (0.5, 0.5), spaces={"features.0": (1.0,)})
    with pytest.raises(WidthError, match="columns"):
        stage_ends(graph("resnet"), make_plan(known, (0.5, 0.5)))
