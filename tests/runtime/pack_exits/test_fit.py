"""Exits fitted to real small models: what is written, and that it behaves in use as it did in calibration."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from devices.backends.onnxruntime import OnnxRuntimeBackend
from devices.chain import Chain
from devices.errors import InputError
from devices.package import Exit, ExitKind, Package, load_package
from runtime.pack.exits import (
    AnswerError,
    CalibrationError,
    CutError,
    ExitSettings,
    FittedExits,
    Score,
    TooFewSamplesError,
    calibrate_exits,
    check_record,
    fit_exits,
    seams,
    write_exits,
)
from runtime.pack.exits.split import split
from tests.models import write_exit_package
from tests.runtime.pack_exits.conftest import TrainedDigits
from tests.runtime.pack_exits.packages import (
    branched_package,
    images,
    vectors,
    write_binary_package,
    write_conv_package,
)

LOOSE = ExitSettings(count=1, max_disagreement=0.1, delta=0.1)


def run(package: Package, sample: dict[str, Any]) -> tuple[int, NDArray[np.float32]]:
    """Return where a walk ends by itself and its answer."""
    thresholds = [e.threshold for e in package.exits]
    chain = _CHAINS.setdefault(package.digest, Chain(package, OnnxRuntimeBackend()))

    def stop(said: Any) -> bool:
        threshold = thresholds[said.index]
        return threshold is not None and said.confidence >= threshold

    result = chain.run(sample, on_exit=stop)
    assert result.exit is not None
    return result.exit.index, result.exit.answer


_CHAINS: dict[str, Chain] = {}


@pytest.fixture(scope="module")
def fitted_digits(digits: TrainedDigits) -> FittedExits:
    settings = ExitSettings(count=2, max_disagreement=0.02)
    return fit_exits(digits.logits, {"image": digits.data.images[600:]}, settings)


def test_digits_leave_early_and_agree(digits: TrainedDigits, fitted_digits: FittedExits, tmp_path: Path) -> None:
    package = write_exits(tmp_path / "digits", digits.logits, fitted_digits)
    assert package.exits[-1].id == "final"
    assert (package.name, package.license) == (digits.logits.name, digits.logits.license)
    held = digits.data.images[600:]
    _, choosing = split(len(held), 0.5, 0)
    whole = Chain(digits.logits, OnnxRuntimeBackend())
    ends, differs = [], 0
    for row in choosing:
        sample = {"image": held[row : row + 1]}
        index, answer = run(package, sample)
        full = whole.run(sample).exit
        assert full is not None
        ends.append(package.exits[index].id)
        differs += int(answer.argmax() != full.answer.argmax())
    assert fitted_digits.samples == len(choosing) == 599
    for report in fitted_digits.reports:
        assert ends.count(report.id) / len(ends) == pytest.approx(report.share)
    assert differs == sum(report.disagreements for report in fitted_digits.reports)
    assert differs <= fitted_digits.disagreements <= 6  # what 599 samples allow for 2 % at 0.05
    assert fitted_digits.reports[0].share > 0.5


def test_the_record_says_what_was_done(digits: TrainedDigits, fitted_digits: FittedExits, tmp_path: Path) -> None:
    package = write_exits(tmp_path / "digits", digits.logits, fitted_digits)
    record = check_record(package)
    assert "learn-then-test" in record["method"]
    assert (record["max_disagreement"], record["delta"]) == (0.02, 0.05)
    assert (record["samples"], record["fit_samples"]) == (599, 598)
    assert record["disagreements"] >= fitted_digits.disagreements
    assert record["p_value"] <= 0.05
    assert len(record["inputs_sha256"]) == len(record["model_sha256"]) == 64
    for table, taken in zip(record["exits"], package.exits[:-1], strict=True):
        assert (table["id"], table["threshold"]) == (taken.id, taken.threshold)
        assert table["left_by_low"] <= table["share"] <= table["left_by_high"]


def test_the_same_inputs_give_the_same_package(digits: TrainedDigits, fitted_digits: FittedExits) -> None:
    again = fit_exits(digits.logits, {"image": digits.data.images[600:]}, ExitSettings(count=2, max_disagreement=0.02))
    assert again.calibration == fitted_digits.calibration
    assert [s.data() for s in again.segments] == [s.data() for s in fitted_digits.segments]


def test_an_exchanged_threshold_or_segment_is_noticed(
    digits: TrainedDigits, fitted_digits: FittedExits, tmp_path: Path
) -> None:
    package = write_exits(tmp_path / "digits", digits.logits, fitted_digits)
    file = tmp_path / "digits" / "package.toml"
    text = file.read_text()
    threshold = next(e.threshold for e in package.exits)
    file.write_text(text.replace(f"threshold = {threshold!r}", "threshold = 0.125", 1))
    with pytest.raises(CalibrationError, match=r"threshold 0\.125, it was calibrated with"):
        check_record(load_package(tmp_path / "digits"))
    file.write_text(text.replace(str(package.calibration["model_sha256"]), "0" * 64))
    with pytest.raises(CalibrationError, match="calibrated with segments of hash 0000"):
        check_record(load_package(tmp_path / "digits"))
    with pytest.raises(CalibrationError, match="calibration format 'missing'"):
        check_record(digits.logits)


@pytest.mark.parametrize("score", [Score.MARGIN, Score.ENTROPY, Score.ENERGY])
def test_every_score_opens_exits(digits: TrainedDigits, score: Score) -> None:
    settings = ExitSettings(count=1, max_disagreement=0.03, score=score, temperature=2.0, strengths=(1e-2,))
    fitted = fit_exits(digits.logits, {"image": digits.data.images[600:]}, settings)
    assert fitted.reports[0].share > 0.5
    assert fitted.calibration["score"] == str(score)


def test_probabilities_are_answered_with_probabilities(digits: TrainedDigits, tmp_path: Path) -> None:
    fitted = fit_exits(digits.probabilities, {"image": digits.data.images[600:]}, LOOSE)
    package = write_exits(tmp_path / "p", digits.probabilities, fitted)
    index, answer = run(package, {"image": digits.data.images[:1]})
    assert index == 0
    assert answer.min() >= 0
    assert answer.sum() == pytest.approx(1.0, abs=1e-5)


def test_a_regression_leaves_within_its_tolerance(tmp_path: Path) -> None:
    package = write_conv_package(tmp_path / "conv", ExitKind.REGRESSION)
    inputs = {"image": images(240)}
    settings = ExitSettings(count=2, max_disagreement=0.1, delta=0.1, tolerance=(0.4, 0.4, 0.4, 0.4))
    fitted = fit_exits(package, inputs, settings)
    assert fitted.calibration["score"] == "error-head"
    assert fitted.calibration["tolerance"] == [0.4] * 4
    written = write_exits(tmp_path / "conv", package, fitted)  # over its own folder
    assert written.answer_names == ("a", "b", "c", "d")
    ends, wrong = [], 0
    whole = Chain(written, OnnxRuntimeBackend())
    for image in images(300, seed=1):
        index, answer = run(written, {"image": image[None]})
        full = whole.run({"image": image[None]}).exit
        assert full is not None
        ends.append(index)
        wrong += bool(np.abs(answer - full.answer).max() > 0.4)
    assert np.mean(np.array(ends) < len(written.exits) - 1) > 0.2
    assert wrong <= 45  # 10 % of 300, and what chance adds with probability 0.005


@pytest.mark.parametrize("grid", [1, 2])
def test_a_classifier_of_images_gets_exits_at_its_cuts(tmp_path: Path, grid: int) -> None:
    package = write_conv_package(tmp_path / "conv")
    settings = ExitSettings(count=2, max_disagreement=0.15, delta=0.2, grid=grid, strengths=(1e-2,))
    fitted = fit_exits(package, {"image": images(240)}, settings)
    assert {report.tensors for report in fitted.reports} <= {("f1",), ("f2",), ("f3",)}
    assert fitted.exits[-1].kind is ExitKind.CLASSIFICATION  # four columns of a custom answer
    written = write_exits(tmp_path / "out", package, fitted)
    batch = Chain(written, OnnxRuntimeBackend()).run({"image": images(5)}, on_exit=lambda _: False)
    assert batch.exit is not None
    assert batch.exit.answer.shape == (5, 4)


@pytest.mark.parametrize(("probability", "columns"), [(True, 1), (False, 1), (True, 2), (False, 2)])
def test_a_window_goes_on_only_in_between(tmp_path: Path, probability: bool, columns: int) -> None:
    package = write_binary_package(tmp_path / "b", probability=probability, columns=columns)
    settings = ExitSettings(count=1, max_disagreement=0.1, delta=0.1, score=Score.WINDOW)
    fitted = fit_exits(package, {"x": vectors(600)}, settings)
    written = write_exits(tmp_path / "w", package, fitted)
    assert written.exits[0].threshold == 0.0
    assert written.tensors[written.exits[0].answer].shape[-1] == columns
    _, choosing = split(600, 0.5, 0)
    ends = [run(written, {"x": vectors(600)[row : row + 1]})[0] for row in choosing]
    assert np.mean(np.array(ends) == 0) == pytest.approx(fitted.reports[0].share)
    assert 0.2 < fitted.reports[0].share
    assert 0 < sum(index == 0 for index in ends)


def test_a_seam_of_several_tensors_is_read_whole(tmp_path: Path) -> None:
    package = branched_package(tmp_path / "b")
    assert [tuple(spec.name for spec in cut) for _, cut in seams(package)] == [("a", "b")]
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.normal(size=(200, 6)).astype(np.float32),
        "tokens": rng.normal(size=(200, 5, 4)).astype(np.float32),
    }
    fitted = fit_exits(package, inputs, LOOSE)
    assert fitted.reports[0].tensors == ("a", "b")
    assert fitted.reports[0].agreement > 0.9  # the final answer is linear in the pooled features
    named = fit_exits(package, inputs, ExitSettings(at=(("b", "a"),), max_disagreement=0.1, delta=0.1))
    assert named.reports[0].tensors == ("b", "a")


def test_a_budget_is_kept(digits: TrainedDigits, tmp_path: Path) -> None:
    fitted = fit_exits(digits.logits, {"image": digits.data.images[600:]}, ExitSettings(count=2, budget=0.6))
    package = write_exits(tmp_path / "digits", digits.logits, fitted)
    record = check_record(package)
    assert record["mean_cost"] <= 0.6
    assert sum(record["rates"]) == pytest.approx(1.0)
    low, high = record["disagreement_interval"]
    assert low <= record["disagreements"] / record["samples"] <= high
    used = [
        package.mac_share(package.exits[run(package, {"image": row[None]})[0]].id) for row in digits.data.images[:200]
    ]
    assert np.mean(used) < 0.7


def test_exits_that_are_there_get_new_thresholds(tmp_path: Path) -> None:
    package = write_exit_package(tmp_path / "three")
    inputs = {"image": np.random.default_rng(0).normal(size=(200, 3, 16, 16)).astype(np.float32)}
    with pytest.raises(CutError, match="calibrate_exits"):
        fit_exits(package, inputs, LOOSE)
    settings = ExitSettings(max_disagreement=0.2, delta=0.2, tolerance=1.5, fit_share=0.3)
    fitted = calibrate_exits(package, inputs, settings)
    written = write_exits(tmp_path / "again", package, fitted)
    check_record(written)
    assert [e.id for e in written.exits] == ["exit1", "exit2", "exit3"]
    assert [s.sha256 for s in written.segments] == [s.sha256 for s in package.segments]
    for report, taken in zip(fitted.reports, written.exits, strict=False):
        assert taken.threshold == (np.inf if report.threshold is None else report.threshold)


def test_exits_that_never_agree_are_refused(tmp_path: Path) -> None:
    package = write_exit_package(tmp_path / "three")
    inputs = {"image": np.random.default_rng(0).normal(size=(200, 3, 16, 16)).astype(np.float32)}
    with pytest.raises(CalibrationError, match="no exit can be opened"):
        calibrate_exits(package, inputs, ExitSettings(max_disagreement=0.05, delta=0.1, tolerance=1e-6))


def test_too_few_samples_are_refused_before_anything_runs(digits: TrainedDigits) -> None:
    with pytest.raises(TooFewSamplesError, match=r"200 calibration samples .* at least 299") as caught:
        fit_exits(digits.logits, {"image": digits.data.images[:400]}, ExitSettings())
    assert caught.value.exit_code == 78
    with pytest.raises(CalibrationError, match="each part needs at least 12"):
        fit_exits(digits.logits, {"image": digits.data.images[:12]}, ExitSettings(budget=0.5))


def test_groups_stay_together(digits: TrainedDigits) -> None:
    held = digits.data.images[600:1000]
    twice = np.concatenate([held, held])
    groups = [*range(len(held)), *range(len(held))]
    fitted = fit_exits(digits.logits, {"image": twice}, LOOSE, groups=groups)
    assert fitted.samples == 400


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (ExitSettings(count=3, max_disagreement=0.1), CutError, "3 exits were asked for, .* has 2 places"),
        (ExitSettings(at=(("nosuch",),), max_disagreement=0.1), CutError, r"\['nosuch'\]: tensors between segments"),
        (ExitSettings(at=((),), max_disagreement=0.1), CutError, "no exit can read nothing"),
        (ExitSettings(kind=ExitKind.CUSTOM, max_disagreement=0.1), AnswerError, "kind is custom"),
        (ExitSettings(kind=ExitKind.REGRESSION, max_disagreement=0.1), AnswerError, "tolerance must say"),
        (
            ExitSettings(kind=ExitKind.REGRESSION, tolerance=(1.0, 2.0), max_disagreement=0.1),
            AnswerError,
            "one for each of 10 columns",
        ),
        (ExitSettings(score=Score.WINDOW, max_disagreement=0.1), ValueError, "exactly 2"),
        (ExitSettings(budget=0.1), CalibrationError, "budget 0.1 is below"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    digits: TrainedDigits, settings: ExitSettings, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit_exits(digits.logits, {"image": digits.data.images[600:800]}, settings)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "lacks"),
        ({"image": np.zeros((9, 64), np.float32), "more": np.zeros(9)}, "unknown"),
        ({"image": np.zeros((0, 64), np.float32)}, "shape"),
        ({"image": np.zeros(64, np.float32)}, "shape"),
        ({"image": np.zeros((200, 65), np.float32)}, "shape"),
        ({"image": np.zeros((200, 64), np.float64)}, "dtype float64"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(digits: TrainedDigits, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_exits(digits.logits, inputs, LOOSE)


def test_inputs_must_bring_as_many_samples_each(tmp_path: Path) -> None:
    inputs = {"x": np.zeros((30, 6), np.float32), "tokens": np.zeros((31, 5, 4), np.float32)}
    with pytest.raises(InputError, match="different counts"):
        fit_exits(branched_package(tmp_path / "b"), inputs, LOOSE)


def test_an_answer_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    package = write_conv_package(tmp_path / "conv")
    broken = images(100)
    broken[:] = np.nan
    with pytest.raises(AnswerError, match="not finite"):
        fit_exits(package, {"image": broken}, LOOSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count = 0"),
        ({"fit_share": 1.0}, "fit_share = 1.0"),
        ({"budget": 0.0}, "budget = 0.0"),
        ({"strengths": ()}, "strengths"),
        ({"max_disagreement": 0.0}, "max_disagreement = 0.0"),
        ({"delta": 1.0}, "delta = 1.0"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExitSettings(**change)


def test_names_that_are_taken_are_avoided(tmp_path: Path) -> None:
    package = write_conv_package(tmp_path / "conv")
    renamed = Package(
        **{
            **{key: getattr(package, key) for key in ("name", "version", "folder", "inputs", "segments")},
            "exits": (Exit("exit1", "last", "answer", kind=ExitKind.CLASSIFICATION),),
        }
    )
    fitted = fit_exits(renamed, {"image": images(240)}, ExitSettings(max_disagreement=0.2, delta=0.2))
    assert [e.id for e in fitted.exits] == ["exit_1", "exit1"]
    write_exits(tmp_path / "out", renamed, fitted)


def test_inputs_that_fit_may_be_given_apart(digits: TrainedDigits) -> None:
    held, trained = digits.data.images[600:], digits.data.images[:600]
    settings = ExitSettings(count=1, max_disagreement=0.03)
    fitted = fit_exits(digits.logits, {"image": held}, settings, fitting={"image": trained})
    assert fitted.samples == len(held)
    assert fitted.calibration["fit_samples"] == 600
    assert fitted.calibration["fitting_sha256"] != fitted.calibration["inputs_sha256"]
    with pytest.raises(TooFewSamplesError, match="90 calibration samples"):
        fit_exits(digits.logits, {"image": held[:90]}, settings, fitting={"image": trained})
