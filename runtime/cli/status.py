"""`headway status`: how a running daemon, its guard and its edge server fare."""

import json
from pathlib import Path
from typing import Annotated

import typer


def status(
    socket: Annotated[Path | None, typer.Option(help="The daemon's unix socket")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Ask a running daemon how it, its guard and its edge server fare."""
    from runtime.cli.ask import daemon_at

    with daemon_at(socket) as client:
        answer = client.status()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for name, value in answer.items():
        typer.echo(f"{name:10} {value if isinstance(value, str) else json.dumps(value)}")
