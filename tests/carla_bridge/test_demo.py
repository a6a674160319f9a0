"""The demonstration as a user runs it: real processes, kills, and what it prints."""

import json
from typing import Any

import pytest

from tests.processes import run

KEYS = {
    "windows",
    "local_runs",
    "offloads",
    "fallbacks",
    "exit_shares",
    "energy_mj_per_window",
    "energy_saved_pct",
    "deadline_p05_s",
    "deadline_median_s",
    "late_controls",
    "interventions",
    "collisions",
    "min_clearance_m",
    "center_deviation_m",
}


def drive(*arguments: str) -> Any:
    ended = run("demo", "--json", *arguments, timeout_s=100.0)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.timeout(120)
def test_an_episode_is_safe_and_offloading_saves() -> None:
    rows = drive("--policy", "uniform", "--duration-s", "3")
    row = rows["uniform"]
    assert row.keys() >= KEYS
    assert (row["collisions"], row["late_controls"]) == (0, 0)
    assert row["offloads"] > 0
    assert sum(row["exit_shares"].values()) == pytest.approx(1.0)


@pytest.mark.timeout(120)
def test_killed_processes_cost_neither_safety_nor_the_episode() -> None:
    rows = drive("--policy", "local", "--duration-s", "4", "--kill", "edge@1", "--kill", "daemon@1.5")
    row = rows["local"]
    assert (row["collisions"], row["late_controls"]) == (0, 0)
    assert row["kills"] == ["edge", "daemon"]
    assert row["guard_reasons"]["proposal_stale"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kill", "edge"), "must be PROCESS@SECONDS"),
        (("--kill", "sensor@3"), "edge, daemon, guard"),
        (("--kill", "edge@99"), "from 0 to 13 s"),
        (("--policy", "clever"), "must be one of local, eager, uniform"),
        (("--vehicle", "tank"), "no shipped vehicle is called 'tank'"),
        (("--scenario", "moon"), "no shipped scenario is called 'moon'"),
    ],
)
def test_what_cannot_be_meant_is_told(arguments: tuple[str, ...], message: str) -> None:
    ended = run("demo", *arguments)
    assert ended.returncode == 78
    assert message in ended.stderr
