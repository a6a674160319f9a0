"""`headway metrics`: a guard's metrics, without a daemon."""

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

_PERIOD_S = 0.2


def metrics(
    listen: Annotated[str, typer.Argument(help="HOST:PORT on loopback")],
    guard_socket: Annotated[Path | None, typer.Option(help="The guard's unix socket")] = None,
) -> None:
    """Serve the metrics of a guard to Prometheus; a daemon serves its own and its guard's with --metrics."""
    from runtime.observe.metrics.server import open_metrics
    from runtime.serve.sockets import runtime_folder

    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ended.append(number))  # an Event's lock may be held then
    with open_metrics(listen, guard_socket or runtime_folder() / "headway-guard.sock") as address:
        typer.echo(f"http://{address}/metrics")
        while not ended:
            time.sleep(_PERIOD_S)
