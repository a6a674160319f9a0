"""`headway edge`: an edge server."""

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

_SWITCH_S = 1e-4  # the I/O thread and the workers hand the interpreter over quicker than the default 5 ms


def edge(
    bind: Annotated[str, typer.Option(help="TCP address; beyond loopback with --keys")] = "tcp://127.0.0.1:0",
    package: Annotated[list[Path] | None, typer.Option(help="Model package; may be given again")] = None,
    repository: Annotated[Path | None, typer.Option(help="Folder of NAME/VERSION packages; the newest serve")] = None,
    workers: Annotated[int, typer.Option(help="Threads that compute")] = 1,
    name: Annotated[str, typer.Option(help="How the server introduces itself")] = "edge",
    batch: Annotated[bool, typer.Option(help="Run requests together where that costs less and makes none late")] = True,
    core: Annotated[list[int] | None, typer.Option(help="Core of a computing thread; may be given again")] = None,
    io_core: Annotated[int | None, typer.Option(help="Core of everything else")] = None,
    clients: Annotated[int | None, typer.Option(help="Most clients; without it, what open files allow")] = None,
    http: Annotated[int | None, typer.Option(help="Port of metrics and readiness on 127.0.0.1; 0: a free one")] = None,
    keys: Annotated[Path | None, typer.Option(help="Key file of this server, see headway keys")] = None,
    allow: Annotated[Path | None, typer.Option(help="With --keys: list of the clients that are let in")] = None,
    client_messages: Annotated[float | None, typer.Option(help="Most messages of one client [1/s]")] = None,
    client_mb: Annotated[float | None, typer.Option(help="Most megabytes of one client [MB/s]")] = None,
    drain_s: Annotated[float, typer.Option(help="Time accepted work gets after SIGTERM [s]")] = 5.0,
    otlp: Annotated[str | None, typer.Option(help="Traces to an OTLP receiver, as http://127.0.0.1:4318")] = None,
    json_logs: Annotated[bool, typer.Option("--json", help="Logs as JSON lines")] = False,
) -> None:
    """Run models for vehicles over the network, earliest deadline first.

    The first line on stdout is JSON: {"event": "listening", "endpoint": "tcp://127.0.0.1:40123", "models": [...],
    "pid": 1234}. It is printed once every model is loaded and warmed up. With --http it also has "http", the address
    of /metrics, /readyz and /livez.

    SIGTERM drains and ends. SIGHUP reads packages and repository again: the new models are loaded and warmed up first,
    and replace the old ones when they are ready; if they cannot be loaded, the old ones stay.
    """
    from devices.package import Package, load_package
    from offload.errors import ServerError
    from offload.security.curve import ServerSecurity
    from offload.security.keys import read_keys
    from offload.security.limits import client_limits
    from offload.server import EdgeServer
    from offload.server.settings import ServerSettings
    from runtime.cli.logs import log_to_stderr
    from runtime.errors import ConfigurationError
    from runtime.repository import ModelRepository
    from runtime.serve.installation import require_own_packages
    from runtime.serve.notify import notifier
    from runtime.serve.realtime import raise_file_limit, step_back

    if (keys is None) != (allow is None):
        raise typer.BadParameter("go together", param_hint="--keys, --allow")
    log_to_stderr(as_json=json_logs)
    require_own_packages()
    try:
        settings = ServerSettings(
            bind=bind,
            name=name,
            workers=workers,
            batch=batch,
            worker_cores=tuple(core or ()),
            clients=clients,
            drain_s=drain_s,
            client_limits=client_limits(client_messages, client_mb, secured=keys is not None),
            security=None if keys is None or allow is None else ServerSecurity(read_keys(keys), allow),
        )
        if io_core is not None:
            os.sched_setaffinity(0, {io_core})
    except ServerError as error:
        raise ConfigurationError(str(error)) from error
    except OSError as error:
        raise ConfigurationError(f"io_core = {io_core}: {error.strerror}") from error

    def read() -> list[Package]:
        packages = [load_package(path) for path in package or []]
        if repository is not None:
            models = ModelRepository(repository)
            packages += [models.load(model) for model in models.names()]
        if not packages:
            raise ConfigurationError("nothing to serve: give --package DIR or --repository DIR with a model in it")
        return packages

    packages = read()
    raise_file_limit()
    step_back()
    server = EdgeServer(packages, settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    signal.signal(signal.SIGHUP, lambda *_: server.reload(read))
    announcement = {"event": "listening", "endpoint": server.endpoint, "models": server.models, "pid": os.getpid()}
    metrics = None
    if http is not None:
        from offload.server.metrics import EdgeHttp

        metrics = EdgeHttp(server, port=http)
        announcement["http"] = metrics.url
    traces = None
    if otlp is not None:
        from runtime.observe.trace.tracing import Tracing

        traces = Tracing(otlp, "headway-edge")
        server.tell_traced(traces.answered)
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)
    typer.echo(json.dumps(announcement))
    with notifier() as manager:
        manager.ready(f"listening at {server.endpoint}")
        server.serve()
        manager.stopping("drained")
    if metrics is not None:
        metrics.close()
    if traces is not None:
        traces.close()
