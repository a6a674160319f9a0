"""Seconds of what the long runs do for minutes and hours, and those runs themselves (`make soak`)."""

import importlib
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WHOLE_MS, P999_MS = 20.0, 5.0


def figures_of(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a benchmark to its end and return what it kept."""
    told = folder / "told.json"
    command = (sys.executable, str(BENCHMARKS / name), *arguments, "--json", str(told))
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return dict(json.loads(told.read_text())["results"])


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("growth").growth


@pytest.mark.timeout(120)
def test_the_guard_goes_on_while_all_beside_it_is_killed(tmp_path: Path) -> None:
    (figures,) = figures_of(
        "bench_guard_load.py", tmp_path, "--seconds", "2", "--kill-every", ".7", "--only-killed"
    ).values()
    assert figures["ticks"] > 10
    assert figures["load kills"] >= 1
    assert sum(figures["modes"].values()) >= figures["ticks"] - figures["without a decision"]
    assert figures["guard"]["last_kb"] - figures["guard"]["first_kb"] < 2000.0


@pytest.mark.timeout(120)
def test_daemon_guard_edge_and_vehicle_are_watched_for_a_while(tmp_path: Path) -> None:
    told = figures_of("bench_soak.py", tmp_path, "--seconds", "2")
    assert told["drive"]["ticks"] > 10
    assert told["drive"]["collisions"] == 0
    for name in ("daemon", "guard", "edge", "vehicle"):
        assert told[name]["samples"] >= 25
        assert told[name]["last_kb"] > 10e3


@pytest.mark.timeout(120)
def test_a_quarter_of_a_minute_of_the_virtual_day(tmp_path: Path) -> None:
    told = figures_of("bench_soak.py", tmp_path, "--virtual-hours", ".004", "--driven", "1")
    day = told["day"]
    assert day["finished"] == day["episodes"] > 1
    assert day["uncertified"] == day["collisions"] == 0


def test_a_slope_is_told_from_noise(growth: Any) -> None:
    rng = random.Random(3)
    times = [float(second) for second in range(1000)]
    flat = growth(times, [1e8 + rng.gauss(0.0, 4e5) for _ in times])
    leak = growth(times, [1e8 + 2e3 * second + rng.gauss(0.0, 4e5) for second in times])
    assert flat["zero"]
    assert abs(flat["slope_kb_per_h"]) < 1e3
    assert not leak["zero"]
    assert leak["slope_kb_per_h"] == pytest.approx(7200.0, rel=0.1)


def test_memory_that_fills_before_it_stays_is_no_growth_and_a_few_pages_are_none(growth: Any) -> None:
    times = [float(second) for second in range(1000)]
    assert growth(times, [1e8 + 1e5 * min(second, 190.0) for second in times])["zero"]
    assert growth(times, [1e8 + 4096.0 * (second > 600.0) for second in times])["zero"]
    assert not growth(times, [1e8 + 1e5 * (second // 100) for second in times])["zero"]


def test_few_samples_give_no_slope(growth: Any) -> None:
    with pytest.raises(ValueError, match="24 samples"):
        growth([float(second) for second in range(24)], [1.0] * 24)


@pytest.mark.slow
def test_the_guard_is_on_time_for_twenty_minutes(tmp_path: Path) -> None:
    for figures in figures_of("bench_guard_load.py", tmp_path).values():
        assert figures["late controls"] == 0
        assert figures["guard"]["zero"], figures["guard"]
        if figures["sleeper max_ms"] > 0.5 * WHOLE_MS or figures["sleeper p99.9_ms"] > 0.5 * P999_MS:
            pytest.skip(f"this machine wakes a bare sleeper {figures['sleeper max_ms']:.1f} ms late")
        assert figures["ticks later than 20 ms"] == 0
        assert figures["p99.9_ms"] < P999_MS


@pytest.mark.slow
def test_nothing_grows_in_half_an_hour_nor_in_a_virtual_day(tmp_path: Path) -> None:
    """Both at once: neither is about time."""
    (tmp_path / "day").mkdir()
    with ThreadPoolExecutor(1) as beside:
        day_run = beside.submit(figures_of, "bench_soak.py", tmp_path / "day", "--virtual-hours", "24")
        told = figures_of("bench_soak.py", tmp_path)
        virtual = day_run.result()
    drive = told.pop("drive")
    assert drive["late controls"] == drive["collisions"] == drive["guard restarts"] == 0
    assert all(grown["zero"] for grown in told.values()), told
    assert virtual["day"]["uncertified"] == virtual["day"]["collisions"] == 0
    assert virtual["this process"]["zero"], virtual["this process"]
