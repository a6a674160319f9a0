"""The vehicle file of a calibration: what was measured with its interval beside it, the rest as it was declared."""

import math
from dataclasses import asdict, replace
from typing import Any

from carla_bridge.calibrate.measure import Measured
from carla_bridge.calibrate.statistics import Estimate
from shield.vehicle import Vehicle, parse_vehicle

TOP = ("l_r_m", "beta_max_rad", "v_max_mps", "a_max_mps2", "deceleration_mps2")
"""Keys of the file's own table; all others that are measured are bounds."""

_ROUNDED_DOWN = ("deceleration_mps2", "slip_rate_radps")
_AS_IT_IS = ("l_r_m", "beta_max_rad")
_SMALL = 1e-9


def calibrated(base: Vehicle, measured: Measured, name: str, only_worse: bool = False) -> Vehicle:
    """Return `base` with everything that was measured, rounded to the safe side.

    With `only_worse` a bound is declared wider, never narrower: a drive that nobody planned shows what the vehicle
    does, not all it can do. l_r is no bound and is declared as measured.

    A measured speed is used until the next one, so what the vehicle gains in a declared tick counts as its error too.
    """
    values = {key: declared(item) for key, item in measured.estimates.items()}
    if "speed_mps" in values:
        values["speed_mps"] += base.bounds.tick_s * (values.get("a_max_mps2") or base.a_max_mps2 or 0.0)
    if "slip_rate_radps" not in values and "actuation_delay_s" in values:
        values["slip_rate_radps"] = None  # every step was followed at once
    if only_worse:
        before = asdict(base) | asdict(base.bounds)
        values = {key: _worse(key, before[key], value) for key, value in values.items()}
    bounds = replace(base.bounds, **{key: value for key, value in values.items() if key not in TOP})
    return replace(base, **{key: value for key, value in values.items() if key in TOP}, bounds=bounds, name=name)


def _worse(key: str, before: Any, value: Any) -> Any:
    if key == "l_r_m":
        return value
    if key in _ROUNDED_DOWN:
        return before if value is None else value if before is None else min(before, value)
    return before if before is None else max(before, value)


def declared(estimate: Estimate) -> Any:
    """Return the value to declare: three digits, rounded to the safe side; l_r and full lock as they are."""
    value = estimate.value
    if estimate.name in _AS_IT_IS:
        return round(value, 5)
    if value <= _SMALL:
        return 0.0
    grain = 10.0 ** (math.floor(math.log10(value)) - 2)
    whole = math.floor(value / grain + _SMALL) if estimate.name in _ROUNDED_DOWN else math.ceil(value / grain - _SMALL)
    return float(f"{whole * grain:.6g}")


def vehicle_text(vehicle: Vehicle, measured: Measured, origin: str) -> str:
    """Return the file's text; `load_vehicle` reads the same vehicle from it.

    Args:
        vehicle: From `calibrated`.
        measured: What it rests on.
        origin: What was driven or read, for the first line.
    """
    lines = [f"# Calibrated from: {origin}", "# Beside each value: the interval that holds the true one."]
    lines.append(f'name = "{vehicle.name}"')
    values = asdict(vehicle)
    bounds, barrier = values.pop("bounds"), values.pop("barrier")
    del values["name"]
    lines += [_line(key, value, measured) for key, value in values.items() if value is not None]
    if barrier is not None:
        lines += ["", "[barrier]", *(f"{key} = {value!r}" for key, value in barrier.items())]
    lines += ["", "[bounds]"]
    lines += [_line(key, value, measured) for key, value in bounds.items() if value is not None]
    text = "\n".join(lines) + "\n"
    parse_vehicle(text, origin)
    return text


def _line(key: str, value: float, measured: Measured) -> str:
    item = measured.estimates.get(key)
    if item is None:
        return f"{key} = {value!r}  # declared before, not measured"
    told = f"{item.low:.4g} to {item.high:.4g} {item.unit}, n = {item.n}, confidence {1.0 - item.delta:g}"
    return f"{key} = {value!r}  # {told}"
