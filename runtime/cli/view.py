"""`headway view`: a running daemon, or a flight log, in Rerun."""

import signal
import time
from pathlib import Path
from typing import Annotated

import typer


def view(
    log: Annotated[list[Path] | None, typer.Argument(help="MCAP files, or a recorder's folder; none: live")] = None,
    socket: Annotated[Path | None, typer.Option(help="The daemon's unix socket")] = None,
    guard_socket: Annotated[Path | None, typer.Option(help="The guard's unix socket")] = None,
    save: Annotated[Path | None, typer.Option(help="Write an .rrd file instead of showing")] = None,
    port: Annotated[int, typer.Option(help="Port of the Rerun server, on 127.0.0.1")] = 9876,
    viewer: Annotated[
        str, typer.Option(help="window, web (a page on 127.0.0.1) or none (connect your own)")
    ] = "window",
    web_port: Annotated[int, typer.Option(help="Port of the page with --viewer web")] = 9090,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Live: end after so long [s]")] = None,
) -> None:
    """Stream top view, camera, deadline and energy to Rerun: live until Ctrl-C, or a flight log."""
    from runtime.observe.replay.log import FlightLog
    from runtime.observe.view.source import stream_live, stream_log
    from runtime.observe.view.stream import Stream
    from runtime.observe.view.viewer import HOST, saved, shown
    from runtime.serve.sockets import runtime_folder

    if log:
        next(iter(FlightLog(log)), None)  # what is wrong with a log is told before a viewer opens
        live = None
    else:
        daemon = socket or runtime_folder() / "headway.sock"
        live = (guard_socket or daemon.with_name("headway-guard.sock"), daemon)
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(number))
    until_s = None if seconds is None else time.monotonic() + seconds

    def goes_on() -> bool:
        return not ended and (until_s is None or time.monotonic() < until_s)

    if save is not None:
        recording = saved(save)
        stream = Stream(recording)
        drawn = stream_live(*live, stream, goes_on) if live else stream_log(log or [], stream)
        recording.flush()
        recording.disconnect()
        typer.echo(f"{drawn} messages in {save}")
        return
    with shown(port, web_port, viewer) as (recording, process):
        where = f"http://{HOST}:{web_port}" if viewer == "web" else f"rerun+http://{HOST}:{port}/proxy"
        typer.echo(f"Rerun at {where}; Ctrl-C ends it")
        stream = Stream(recording)
        if live:
            stream_live(*live, stream, lambda: goes_on() and process.poll() is None)
            return
        stream_log(log or [], stream)
        recording.flush()
        while goes_on() and process.poll() is None:
            time.sleep(0.1)
