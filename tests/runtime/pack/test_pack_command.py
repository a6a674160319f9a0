"""`headway pack`: what it says, what it writes, and one clear error for everything that is wrong."""

from pathlib import Path

import numpy as np
import pytest

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.package import load_package
from runtime.pack.exits.binomial import binomial_cdf
from runtime.pack.exits.collect import trace_exits
from tests.models import exit_segments
from tests.runtime.pack.commands import Commands
from tests.runtime.pack.nets import Net, foreign, residual, tokens

IMAGES = np.random.default_rng(5).normal(size=(700, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return residual(tmp_path / "net.onnx")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "classifier.onnx"
    path.write_bytes(exit_segments(8)[1].SerializeToString())
    return path


def test_json_tells_segments_cuts_and_the_error(headway: Commands, net: Path, tmp_path: Path) -> None:
    report = headway.json("pack", net, "--out", tmp_path / "m" / "1", "--cuts", "b0,b2", "--name", "m")
    assert report["segments"] == ["part1", "part2", "part3"]
    assert report["cut_tensors"] == [["b0"], ["b2"]]
    assert report["crossing_bytes"] == [6 * 8 * 8 * 4] * 2
    assert 0.0 <= report["max_abs_error"] < 1e-5
    assert report["exits"] == []
    package = load_package(tmp_path / "m" / "1")
    assert (package.name, package.version, package.origin) == ("m", "1", "net.onnx")
    assert [segment.macs for segment in package.segments] == report["macs"]


def test_words_tell_the_same(headway: Commands, net: Path, tmp_path: Path) -> None:
    assert headway("pack", net, "--out", tmp_path / "p", "--cuts", "2") == 0
    assert headway.out.startswith(f"net version 1 in {tmp_path / 'p'}\n")
    assert headway.out.count("  cut at ") == 2
    assert "parts and whole differ by at most" in headway.out


def test_without_cuts_it_is_one_segment(headway: Commands, net: Path, tmp_path: Path) -> None:
    assert headway.json("pack", net, "--out", tmp_path / "p")["segments"] == ["part1"]


def test_the_list_of_cuts_writes_nothing(headway: Commands, net: Path, tmp_path: Path) -> None:
    points = headway.json("pack", net, "--list")["cut_points"]
    assert ["b1"] in [point["tensors"] for point in points]
    assert headway("pack", net, "--list") == 0
    assert [line.split()[-1] for line in headway.out.splitlines()[1:]] == ["+".join(p["tensors"]) for p in points]
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_given_inputs_are_compared_too(headway: Commands, net: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.ones((4, 6, 8, 8), np.float32))
    assert headway("pack", net, "--out", tmp_path / "p", "--cuts", "1", "--check", tmp_path / "x.npz") == 0


def fitting(model: Path, folder: Path) -> tuple[str | Path, ...]:
    return ("pack", model, "--out", folder / "p", "--kind", "classification", "--calibration", folder / "x.npz")


def test_exits_are_fitted_with_their_guarantee(headway: Commands, classifier: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=IMAGES)
    arguments = fitting(classifier, tmp_path)
    report = headway.json(*arguments, "--exits", "2", "--cuts", "f1,f2", "--max-disagreement", "0.2")
    assert [item["tensors"] for item in report["exits"]] == [["f1"], ["f2"]]
    used = [item for item in report["exits"] if item["threshold"] is not None]
    assert used
    assert sum(item["disagreement"] for item in used) <= 0.2
    assert all(0.0 <= item["share"] <= 1.0 for item in used)
    package = load_package(tmp_path / "p")
    assert [item.id for item in package.exits] == [*(item["id"] for item in used), "final"]
    assert package.calibration


VECTORS = np.random.default_rng(6).normal(size=(700, 6)).astype(np.float32)


def test_the_answer_is_chosen_by_name(headway: Commands, tmp_path: Path) -> None:
    path = foreign(tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=VECTORS)
    arguments = ("pack", path, "--out", tmp_path / "p", "--exits", "1", "--calibration", tmp_path / "x.npz")
    assert headway(*arguments) == 78
    assert "can't be fitted to the answer label int64[N]" in headway.error
    assert "other outputs are y float32[N,3]" in headway.error
    report = headway.json(*arguments, "--answer", "y", "--max-disagreement", "0.1")
    assert report["exits"][0]["share"] > 0.3
    package = load_package(tmp_path / "p")
    assert package.exits[-1].answer == "y"
    assert "label" in package.exit_outputs("final")
    assert headway("pack", path, "--out", tmp_path / "q", "--answer", "z") == 78
    assert "has no output 'z': it has label, y" in headway.error


def test_a_regressor_gets_exits_within_its_tolerance(headway: Commands, tmp_path: Path) -> None:
    net = Net(8)
    read = "x"
    for index in range(3):
        made = net.add("MatMul", [read, net.weight(f"w{index}", 6, 6)], f"m{index}")
        read = net.add("Add", [read, net.add("Tanh", [made], f"h{index}")], f"s{index}")
    net.add("MatMul", [read, net.weight("y_w", 6, 2)], "y")
    path = net.write(tmp_path / "net.onnx", [("x", ("N", 6))], [("y", ("N", 2))])
    np.savez(tmp_path / "x.npz", x=VECTORS)
    fits = ("pack", path, "--out", tmp_path / "p", "--exits", "2", "--calibration", tmp_path / "x.npz")
    assert headway(*fits, "--kind", "regression") == 78
    assert "tolerance must say which deviation" in headway.error
    report = headway.json(*fits, "--kind", "regression", "--tolerance", "1.0,0.8", "--max-disagreement", "0.1")
    assert sum(item["share"] for item in report["exits"]) > 0.2
    package = load_package(tmp_path / "p")
    unseen = np.random.default_rng(7).normal(size=(400, 6)).astype(np.float32)
    said = trace_exits(package, OnnxRuntimeBackend(), {"x": unseen}, np.arange(400))
    thresholds = np.array([taken.threshold for taken in package.exits[:-1]], np.float64)
    confident = said.confidences >= thresholds[:, None]
    far = np.stack([(np.abs(answer - said.final) > [1.0, 0.8]).any(axis=1) for answer in said.answers])
    early = int(confident.any(axis=0).sum())
    beyond = int((confident & far).any(axis=0).sum())
    assert early > 80
    assert binomial_cdf(beyond - 1, 400, 0.1) < 1.0 - 1e-4


def test_words_by_number_get_exits(headway: Commands, tmp_path: Path) -> None:
    words = np.random.default_rng(8).integers(0, 2, (300, 7))
    np.savez(tmp_path / "x.npz", words=words)
    arguments = ("--exits", "1", "--calibration", tmp_path / "x.npz", "--max-disagreement", "0.3")
    report = headway.json("pack", tokens(tmp_path / "net.onnx"), "--out", tmp_path / "p", *arguments)
    assert len(report["cut_tensors"]) == 1


def test_a_budget_bounds_the_mean_work(headway: Commands, classifier: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=IMAGES)
    chosen = ("--exits", "2", "--cuts", "f1,f2", "--budget", "0.6", "--score", "margin", "--grid", "2")
    headway.json(*fitting(classifier, tmp_path), *chosen)
    record = load_package(tmp_path / "p").calibration
    assert record["mean_cost"] <= 0.6
    assert (record["score"], record["grid"], record["budget"]) == ("margin", 2, 0.6)


def test_too_few_inputs_say_how_many_are_needed(headway: Commands, classifier: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=IMAGES[:100])
    assert headway(*fitting(classifier, tmp_path), "--exits", "1", "--cuts", "1") == 78
    assert "at least 299" in headway.error
    assert not (tmp_path / "p").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classifier.onnx", "x.npz"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--cuts", "1"], 2, "say where the package shall lie"),
        (["--out", "P", "--cuts", "b9"], 78, "no tensor 'b9' to cut at"),
        (["--out", "P", "--cuts", "-1"], 2, "must be at least 0 cuts"),
        (["--out", "P", "--cuts", ","], 2, "names no tensor"),
        (["--out", "P", "--cuts", "b0,,b1"], 2, "names no tensor"),
        (["--out", "P", "--cuts", "77"], 78, "can't be cut 77 times"),
        (["--out", "P", "--exits", "1"], 2, "needs unlabelled inputs"),
        (["--out", "P", "--exits", "-1"], 2, "must be at least 0"),
        (["--out", "P", "--calibration", "x.npz"], 2, "is of use with --exits only"),
        (["--out", "P", "--exits", "1", "--calibration", "absent.npz"], 78, "cannot read absent.npz: No such file"),
        (["--out", "P", "--delta", "0"], 2, "must lie strictly between 0 and 1"),
        (["--out", "P", "--max-disagreement", "1.5"], 2, "must lie strictly between 0 and 1"),
        (["--out", "P", "--exits", "1", "--calibration", "x", "--tolerance", "a"], 2, "must be numbers above zero"),
        (["--out", "P", "--score", "poetry"], 2, "must be one of max-probability, margin"),
        (["--out", "P", "--budget", "0"], 2, "must lie within 0..1"),
        (["--out", "P", "--budget", "0.5"], 2, "is of use with --exits only"),
        (["--out", "P", "--budget", "0.5", "--score", "window"], 2, "choose another score"),
        (["--out", "P", "--grid", "0"], 2, "must be at least 1"),
        (["--out", "P", "--kind", "poetry"], 2, "must be one of classification, regression, custom"),
        (["--out", "P", "--check", "text.npz"], 78, "is no .npz file"),
        (["--out", "P", "--check", "lone.npz"], 78, "one array without a name"),
        (["--out", "P", "--check", "objects.npz"], 78, "is no .npz file of numbers"),
        (["--out", "P", "--check", "other.npz"], 78, r"lacks ['image'] and has unknown ['other']"),
        (["--out", "P", "--name", "a/b"], 78, "name"),
        (["--out", "taken"], 78, "exists and is no model package"),
        (["--out", "P", "--colour", "red"], 2, "No such option"),
    ],
)
def test_what_is_wrong_is_said_once(
    headway: Commands,
    net: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npz").write_text("no numbers")
    with (tmp_path / "lone.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    np.savez(tmp_path / "objects.npz", image=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    assert headway("pack", net, *arguments) == code
    assert message in headway.error
    assert "Traceback" not in headway.error
    assert not (tmp_path / "P").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
