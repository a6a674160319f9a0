"""`headway profile`: measure a package's segments on this board."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from devices.profile import Latency, Profile

_WIDTH = 120  # columns of characters that the table needs


def profile(
    package: Annotated[Path, typer.Argument(help="The model package, a folder, or an .onnx file")],
    devices: Annotated[str, typer.Option(help="Devices, separated by commas, as cpu:0,openvino:CPU+bf16")] = "cpu",
    batches: Annotated[str, typer.Option(help="Batches, separated by commas")] = "1",
    out: Annotated[Path | None, typer.Option(help="Write the profile here, a .toml file")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each kind, at most")] = 1000,
    budget_s: Annotated[float, typer.Option(help="Time for the runs of each kind, at most [s]")] = 2.0,
    idle_ms: Annotated[float, typer.Option(help="Pause before each run of the kind that comes after one [ms]")] = 50.0,
    idle_runs: Annotated[int, typer.Option(help="How many of them; 0 for none")] = 20,
    load: Annotated[bool, typer.Option(help="Measure beside a busy neighbour, too")] = True,
    power_w: Annotated[float | None, typer.Option(help="Declared power of devices without a meter [W]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Time every segment on every device and batch: one run after another, after a pause, and beside load."""
    from devices.package import load_package
    from devices.profile import write_profile
    from devices.profiler import ProfilerSettings, measure

    names = [name.strip() for name in devices.split(",")]
    try:
        numbers = tuple(int(batch) for batch in batches.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--batches {batches}: must be whole numbers separated by commas") from error
    try:
        settings = ProfilerSettings(numbers, repeats, budget_s, idle_runs, idle_ms * 1e-3, load, declared_w=power_w)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if out is not None and out.suffix != ".toml":
        raise typer.BadParameter(f"--out {out}: must end in .toml")
    if out is not None and not out.parent.is_dir():
        raise typer.BadParameter(f"--out {out}: there is no folder {out.parent}")
    measured = measure(load_package(package), names, settings, told=lambda line: typer.echo(line, err=True))
    if out is not None:
        write_profile(out, measured)
    if as_json:
        typer.echo(json.dumps(_table(measured)))
    else:
        _print(measured)


def _table(measured: "Profile") -> dict[str, object]:
    return {
        "name": measured.name,
        "device": measured.device,
        "segments": [
            {
                "model": entry.model,
                "segment": entry.segment,
                "device": entry.unit,
                "batch": entry.batch,
                "latency": _times(entry.latency),
                "after_idle": _times(entry.after_idle),
                "beside_load": _times(entry.beside_load),
                "energy_mj": None if entry.energy is None else 1e3 * entry.energy.value,
                "energy_error_mj": None if entry.energy is None else 1e3 * entry.energy_error_j,
                "memory_bytes": None if entry.memory is None else int(entry.memory.value),
                "output_bytes": None if entry.output is None else int(entry.output.value),
            }
            for entry in measured.segments
        ],
    }


def _times(latency: "Latency | None") -> dict[str, float | int | None] | None:
    if latency is None:
        return None
    seconds = {"p50": latency.p50_s, "p99": latency.p99_s, "p999": latency.p999_s, "max": latency.max_s}
    times = {f"{name}_ms": None if value is None else 1e3 * value for name, value in seconds.items()}
    return {**times, "samples": latency.samples}


def _print(measured: "Profile") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{measured.name} on {measured.device}, times in ms", show_edge=False, pad_edge=False, box=None)
    for heading in ("device", "segment"):
        table.add_column(heading, no_wrap=True)
    for heading in ("batch", "p50", "p99", "p99.9", "max", "idle p50", "load p50", "load p99", "mJ", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in measured.segments:
        latency, idle, load = entry.latency, entry.after_idle, entry.beside_load
        table.add_row(
            entry.unit,
            entry.segment,
            str(entry.batch),
            *(_ms(value) for value in (latency.p50_s, latency.p99_s, latency.p999_s, latency.max_s)),
            _ms(idle.p50_s if idle else None),
            _ms(load.p50_s if load else None),
            _ms(load.p99_s if load else None),
            "-" if entry.energy is None else f"{1e3 * entry.energy.value:.3g}",
            "-" if entry.memory is None else f"{entry.memory.value / 2**20:.1f}",
        )
    console = Console()
    (console if console.is_terminal and console.width >= _WIDTH else Console(width=_WIDTH)).print(table)


def _ms(value_s: float | None) -> str:
    return "-" if value_s is None else f"{1e3 * value_s:.3f}"
