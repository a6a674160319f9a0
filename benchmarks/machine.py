"""What a benchmark says about where it ran, and how it sums up times.

A figure without its machine and versions is worth nothing, and a mean hides the late ones: every benchmark prints
`machine()` and the `spread` of its samples, and keeps both as JSON.
"""

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def machine(*packages: str) -> dict[str, Any]:
    """Return processor, cores, load, kernel, Python and the versions of `packages`; a missing one is "none"."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
    }


def spread(samples_s: Sequence[float], unit: str = "ms") -> dict[str, float]:
    """Return p50, p99 and max of times [s] in `unit` (s, ms or us), by the nearest rank."""
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6}[unit]
    ordered = sorted(samples_s)
    last = len(ordered) - 1
    ranks = {"p50": round(0.5 * last), "p99": round(0.99 * last), "max": last}
    return {f"{name}_{unit}": scale * ordered[rank] for name, rank in ranks.items()}


def line(name: str, figures: dict[str, Any]) -> str:
    """Return one printed line: the name and every figure."""
    parts = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items())
    return f"{name:44s} " + "  ".join(parts)


def keep(path: Path | None, where: dict[str, Any], results: dict[str, Any]) -> None:
    """Write machine and results as JSON; no path, no file."""
    if path is not None:
        path.write_text(json.dumps({"machine": where, "results": results}, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    """Return the processor's own name where the kernel tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [row.split(":", 1)[1].strip() for row in text.splitlines() if row.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    loaded = getattr(sys.modules.get(package), "__version__", None)  # of onnxruntime there are several wheels
    if loaded:
        return str(loaded)
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
