"""Schedules of a mix: the independent check, and small mixes against every schedule there is."""

from dataclasses import replace
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.chiplet.package import DRAM_BYTES_PER_S, Package, make_package
from devices.chiplet.tables import load_table
from runtime.plan.chiplet.check import check_schedule, part_figures
from runtime.plan.chiplet.mix import Mix, Part, Schedule, Segment, Window, Work
from runtime.plan.chiplet.search import Effort, choose_window, schedule_alone, schedule_mix
from runtime.plan.chiplet.segments import Option
from runtime.plan.errors import PlanError, ScheduleError
from tests.chiplet.mixes import mixes, packages

OneWay = tuple[float, float, dict[str, float], frozenset[int]]
SMALL = Mix(
    "small",
    (
        Work("images", load_table("mobilenet_v2")[:12], 4),
        Work("words", load_table("bert_base")[:7], 1),
    ),
)


def every_part(package: Package, work: Work) -> list[OneWay]:
    """Return latency, energy, bytes at the memory sides and chiplets of every way to run a model in one window."""
    ways: list[OneWay] = []
    size = len(work.layers)
    divisors = [n for n in range(1, work.batch + 1) if work.batch % n == 0]
    for count in range(1, min(size, len(package.chiplets)) + 1):
        for cuts in combinations(range(1, size), count - 1):
            ends = (*cuts, size)
            for row in permutations(range(len(package.chiplets)), count):
                segments = tuple(map(Segment, (0, *cuts), ends, row))
                for minibatch in divisors:
                    sides = {"left": 0.0, "right": 0.0}
                    figures = part_figures(package, work, Part(0, minibatch, segments, 0.0, 0.0), sides)
                    ways.append((*figures, sides, frozenset(row)))
    return ways


def least_product(package: Package, mix: Mix) -> float:
    """Return the least energy-delay product of all schedules of one window."""
    ways = [every_part(package, work) for work in mix.works]
    best = float("inf")
    for one in ways[0]:
        for other in ways[1] if len(ways) > 1 else [(0.0, 0.0, {"left": 0.0, "right": 0.0}, frozenset[int]())]:
            if one[3] & other[3]:
                continue
            side = max(one[2][name] + other[2][name] for name in ("left", "right"))
            latency_s = max(one[0], other[0], side / DRAM_BYTES_PER_S)
            best = min(best, latency_s * (one[1] + other[1]))
    return best


@settings(max_examples=25)
@given(package=packages(), mix=mixes())
def test_small_mixes_are_scheduled_as_well_as_possible(package: Package, mix: Mix) -> None:
    found = schedule_mix(package, mix, Effort(windows=1, steps=250))
    least = least_product(package, mix)
    assert found.edp_js >= least * (1.0 - 1e-9)
    assert found.edp_js <= 1.0005 * least


@settings(max_examples=25)
@given(package=packages(2, 3), mix=mixes(3, 6), windows=st.integers(1, 3))
def test_every_schedule_passes_the_check_and_repeats(package: Package, mix: Mix, windows: int) -> None:
    effort = Effort(windows=windows, steps=20)
    found = schedule_mix(package, mix, effort)
    check_schedule(package, mix, found)
    assert schedule_mix(package, mix, effort) == found


def planned() -> tuple[Package, Schedule]:
    package = make_package("checkerboard", 2, 2, 256)
    return package, schedule_mix(package, SMALL, Effort(windows=2, steps=40))


