"""`headway scenarios`: the catalogue of scenarios, one of them in detail, or a seed of it driven."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from carla_bridge.scenario import Scenario, load_scenario, shipped_scenarios
from shield.deadline import Method
from shield.vehicle import load_vehicle


def scenarios(
    scenario: Annotated[str | None, typer.Argument(help="A scenario file or shipped name; none: list them")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Drive this seed in virtual time")] = None,
    shield: Annotated[bool, typer.Option(help="Whether the guard stands between controller and vehicle")] = True,
    deadline: Annotated[Method, typer.Option(help="Which tolerable deadline the policy is told")] = Method.BACKUP,
    vehicle: Annotated[str | None, typer.Option(help="A vehicle file or shipped name; default the scenario's")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """List the shipped scenarios, check and describe a scenario file, or drive one seed of it.

    Driving exits with 1 when the vehicle touched something while it moved.
    """
    if scenario is None:
        if seed is not None:
            raise typer.BadParameter("--seed drives a scenario: name one", param_hint="--seed")
        _list([load_scenario(name) for name in shipped_scenarios()], as_json)
    elif seed is None:
        found = load_scenario(scenario)
        load_vehicle(vehicle or found.vehicle)
        _tell(_described(found), as_json)
    else:
        _drive(scenario, seed, shield, deadline, vehicle, as_json)


def _drive(scenario: str, seed: int, shield: bool, deadline: Method, vehicle: str | None, as_json: bool) -> None:
    from carla_bridge.scene.episode import drive_scenario  # loads the driving package

    done = drive_scenario(scenario, seed, shield=shield, method=deadline, vehicle=vehicle)
    _tell(asdict(done), as_json)
    if done.collisions_moving:
        raise typer.Exit(1)


def _list(found: list[Scenario], as_json: bool) -> None:
    rows = [_described(item) for item in found]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(title=f"{len(rows)} scenarios", title_justify="left")
    table.add_column("name", no_wrap=True)
    for column in ("about", "obstacles", "weather"):
        table.add_column(column)
    for row in rows:
        what = ", ".join(row["obstacles"])
        table.add_row(row["name"], row["about"], what, row["weather"])
    Console().print(table)


def _described(item: Scenario) -> dict[str, Any]:
    published = [f"{item.spawn.count} by the published rule"] if item.spawn.count else []
    counts = Counter({entry.kind: 0 for entry in item.placed})
    for entry in item.placed:
        counts[entry.kind] += entry.count
    placed = [kind if count == 1 else f"{count} x {kind}" for kind, count in counts.items()]
    return {
        "name": item.name,
        "about": item.about,
        "vehicle": item.vehicle,
        "road_m": round(item.route.length_m, 1),
        "speed_mps": item.target_speed_mps,
        "duration_s": item.duration_s,
        "obstacles": [*published, *placed],
        "weather": item.weather.name,
        "seeds": [item.seeds.start, item.seeds.stop - 1],
        "drawn": {
            f"obstacle[{number}].{key}": str(bounds)
            for number, entry in enumerate(item.placed)
            for key, bounds in entry.ranges.items()
            if bounds.low != bounds.high
        },
    }


def _tell(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    for name, value in values.items():
        if isinstance(value, dict):
            typer.echo(f"{name}:" + ("" if value else " nothing"))
            for key, inner in value.items():
                typer.echo(f"  {key:32} {inner}")
            continue
        told = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        typer.echo(f"{name:30} {told:.3f}" if isinstance(told, float) else f"{name:30} {told}")
