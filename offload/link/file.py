"""A declared link as a TOML file.

    seed = 1
    loss = 0.01
    rate = { rayleigh_mbps = 20 }                          # or { mbps = 20 }
    rtt = { shape = 3.5, scale_ms = 5.5, shift_ms = 10 }   # or { ms = 30 }; none: 0
    queue = { geometric = 0.97 }                           # or { ms = 1 }; none: 0
    outages = [{ start_s = 10, duration_s = 5 }]

`trace = "drive.csv"`, beside the file, stands in place of `rate` and of what else the trace records.
"""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from offload.errors import LinkError
from offload.link.distributions import Distribution, Fixed, Gamma, GeometricQueue, Rayleigh
from offload.link.model import LinkModel, Outage
from offload.link.trace import Trace, read_trace
from offload.radio import MEGABIT

_KEYS = ("seed", "loss", "rate", "rtt", "queue", "outages", "trace")
_MS = 1e-3

_Shape = tuple[tuple[str, ...], Callable[..., Any]]
_RATES: tuple[_Shape, ...] = (
    (("rayleigh_mbps",), lambda sigma: Rayleigh(sigma * MEGABIT)),
    (("mbps",), lambda rate: Fixed(rate * MEGABIT)),
)
_TIMES: tuple[_Shape, ...] = (
    (("ms",), lambda time: Fixed(time * _MS)),
    (("shape", "scale_ms"), lambda shape, scale: Gamma(shape, scale * _MS)),
    (("shape", "scale_ms", "shift_ms"), lambda shape, scale, shift: Gamma(shape, scale * _MS, shift * _MS)),
)
_QUEUES: tuple[_Shape, ...] = ((("geometric",), GeometricQueue), *_TIMES)
_OUTAGES: tuple[_Shape, ...] = ((("start_s", "duration_s"), Outage),)


def read_link(path: Path) -> tuple[LinkModel, int]:
    """Return the link that a file declares, and its seed.

    Raises:
        LinkError: the file cannot be read, a key is unknown, or a value impossible.
    """
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise LinkError(f"cannot read the link {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LinkError(f"cannot read the link {path}: {error}") from error
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise LinkError(f"{path}: unknown key {unknown[0]!r}: there are {', '.join(_KEYS)}")
    try:
        return _link(table, path.parent)
    except LinkError as error:
        raise LinkError(f"{path}: {error}") from error


def _link(table: Mapping[str, Any], folder: Path) -> tuple[LinkModel, int]:
    seed, loss = table.get("seed", 0), table.get("loss", 0.0)
    if not isinstance(seed, int) or seed < 0:
        raise LinkError(f"seed = {seed!r}: must be a whole number that is not negative")
    quantities: dict[str, Distribution | Trace] = {}
    for key, shapes in (("rate", _RATES), ("rtt", _TIMES), ("queue", _QUEUES)):
        if key in table:
            quantities[key] = _one_of(key, table[key], shapes)
    if "trace" in table:
        for name, trace in read_trace(folder / str(table["trace"])).items():
            key = name.removesuffix("_bps").removesuffix("_s")
            if key in quantities:
                raise LinkError(f"{key} stands in the trace and in the file: leave one out")
            quantities[key] = trace
    outages = table.get("outages", [])
    if not isinstance(outages, list):
        raise LinkError(f"outages = {outages!r}: must be a list of tables")
    gone = tuple(_one_of("outages", item, _OUTAGES) for item in outages)
    if not isinstance(loss, int | float) or isinstance(loss, bool):
        raise LinkError(f"loss = {loss!r}: must be in [0, 1)")
    if "rate" not in quantities:
        raise LinkError("no rate: give one, or a trace")
    return LinkModel(**quantities, loss=float(loss), outages=gone), seed


def _one_of(key: str, given: Any, shapes: tuple[_Shape, ...]) -> Any:
    names = set(given) if isinstance(given, dict) else set()
    for wanted, make in shapes:
        if names == set(wanted):
            values = [given[name] for name in wanted]
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
                return make(*values)
    choices = " or ".join("{ " + ", ".join(f"{name} = ..." for name in wanted) + " }" for wanted, _ in shapes)
    raise LinkError(f"{key} = {given!r}: must be {choices}, of numbers")
