"""`headway metrics`: a guard's metrics, without a daemon."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer


def metrics(
    listen: Annotated[str, typer.Argument(help="HOST:PORT on loopback")],
    guard_socket: Annotated[Path | None, typer.Option(help="The guard's unix socket")] = None,
) -> None:
    """Serve the metrics of a guard to Prometheus; a daemon serves its own and its guard's with --metrics."""
    from runtime.observe.metrics.server import open_metrics
    from runtime.serve.sockets import runtime_folder

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with open_metrics(listen, guard_socket or runtime_folder() / "headway-guard.sock") as address:
        typer.echo(f"http://{address}/metrics")
        ended.wait()
