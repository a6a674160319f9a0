"""A pipeline on chiplets: its period, its check, and short rows against every way to cut them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.chiplet.layer import Layer
from devices.chiplet.package import Package, make_package
from runtime.plan.chiplet.mix import Mix, Work
from runtime.plan.chiplet.mixes import FROM_MEMORY, car_mix
from runtime.plan.chiplet.pipeline import Pipeline, Share, check_pipeline, period, pipeline_mix, row_of
from runtime.plan.errors import PlanError, ScheduleError
from tests.chiplet.mixes import layers


def least_period_s(package: Package, mix: Mix) -> float:
    """Return the least period over all cuts of the row into runs of one chiplet each and layers cut by rows."""
    row = row_of(mix, ())
    size, count = len(row.layers), len(package.chiplets)
    best = float("inf")

    def extend(shares: tuple[Share, ...], at: int, used: int) -> None:
        nonlocal best
        if at == size:
            best = min(best, period(package, row, shares))
            return
        for end in range(at + 1, size + 1):
            if used < count:
                extend((*shares, Share(at, end, (used,))), end, used + 1)
        for shards in range(2, count - used + 1):
            extend((*shares, Share(at, at + 1, tuple(range(used, used + shards)))), at + 1, used + shards)

    extend((), 0, 0)
    return best


@settings(max_examples=30)
@given(row=st.lists(layers(), min_size=1, max_size=5), flow=st.sampled_from(("ws", "os")))
def test_short_rows_are_cut_as_well_as_possible(row: list[Layer], flow: str) -> None:
    mix = Mix("row", (Work("row", tuple(row)),))
    package = make_package(flow, 1, 3, 256)
    found = pipeline_mix(package, mix, ())
    assert found.period_s <= least_period_s(package, mix) * (1.0 + 1e-6)


@settings(max_examples=15)
@given(row=st.lists(layers(), min_size=1, max_size=6), pattern=st.sampled_from(("ws", "os", "checkerboard", "sides")))
def test_more_chiplets_are_never_slower(row: list[Layer], pattern: str) -> None:
    mix = Mix("row", (Work("row", tuple(row)),))
    periods = [pipeline_mix(make_package(pattern, 1, n, 256), mix, ()).period_s for n in (3, 6)]
    # every way is counted at the mesh's longest, 35 ns a hop
    assert periods[1] <= periods[0] + 3 * 35e-9 + 1e-12


def test_a_mixed_package_uses_both_kinds() -> None:
    early = Layer("early", "conv", 8, 1, 3, 3, 64, 64)
    late = Layer("late", "gemm", 256, 256, 1, 1, 8, 1)
    mix = Mix("both", (Work("both", (early, late)),))
    period_s = {p: pipeline_mix(make_package(p, 1, 2, 256), mix, ()).period_s for p in ("ws", "os", "checkerboard")}
    assert period_s["checkerboard"] < 0.5 * min(period_s["ws"], period_s["os"])


def test_the_car_on_chiplets_is_faster_than_on_one_large_chip() -> None:
    packages = {p: make_package(p, 6, 6, 256) for p in ("os", "monolithic-os", "monolithic-ws")}
    many = pipeline_mix(packages["os"], car_mix(), FROM_MEMORY)
    whole = [pipeline_mix(packages[p], car_mix(), FROM_MEMORY) for p in ("monolithic-os", "monolithic-ws")]
    tall = pipeline_mix(packages["monolithic-os"], car_mix(side_by_side=True), FROM_MEMORY)
    assert many.throughput_hz > 1.8 * max(made.throughput_hz for made in (*whole, tall))
    assert many.utilisation > 1.8 * max(made.utilisation for made in (*whole, tall))


MIX = Mix("row", (Work("row", tuple(Layer(f"l{i}", "conv", 16, 16, 3, 3, 16, 16) for i in range(4))),))


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((Share(0, 2, (0,)), Share(2, 3, (1,))), "3 of 4 layers"),
        ((Share(0, 2, (0,)), Share(3, 4, (1,))), "don't follow 2"),
        ((Share(0, 2, (0,)), Share(2, 4, (0,))), "used twice"),
        ((Share(0, 4, (9,)),), "not there"),
        ((Share(0, 4, (0, 1)),), "only a single layer"),
        ((Share(0, 4, (0,)),), "chiplet 0 works"),
    ],
)
def test_the_check_refuses_a_wrong_pipeline(shares: tuple[Share, ...], said: str) -> None:
    package = make_package("ws", 1, 2, 256)
    made = pipeline_mix(package, MIX, ())
    with pytest.raises(ScheduleError, match=said):
        check_pipeline(package, MIX, (), Pipeline(shares, made.period_s, 0.1))
    check_pipeline(package, MIX, (), made)
    with pytest.raises(ScheduleError, match="works"):
        check_pipeline(package, MIX, (), replace(made, period_s=0.9 * made.period_s))


def test_a_side_of_the_memory_bounds_the_frames() -> None:
    """Frames that take longer to fetch than to compute on: four chiplets share two sides."""
    light = Layer("light", "conv", 1, 64, 1, 1, 100, 100, 4)
    mix = Mix("frames", (Work("frames", (light,), 4),))
    package = make_package("ws", 2, 2, 4096)
    made = pipeline_mix(package, mix, ("frames",))
    assert made.period_s == pytest.approx(2 * light.input_bytes / 64e9)
    with pytest.raises(ScheduleError, match="a memory side moves"):
        check_pipeline(package, mix, ("frames",), replace(made, period_s=0.7 * made.period_s))


def test_weights_that_no_package_holds_are_refused() -> None:
    heavy = Layer("heavy", "gemm", 4000, 4000, 1, 1, 1, 1)
    mix = Mix("heavy", (Work("heavy", (heavy,) * 3),))
    with pytest.raises(PlanError, match="doesn't fit on ws"):
        pipeline_mix(make_package("ws", 1, 2, 256), mix, ())
