"""`headway page`: the live page."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer


def page(
    listen: Annotated[str, typer.Argument(help="HOST:PORT on loopback")] = "127.0.0.1:8099",
    socket: Annotated[Path | None, typer.Option(help="The daemon's unix socket")] = None,
    guard_socket: Annotated[Path | None, typer.Option(help="The guard's unix socket")] = None,
    with_pid: Annotated[int | None, typer.Option(help="End when this process has ended")] = None,
) -> None:
    """Show a running daemon and its guard in a browser: top view, deadline, devices, exits, energy, link."""
    from runtime.cli.logs import log_to_stderr
    from runtime.observe.gather import Gatherer
    from runtime.observe.page.server import PageServer
    from runtime.serve.oip.access import require_loopback
    from runtime.serve.sockets import runtime_folder

    log_to_stderr(as_json=False)
    host, port = require_loopback("listen", listen)
    daemon = socket or runtime_folder() / "headway.sock"
    typer.echo(f"http://{listen}/")
    with Gatherer(guard_socket or daemon.with_name("headway-guard.sock"), daemon) as gatherer:
        asyncio.run(PageServer(gatherer, host, port).serve(with_pid))
