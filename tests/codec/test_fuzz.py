"""The fuzz target of the wire's decoder, shortly; the whole million is run by the benchmark."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_codec.py"


@pytest.mark.timeout(60)
def test_ten_thousand_inputs_are_read_or_refused(tmp_path: Path) -> None:
    kept = tmp_path / "fuzz.json"
    command = [sys.executable, str(BENCHMARK), "--repeats", "1", "--fuzz", "10000", "--json", str(kept)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60.0, check=False, cwd=BENCHMARK.parents[1], env=_environment()
    )
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(kept.read_text())["fuzz"]
    assert seen["inputs"] == 10_000
    assert seen["read"] > 100
    assert seen["refused"] > 10_000
    assert seen["peak_kb"] < 20_000


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(BENCHMARK.parents[1]), "OMP_NUM_THREADS": "1"}
