"""`headway serve`: the daemon."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file; flags and HEADWAY_* variables beat it")] = None,
    socket: Annotated[Path | None, typer.Option(help="Unix socket; default headway.sock in the runtime folder")] = None,
    package: Annotated[list[Path] | None, typer.Option(help="Model package; may be given again")] = None,
    repository: Annotated[Path | None, typer.Option(help="Folder of models, NAME/VERSION/; all are served")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Device, as cpu:1; may be given again")] = None,
    http: Annotated[str | None, typer.Option(help="Open Inference Protocol over HTTP: HOST:PORT")] = None,
    grpc: Annotated[str | None, typer.Option(help="Open Inference Protocol over gRPC: HOST:PORT")] = None,
    guard_socket: Annotated[Path | None, typer.Option(help="The guard's unix socket")] = None,
    vehicle: Annotated[str | None, typer.Option(help="A vehicle file, or a shipped vehicle's name")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Certificate; default the shipped one")] = None,
    uncertified: Annotated[bool | None, typer.Option("--uncertified", help="Start a guard that has none")] = None,
    policy: Annotated[str | None, typer.Option(help="local, eager, uniform or adaptive")] = None,
    edge: Annotated[str | None, typer.Option(help="Edge server, tcp://HOST:PORT")] = None,
    rate_mbps: Annotated[float | None, typer.Option(help="Declared uplink: Rayleigh scale [Mbit/s]")] = None,
    max_wait_windows: Annotated[int | None, typer.Option(help="Longest wait for one answer [windows of 20 ms]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the emulated link")] = None,
    metrics: Annotated[str | None, typer.Option(help="Prometheus metrics: HOST:PORT on loopback")] = None,
    page: Annotated[str | None, typer.Option(help="Live page: HOST:PORT on loopback")] = None,
    record: Annotated[Path | None, typer.Option(help="Folder of the flight recorder")] = None,
    otlp: Annotated[str | None, typer.Option(help="Traces to an OTLP receiver, as http://127.0.0.1:4318")] = None,
    log_format: Annotated[str, typer.Option(help="plain or json")] = "plain",
    json_logs: Annotated[bool, typer.Option("--json", help="The same as --log-format json")] = False,
) -> None:
    """Run models by their deadlines: take requests on a unix socket, drive a vehicle through its guard."""
    from functools import partial

    from runtime.cli.logs import log_to_stderr, wants_json
    from runtime.config import load_config
    from runtime.serve.daemon import Daemon
    from runtime.serve.installation import require_own_packages

    log_to_stderr(as_json=json_logs or wants_json(log_format))
    require_own_packages()
    flags = {
        "serve.socket": _text(socket),
        "serve.packages": [str(path) for path in package] if package else None,
        "serve.repository": _text(repository),
        "serve.devices": device or None,
        "front.http": http,
        "front.grpc": grpc,
        "guard.socket": _text(guard_socket),
        "guard.vehicle": vehicle,
        "guard.certificate": _text(certificate),
        "guard.uncertified": uncertified,
        "offload.policy": policy,
        "offload.edge": edge,
        "offload.rate_mbps": rate_mbps,
        "offload.max_wait_windows": max_wait_windows,
        "offload.seed": seed,
        "observe.metrics": metrics,
        "observe.page": page,
        "observe.record": _text(record),
        "observe.otlp": otlp,
    }
    Daemon(load_config(config, flags), partial(load_config, config, flags)).run()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
