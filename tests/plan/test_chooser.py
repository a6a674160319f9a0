"""The choice at run time: cheapest that fits, switched when things change, with the reason."""

import math
from dataclasses import replace

import msgspec
import pytest

from runtime.plan.build import place
from runtime.plan.chooser import PlanChooser
from runtime.plan.conditions import Conditions, Way
from runtime.plan.errors import PlanError
from runtime.plan.instance import make_instance
from runtime.plan.plan import Plan, make_plan
from runtime.plan.problem import Cost, Device, Edge, Exit, Link, Model, Problem, Segment
from runtime.plan.schedule import Schedule


def board() -> Problem:
    """A fast hungry device, a slow thrifty one, an edge server behind a link."""
    costs = {"gpu": Cost(2e-3, 3e-3, 0.02), "cpu": Cost(8e-3, 9e-3, 0.01), "edge": Cost(1e-3, 1e-3, 0.0)}
    here = {"gpu": None, "cpu": Cost(0.0), "edge": None}
    segments = (Segment("in", here), Segment("x", costs))
    links = (
        Link("gpu", "cpu"),
        Link("cpu", "edge", rate_bps=8e6, j_per_byte=1e-6, channel="wifi"),
        Link("gpu", "edge", rate_bps=8e6, channel="wifi"),
    )
    model = Model("m", segments, (Edge("in", ("x",), 3000),))
    return Problem("board", tuple(Device(name) for name in ("gpu", "cpu", "edge")), (model,), links)


def plans(problem: Problem) -> list[Plan]:
    instance = make_instance(problem, quantile="p99")
    made = []
    for device in range(3):
        schedule: Schedule | None = place(instance, [1, device], [0, 0, 0], [2.0, 1.0])
        assert schedule is not None
        made.append(make_plan(instance, schedule, "given", 0.0, False))
    return made


@pytest.fixture
def chooser() -> PlanChooser:
    """gpu 3 ms 20 mJ; cpu 9 ms 10 mJ; edge 4 ms 3 mJ."""
    return PlanChooser(board(), plans(board()), settle_s=1.0)


def test_the_cheapest_that_fits(chooser: PlanChooser) -> None:
    choice = chooser.choose(0.0, Conditions(deadline_s=10e-3))
    assert (choice.index, choice.fits, choice.switched) == (2, True, True)
    assert choice.p99_s == pytest.approx(4e-3)
    assert "plan 3, 3 mJ, p99 4 ms" in choice.reason
    again = chooser.choose(0.1, Conditions(deadline_s=10e-3))
    assert (again.index, again.switched) == (2, False)


def test_a_slower_link_switches_at_once_and_back_only_when_it_has_held(chooser: PlanChooser) -> None:
    chooser.choose(0.0, Conditions(deadline_s=10e-3))
    slow = chooser.choose(1.0, Conditions(deadline_s=10e-3, ways={"edge": Way(1e6)}))
    assert (slow.index, slow.switched) == (1, True)
    assert "the link to edge is at 1 Mbit/s (was the planned rate)" in slow.reason
    assert "plan 3 has p99 25 ms" in slow.reason
    for now_s, index in ((2.0, 1), (2.9, 1), (3.0, 2)):
        assert chooser.choose(now_s, Conditions(deadline_s=10e-3)).index == index


def test_a_plan_that_only_just_fits_is_not_switched_to(chooser: PlanChooser) -> None:
    tight = Conditions(deadline_s=9.2e-3, ways={"edge": Way(2.9e6)})  # edge takes 9.28 ms
    assert chooser.choose(0.0, tight).index == 1
    nearly = Conditions(deadline_s=9.2e-3, ways={"edge": Way(3.1e6)})  # 8.74 ms: fits without margin
    assert [chooser.choose(time_s, nearly).index for time_s in (1.0, 5.0)] == [1, 1]


def test_heat_and_load(chooser: PlanChooser) -> None:
    off = frozenset({"edge"})
    assert chooser.choose(0.0, Conditions(deadline_s=10e-3, lost=off)).index == 1
    hot = chooser.choose(1.0, Conditions(deadline_s=10e-3, lost=off, slowdown={"cpu": 1.5}))
    assert hot.index == 0
    assert "cpu takes 1.5 times as long (was 1)" in hot.reason


def test_a_lost_device(chooser: PlanChooser) -> None:
    chooser.choose(0.0, Conditions(deadline_s=10e-3))
    lost = chooser.choose(0.5, Conditions(deadline_s=10e-3, lost=frozenset({"edge"})))
    assert (lost.index, lost.switched) == (1, True)
    assert "edge is lost: plan 3 can't run" in lost.reason
    none = chooser.choose(0.6, Conditions(lost=frozenset({"cpu"})))
    assert (none.index, none.p99_s, none.fits) == (None, math.inf, False)
    assert none.reason == "every plan needs a lost device: cpu lost"


def test_a_deadline_that_none_keeps_gets_the_fastest_and_is_told(chooser: PlanChooser) -> None:
    choice = chooser.choose(0.0, Conditions(deadline_s=1e-3))
    assert (choice.index, choice.fits) == (0, False)
    assert "no plan keeps the deadline of 1 ms, the fastest is plan 1" in choice.reason


