"""Seconds of what `benchmarks/bench_guard_load.py` does for minutes: nobody is killed without the guard going on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_guard_load.py"


def soak(seconds: float, kill_every_s: float, folder: Path) -> None:
    told = folder / "told.json"
    arguments = ("--seconds", str(seconds), "--kill-every-s", str(kill_every_s), "--json", str(told))
    subprocess.run((sys.executable, BENCHMARK, *arguments), check=True, capture_output=True)
    for figures in json.loads(told.read_text())["results"].values():
        assert figures["ticks"] > 10
        assert figures["late controls"] == 0
        assert figures["refused by the vehicle side"] == 0
        assert figures["guard grew by_kb"] < 2000.0


def test_the_guard_goes_on_while_all_beside_it_is_killed(tmp_path: Path) -> None:
    soak(2.0, 1.0, tmp_path)


@pytest.mark.slow
def test_the_guard_goes_on_for_twenty_minutes(tmp_path: Path) -> None:
    soak(600.0, 10.0, tmp_path)
