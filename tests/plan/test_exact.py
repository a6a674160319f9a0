"""The exact solver against trying everything, and everything that any method returns against the independent check."""

import math
from typing import Any

import pytest
from hypothesis import given, settings

from runtime.plan.baselines import best_single, greedy, heft
from runtime.plan.bounds import least_energy_j, lower_bound_s
from runtime.plan.check import check_schedule
from runtime.plan.exact import MAX_TASKS, solve, too_large
from runtime.plan.file import check_problem
from runtime.plan.goal import Goal
from runtime.plan.instance import Instance, make_instance
from runtime.plan.problem import Cost, Device, Link, Memory, Model, Problem, Segment
from runtime.plan.schedule import Schedule, energy_j, latency_s
from runtime.plan.search import search
from runtime.plan.settings.random_graphs import chain, layered
from tests.plan.problems import best_latency_ms, problem, small_problems

pytest.importorskip("ortools", reason="exact plans need OR-tools")


def exact(instance: Instance, goal: Goal | None = None) -> tuple[Schedule, float]:
    """Return the proven best schedule and the bound [ms], both checked."""
    hint = search(instance, goal, steps=50)
    assert hint is not None
    outcome = solve(instance, hint, goal, time_limit_s=10.0, workers=1)
    assert outcome.schedule is not None
    assert outcome.optimal
    check_schedule(instance, outcome.schedule)
    return outcome.schedule, 1e3 * outcome.bound


def ms(instance: Instance, schedule: Schedule | None) -> float:
    assert schedule is not None
    check_schedule(instance, schedule)
    return 1e3 * latency_s(instance, schedule.ends_s)


@settings(max_examples=25)
@given(small_problems())
def test_it_finds_what_trying_everything_finds(given: Problem) -> None:
    check_problem(given)
    instance = make_instance(given)
    schedule, bound_ms = exact(instance)
    assert ms(instance, schedule) == pytest.approx(best_latency_ms(instance), rel=1e-9)
    assert bound_ms == pytest.approx(ms(instance, schedule), rel=1e-5)


@settings(max_examples=15)
@given(small_problems(most=3, channel=True))
def test_transfers_of_one_channel_wait_for_each_other(given: Problem) -> None:
    instance = make_instance(given)
    schedule, bound_ms = exact(instance)
    assert ms(instance, schedule) == pytest.approx(best_latency_ms(instance), rel=1e-9)
    assert bound_ms == pytest.approx(ms(instance, schedule), rel=1e-5)


@settings(max_examples=15)
@given(small_problems(factor=True))
def test_under_contention_no_method_beats_it_and_its_bound_holds(given: Problem) -> None:
    instance = make_instance(given)
    schedule, bound_ms = exact(instance)
    others = [search(instance, steps=200), best_single(instance), heft(instance), greedy(instance)]
    least = min(ms(instance, other) for other in others)
    assert bound_ms <= least * (1.0 + 1e-9)
    assert ms(instance, schedule) <= least * (1.0 + 1e-9)


@settings(max_examples=40)
@given(small_problems())
def test_every_method_keeps_every_rule_and_the_bounds(given: Problem) -> None:
    instance = make_instance(given)
    bound_ms = 1e3 * lower_bound_s(instance)
    found = search(instance, steps=100)
    for schedule in (best_single(instance), heft(instance), greedy(instance), found):
        assert ms(instance, schedule) >= bound_ms * (1.0 - 1e-9)
        assert schedule is not None
        assert energy_j(instance, schedule.assignment) >= least_energy_j(instance) * (1.0 - 1e-9)
    assert ms(instance, found) <= ms(instance, heft(instance)) * (1.0 + 1e-12)


def test_two_that_run_side_by_side_slow_each_other() -> None:
    instance = make_instance(problem({"x": (10.0, None), "y": (None, 10.0)}, factor=1.2))
    schedule, bound_ms = exact(instance)
    assert ms(instance, schedule) == pytest.approx(12.0, rel=1e-6)
    assert bound_ms == pytest.approx(12.0, rel=1e-4)


