"""`headway sweep`: a model cut at every place between this machine and an edge server."""

import json
from pathlib import Path
from typing import Annotated

import typer


def sweep(
    package: Annotated[Path, typer.Argument(help="Model package")],
    link: Annotated[Path | None, typer.Option(help="Declared link, TOML; none: Rayleigh of 20 Mbit/s")] = None,
    edge: Annotated[str | None, typer.Option(help="Edge server that serves the package; none: one is started")] = None,
    runs: Annotated[int, typer.Option(help="Runs of each cut")] = 20,
    radio: Annotated[str, typer.Option(help="Whose energy is counted: wifi, lte or 3g")] = "wifi",
    plot: Annotated[Path | None, typer.Option(help="Also draw latency against throughput into this PNG")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Run a model's head here and its tail on an edge server, for every cut, over the declared link.

    Full offload and local stand among the cuts. A star marks those that no other betters in latency and throughput.
    """
    if runs < 1:
        raise typer.BadParameter(f"{runs}: must be at least 1", param_hint="--runs")
    from contextlib import nullcontext

    from devices.backends.onnxruntime import OnnxRuntimeBackend
    from devices.package import load_package
    from offload.link import LinkModel
    from offload.link.file import read_link
    from offload.radio import load_radio
    from runtime.cli.edge_beside import edge_beside
    from runtime.plan.sweep import draw, name_of
    from runtime.plan.sweep import sweep as measure

    model, seed = (LinkModel(), 0) if link is None else read_link(link)
    loaded = load_package(package)
    with edge_beside(package) if edge is None else nullcontext(edge) as endpoint:
        cuts = measure(loaded, OnnxRuntimeBackend("cpu"), endpoint, model, load_radio(radio), runs=runs, seed=seed)
    if plot is not None:
        draw(cuts, f"{loaded.name}: where to cut", plot)
    if as_json:
        typer.echo(json.dumps({"package": loaded.name, "cuts": [cut.row() for cut in cuts]}))
        return
    heads = ("sent kB", "p50 ms", "p99 ms", "1/s", "radio mJ", "answered")
    typer.echo(f"  {'cut':20}" + "".join(f" {head:>9}" for head in heads))
    for cut in cuts:
        figures = (cut.sent_bytes / 1e3, cut.p50_ms, cut.p99_ms, cut.throughput_hz, cut.radio_mj)
        texts = "".join(f" {figure:9.2f}" for figure in figures)
        typer.echo(f"{'*' if cut.best else ' '} {name_of(cut):20}{texts} {cut.answered:9.0%}")
    if plot is not None:
        typer.echo(str(plot))