def test_a_plan_of_another_problem(chooser: PlanChooser) -> None:
    other = replace(plans(board())[0], placement={"m": {"in": "cpu", "x": "tpu"}})
    with pytest.raises(PlanError, match="not of problem 'board'"):
        PlanChooser(board(), [other])
    with pytest.raises(PlanError, match="no plan"):
        PlanChooser(board(), [])


def test_a_lost_device_switches_at_once_where_there_is_no_deadline(chooser: PlanChooser) -> None:
    assert chooser.choose(0.0, Conditions()).index == 2
    choice = chooser.choose(0.1, Conditions(lost=frozenset({"edge"})))
    assert (choice.index, choice.switched) == (1, True)
    assert "edge is lost" in choice.reason


def test_waits_and_the_reply_count_with_every_plan(chooser: PlanChooser) -> None:
    assert chooser.choose(0.0, Conditions(deadline_s=10e-3)).index == 2
    waiting = chooser.choose(1.0, Conditions(deadline_s=10e-3, waits_s={"edge": 7e-3}))
    assert waiting.index == 1
    assert waiting.p99_s == pytest.approx(9e-3)
    assert "requests wait 7 ms for edge (was 0): plan 3 has p99 11 ms" in waiting.reason
    late = chooser.choose(2.0, Conditions(deadline_s=10e-3, waits_s={"edge": 7e-3}, reply_s=2e-3))
    assert late.index == 0
    assert late.p99_s == pytest.approx(5e-3)
    assert "replies take 2 ms to get out (was 0)" in late.reason


def test_what_is_to_be_avoided_is_left_where_there_is_a_choice(chooser: PlanChooser) -> None:
    hot = Conditions(deadline_s=10e-3, avoid={"edge": "it burns"})
    choice = chooser.choose(0.0, hot)
    assert (choice.index, choice.fits) == (1, True)
    assert chooser.looks[2].against == "edge is to be avoided: it burns"
    assert not chooser.looks[2].fits
    forced = chooser.choose(
        1.0, replace(hot, lost=frozenset({"gpu"}), avoid=dict.fromkeys(("cpu", "edge"), "it burns"))
    )
    assert forced.index == 2
    assert "although cpu is to be avoided: it burns and edge is to be avoided" in forced.reason
    assert [math.isinf(look.p99_s) for look in chooser.looks] == [True, False, False]


def test_a_plan_to_be_avoided_is_left_at_once(chooser: PlanChooser) -> None:
    assert chooser.choose(0.0, Conditions()).index == 2
    choice = chooser.choose(0.1, Conditions(avoid={"edge": "it burns"}))
    assert (choice.index, choice.switched) == (1, True)
    assert choice.reason.startswith("edge: it burns: plan 3 is left, as edge is to be avoided")


def test_of_late_plans_another_must_be_faster_by_the_margin(chooser: PlanChooser) -> None:
    base = Conditions(deadline_s=1e-3)
    assert chooser.choose(0.0, base).index == 0  # 3 ms, the edge 4
    near = replace(base, slowdown={"gpu": 1.4})  # 4.2 ms
    assert [chooser.choose(time_s, near).index for time_s in (1.0, 3.0)] == [0, 0]
    far = replace(base, slowdown={"gpu": 1.6})  # 4.8 ms
    assert [chooser.choose(time_s, far).index for time_s in (4.0, 4.5, 5.0)] == [0, 0, 2]


def test_the_reason_tells_what_changed_since_the_last_switch(chooser: PlanChooser) -> None:
    chooser.choose(0.0, Conditions(deadline_s=10e-3))
    chooser.choose(1.0, Conditions(deadline_s=10e-3, slowdown={"edge": 1.2}))
    choice = chooser.choose(
        2.0, Conditions(deadline_s=10e-3, slowdown={"edge": 1.2, "gpu": 3.0}, ways={"edge": Way(2e6)})
    )
    assert (
        "edge takes 1.2 times as long (was 1), the link to edge is at 2 Mbit/s (was the planned rate)" in choice.reason
    )
    assert "gpu" not in choice.reason  # neither plan uses it
    assert "the deadline" not in choice.reason  # it was so at the last switch


def early(problem: Problem) -> tuple[Problem, list[Plan]]:
    """Return a chain with an exit on the way, and a plan to each exit."""
    exits = (Exit("first", "in", 0.5, 0.9), Exit("last", "x", 0.5, 1.0))
    model = msgspec.structs.replace(problem.models[0], exits=exits)
    given = msgspec.structs.replace(problem, models=(model,))
    made = []
    for last in (0, 1):
        instance = make_instance(given, (last,), "p99")
        schedule = place(instance, [1, 1][: last + 1], [0, 0, 0], [2.0, 1.0])
        assert schedule is not None
        made.append(make_plan(instance, schedule, "given", 0.0, False))
    return given, made


def test_a_plan_goes_as_deep_as_requests_want() -> None:
    chooser = PlanChooser(*early(board()))
    assert chooser.choose(0.0, Conditions()).index == 0
    deeper = chooser.choose(1.0, Conditions(least_exits={"m": "last"}))
    assert deeper.index == 1
    assert (
        "requests to m want last at least: plan 1 is left, as m ends at 'first', and 'last' is asked" in deeper.reason
    )
    assert chooser.choose(2.0, Conditions(least_exits={"m": "unknown"})).index == 1
    assert chooser.choose(4.0, Conditions()).index == 0
