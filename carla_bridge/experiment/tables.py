"""The tables of the experiments: ours, with the published figures beside them."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from carla_bridge.experiment import published
from carla_bridge.experiment.plan import PUBLISHED_PASS_M
from carla_bridge.experiment.rows import Row

Column = tuple[str, Callable[[Row], str]]


def _mark(value: bool) -> str:
    return "yes" if value else "no"


def _table1_of(row: Row) -> published.PublishedRow | None:
    wanted = (row.policy, row.shield, row.noise)
    return next((one for one in published.table1() if (one.policy, one.shield, one.noise) == wanted), None)


def _link_of(row: Row) -> published.PublishedLink | None:
    return next((one for one in published.wireless() if one.link == row.link and row.policy == "uniform"), None)


def _gain_of(row: Row) -> published.PublishedGain | None:
    wanted = (row.policy, row.shield, row.obstacles)
    return next((one for one in published.seo_gains() if (one.policy, one.shield, one.obstacles) == wanted), None)


def _below(ratio: float) -> str:
    return f"{round(100.0 * (1.0 - ratio), 1) + 0.0:.1f}"  # no "-0.0"


_DRIVING: tuple[Column, ...] = (
    ("TCR %", lambda row: f"{row.tcr_pct:.1f}"),
    ("CD m", lambda row: f"{row.center_deviation_m:.2f}"),
)
_COSTS: tuple[Column, ...] = (
    ("mJ/window", lambda row: f"{row.energy_mj_per_window:.1f}"),
    ("below local %", lambda row: _below(row.energy_vs_local)),
    ("exit-scaled mJ", lambda row: f"{row.energy_exit_scaled_mj_per_window:.1f}"),
)
_HOW: tuple[Column, ...] = (
    ("transit %", lambda row: f"{row.extra_transit_windows_pct:.1f}"),
    ("fallback %", lambda row: f"{row.fallbacks_pct:.1f}"),
    ("deadline s", lambda row: f"{row.deadline_mean_s:.3f}"),
    ("guard %", lambda row: f"{row.interventions_pct:.2f}"),
)
_PASS: Column = ("passed at m", lambda row: f"{row.pass_m:.1f}")

_COLUMNS: dict[str, tuple[Column, ...]] = {
    "energyshield-table1": (
        ("policy", lambda row: row.policy),
        ("S", lambda row: _mark(row.shield)),
        ("N", lambda row: _mark(row.noise)),
        _PASS,
        *_DRIVING,
        *_COSTS,
        *_HOW,
        ("published: TCR", lambda row: f"{one.tcr_pct:.1f}" if (one := _table1_of(row)) else "-"),
        ("CD", lambda row: f"{one.center_deviation_m:.2f}" if (one := _table1_of(row)) else "-"),
        ("mJ", lambda row: f"{one.energy_mj_per_window:.1f}" if (one := _table1_of(row)) else "-"),
    ),
    "energyshield-wireless": (
        ("policy", lambda row: row.policy),
        ("link", lambda row: row.link),
        _PASS,
        *_DRIVING,
        ("median/local", lambda row: f"{row.energy_vs_local_median:.3f}"),
        *_COSTS,
        *_HOW,
        ("published: median", lambda row: f"{one.energy_vs_local_median:.2f}" if (one := _link_of(row)) else "-"),
        ("transit %", lambda row: f"{one.extra_transit_windows_pct:.0f}" if (one := _link_of(row)) else "-"),
    ),
    "energyshield-distance": (("policy", lambda row: row.policy), _PASS, *_DRIVING, *_COSTS, *_HOW),
    "energyshield-waiting": (
        ("longest wait, windows", lambda row: str(row.max_wait_windows)),
        *_DRIVING,
        *_COSTS,
        *_HOW,
        ("backup %", lambda row: f"{row.backups_pct:.2f}"),
    ),
    "seo": (
        ("policy", lambda row: row.policy),
        ("S", lambda row: _mark(row.shield)),
        ("obstacles", lambda row: _mark(row.obstacles)),
        *_DRIVING,
        ("gain %", lambda row: _below(row.energy_vs_local)),
        ("mJ/window", lambda row: f"{row.energy_mj_per_window:.1f}"),
        *_HOW,
        ("published gain %", lambda row: f"{one.gain_pct:.1f}" if (one := _gain_of(row)) else "-"),
    ),
}


def table(experiment: str, title: str, rows: Sequence[Row]) -> Table:
    """Return the table of an experiment."""
    first = rows[0]
    drawn = Table(
        title=f"{title}: {first.vehicle}, {first.deadline} deadlines, {first.episodes} episodes a row",
        caption="S: shield, N: noise on obstacles, TCR: episodes without a hit of obstacle or kerb, CD: deviation from "
        "the centre line, transit: windows waited beyond the first, fallback: offloads that ended in the local "
        "fail-safe, guard: windows in which it did not admit what was proposed. Energy: published figures, Drive PX2 "
        "with ResNet-152 at 160x80 and WiFi; exit-scaled: a local run costs the share of the network that ran.",
    )
    for name, _ in _COLUMNS[experiment]:
        drawn.add_column(name, justify="left" if name == "policy" else "right")
    for row in rows:
        drawn.add_row(*(show(row) for _, show in _COLUMNS[experiment]))
    return drawn


def agreement(rows: Sequence[Row]) -> list[str]:
    """Return how far energies with published deadlines lie from table 1 (shield on, no noise), a line a row."""
    lines = []
    for row in rows:
        one = _table1_of(row)
        if row.deadline != "published" or one is None or not row.shield or row.noise or row.policy == "local":
            continue
        apart = 100.0 * (row.energy_mj_per_window / one.energy_mj_per_window - 1.0)
        where = "as far off as published" if row.pass_m == PUBLISHED_PASS_M else "our way"
        lines.append(
            f"{row.policy}, obstacles passed at {row.pass_m:g} m ({where}): {row.energy_mj_per_window:.1f} mJ, "
            f"published {one.energy_mj_per_window:.1f} mJ, {apart:+.1f} %"
        )
    return lines


def wide_console() -> Console:
    """Return a console for wide tables: as wide as the terminal, and wide enough where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=190)
