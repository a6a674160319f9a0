"""`headway edge`: an edge server."""

import gc
import json
import os
import signal
from pathlib import Path
from typing import Annotated

import typer


def edge(
    bind: Annotated[str, typer.Option(help="TCP address on loopback; port 0 takes a free one")] = "tcp://127.0.0.1:0",
    package: Annotated[list[Path] | None, typer.Option(help="Model package; may be given again")] = None,
    repository: Annotated[Path | None, typer.Option(help="Folder of NAME/VERSION packages; the newest serve")] = None,
    workers: Annotated[int, typer.Option(help="Threads that compute")] = 1,
    name: Annotated[str, typer.Option(help="How the server introduces itself")] = "edge",
    drain_s: Annotated[float, typer.Option(help="Time accepted work gets after SIGTERM [s]")] = 5.0,
    json_logs: Annotated[bool, typer.Option("--json", help="Logs as JSON lines")] = False,
) -> None:
    """Run models for vehicles over the network, earliest deadline first.

    The first line on stdout is JSON: {"event": "listening", "endpoint": "tcp://127.0.0.1:40123", "models": [...],
    "pid": 1234}. It is printed once every model is loaded and warmed up.
    """
    from devices.package import load_package
    from offload.errors import ServerError
    from offload.server import EdgeServer
    from offload.server_settings import ServerSettings
    from runtime.cli.logs import log_to_stderr
    from runtime.errors import ConfigurationError
    from runtime.repository import ModelRepository
    from runtime.serve.installation import require_own_packages
    from runtime.serve.realtime import raise_file_limit, step_back

    log_to_stderr(as_json=json_logs)
    require_own_packages()
    try:
        settings = ServerSettings(bind=bind, name=name, workers=workers, drain_s=drain_s)
    except ServerError as error:
        raise ConfigurationError(str(error)) from error
    packages = [load_package(path) for path in package or []]
    if repository is not None:
        models = ModelRepository(repository)
        packages += [models.load(model) for model in models.names()]
    if not packages:
        raise ConfigurationError("nothing to serve: give --package DIR or --repository DIR with a model in it")
    raise_file_limit()
    step_back()
    server = EdgeServer(packages, settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    gc.collect()
    gc.freeze()
    announcement = {"event": "listening", "endpoint": server.endpoint, "models": server.models, "pid": os.getpid()}
    typer.echo(json.dumps(announcement))
    server.serve()
