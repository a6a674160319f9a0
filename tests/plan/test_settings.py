"""The published settings: their figures, and that they plan."""

from pathlib import Path

import msgspec
import pytest

from runtime.plan.baselines import heft, single_device
from runtime.plan.check import check_schedule
from runtime.plan.errors import PlanError
from runtime.plan.file import check_problem, read_problem
from runtime.plan.goal import violation
from runtime.plan.graphs import Graph
from runtime.plan.instance import make_instance
from runtime.plan.planner import Options, plan_problem
from runtime.plan.problem import Cost, Edge, Exit, Problem
from runtime.plan.schedule import energy_j, latency_s
from runtime.plan.search import search
from runtime.plan.settings.blocks import SIZES, vision_graph, xavier_blocks
from runtime.plan.settings.haxconn import shared_xavier
from runtime.plan.settings.random_graphs import chain, layered, server, wired
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


@pytest.mark.parametrize(("size", "published_g"), [("ti", 1.3), ("s", 4.5), ("b", 17.7)])
def test_a_vision_graph_network_computes_as_much_as_is_published(size: str, published_g: float) -> None:
    graph = vision_graph(size)
    assert sum(graph.macs.values()) == pytest.approx(1e9 * published_g, rel=0.035)
    assert len(graph.segments) == 2 + 2 * SIZES[size][0]


def test_blocks_trade_the_gpus_speed_for_the_dlas_energy() -> None:
    pytest.importorskip("ortools", reason="exact plans need OR-tools")
    pytest.importorskip("pymoo", reason="the Pareto search needs pymoo")
    problem = xavier_blocks(vision_graph("ti"), irregular=2.0)
    check_problem(problem)
    costs = {segment.id: segment.costs for segment in problem.models[0].segments}
    even = {segment.id: segment.costs for segment in xavier_blocks(vision_graph("ti"), 1.0).models[0].segments}
    for name in costs:
        mine, theirs = costs[name]["dla0"], even[name]["dla0"]
        assert isinstance(mine, Cost)
        assert isinstance(theirs, Cost)
        assert mine.p50_s == pytest.approx(theirs.p50_s * (2.0 if name.endswith("-graph") else 1.0))
    total = published_totals()["gpu"]
    report = plan_problem(problem, Options(time_limit_s=4.0, points=2, steps=200, generations=2, workers=1))
    assert report.plans[0].latency_ms == pytest.approx(1e3 * total.time_s)
    assert 1e3 * total.energy_j / report.plans[-1].energy_mj > 1.5


def test_a_server_keeps_the_small_gpus_memory() -> None:
    problem = server(20, 2)
    check_problem(problem)
    instance = make_instance(problem)
    found = search(instance, steps=500)
    assert found is not None
    check_schedule(instance, found)
    assert violation(instance, found) == 0.0
    alone = single_device(instance, instance.devices.index("gpu1"))
    assert alone is not None
    assert violation(instance, alone) > 0.0
    assert latency_s(instance, found.ends_s) < latency_s(instance, alone.ends_s)


def test_splits_that_make_no_sense_are_refused() -> None:
    problem = tx2_pair()
    for given, here, there, why in (
        (problem, "cpu", "dla", "no device 'dla' to split at"),
        (problem, "cpu", "cpu", "'cpu' is given twice"),
        (problem, "gpu", "cpu", "inputs do not come from 'gpu'"),
        (shared_xavier(), "gpu", "dla", "splits are of one model"),
    ):
        with pytest.raises(PlanError, match=why):
            sweep(given, here, there)


def test_the_example_problems_are_what_the_settings_make() -> None:
    folder = Path(__file__).parents[2] / "examples" / "plan"
    if not folder.is_dir():
        pytest.skip("examples are not shipped with the package")
    made = {
        "xavier_googlenet_alexnet": shared_xavier(1.1),
        "xavier_vig_blocks": xavier_blocks(vision_graph("s")),
        "tx2_alexnet_split": tx2_pair(watts=1.3),
        "cpu_two_gpus": server(24, 1),
        "layered25x4": layered(25, 4, 1),
        "wired20x3": wired(20, 3, 3),
    }
    for name, problem in made.items():
        assert msgspec.json.decode(msgspec.json.encode(problem), type=Problem) == read_problem(folder / f"{name}.json")
    assert [item.id for item in read_problem(folder / "xavier_width_stages.json").models[0].exits] == [
        "exit1",
        "exit2",
        "final",
    ]


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
