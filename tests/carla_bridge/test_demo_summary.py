"""The demonstration's row and table, from a record made by hand."""

import dataclasses
import math

import pytest
from rich.console import Console

import headway
from carla_bridge.demo.command import parse_kills
from carla_bridge.demo.summary import Row, summarise
from carla_bridge.demo.table import table
from carla_bridge.loop import Record, Tick
from carla_bridge.world import Report
from runtime.errors import ConfigurationError

REPORT = Report(13.0, 100.0, 0.5, 0, 0, False, 4.5, 0.9, 0.1, 2.5, 4.0, 9.0, False)


def window(number: int, action: str, energy_mj: float, exit_id: str | None = None) -> headway.Window:
    return headway.Window(number, action, exit_id, "edge", energy_mj, energy_mj / 2, 1.0, 0.01, "")


def a_row(report: Report = REPORT, late: int = 0) -> Row:
    record = Record(late_controls=late)
    record.windows = [
        window(0, "local", 100.0, "exit1"),
        window(1, "offload", 40.0),
        window(2, "transit", 0.0, "exit3"),
        window(3, "failsafe_local", 100.0, "exit1"),
    ]
    record.ticks = [Tick(0.02 * k, 0.001 * k, 9.0, None, "held" if k < 8 else "backup", True) for k in range(10)]
    return summarise(record, report, 100.0, ["exit1", "exit2", "exit3"], ["edge"])


def test_a_row_counts_windows_energy_and_exits() -> None:
    row = a_row()
    assert (row.windows, row.local_runs, row.offloads, row.fallbacks) == (4, 1, 1, 1)
    assert row.energy_mj_per_window == pytest.approx(60.0)
    assert row.energy_saved_pct == pytest.approx(40.0)
    assert row.energy_exit_scaled_mj_per_window == pytest.approx(30.0)
    assert row.exit_shares == pytest.approx({"exit1": 2 / 3, "exit2": 0.0, "exit3": 1 / 3})
    assert (row.held_ticks, row.backup_ticks) == (8, 2)
    assert row.tick_lateness_max_ms == pytest.approx(9.0)
    assert math.isnan(row.deadline_median_s)


def test_only_a_drive_without_collision_and_late_control_is_safe() -> None:
    assert a_row().safe
    assert not a_row(late=1).safe
    assert not a_row(dataclasses.replace(REPORT, collisions=1)).safe


def test_the_table_fits_80_columns() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed with the console
    with console.file:
        console.print(table({"local": a_row(), "eager": a_row(), "uniform": a_row()}, seed=1, duration_s=13.0))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("just-in-time fallbacks" in line and line.count(" 1 ") == 3 for line in lines)
    assert any("67 / 0 / 33" in line for line in lines)


def test_kills_are_read_in_order_of_time() -> None:
    assert parse_kills(["daemon@9", "edge@5.5"], 13.0) == [(5.5, "edge"), (9.0, "daemon")]
    with pytest.raises(ConfigurationError, match="edge@13: must be"):
        parse_kills(["edge@13"], 13.0)
