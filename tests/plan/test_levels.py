"""Units measured at several clocks become one device with DVFS levels."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from devices.profile import Latency, Origin, Profile, SegmentFigures, Source
from devices.profile.figures import Figure
from runtime.plan.errors import PlanError
from runtime.plan.file import check_problem
from runtime.plan.graphs import Graph
from runtime.plan.levels import Levels, gather_levels
from runtime.plan.problem import Contention, Cost, Device, Edge, Link, Memory, Model, Problem, Segment, Transfer
from runtime.plan.profiles import Surroundings, problem_of, read_surroundings

SOURCE = Source("declared for a test", Origin.DECLARED, "none")


def problem(**more: object) -> Problem:
    """Return two segments on a CPU and a GPU measured at two clocks."""
    segments = tuple(
        Segment(name, {"cpu": Cost(3e-3), "fast": Cost(1e-3, energy_j=0.3), "slow": Cost(2e-3, energy_j=0.1)})
        for name in ("x", "y")
    )
    ways = (Transfer("cpu", "fast", 1e-5), Transfer("cpu", "slow", 2e-5), Transfer("fast", "slow", 9.0))
    given = {
        "devices": (Device("cpu"), Device("fast"), Device("slow")),
        "models": (Model("m", segments, (Edge("x", ("y",), 100, ways),)),),
        "links": (Link("cpu", "fast", 1e-3), Link("slow", "cpu", 2e-3), Link("fast", "slow", 3e-3)),
        "memories": (Memory("board", 1e6, ("cpu", "fast", "slow")),),
        "contention": (Contention(("cpu", "fast"), 1.1),),
    }
    return Problem(name="p", **{**given, **more})  # type: ignore[arg-type]


def test_units_become_levels_of_one_device() -> None:
    made = gather_levels(problem(), (Levels("gpu", ("fast", "slow")),))
    check_problem(made)
    assert made.devices == (Device("cpu"), Device("gpu", ("fast", "slow")))
    segment = made.models[0].segments[0]
    assert segment.costs["gpu"] == (Cost(1e-3, energy_j=0.3), Cost(2e-3, energy_j=0.1))
    assert made.models[0].edges[0].transfers == (Transfer("cpu", "gpu", 1e-5),)
    assert made.links == (Link("cpu", "gpu", 1e-3),)
    assert made.memories[0].devices == ("cpu", "gpu")
    assert made.contention[0].devices == ("cpu", "gpu")


def test_without_levels_nothing_changes() -> None:
    given = problem()
    assert gather_levels(given, ()) is given


@pytest.mark.parametrize(
    ("levels", "why"),
    [
        ((Levels("gpu", ("fast", "slower")),), "there is no device 'slower'"),
        ((Levels("cpu", ("fast", "slow")),), "a device of that name already"),
        ((Levels("gpu", ("fast", "slow")), Levels("other", ("slow",))), "'slow' is named twice"),
    ],
)
def test_levels_that_make_no_sense_are_refused(levels: Sequence[Levels], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        gather_levels(problem(), levels)


def test_a_segment_without_a_figure_at_one_level_is_refused() -> None:
    lacking = Segment("x", {"cpu": Cost(1.0), "fast": Cost(1.0), "slow": None})
    with pytest.raises(PlanError, match=r"levels of 'gpu': segment 'x' has no figure on 'slow'"):
        gather_levels(problem(models=(Model("m", (lacking,)),)), (Levels("gpu", ("fast", "slow")),))


def test_two_profiles_of_one_gpu_make_one_device_where_the_input_comes_from(tmp_path: Path) -> None:
    def profile(name: str, speed: float) -> Profile:
        rows = [
            SegmentFigures("m", segment, "cuda:0", 1, Latency(1e-3 / speed, SOURCE), energy=Figure(speed, "", SOURCE))
            for segment in ("x", "y")
        ]
        return Profile(name, "a board", segments=tuple(rows))

    path = tmp_path / "link.toml"
    path.write_text(
        'format = 1\norigin = "gpu"\n[[levels]]\ndevice = "gpu"\nunits = ["quick.cuda:0", "thrifty.cuda:0"]\n'
    )
    around = read_surroundings(path)
    assert around == Surroundings(origin="gpu", levels=(Levels("gpu", ("quick.cuda:0", "thrifty.cuda:0")),))
    graph = Graph("m", ("x", "y"), (Edge("x", ("y",), 10),), (), {"x": "", "y": ""}, {}, {"x": 100.0})
    made = problem_of([graph], [profile("quick", 2.0), profile("thrifty", 1.0)], around)
    assert made.devices == (Device("gpu", ("quick.cuda:0", "thrifty.cuda:0")),)
    assert [segment.id for segment in made.models[0].segments] == ["(input)", "x", "y", "(answer)"]
    assert made.models[0].segments[0].costs["gpu"] == (Cost(0.0), Cost(0.0))
