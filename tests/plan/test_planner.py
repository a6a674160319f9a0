"""The planner as a whole: Pareto sets, exits, levels, periods, deadlines, memories, fall-backs."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from runtime.plan.bounds import lower_bound_s
from runtime.plan.errors import InfeasibleError, PlanError
from runtime.plan.explore import Found
from runtime.plan.file import check_problem
from runtime.plan.instance import make_instance
from runtime.plan.plan import better_or_same, pareto, thin
from runtime.plan.planner import Options, Report, plan_problem
from runtime.plan.problem import Cost, Device, Edge, Exit, Link, Memory, Model, Problem, Segment
from runtime.plan.settings.blocks import vision_graph, xavier_blocks
from runtime.plan.settings.random_graphs import layered
from tests.plan.problems import problem

pytest.importorskip("ortools", reason="exact plans need OR-tools")
pytest.importorskip("pymoo", reason="the Pareto search needs pymoo")
QUICK = Options(time_limit_s=6.0, points=3, steps=150, population=12, generations=4, workers=1)


def quick(given: Problem, **options: Any) -> Report:
    return plan_problem(given, replace(QUICK, **options))


def staged(**more: Any) -> Problem:
    """Return two stages with an exit each on a fast hungry device and a slow thrifty one."""
    stages = tuple(
        Segment(
            name, {"gpu": (Cost(2e-3, energy_j=20e-3), Cost(1e-3, energy_j=30e-3)), "dla": Cost(4e-3, energy_j=5e-3)}
        )
        for name in ("s1", "s2")
    )
    exits = (Exit("e1", "s1", 0.6, 0.99, 0.80), Exit("e2", "s2", 0.4, 0.95))
    model = Model("m", stages, (Edge("s1", ("s2",), 1000),), exits, **more)
    devices = (Device("gpu", ("slow", "fast")), Device("dla"))
    return Problem("staged", devices, (model,), (Link("gpu", "dla", 0.1e-3),), latency="expected")


def test_the_front_has_no_plan_that_another_betters_and_its_ends_are_proven() -> None:
    report = quick(layered(8, 2, 1))
    plans = report.plans
    assert plans[0].optimal
    assert plans[-1].optimal
    assert plans[0].latency_ms < plans[-1].latency_ms
    assert plans[0].energy_mj > plans[-1].energy_mj
    assert not any(better_or_same(a, b) for a in plans for b in plans if a is not b)
    assert all(plan.latency_ms >= plan.lower_bound_ms * (1.0 - 1e-9) for plan in plans)
    assert plans[0].latency_ms <= report.baselines["heft"].latency_ms
    assert plans[0].latency_ms <= report.baselines["single"].latency_ms


def test_a_search_weighs_energy_that_the_radio_alone_takes() -> None:
    segments = (
        Segment("s", {"here": Cost(50e-3), "there": Cost(5e-3)}),
        Segment("t", {"here": Cost(1e-3), "there": None}),
    )
    link = Link("there", "here", 1e-3, 20e6, energy_j=80e-3)
    given = Problem(
        "radio", (Device("here"), Device("there")), (Model("m", segments, (Edge("s", ("t",), 1000),)),), (link,)
    )
    front = [(plan.latency_ms, plan.energy_mj) for plan in quick(given, method="search").plans]
    assert [number for point in front for number in point] == pytest.approx([7.4, 80.0, 51.0, 0.0])


def test_a_bound_holds_for_plans_under_its_cap_alone() -> None:
    full, short = make_instance(staged(), (1,)), make_instance(staged(), (0,))
    found = Found()
    found.prove(full, 0.02, 9e-3)
    assert found.bound_s(full, 0.02) == 9e-3
    assert found.bound_s(full, 0.03) == lower_bound_s(full)
    assert found.bound_s(short, 0.01) == lower_bound_s(short)


def test_exits_weigh_energy_and_latency_and_dropping_the_last_costs_accuracy() -> None:
    report = quick(staged())
    fastest = report.plans[0]
    assert fastest.last_exit == {"m": "e1"}
    assert fastest.latency_ms == pytest.approx(1.0)
    assert fastest.accuracy == pytest.approx(0.6 * 0.80 + 0.4 * 0.80)
    deep = next(plan for plan in report.plans if plan.last_exit == {"m": "e2"})
    assert deep.accuracy == pytest.approx(0.6 * 0.99 + 0.4 * 0.95)
    assert deep.latency_expected_ms == pytest.approx(0.6 * 1.0 + 0.4 * 2.0)
    assert deep.latency_worst_ms == pytest.approx(2.0)
    assert deep.energy_mj == pytest.approx(30.0 + 0.4 * 30.0)
    assert deep.energy_every_exit_mj == pytest.approx(60.0)
    thrifty = min(report.plans, key=lambda plan: plan.energy_mj if plan.last_exit == {"m": "e2"} else 1e9)
    assert thrifty.energy_mj == pytest.approx(5.0 + 0.4 * 5.0)


def test_an_accuracy_floor_keeps_the_deeper_exit() -> None:
    report = quick(staged(accuracy_floor=0.9))
    assert {plan.last_exit["m"] for plan in report.plans} == {"e2"}
    with pytest.raises(InfeasibleError, match=r"reaches accuracy 0.9740 at most: its floor is 0.99"):
        quick(staged(accuracy_floor=0.99))


def test_one_level_holds_for_the_whole_device() -> None:
    for plan in quick(staged(accuracy_floor=0.9)).plans:
        placed = {task.segment: task for task in plan.tasks if task.device == "gpu"}
        times = {round(task.end_ms - task.start_ms, 6) for task in placed.values()}
        assert len(times) <= 1


def test_plans_are_fast_in_99_of_100_runs_unless_the_median_is_asked_for() -> None:
    """Device a is faster in the median, b in the p99: which one is the fastest plan?"""
    costs = {"a": Cost(1e-3, 9e-3), "b": Cost(2e-3, 3e-3)}
    given = Problem("p", (Device("a"), Device("b")), (Model("m", (Segment("x", costs),)),), (Link("a", "b"),))
    safe, usual = quick(given).plans[0], quick(given, quantile="p50").plans[0]
    assert (safe.placement, usual.placement) == ({"m": {"x": "b"}}, {"m": {"x": "a"}})
    assert (safe.quantile, usual.quantile) == ("p99", "p50")
    assert [safe.latency_ms, usual.latency_ms] == pytest.approx([3.0, 1.0])
    assert [safe.latency_p50_ms, usual.latency_p99_ms] == pytest.approx([2.0, 9.0])
    with pytest.raises(PlanError, match="a deadline is kept by p99 times"):
        quick(given.with_deadline(1.0), quantile="p50")


def test_each_plan_is_told_beside_everything_on_one_device() -> None:
    given = layered(8, 2, 1)
    report = quick(given)
    alone = {name: report.baselines[f"only {name}"] for name in ("unit0", "unit1")}
    for name, baseline in alone.items():
        assert set(baseline.placement[given.models[0].name].values()) == {name}
    best = min(alone.values(), key=lambda plan: plan.latency_ms)
    assert report.baselines["single"].latency_ms == best.latency_ms
    first = report.table()["plans"][0]
    assert first["of_single"]["latency"] == pytest.approx(report.plans[0].latency_ms / best.latency_ms)
    assert first["of_single"]["energy"] == pytest.approx(report.plans[0].energy_mj / best.energy_mj)


def test_a_chain_under_a_cap_on_its_energy_is_proven() -> None:
    """CP-SAT's own search proves next to nothing of it; branching by pseudo-costs does."""
    report = quick(xavier_blocks(vision_graph("ti")), points=3, time_limit_s=12.0, workers=2)
    assert sum(plan.optimal for plan in report.plans) >= 3


