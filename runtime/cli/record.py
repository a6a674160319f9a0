"""`headway record`: the flight recorder."""

from pathlib import Path
from typing import Annotated

import typer


def record(
    folder: Annotated[Path, typer.Argument(help="Where the log's files lie; made if missing")],
    socket: Annotated[Path | None, typer.Option(help="The daemon's unix socket")] = None,
    guard_socket: Annotated[Path | None, typer.Option(help="The guard's unix socket")] = None,
    file_mb: Annotated[float, typer.Option(min=0.1, help="About how large a file gets [MB]")] = 32.0,
    files: Annotated[int, typer.Option(min=2, help="How many files are kept")] = 8,
    alone_s: Annotated[float | None, typer.Option(help="End when nothing is heard for this long [s]")] = None,
    json_logs: Annotated[bool, typer.Option("--json", help="Logs as JSON lines")] = False,
) -> None:
    """Record each decision of guard and scheduler, with what it was made from, as MCAP files."""
    from runtime.cli.logs import log_to_stderr
    from runtime.observe.recorder.record import Recorder, RecorderSettings
    from runtime.observe.recorder.ring import RingSettings
    from runtime.serve.sockets import runtime_folder

    log_to_stderr(as_json=json_logs)
    daemon = socket or runtime_folder() / "headway.sock"
    guard = guard_socket or daemon.with_name("headway-guard.sock")
    ring = RingSettings(folder, round(1e6 * file_mb), files)
    Recorder(RecorderSettings(guard, daemon, ring, alone_s)).run()
