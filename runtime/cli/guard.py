"""`headway guard`: the guard process."""

import os
from pathlib import Path
from typing import Annotated

import typer


def guard(
    socket: Annotated[
        Path | None, typer.Option(help="Unix socket; default headway-guard.sock in the runtime folder")
    ] = None,
    vehicle: Annotated[str, typer.Option(help="A vehicle file, or a shipped vehicle's name")] = "demo",
    certificate: Annotated[
        Path | None, typer.Option(help="Certificate; default the shipped one for the vehicle")
    ] = None,
    uncertified: Annotated[bool, typer.Option("--uncertified", help="Run without a certificate, and say so")] = False,
    proposal_max_age_s: Annotated[
        float, typer.Option(min=0.0, help="A proposal older than this [s] is not held any longer")
    ] = 0.2,
    fifo: Annotated[bool, typer.Option(help="Ask for SCHED_FIFO")] = True,
    log_format: Annotated[str, typer.Option(help="plain or json")] = "plain",
    json_logs: Annotated[bool, typer.Option("--json", help="The same as --log-format json")] = False,
) -> None:
    """Guard one vehicle: admit only what can be taken back, fifty times a second."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's own threads would take memory, locked for nothing
    from runtime.cli.logs import log_to_stderr, wants_json
    from runtime.serve.cover import covering_certificate
    from runtime.serve.guard_process import GuardOptions, GuardProcess
    from runtime.serve.sockets import runtime_folder
    from shield.guard import GuardSettings
    from shield.vehicle import load_vehicle

    log_to_stderr(as_json=json_logs or wants_json(log_format))
    loaded = load_vehicle(vehicle)
    tick_s = loaded.bounds.tick_s or 0.02
    options = GuardOptions(
        socket=socket or runtime_folder() / "headway-guard.sock",
        certificate=covering_certificate(loaded, certificate, uncertified=uncertified),
        fifo=fifo,
    )
    GuardProcess(loaded, GuardSettings(tick_s=tick_s, proposal_max_age_s=proposal_max_age_s), options).run()