def test_after_the_shorter_one_the_longer_runs_at_its_full_rate() -> None:
    instance = make_instance(problem({"x": (10.0, None), "y": (None, 5.0)}, factor=1.25))
    schedule, _ = exact(instance)
    assert ms(instance, schedule) == pytest.approx(11.25, rel=1e-4)  # 6.25 ms together, of which x does 5


def test_two_that_start_together_may_be_better_than_one_after_the_other() -> None:
    """From 10 ms on y and z share 1.5 ms, in which each does 1; then y's second ms."""
    costs = {"x": (10.0, None), "y": (None, 2.0), "z": (1.0, None)}
    given = problem(costs, (("x", ("z",)), ("x", ("y",))), factor=1.5)
    schedule, _ = exact(make_instance(given))
    assert ms(make_instance(given), schedule) == pytest.approx(12.5, rel=1e-4)


def test_the_cheapest_plan_keeps_a_cap_on_latency() -> None:
    instance = make_instance(chain(8, 3, 1))
    fast, _ = exact(instance)
    cap_s = 1.3 * latency_s(instance, fast.ends_s)
    schedule, bound_mj = exact(instance, Goal("energy", latency_cap_s=cap_s))
    assert latency_s(instance, schedule.ends_s) <= cap_s * 1.00003
    assert bound_mj <= 1e3 * energy_j(instance, schedule.assignment) * (1.0 + 1e-6)
    assert energy_j(instance, schedule.assignment) < energy_j(instance, fast.assignment)


def two_on(devices: tuple[Device, ...], costs: dict[str, Any], **more: Any) -> Instance:
    """Return two like segments on devices without a way's cost."""
    model = Model("m", tuple(Segment(name, costs) for name in ("x", "y")))
    links = (Link(devices[0].name, devices[1].name),) if len(devices) > 1 else ()
    return make_instance(Problem("p", devices, (model,), links, **more))


def test_transfers_that_must_share_a_channel() -> None:
    costs = {"x": (1.0, None), "y": (1.0, None), "p": (None, 1.0), "q": (None, 1.0)}
    given = problem(costs, (("x", ("p",)), ("y", ("q",))), way_ms=5.0, channel="bus")
    schedule, bound_ms = exact(make_instance(given))
    assert ms(make_instance(given), schedule) == pytest.approx(12.0)
    assert bound_ms == pytest.approx(12.0)


def test_its_bound_knows_memories() -> None:
    costs = {"a": Cost(1e-3, memory_bytes=600), "b": Cost(5e-3, memory_bytes=600)}
    instance = two_on((Device("a"), Device("b")), costs, memories=(Memory("on a", 1000, ("a",)),))
    schedule, bound_ms = exact(instance)
    assert ms(instance, schedule) == pytest.approx(5.0)
    assert bound_ms == pytest.approx(5.0)


def test_its_bound_knows_that_a_device_has_one_level() -> None:
    levels = (Cost(2e-3, energy_j=20e-3), Cost(1e-3, energy_j=30e-3))
    instance = two_on((Device("a", ("slow", "fast")),), {"a": levels})
    schedule, bound_ms = exact(instance, Goal(energy_cap_j=50e-3))
    assert ms(instance, schedule) == pytest.approx(4.0)
    assert bound_ms == pytest.approx(4.0)


def test_a_graph_over_its_limit_is_refused_with_the_numbers() -> None:
    instance = make_instance(layered(MAX_TASKS + 1, 2, 0))
    assert f"{MAX_TASKS + 1} tasks" in str(too_large(instance))


@pytest.mark.parametrize("seed", range(3))
def test_the_heuristic_is_within_three_per_cent(seed: int) -> None:
    instance = make_instance(layered(14, 3, seed))
    found = search(instance, steps=3000)
    assert found is not None
    outcome = solve(instance, found, time_limit_s=5.0, workers=1)
    assert outcome.optimal
    assert ms(instance, found) <= 1.03 * ms(instance, outcome.schedule)
    assert not math.isinf(outcome.bound)
