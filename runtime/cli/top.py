"""`headway top`: a running daemon and its guard in the terminal."""

import json
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

_PERIOD_S = 0.2
_FIRST_S = 1.2


def top(
    socket: Annotated[Path | None, typer.Option(help="The daemon's unix socket")] = None,
    guard_socket: Annotated[Path | None, typer.Option(help="The guard's unix socket")] = None,
    once: Annotated[bool, typer.Option("--once", help="Look for a second, print, and end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON once")] = False,
) -> None:
    """Show deadline, exits, windows, devices, energy and link of a running daemon until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    from runtime.observe.gather import Gatherer
    from runtime.observe.top.screen import screen
    from runtime.serve.sockets import runtime_folder

    console = Console()
    daemon = socket or runtime_folder() / "headway.sock"
    with Gatherer(guard_socket or daemon.with_name("headway-guard.sock"), daemon) as gatherer:
        if once or as_json:
            time.sleep(_FIRST_S)
            state = gatherer.snapshot()
            if as_json:
                typer.echo(json.dumps(state))
            else:
                console.print(screen(state, console.width))
            return
        ended: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):  # an interrupt in the midst of drawing could be lost
            signal.signal(number, lambda number, _: ended.append(number))
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while not ended:
                time.sleep(_PERIOD_S)
                live.update(screen(gatherer.snapshot(), console.width), refresh=True)