def test_a_deadline_counts_with_p99_and_one_that_cannot_be_kept_says_the_least_possible() -> None:
    given = layered(6, 2, 3)
    free = quick(given).plans[0]
    bound_ms = free.latency_p99_ms
    report = quick(given.with_deadline(1.5e-3 * bound_ms))
    assert all(plan.quantile == "p99" for plan in report.plans)
    assert all(plan.latency_p99_ms <= 1.5 * bound_ms for plan in report.plans)
    with pytest.raises(InfeasibleError, match=r"the least p99 latency possible is ([\d.]+) ms") as caught:
        quick(given.with_deadline(0.5e-3 * bound_ms))
    least = float(str(caught.value).split("possible is ")[1].split()[0])
    assert least == pytest.approx(bound_ms, rel=1e-4)


def test_what_does_not_fit_one_memory_is_shared_out() -> None:
    cost = {"a": Cost(1e-3, memory_bytes=600), "b": Cost(5e-3, memory_bytes=600)}
    model = Model("m", tuple(Segment(name, cost) for name in ("x", "y")))
    devices = (Device("a"), Device("b"))
    free = Problem("p", devices, (model,), (Link("a", "b"),))
    assert quick(free).plans[0].latency_ms == pytest.approx(2.0)
    small = msgspec.structs.replace(free, memories=(Memory("on a", 1000, ("a",)),))
    report = quick(small)
    assert report.plans[0].latency_ms == pytest.approx(5.0)
    assert report.baselines["single"].latency_ms == pytest.approx(10.0)
    assert report.baselines["heft"].misses > 0.0
    none = msgspec.structs.replace(free, memories=(Memory("both", 1000, ("a", "b")),))
    with pytest.raises(InfeasibleError, match="limits of memory"):
        quick(none)


