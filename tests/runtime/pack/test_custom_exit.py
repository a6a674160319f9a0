"""An exit with a score of its own: calibrated, written, and taken by `headway infer` exactly when the score says so."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from devices.package import Exit, ExitKind, Package, SegmentSource, write_package
from runtime.pack.exits import ExitSettings, calibrate_exits, check_record, write_exits
from tests.models import model
from tests.runtime.pack.commands import Commands


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """x [N, 6]; the final answer is its sine, the exit scales it and is the surer the less its largest value is."""
    first = model(
        [
            helper.make_node("Mul", ["x", "two"], ["early"]),
            helper.make_node("ReduceMax", ["early"], ["largest"], axes=[1], keepdims=1),
            helper.make_node("Neg", ["largest"], ["sure"]),
            helper.make_node("Sin", ["x"], ["bent"]),
        ],
        [("x", ("N", 6))],
        [("early", ("N", 6)), ("sure", ("N", 1)), ("bent", ("N", 6))],
        {"two": np.float32(2.0)},
    )
    last = model(
        [helper.make_node("Neg", ["bent"], ["m"]), helper.make_node("Neg", ["m"], ["final"])],
        [("bent", ("N", 6))],
        [("final", ("N", 6))],
    )
    return write_package(
        tmp_path / "own",
        name="own",
        version="1",
        segments=[SegmentSource("first", first), SegmentSource("last", last)],
        exits=[Exit("early", "first", "early", "sure", ExitKind.CUSTOM, -9.0), Exit("final", "last", "final")],
    )


def vectors(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2.0, 1.75, (samples, 6)).astype(np.float32)


def test_an_own_score_is_calibrated_and_obeyed(headway: Commands, package: Package, tmp_path: Path) -> None:
    fitted = calibrate_exits(package, {"x": vectors(900, 0)}, ExitSettings(max_disagreement=0.02))
    written = write_exits(tmp_path / "fitted", package, fitted)
    assert check_record(written)["score"] == "own"
    assert [taken.kind for taken in written.exits] == [ExitKind.CUSTOM, ExitKind.CUSTOM]
    threshold = written.exits[0].threshold
    assert threshold is not None
    assert -3.5 < threshold < -2.8
    seen = set()
    for index, row in enumerate(vectors(12, 1)):
        np.savez(tmp_path / "x.npz", x=row[None])
        answer = headway.json("infer", tmp_path / "fitted", "--input", tmp_path / "x.npz")
        sure = bool(-2.0 * row.max() >= threshold)
        assert answer["exit"] == ("early" if sure else "final"), index
        assert answer["confidence"] == (pytest.approx(-2.0 * row.max()) if sure else None)
        seen.add(answer["exit"])
    assert seen == {"early", "final"}
