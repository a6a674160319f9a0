"""`headway plan`: packages with profiles, and problem files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import carla_bridge
from devices.package import load_package
from devices.profile import Latency, Origin, Profile, SegmentFigures, Source, write_profile
from devices.profile.figures import Figure
from runtime.plan.file import read_problem, write_problem
from runtime.plan.plan import read_plan
from runtime.plan.settings.haxconn import shared_xavier
from runtime.plan.settings.random_graphs import layered
from runtime.plan.settings.splits import tx2_pair
from tests.runtime.pack.commands import Commands

pytest.importorskip("ortools", reason="exact plans need OR-tools")
pytest.importorskip("pymoo", reason="the Pareto search needs pymoo")
DRIVING = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"
SOURCE = Source("declared for a test", Origin.DECLARED, "none")
SMALL = Path(__file__).parents[2] / "examples" / "plan" / "wired20x3.json"
QUICK = ("--time-limit-s", "3", "--points", "1", "--steps", "200")


@pytest.fixture
def headway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs `headway ...`."""
    return Commands(monkeypatch, capsys)


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., Path]:
    """Writes a profile of the driving package on two units."""

    def write(name: str = "board", speeds: dict[str, float] | None = None, drop: str = "", sha256: str = "") -> Path:
        package = load_package(DRIVING)
        rows = []
        for unit, speed in (speeds or {"cpu:0": 1.0, "cpu:1": 0.5}).items():
            for index, part in enumerate(package.segments):
                if part.id == drop and unit == "cpu:1":
                    continue
                time_s = (1 + index) * 1e-3 / speed
                latency = Latency(time_s, SOURCE, p99_s=2 * time_s)
                energy = Figure(1e-3 * speed * (1 + index), "", SOURCE)
                rows.append(
                    SegmentFigures(package.name, part.id, unit, 1, latency, energy=energy, sha256=sha256 or part.sha256)
                )
        path = tmp_path / f"{name}.toml"
        write_profile(path, Profile(name, "a board", segments=tuple(rows)))
        if speeds is None:
            way = f'model = "{package.name}"\nafter = "{package.segments[0].id}"\nfrom = "cpu:0"\nto = "cpu:1"\n'
            latency_line = 'latency = { value = 0.07, unit = "ms", source = "s1" }\n'
            path.write_text(f"{path.read_text()}\n[[transitions]]\n{way}{latency_line}")
        return path

    return write


def test_a_package_on_a_measured_board(headway: Commands, profile: Callable[..., Path], tmp_path: Path) -> None:
    report = headway.json("plan", DRIVING, "--profiles", profile(), "--keep-problem", tmp_path / "p.json", *QUICK)
    plan = report["plans"][0]
    package = load_package(DRIVING)
    assert set(plan["placement"][package.name]) == {segment.id for segment in package.segments}
    assert {"latency_ms", "energy_mj", "accuracy", "optimal", "gap_pct", "lower_bound_ms"} <= set(plan)
    assert plan["optimal"]
    assert plan["latency_ms"] <= report["baselines"]["heft"]["latency_ms"] * (1 + 1e-9)
    again = headway.json("plan", "--problem", tmp_path / "p.json", *QUICK)
    assert again["plans"][0]["latency_ms"] == pytest.approx(plan["latency_ms"])
    kept = read_problem(tmp_path / "p.json")
    assert any(move.time_s == pytest.approx(7e-5) for edge in kept.models[0].edges for move in edge.transfers)


def test_two_boards_need_a_link(headway: Commands, profile: Callable[..., Path], tmp_path: Path) -> None:
    one, other = profile(), profile("edge", {"gpu": 10.0})
    link = tmp_path / "link.toml"
    link.write_text(
        'format = 1\norigin = "cpu:0"\n[[links]]\nfrom = "cpu:0"\nto = "gpu"\nlatency_s = 0.001\nrate_bps = 1e9\n'
        'channel = "air"\n'
    )
    report = headway.json("plan", DRIVING, "--profiles", f"{one},{other}", "--link", link, *QUICK)
    placed = report["plans"][0]["placement"]["driving"]
    assert placed["(input)"] == placed["(answer)"] == "cpu:0"
    assert "gpu" in placed.values()
    kept = tmp_path / "p.json"
    headway.json("plan", DRIVING, "--profiles", f"{one},{other}", "--keep-problem", kept, *QUICK)
    assert [{link.source, link.to} for link in read_problem(kept).links] == [{"cpu:0", "cpu:1"}]