def test_models_with_periods_repeat_on_one_placement() -> None:
    fast = Model("fast", (Segment("f", {"a": Cost(1e-3), "b": Cost(1e-3)}),), period_s=4e-3)
    slow = Model("slow", (Segment("s", {"a": Cost(6e-3), "b": None}),), period_s=8e-3)
    report = quick(Problem("p", (Device("a"), Device("b")), (fast, slow), (Link("a", "b"),)))
    best = report.plans[0]
    assert best.placement == {"fast": {"f": "b"}, "slow": {"s": "a"}}
    assert [round(task.start_ms, 6) for task in best.tasks if task.model == "fast"] == [0.0, 4.0]
    over = Model("slow", (Segment("s", {"a": Cost(9e-3), "b": None}),), period_s=8e-3)
    with pytest.raises(InfeasibleError, match="periods"):
        quick(Problem("p", (Device("a"), Device("b")), (fast, over), (Link("a", "b"),)))


def test_a_graph_over_the_exact_solvers_limit_is_searched_and_says_so() -> None:
    given = layered(151, 2, 0)
    report = quick(given, steps=20, population=4, generations=2)
    assert "151 tasks are over the exact solver's limit" in report.notes[0]
    assert not any(plan.optimal for plan in report.plans)
    assert all(0.0 < plan.gap_pct < 100.0 for plan in report.plans)


def test_a_lost_device_leaves_the_others_or_an_error_that_tells() -> None:
    given = problem({"x": (1.0, 2.0), "y": (1.0, None)}, (("x", ("y",)),))
    left = given.without("b")
    check_problem(left)
    assert {device.name for device in left.devices} == {"a"}
    with pytest.raises(PlanError, match="'y' can run on no device"):
        check_problem(given.without("a"))


def test_of_plans_as_fast_as_each_other_the_thrifty_one_stays() -> None:
    plan = quick(layered(4, 2, 1)).plans[0]
    thrifty = replace(plan, latency_ms=plan.latency_ms * (1.0 + 1e-9), energy_mj=plan.energy_mj / 2)
    assert pareto([plan, thrifty]) == [thrifty]


def test_thinning_keeps_the_proven_and_the_spread() -> None:
    plans = list(quick(layered(8, 2, 1)).plans)
    kept = thin(plans, 3)
    assert len(kept) == min(3, len(plans))
    assert plans[0] in kept
