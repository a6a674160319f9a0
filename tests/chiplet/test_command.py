"""`headway plan --chiplets`: files, what is printed, pictures, and what is said of a wrong file."""

import json
from pathlib import Path

import pytest

import runtime
from tests.runtime.pack.commands import Commands

EXAMPLES = Path(runtime.__file__).resolve().parents[1] / "examples" / "plan"
SMALL = """
format = 1
name = "small"
[package]
rows = 2
columns = 2
pes = 256
patterns = ["ws", "checkerboard", "monolithic-ws"]
[effort]
windows = 1
steps = 10
[[models]]
table = "own.csv"
batch = 2
[[models]]
table = "mobilenet_v2"
"""
TABLE = "# made for a test\nname,kind,k,c,r,s,y,x,stride,copies\na,conv,8,3,3,3,32,32,1,1\nb,gemm,10,8,1,1,1,1,1,1\n"


@pytest.fixture
def headway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs `headway ...`."""
    return Commands(monkeypatch, capsys)


def written(folder: Path, text: str = SMALL) -> str:
    (folder / "own.csv").write_text(TABLE)
    (folder / "mix.toml").write_text(text)
    return str(folder / "mix.toml")


def test_every_pattern_is_planned_and_written(headway: Commands, tmp_path: Path) -> None:
    table = headway.json("plan", "--chiplets", written(tmp_path), "--out", tmp_path / "plans")
    assert [plan["package"] for plan in table["plans"]] == ["ws", "checkerboard", "monolithic-ws"]
    for plan in table["plans"]:
        assert plan["edp_ujs"] == pytest.approx(plan["latency_ms"] * plan["energy_mj"])
        layers = sum(
            segment["end"] - segment["first"]
            for window in plan["windows"]
            for part in window["parts"]
            for segment in part["segments"]
        )
        assert layers == 2 + 53
    assert [json.loads(Path(file).read_text())["package"] for file in table["files"]] == [
        plan["package"] for plan in table["plans"]
    ]


def test_the_text_names_packages_and_what_the_figures_are_of(headway: Commands, tmp_path: Path) -> None:
    assert headway("plan", "--chiplets", written(tmp_path)) == 0
    lines = headway.out.splitlines()
    assert "2 models, 55 layers" in lines[0]
    assert "not hardware" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["ws", "checkerboard", "monolithic-ws"]


def test_pictures(headway: Commands, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    headway("plan", "--chiplets", written(tmp_path), "--out", str(tmp_path / "plans"), "--gantt")
    for name in ("ws", "checkerboard", "monolithic-ws"):
        assert (tmp_path / "plans" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_pipeline_gives_frames_a_second(headway: Commands) -> None:
    table = headway.json("plan", "--chiplets", EXAMPLES / "car_chiplets.toml")
    rates = {plan["package"]: plan["frames_per_s"] for plan in table["plans"]}
    assert rates["os"] > 1.8 * max(rates["monolithic-ws"], rates["monolithic-os"])


def test_the_shipped_example_of_a_headset_is_planned(headway: Commands) -> None:
    assert headway("plan", "--chiplets", EXAMPLES / "headset_chiplets.toml") == 0
    lines = headway.out.splitlines()
    products = {line.split()[0]: float(line.split()[3]) for line in lines[2:]}
    assert products["checkerboard"] < min(products["ws"], products["os"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("format = 1", "format = 2", "reads format 1, not 2"),
        ("pes = 256", "pes = 100", "100 elements"),
        ("rows = 2", "rows = 0", "rows"),
        ("rows = 2", "rowz = 2", "rowz"),
        ('"ws", ', '"stripes", ', "pattern 'stripes'"),
        ("batch = 2", "batch = 0", "batch"),
        ('"mobilenet_v2"', '"mobilenet_v9"', "no layer table"),
        ('"mobilenet_v2"', '"own.csv"', "names of their own"),
        ("[effort]", '[pipeline]\nfrom_memory = ["x"]\n[effort]', "must be among the models"),
        ("[effort]", "[effort", "mix.toml"),
    ],
)
def test_a_wrong_file_is_refused(headway: Commands, tmp_path: Path, old: str, new: str, said: str) -> None:
    assert headway("plan", "--chiplets", written(tmp_path, SMALL.replace(old, new))) == 78
    assert said in headway.error


def test_more_models_than_chiplets(headway: Commands, tmp_path: Path) -> None:
    more = "".join(f'[[models]]\ntable = "own.csv"\nname = "own{i}"\n' for i in range(3))
    assert headway("plan", "--chiplets", written(tmp_path, SMALL + more)) == 78
    assert "5 models side by side need as many chiplets, ws has 4" in headway.error


def test_a_missing_file_and_other_inputs_beside_it(headway: Commands, tmp_path: Path) -> None:
    assert headway("plan", "--chiplets", tmp_path / "none.toml") == 78
    assert "cannot be read" in headway.error
    assert headway("plan", "--chiplets", written(tmp_path), "--problem", "p.json") == 2
    assert "no place beside --chiplets" in headway.error
