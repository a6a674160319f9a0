"""`headway doctor`: what this board has, PASS or FAIL with the reason."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from devices.doctor import Check


def doctor(
    devices: Annotated[str | None, typer.Option(help="Devices to try, separated by commas; else all kinds")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Try every device, meter and permission of this board; exit code 1 if one that is needed or asked for fails."""
    from devices.doctor import Verdict, examine

    asked = tuple(name.strip() for name in devices.split(",")) if devices else ()
    checks = list(examine(asked or None))
    failed = [c for c in checks if c.verdict is Verdict.FAIL and (c.needed or c.name in asked)]
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks]))
    else:
        _print(checks)
    if failed:
        raise typer.Exit(1)


def _print(checks: "list[Check]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, box=None)
    table.add_column("what", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    colours = {"PASS": "green", "FAIL": "red", "none": "dim"}
    for check in checks:
        colour = colours[check.verdict]
        found = f"{check.reason}\n-> {check.fix}" if check.fix else check.reason
        table.add_row(check.name, f"[{colour}]{check.verdict}[/]", escape(found))
    Console().print(table)
