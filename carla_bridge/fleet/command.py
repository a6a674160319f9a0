"""The experiment `fleet`: 10 to 10 000 vehicles on one cell and its servers, with the admission rule and without."""

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from carla_bridge.experiment.episode import local_energy_j
from carla_bridge.experiment.tables import wide_console
from carla_bridge.fleet.simulate import Fleet, FleetRow, Simulation
from offload.radio import load_radio

FLEET = "fleet"
SIZES = (10, 30, 100, 300, 500, 1000, 2000, 5000, 10000)


def simulate(fleet: Fleet) -> FleetRow:
    """Simulate a fleet over WiFi radios."""
    return Simulation(fleet, load_radio("wifi")).run()


def drive_fleet(seed: int, jobs: int, out: Path, as_json: bool) -> None:
    """Simulate every size with and without admission; print the table or JSON, write rows and figure to `out`."""
    local_j = local_energy_j()
    fleets = [Fleet(size, admission, local_j, seed=seed) for admission in (False, True) for size in SIZES]
    rows = _simulate_all(fleets, jobs)
    out.mkdir(parents=True, exist_ok=True)
    (out / "fleet.json").write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n", encoding="utf-8")
    figure = _draw(rows, out / "fleet.png")
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows], indent=2))
        return
    console = wide_console()
    console.print(_table(rows, fleets[0]))
    console.print(f"rows {out / 'fleet.json'}, figure {figure or 'not drawn: pip install ' + repr('headway[view]')}")


def _simulate_all(fleets: Sequence[Fleet], jobs: int) -> list[FleetRow]:
    columns = (TextColumn("fleets"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(fleets))
        if jobs == 1:
            return [_advanced(bar, task, simulate(fleet)) for fleet in fleets]
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            return [_advanced(bar, task, row) for row in pool.map(simulate, fleets)]


def _advanced(bar: Progress, task: object, row: FleetRow) -> FleetRow:
    bar.advance(task)  # type: ignore[arg-type] # rich's TaskID is an int by another name
    return row


def _table(rows: Sequence[FleetRow], fleet: Fleet) -> Table:
    drawn = Table(
        title=f"A cell of {fleet.streams:g} streams and {fleet.servers} edge servers; an answer every "
        f"{20 * fleet.interval_windows} ms a vehicle",
        caption="fallback: frames sent without an answer in time; energy over none: over that of a local run an "
        "interval and no edge; wasted: airtime of frames without an answer in time; price: servers at "
        f"{fleet.server_price_per_h:g} an hour each",
    )
    for name in (
        "vehicles",
        "admission",
        "by edge %",
        "refused %",
        "fallback %",
        "mJ/window",
        "over none",
        "answers/s",
        "servers %",
        "cell %",
        "wasted %",
        "price/vehicle h",
        "price/10^6 answers",
    ):
        drawn.add_column(name, justify="right")
    for row in rows:
        price = row.server_price_per_million_answers
        drawn.add_row(
            str(row.vehicles),
            "yes" if row.admission else "no",
            f"{row.offloaded_pct:.1f}",
            f"{row.refused_pct:.1f}",
            f"{row.fallbacks_pct:.2f}",
            f"{row.energy_mj_per_window:.2f}",
            f"{row.energy_vs_no_edge:.3f}",
            f"{row.answers_per_s:.0f}",
            f"{row.edge_utilisation_pct:.0f}",
            f"{row.cell_utilisation_pct:.0f}",
            f"{row.wasted_airtime_pct:.1f}",
            f"{row.server_price_per_vehicle_h:.4f}",
            "-" if price is None else f"{price:.2f}",
        )
    return drawn


def _draw(rows: Sequence[FleetRow], path: Path) -> Path | None:
    try:
        from carla_bridge.fleet.figure import draw
    except ImportError:
        return None
    return draw(rows, path)
