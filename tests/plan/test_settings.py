"""The published settings: their figures, and that they plan."""

import pytest

from runtime.plan.baselines import heft, single_device
from runtime.plan.check import check_schedule
from runtime.plan.file import check_problem
from runtime.plan.graphs import Graph
from runtime.plan.instance import make_instance
from runtime.plan.problem import Edge, Exit
from runtime.plan.schedule import energy_j, latency_s
from runtime.plan.search import search
from runtime.plan.settings.haxconn import shared_xavier
from runtime.plan.settings.random_graphs import chain, layered, wired
from runtime.plan.settings.splits import pareto_splits, sweep, tx2_pair
from runtime.plan.settings.widths import Assumptions, published_totals, xavier_widths


def test_two_networks_share_the_xavier_15_per_cent_under_the_gpu_alone() -> None:
    instance = make_instance(shared_xavier(1.2))
    gpu, found = single_device(instance, instance.devices.index("gpu")), search(instance, steps=2500)
    assert gpu is not None
    assert found is not None
    check_schedule(instance, found)
    assert latency_s(instance, gpu.ends_s) == pytest.approx(3.556e-3, rel=1e-3)
    assert latency_s(instance, found.ends_s) <= 0.85 * latency_s(instance, gpu.ends_s)


def test_copies_of_the_networks_have_names_of_their_own() -> None:
    problem = shared_xavier(1.1, ("GoogLeNet",), copies=2)
    check_problem(problem)
    assert [model.name for model in problem.models] == ["GoogLeNet 1", "GoogLeNet 2"]


def test_split_points_from_all_there_to_all_here() -> None:
    problem = tx2_pair(rate_bps=2e6, watts=1.0)
    splits = sweep(problem, "cpu", "gpu")
    segments = len(problem.models[0].segments) - 2
    assert [split.first_there for split in splits] == list(range(segments + 1))
    assert splits[-1].latency_s == pytest.approx(243.687e-3, rel=1e-3)
    assert splits[-1].throughput_hz == pytest.approx(1.0 / splits[-1].latency_s)
    far_s = 22.868e-3 + 8 * 224 * 224 * 3 / 2e6 + 2e-3
    assert splits[0].latency_s == pytest.approx(far_s, rel=1e-2)
    assert splits[0].throughput_hz == pytest.approx(1.0 / (far_s - 22.868e-3), rel=1e-2)  # the way is the slowest
    kept = pareto_splits(splits)
    assert kept[0].latency_s == min(split.latency_s for split in splits)
    assert max(split.throughput_hz for split in kept) == max(split.throughput_hz for split in splits)


def stages() -> Graph:
    """Three width stages of two groups, each stage reading the earlier ones' first group."""
    names = tuple(f"stage{s}-group{g}" for s in (1, 2, 3) for g in (1, 2))
    edges = [Edge(f"stage{s}-group1", (f"stage{s}-group2",), 4000) for s in (1, 2, 3)]
    edges += [
        Edge("stage1-group1", ("stage2-group2", "stage3-group2"), 4000),
        Edge("stage2-group1", ("stage3-group2",), 4000),
    ]
    exits = tuple(Exit(f"e{s}", f"stage{s}-group2", share, 0.9) for s, share in ((1, 0.6), (2, 0.2), (3, 0.2)))
    return Graph(
        "widths", names, tuple(edges), exits, dict.fromkeys(names, ""), dict.fromkeys(names, 100), {names[0]: 0.0}
    )


def test_width_stages_take_their_share_of_the_published_totals() -> None:
    problem = xavier_widths(stages(), 600, 2, assumptions=Assumptions(fixed=0.0))
    check_problem(problem)
    instance = make_instance(problem)
    gpu = single_device(instance, 0)
    assert gpu is not None
    total = published_totals()["gpu"]
    assert max(gpu.ends_s) == pytest.approx(total.time_s)
    assert energy_j(instance, gpu.assignment, every_exit=True) == pytest.approx(total.energy_j)
    assert energy_j(instance, gpu.assignment) == pytest.approx(total.energy_j * (1.0 + 0.4 + 0.2) / 3)


def test_what_a_slice_does_not_save_is_paid_by_every_stage() -> None:
    instance = make_instance(xavier_widths(stages(), 600, 2, assumptions=Assumptions(fixed=0.2)))
    gpu = single_device(instance, 0)
    assert gpu is not None
    assert max(gpu.ends_s) == pytest.approx(published_totals()["gpu"].time_s * (0.8 + 3 * 0.2))


@pytest.mark.parametrize("made", [chain, layered, wired])
def test_random_graphs_are_sound_and_one_seed_gives_one(made: object) -> None:
    problem = made(20, 3, 5)  # type: ignore[operator]
    check_problem(problem)
    assert problem == made(20, 3, 5)  # type: ignore[operator]
    assert problem != made(20, 3, 6)  # type: ignore[operator]
    instance = make_instance(problem)
    schedule = heft(instance)
    assert schedule is not None
    check_schedule(instance, schedule)
