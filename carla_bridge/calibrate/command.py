"""`headway calibrate`: measure a vehicle in a world or from a flight recorder's log, and write its vehicle file."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from carla_bridge.calibrate.measure import Measured, measure
from carla_bridge.calibrate.programme import Programme
from carla_bridge.calibrate.samples import samples_of_log
from carla_bridge.calibrate.vehicle_file import calibrated, declared, vehicle_text
from carla_bridge.calibrate.world import WORLDS, calibrate_world
from shield.vehicle import Vehicle, load_vehicle


def calibrate(
    world: Annotated[str, typer.Option(help="Drive this world: " + ", ".join(WORLDS))] = "kinematic",
    log: Annotated[list[Path] | None, typer.Option(help="Read this flight log or folder instead; repeatable")] = None,
    vehicle: Annotated[str | None, typer.Option(help="What is declared so far: a vehicle file or shipped name")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="How often the programme is driven")] = 8,
    episodes: Annotated[int, typer.Option(min=0, max=1000, help="Closed-loop drives, every second one blind")] = 16,
    lateral_mps2: Annotated[float, typer.Option(min=0.1, help="Greatest acceleration across the path [m/s^2]")] = 4.0,
    delta: Annotated[float, typer.Option(help="Chance that an interval misses")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the world's errors")] = 0,
    name: Annotated[
        str | None, typer.Option(help="Name of the vehicle; default the declared one's, calibrated")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the vehicle file here")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables")] = False,
) -> None:
    """Measure l_r, steering curve, speeds, accelerations and every error bound, each with its confidence.

    Nothing is declared better than measured; what cannot be measured stays as it was declared.
    """
    if world not in WORLDS:
        raise typer.BadParameter(f"{world!r}: must be one of {', '.join(WORLDS)}", param_hint="--world")
    if not 0.0 < delta < 0.5:
        raise typer.BadParameter(f"{delta}: must lie between 0 and 0.5", param_hint="--delta")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise typer.BadParameter(f"{out}: must be a file in a folder that exists", param_hint="--out")
    if out is not None and not os.access(out if out.exists() else out.parent, os.W_OK):
        raise typer.BadParameter(f"{out}: this user may not write there", param_hint="--out")
    base = _base(world, vehicle)
    if log:
        samples = samples_of_log(log)
        measured, count = measure(samples, delta), len(samples)
        origin = f"the log {', '.join(map(str, log))}; errors are misfits of a smooth path"
    else:
        named = "" if name is None else f" --name {name}"
        measured, count = calibrate_world(world, base, Programme(rounds, lateral_mps2, seed=seed), episodes, delta)
        origin = f"headway calibrate --world {world}{named} --rounds {rounds} --episodes {episodes} --seed {seed}"
    made = calibrated(base, measured, name or f"{base.name}_calibrated", only_worse=bool(log))
    text = vehicle_text(made, measured, origin)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(_as_json(measured, count, origin), indent=2))
        return
    _show(measured, origin)
    typer.echo(f"vehicle file {out}" if out is not None else text, nl=out is not None)


def _base(world: str, vehicle: str | None) -> Vehicle:
    if vehicle is not None or world == "kinematic":
        return load_vehicle(vehicle or "demo")
    from carla_bridge.worlds.registry import world_vehicle

    return world_vehicle(world)


def _show(measured: Measured, origin: str) -> None:
    console = Console(width=110)
    table = Table(title=f"calibrated from {origin}", title_justify="left")
    for column in ("key", "declare", "interval", "unit", "n", "coverage", "what was measured"):
        table.add_column(column)
    for item in measured.estimates.values():
        share = "" if item.coverage is None else f"{100.0 * item.coverage:.1f} %"
        span = f"{item.low:.4g} to {item.high:.4g}"
        table.add_row(item.name, f"{declared(item):g}", span, item.unit, str(item.n), share, item.how)
    console.print(table)
    curve = Table(title="steering curve, slip angles [rad]", title_justify="left")
    for column in ("asked for", "of the path's direction", "of its curvature", "n"):
        curve.add_column(column)
    for point in measured.curve:
        asked, direction, curved = (
            f"{angle:+.4f}" for angle in (point.asked_rad, point.direction_rad, point.curvature_rad)
        )
        curve.add_row(asked, direction, curved, str(point.n))
    console.print(curve)
    for name, why in measured.unmeasured.items():
        console.print(f"not measured: {name} ({why.removeprefix(f'{name}: ')})", highlight=False)


def _as_json(measured: Measured, samples: int, origin: str) -> dict[str, Any]:
    return {
        "origin": origin,
        "samples": samples,
        "estimates": {name: {**asdict(item), "declare": declared(item)} for name, item in measured.estimates.items()},
        "steering_curve": [asdict(point) for point in measured.curve],
        "unmeasured": measured.unmeasured,
    }
