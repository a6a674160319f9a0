"""The INA3221 monitors of Jetson boards through sysfs: bus voltage times current of each rail.

Newer kernels show them as hwmon (`in1_label`, `in1_input` [mV], `curr1_input` [mA]), older ones as iio
(`rail_name_0`, `in_power0_input` [mW]). A rail with "IN" in its name feeds the whole board and contains the others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from devices.clock import Clock
from devices.errors import MeterError
from devices.meters.sampled import SampledMeter

ROOT = Path("/sys/bus/i2c/drivers/ina3221")
ROOT_OLD = Path("/sys/bus/i2c/drivers/ina3221x")
STEP_V, STEP_A = 8e-3, 8e-3  # 8 mV on the bus; 40 uV over a shunt of 5 mOhm


@dataclass(frozen=True, slots=True)
class Rail:
    """One supply rail.

    Args:
        name: Its label.
        power_w: Returns its present power [W]; raises MeterError.
    """

    name: str
    power_w: Callable[[], float]


class Ina3221Meter(SampledMeter):
    """The power of a board's rails.

    Args:
        rails: Labels of the rails to add up; None: the one that feeds the board, or all where none is marked so.
        root: The driver's folder; None: wherever the kernel has it.
        period_s: Time between samples [s]; None: `sample` is called from outside.
        clock: What times are taken on.
    Raises:
        MeterError: There is no such monitor or rail, or it may not be read.
    """

    def __init__(
        self,
        rails: tuple[str, ...] | None = None,
        *,
        root: Path | None = None,
        period_s: float | None = 0.02,
        clock: Clock | None = None,
    ) -> None:
        found = {rail.name: rail for place in ((root,) if root else (ROOT, ROOT_OLD)) for rail in find_rails(place)}
        if not found:
            raise MeterError(f"there is no INA3221 in {root or ROOT}: this is no Jetson, or its driver is not loaded")
        chosen = tuple(rails or ([name for name in found if "IN" in name.upper().split("_")] or found))
        for name in chosen:
            if name not in found:
                raise MeterError(f"the INA3221 has no rail {name!r}: it has {sorted(found)}")

        def power_w() -> float:
            return sum(found[name].power_w() for name in chosen)

        resolution_w = 5.0 * STEP_A * len(chosen)
        name = f"ina3221 {'+'.join(chosen)}"
        super().__init__(name, power_w, resolution_w=resolution_w, period_s=period_s, clock=clock)


def find_rails(root: Path) -> Iterator[Rail]:
    """Yield the rails below a driver's folder."""
    for label in sorted(root.glob("*/hwmon/hwmon*/in*_label")):
        channel = label.name.removeprefix("in").removesuffix("_label")
        volts, amps = label.with_name(f"in{channel}_input"), label.with_name(f"curr{channel}_input")
        if amps.exists():  # channels 4 and up are sums of shunt voltages
            yield Rail(_text(label), _product(volts, amps))
    for label in sorted(root.glob("*/iio:device*/rail_name_*")):
        power = label.with_name(f"in_power{label.name.removeprefix('rail_name_')}_input")
        yield Rail(_text(label), _single(power))


def _product(volts: Path, amps: Path) -> Callable[[], float]:
    return lambda: _milli(volts) * _milli(amps)


def _single(power: Path) -> Callable[[], float]:
    return lambda: _milli(power)


def _milli(file: Path) -> float:
    text = _text(file)
    try:
        return float(text) * 1e-3
    except ValueError as error:
        raise MeterError(f"{file} says {text!r}: must be a number") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except PermissionError as error:
        raise MeterError(f"{file} may not be read: run as root or as root `chmod a+r {file}`") from error
    except OSError as error:
        raise MeterError(f"{file} cannot be read: {error.strerror}") from error
