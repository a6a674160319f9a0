"""The demonstration's table: a column a policy, a line a figure."""

from collections.abc import Callable

from rich.table import Table

from carla_bridge.demo.summary import Row

_LINES: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("windows of 20 ms", lambda row: str(row.windows)),
    ("local runs", lambda row: str(row.local_runs)),
    ("offloads", lambda row: str(row.offloads)),
    ("just-in-time fallbacks", lambda row: str(row.fallbacks)),
    ("exits taken, %", lambda row: " / ".join(f"{share:.0%}".rstrip("%") for share in row.exit_shares.values()) or "-"),
    ("energy, mJ a window", lambda row: f"{row.energy_mj_per_window:.1f}"),
    ("  below local, %", lambda row: f"{row.energy_saved_pct:.1f}"),
    ("  scaled by exit, mJ", lambda row: f"{row.energy_exit_scaled_mj_per_window:.1f}"),
    ("deadline, 5 % / median, s", lambda row: f"{row.deadline_p05_s:.2f} / {row.deadline_median_s:.2f}"),
    ("  by the barrier, median, s", lambda row: _number(row.barrier_deadline_median_s, 2)),
    ("late controls", lambda row: str(row.late_controls)),
    ("ticks late, p99.9 / max, ms", lambda row: f"{row.tick_lateness_p999_ms:.1f} / {row.tick_lateness_max_ms:.1f}"),
    ("guard: interventions", lambda row: str(row.interventions)),
    ("  ticks slowing, no proposal", lambda row: str(row.guard_reasons.get("proposal_stale", 0))),
    ("  ticks in backup", lambda row: str(row.backup_ticks)),
    ("collisions", lambda row: str(row.collisions)),
    ("least clearance, m", lambda row: _number(row.min_clearance_m, 2)),
    ("mean centre deviation, m", lambda row: f"{row.center_deviation_m:.2f}"),
    ("mean speed, m/s", lambda row: f"{row.mean_speed_mps:.1f}"),
    ("killed", lambda row: ", ".join(row.kills) or "-"),
)


def table(rows: dict[str, Row], *, seed: int, duration_s: float) -> Table:
    """Return the table of all episodes."""
    drawn = Table(
        title=f"One episode of {duration_s:g} s a policy, seed {seed}",
        caption="Energy: published figures, Drive PX2 with ResNet-152 at 160x80 (113.48 mJ a full local run) and WiFi; "
        "scaled by exit: a local run costs the share of multiply-accumulates that ran. Deadlines are cut off at 10 s. "
        "A late control is a tick without a control certified for that instant.",
    )
    drawn.add_column("", no_wrap=True)
    for name in rows:
        drawn.add_column(name, justify="right")
    for title, show in _LINES:
        drawn.add_row(title, *(show(row) for row in rows.values()))
    return drawn


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
