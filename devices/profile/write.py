"""Write a profile as the TOML that `load_profile` reads: times in ms, energies in mJ, sizes in KiB."""

from pathlib import Path
from typing import Any

from devices.package.toml import dump_toml
from devices.profile.figures import Figure, Latency, Profile, SegmentFigures, Source
from devices.profile.read import FORMAT


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile's units and segments; whole models, transitions and clocks are only ever read.

    Raises:
        ValueError: The profile has figures of another kind, which would be lost.
        OSError: The file can't be written.
    """
    if profile.models or profile.transitions or profile.clocks:
        raise ValueError(f"profile {profile.name!r} has more than segments: only they can be written")
    names = _name_sources(profile)
    table = {
        "format": FORMAT,
        "name": profile.name,
        "device": profile.device,
        "description": profile.description,
        "sources": {
            name: {"cite": source.cite, "origin": str(source.origin), "license": source.license}
            for source, name in names.items()
        },
        "units": {unit.name: {"description": unit.description} for unit in profile.units},
        "segments": [_segment(entry, names) for entry in profile.segments],
    }
    path.write_text(dump_toml(table), encoding="utf-8")


def _segment(entry: SegmentFigures, names: dict[Source, str]) -> dict[str, Any]:
    table: dict[str, Any] = {
        "model": entry.model,
        "segment": entry.segment,
        "unit": entry.unit,
        "batch": entry.batch,
        "sha256": entry.sha256,
        "latency": _latency(entry.latency, names),
    }
    for key, latency in (("after_idle", entry.after_idle), ("beside_load", entry.beside_load)):
        if latency is not None:
            table[key] = _latency(latency, names)
    if entry.energy is not None:
        error = {"error": _rounded(entry.energy_error_j * 1e3)}
        table["energy"] = _figure(entry.energy, 1e-3, "mJ", names) | error
    for key, figure in (("memory", entry.memory), ("output", entry.output)):
        if figure is not None:
            table[key] = _figure(figure, 2.0**10, "KiB", names)
    return table


def _latency(latency: Latency, names: dict[Source, str]) -> dict[str, Any]:
    known = {"value": latency.p50_s, "p99": latency.p99_s, "p999": latency.p999_s, "max": latency.max_s}
    times = {key: _rounded(value * 1e3) for key, value in known.items() if value is not None}
    return {**times, "samples": latency.samples, "unit": "ms", "source": names[latency.source]}


def _figure(figure: Figure, scale: float, unit: str, names: dict[Source, str]) -> dict[str, Any]:
    return {"value": _rounded(figure.value / scale), "unit": unit, "source": names[figure.source]}


def _name_sources(profile: Profile) -> dict[Source, str]:
    sources: dict[Source, None] = {}
    for entry in profile.segments:
        figures = (entry.latency, entry.after_idle, entry.beside_load, entry.energy, entry.memory, entry.output)
        sources.update((figure.source, None) for figure in figures if figure is not None)
    return {source: f"s{place}" for place, source in enumerate(sources, start=1)}


def _rounded(value: float) -> float:
    """Return six significant digits, which keeps the order of percentiles."""
    return float(f"{value:.6g}")
