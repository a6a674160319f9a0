"""`headway replay`: a flight log, decision by decision."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def replay(
    log: Annotated[list[Path], typer.Argument(help="MCAP files, or the folder of a recorder")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Make each recorded decision again from its recorded inputs; exit code 1 at the first one that differs."""
    from runtime.observe.replay.replay import replay as repeat

    outcome = repeat(log)
    found = outcome.difference
    if as_json:
        told = {name: value for name, value in asdict(outcome).items() if name != "difference"}
        typer.echo(json.dumps({**told, "difference": None if found is None else str(found)}))
    else:
        made = [f"{outcome.ticks} ticks of the guard", *(f"{n} of {kind}" for kind, n in outcome.decisions.items())]
        left_out = f"{outcome.left_out} ticks, {outcome.choices_left_out} choices among plans"
        typer.echo(f"repeated: {', '.join(made)}; left out: {left_out}")
        if outcome.unrecorded_switches:
            typer.echo(f"not recorded: the choices behind the switches of plan, {outcome.unrecorded_switches} of them")
        for source, lost in outcome.lost.items():
            typer.echo(f"lost on the way from the {source}: {lost}")
        for name in outcome.unfinished:
            typer.echo(f"{name} has no end: its recorder was killed, or still writes")
        typer.echo("no difference" if found is None else f"first difference: {found}")
    if found is not None:
        raise typer.Exit(1)
