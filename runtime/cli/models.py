"""`headway models`: what a running daemon serves."""

import json
from pathlib import Path
from typing import Annotated

import typer


def models(
    socket: Annotated[Path | None, typer.Option(help="The daemon's unix socket")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """List the models that a running daemon serves, with their inputs and exits."""
    from runtime.cli.ask import daemon_at

    with daemon_at(socket) as client:
        listed = client.models()
    if as_json:
        typer.echo(json.dumps(listed))
        return
    for model in listed:
        exits = ", ".join(item["id"] for item in model["exits"]) or "none"
        inputs = ", ".join(f"{item['name']} {item['dtype']}{item['shape']}" for item in model["inputs"])
        typer.echo(f"{model['name']} version {model['version']}: inputs {inputs}; exits {exits}")
