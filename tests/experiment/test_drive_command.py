"""`headway drive`, as a person calls it."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from carla_bridge.experiment.command import drive
from carla_bridge.experiment.episode import Episode, run_episode
from carla_bridge.experiment.plan import EXPERIMENTS, PUBLISHED_PASS_M
from carla_bridge.fleet import command as fleet_command
from tests.processes import COMMAND, PATIENCE_S, wait_for

KEYS = {
    *("policy", "shield", "noise", "deadline", "link", "episodes", "tcr_pct", "collisions", "center_deviation_m"),
    *("energy_mj_per_window", "energy_vs_local", "extra_transit_windows_pct", "fallbacks_pct", "deadline_mean_s"),
    *("interventions_pct", "energy_exit_scaled_mj_per_window"),
}


def call(tmp_path: Path, *words: str) -> Result:
    application = Typer()
    application.command()(drive)
    return CliRunner().invoke(application, [*words, "--out", str(tmp_path), "--jobs", "1"])


def test_table1_in_json_and_again_without_driving(tmp_path: Path) -> None:
    words = ("--episodes", "1", "--duration-s", "0.1", "--deadline", "published")
    first = call(tmp_path, *words, "--json")
    assert first.exit_code == 0, first.output
    rows = json.loads(first.stdout)
    assert len(rows) == 18
    assert all(row.keys() >= KEYS for row in rows)
    assert all(isinstance(row[name], bool) for row in rows for name in ("shield", "noise"))
    assert {row["policy"] for row in rows} == {"local", "eager", "uniform", "adaptive"}
    assert [row["pass_m"] for row in rows[16:]] == [PUBLISHED_PASS_M] * 2
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "episodes").iterdir()}
    assert len(stamps) == 18
    second = call(tmp_path, *words)
    assert second.exit_code == 0, second.output
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "episodes").iterdir()} == stamps
    assert f"uniform, obstacles passed at {PUBLISHED_PASS_M:g} m (as far off as published)" in second.stdout
    assert "published: TCR" in second.stdout
    assert json.loads((tmp_path / "energyshield-table1-published-config1.json").read_text()) == rows


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name != "energyshield-table1"])
def test_every_experiment_prints_its_table_and_draws_its_figure(tmp_path: Path, experiment: str) -> None:
    pytest.importorskip("matplotlib")
    result = call(tmp_path, "--experiment", experiment, "--episodes", "1", "--duration-s", "0.04")
    assert result.exit_code == 0, result.output
    assert EXPERIMENTS[experiment].title in result.stdout
    assert (tmp_path / f"{experiment}-backup-config1.png").stat().st_size > 10_000


def test_only_the_policies_asked_for(tmp_path: Path) -> None:
    result = call(tmp_path, "--policy", "adaptive", "--episodes", "1", "--duration-s", "0.04", "--json")
    assert [row["policy"] for row in json.loads(result.stdout)] == ["adaptive"] * 4


def test_the_speed_asked_for_is_driven(tmp_path: Path) -> None:
    result = call(
        tmp_path, "--speed-mps", "1", "--policy", "local", "--episodes", "1", "--duration-s", "0.04", "--json"
    )
    assert {row["speed_mps"] for row in json.loads(result.stdout)} == {1.0}
    slow, fast = (run_episode(Episode("local", False, limit_s=1.0, speed_mps=asked)) for asked in (1.0, None))
    assert slow.mean_speed_mps <= 1.0 < fast.mean_speed_mps


@pytest.mark.timeout(120)
def test_a_killed_run_goes_on_to_the_same_rows(tmp_path: Path) -> None:
    words = ("--policy", "adaptive", "--episodes", "2", "--duration-s", "0.2", "--json")
    whole = call(tmp_path / "whole", *words)
    command = [*COMMAND, "drive", *words, "--out", str(tmp_path / "killed"), "--jobs", "1"]
    done = tmp_path / "killed" / "episodes"
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            wait_for(lambda: len(list(done.glob("*.json"))) >= 2, 2.0 * PATIENCE_S)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in done.glob("*.json")}
    again = call(tmp_path / "killed", *words)
    assert json.loads(again.stdout) == json.loads(whole.stdout)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    names = sorted(path.name for path in done.iterdir() if path.suffix == ".json")
    assert len(names) == 8
    for name in names:
        assert (done / name).read_bytes() == (tmp_path / "whole" / "episodes" / name).read_bytes()


def test_the_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(fleet_command, "SIZES", (10,))
    result = call(tmp_path, "--experiment", "fleet")
    assert result.exit_code == 0, result.output
    assert "A cell of 40 streams" in result.stdout
    rows = json.loads((tmp_path / "fleet.json").read_text())
    assert [(row["vehicles"], row["admission"]) for row in rows] == [(10, False), (10, True)]
    assert (tmp_path / "fleet.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--experiment", "table1"), "must be one of energyshield-table1"),
        (("--episodes", "0"), "must be at least 1"),
        (("--episodes", "2000"), "must be at most 1000"),
        (("--seed", "-1"), "must lie between 0"),
        (("--duration-s", "nan"), "must be above 0"),
        (("--pass-m", "-1"), "must not be negative"),
        (("--speed-mps", "0"), "must be above 0"),
        (("--speed-mps", "inf"), "must be above 0"),
        (("--policy", "greedy"), "no policy of"),
        (("--deadline", "none"), "is not one of"),
        (("--link", "fast"), "must be a rate such as 20mbps"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = call(tmp_path, *words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_unknown_vehicles_and_scenarios_end_with_their_reason(tmp_path: Path) -> None:
    for words in (("--vehicle", "boat"), ("--scenario", "moon")):
        result = call(tmp_path, *words)
        assert result.exception is not None
        assert getattr(result.exception, "exit_code", None) == 78, result.exception