def test_the_files_and_pictures_of_a_problem(headway: Commands, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    out = tmp_path / "plans"
    given = tmp_path / "p.json"
    write_problem(layered(6, 2, 1), given)
    assert (
        headway("plan", "--problem", given, "--search", "--steps", "200", "--most", "2", "--out", out, "--gantt") == 0
    ), headway.error
    plan = read_plan(out / "plan1.json")
    assert (out / "plan1.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"only unit1 .* 100%, 100% +baseline +unit1 6", headway.out)
    assert re.search(r"plan 1 .* within \d+\.\d\d %", headway.out)
    assert f"{plan.latency_ms:.4g}" in headway.out


def test_an_infeasible_deadline_says_the_least_possible(headway: Commands, profile: Callable[..., Path]) -> None:
    assert headway("plan", DRIVING, "--profiles", profile(), "--deadline-ms", "0.1", *QUICK) == 1
    assert re.search(r"no plan keeps the deadline \(driving 0.1 ms\): the least p99 .* is [\d.]+ ms", headway.error)


def test_profiles_that_lack_or_contradict(headway: Commands, profile: Callable[..., Path], tmp_path: Path) -> None:
    first = load_package(DRIVING).segments[0].id
    for path, why in (
        (profile("lacks", drop=first), f"'lacks' has no segment '{first}'"),
        (profile("other", sha256="0" * 64), "measured from a file with"),
        ("drive_px2", "profile 'drive_px2' has no segment of 'driving': measure it"),
        (f"{profile('fine')},drive_px2", "measure it with `headway profile`, or leave it out"),
    ):
        assert headway("plan", DRIVING, "--profiles", path) == 78
        assert why in headway.error
    text = profile("units").read_text()
    broken = tmp_path / "broken.toml"
    broken.write_text(re.sub(r'unit = "(ms|us|s)"', 'unit = "furlong"', text))
    assert headway("plan", DRIVING, "--profiles", broken) == 78
    assert "furlong" in headway.error


def test_a_profile_without_one_of_several_models_is_told_of(
    headway: Commands, profile: Callable[..., Path], tmp_path: Path
) -> None:
    single = tmp_path / "braking.onnx"
    single.write_bytes(load_package(DRIVING).segments[0].path.read_bytes())
    package = load_package(single)
    both, (part,) = profile("both"), package.segments
    row = SegmentFigures(package.name, part.id, "cpu:1", 1, Latency(1e-3, SOURCE), sha256=part.sha256)
    write_profile(tmp_path / "one.toml", Profile("one", "a board", segments=(row,)))
    profiles = f"{both},{tmp_path / 'one.toml'}"
    headway("plan", DRIVING, single, "--profiles", profiles, "--search", *QUICK)
    assert "note: profile 'both' has no segment of 'braking', which is not placed on its units" in headway.error
    assert "note: profile 'one' has no segment of 'driving', which is not placed on its units" in headway.error


def test_what_a_profile_contradicts_itself_in_is_told(
    headway: Commands, profile: Callable[..., Path], tmp_path: Path
) -> None:
    text = profile("units").read_text()
    broken = tmp_path / "broken.toml"
    for pattern, instead, why in (
        (r"p99 = [\d.]+", "p99 = 0.0001", "percentiles 1.0, 0.0001 ms: they must not fall"),
        (r'(segments.energy\]\nvalue = [\d.]+\nunit = )"\w+"', r'\1"s"', "energy has unit 's': must be one of J, "),
        (r"value = 1.0\np99", "value = -1.0\np99", "Expected `float` >"),
        (r'source = "s1"', 'source = "s2"', "has source 's2': must be one of s1"),
    ):
        changed = re.sub(pattern, instead, text, count=1)
        assert changed != text, text[:600]
        broken.write_text(changed)
        assert headway("plan", DRIVING, "--profiles", broken) == 78
        assert why in headway.error, headway.error


def test_a_graph_over_the_exact_solvers_limit_falls_back_and_says_the_gap(headway: Commands, tmp_path: Path) -> None:
    given = tmp_path / "p.json"
    write_problem(layered(151, 2, 0), given)
    assert headway("plan", "--problem", given, "--exact", "--steps", "10", "--most", "2") == 0
    assert "note: 151 tasks are over the exact solver's limit of 150: searched instead" in headway.error
    assert re.search(r"plan 1 .* within \d+\.\d\d %", headway.out)


def test_rates_and_an_accuracy_floor(headway: Commands, tmp_path: Path) -> None:
    given, kept = tmp_path / "p.json", tmp_path / "kept.json"
    write_problem(shared_xavier(models=("AlexNet",), copies=2), given)
    report = headway.json(
        "plan", "--problem", given, "--rates-hz", "100,200", "--keep-problem", kept, "--search", *QUICK
    )
    assert [model.period_s for model in read_problem(kept).models] == [0.01, 0.005]
    assert {task["run"] for task in report["plans"][0]["tasks"] if task["model"] == "AlexNet 2"} == {0, 1}
    assert headway("plan", "--problem", given, "--accuracy-floor", "0.9", *QUICK) == 78
    assert "accuracy_floor needs exits" in headway.error
    stages = Path(__file__).parents[2] / "examples" / "plan" / "xavier_width_stages.json"
    assert headway("plan", "--problem", stages, "--accuracy-floor", "0.999", *QUICK) == 1
    assert re.search(r"reaches accuracy 0\.99\d* at most: its floor is 0\.999", headway.error)


def test_every_split_of_a_model(headway: Commands, tmp_path: Path) -> None:
    given = tmp_path / "p.json"
    write_problem(tx2_pair(rate_bps=8e6), given)
    rows = headway.json("plan", "--problem", given, "--splits", "cpu,gpu")["splits"]
    assert len(rows) == len(read_problem(given).models[0].segments) - 1
    assert rows[-1]["first_there"] is None
    best = min(rows, key=lambda row: row["latency_ms"])
    assert best["pareto"]
    assert headway("plan", "--problem", given, "--splits", "cpu,gpu") == 0
    assert re.search(rf"\* +{best['latency_ms']:.4g} .* {best['first_there']}\n", headway.out)


WRONG: list[tuple[tuple[Any, ...], str]] = [
    ((), "say which packages"),
    ((DRIVING,), "say what the segments cost"),
    ((DRIVING, "--problem", "p.json"), "say which packages"),
    (("--problem", "p.json", "--profiles", "a"), "stands in the problem file already"),
    (("--problem", "p.json", "--exact", "--search"), "not both"),
    (("--problem", "p.json", "--deadline-ms", "-1"), "must be above 0"),
    (("--problem", "p.json", "--points", "0"), "must be at least 1"),
    (("--problem", "p.json", "--gantt"), "draws into the folder of --out"),
    ((DRIVING, "--profiles", "a,,b"), "names nothing between its commas"),
    (("--problem", "p.json", "--quantile", "p90"), "must be p50 or p99"),
    (("--problem", "p.json", "--accuracy-floor", "1.5"), "must be 0 to 1"),
    (("--problem", SMALL, "--rates-hz", "5,x"), "'x': must be a number above 0"),
    (("--problem", SMALL, "--rates-hz", "5,5,5"), "3 rates for 1 models"),
    (("--problem", SMALL, "--splits", "cpu"), "1 devices: must be two"),
]


@pytest.mark.parametrize(("arguments", "why"), WRONG)
def test_wrong_usage(headway: Commands, arguments: tuple[Any, ...], why: str) -> None:
    assert headway("plan", *arguments) == 2
    assert why in " ".join(headway.error.replace("│", " ").split())


def test_a_link_file_that_is_none(headway: Commands, profile: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "l.toml"
    for text, why in (("format = 2", "reads format 1"), ("rate = 1", "unknown field `rate`"), ("x", "link file")):
        path.write_text(text)
        assert headway("plan", DRIVING, "--profiles", profile(), "--link", path) == 78
        assert why in headway.error