def changed(schedule: Schedule, **more: object) -> Schedule:
    """Return the schedule with other figures in its first part."""
    window = schedule.windows[0]
    part = replace(window.parts[0], **more)  # type: ignore[arg-type]
    return Schedule((replace(window, parts=(part, *window.parts[1:])), *schedule.windows[1:]))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"latency_s": 1e-9}, "latency is claimed"),
        ({"energy_j": 1e-9}, "energy is claimed"),
        ({"minibatch": 3}, "doesn't divide"),
        ({"work": 7}, "no model 7"),
        ({"segments": (Segment(1, 12, 0),)}, "don't follow 0"),
        ({"segments": (Segment(0, 13, 0),)}, "don't follow 0"),
        ({"segments": (Segment(0, 6, 0), Segment(6, 12, 0))}, "used twice"),
        ({"segments": (Segment(0, 12, 9),)}, "not there"),
    ],
)
def test_the_check_refuses_a_wrong_part(more: dict[str, object], said: str) -> None:
    package, schedule = planned()
    with pytest.raises(ScheduleError, match=said):
        check_schedule(package, SMALL, changed(schedule, **more))


def test_the_check_refuses_missing_layers_and_short_windows() -> None:
    package, schedule = planned()
    with pytest.raises(ScheduleError, match="layers are scheduled"):
        check_schedule(package, SMALL, Schedule(()))
    short = Window(schedule.windows[0].parts, schedule.windows[0].latency_s / 2)
    with pytest.raises(ScheduleError, match="window 0: latency"):
        check_schedule(package, SMALL, Schedule((short, *schedule.windows[1:])))


def test_a_side_of_the_memory_bounds_a_window() -> None:
    """Many models that only read: together they need the memory for longer than any of them."""
    heavy = load_table("vgg16")[13:14]  # 103 MB of weights, one sample
    mix = Mix("readers", tuple(Work(f"reader{i}", heavy, 1) for i in range(4)))
    schedule = schedule_mix(make_package("ws", 2, 2, 4096), mix, Effort(windows=1, steps=0))
    longest = max(part.latency_s for part in schedule.windows[0].parts)
    assert schedule.latency_s > 1.5 * longest


def test_two_dataflows_are_never_worse_than_one_of_them_on_a_chiplet_each() -> None:
    """One model that is better in parts on either: a package with both takes both."""
    mix = Mix("googlenet", (Work("googlenet", load_table("googlenet"), 1),))
    effort = Effort(windows=1, steps=60)
    products = {p: schedule_mix(make_package(p, 1, 2, 256), mix, effort).edp_js for p in ("ws", "os", "checkerboard")}
    assert products["checkerboard"] < min(products["ws"], products["os"])


def option(latency_s: float, energy_j: float) -> Option:
    return Option(1, 0, (1,), latency_s, energy_j, (0.0,))


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ((0.0, 0.0), (1.2, 3.0)),  # alone: 1.0 x (9 + 1), 1.2 x (2 + 1)
        ((0.0, 100.0), (1.0, 10.0)),  # others draw so much that only time counts
        ((100.0, 0.0), (2.0, 2.5)),  # others take so long that only energy counts
    ],
)
def test_a_window_takes_the_cuts_of_least_product(rest: tuple[float, float], expected: tuple[float, float]) -> None:
    package = make_package("ws", 1, 2, 256)
    options: dict[int, tuple[Option, ...]] = {
        0: (option(1.0, 9.0), option(1.2, 2.0), option(2.0, 1.9)),
        1: (option(0.5, 4.0), option(0.9, 1.0), option(1.9, 0.6)),
    }
    rows: dict[int, tuple[int, ...]] = {0: (0,), 1: (1,)}
    window = choose_window(package, rows, options, *rest)
    assert (window.latency_s, sum(part.energy_j for part in window.parts)) == pytest.approx(expected)


def test_a_monolithic_chiplet_runs_the_models_one_after_another() -> None:
    schedule = schedule_alone(make_package("monolithic-ws", 2, 2, 256), SMALL)
    assert [len(window.parts) for window in schedule.windows] == [1, 1]


def test_more_models_than_chiplets_are_refused_with_the_numbers() -> None:
    with pytest.raises(PlanError, match="2 models side by side need as many chiplets, ws has 1"):
        schedule_mix(make_package("ws", 1, 1, 256), SMALL)


def test_a_mix_refuses_two_models_of_one_name() -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Mix("twice", (SMALL.works[0], SMALL.works[0]))
