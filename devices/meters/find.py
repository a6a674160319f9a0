"""Find the meter of a device."""

from collections.abc import Callable

from devices.errors import MeterError
from devices.meters.ina3221 import Ina3221Meter
from devices.meters.meter import EnergyMeter
from devices.meters.nvml import NvmlMeter
from devices.meters.powercap import PowercapMeter


def find_meter(device: str) -> tuple[EnergyMeter | None, str]:
    """Return the meter that counts a device's energy, and what was tried.

    A GPU is counted by NVML, or, on a Jetson, with the whole board by its INA3221; everything else by that or by the
    processor's RAPL counters. The caller closes it.

    Args:
        device: Name of the device, as `devices.open` knows it.
    Returns:
        The meter, or None; and its name, or why there is none.
    """
    if device.startswith("null"):
        return None, "a null device uses no energy"
    tried = []
    for make in _candidates(device):
        try:
            meter = make()
        except MeterError as error:
            tried.append(str(error))
        else:
            return meter, meter.name
    return None, "; ".join(tried)


def _candidates(device: str) -> tuple[Callable[[], EnergyMeter], ...]:
    if "cuda" in device.lower() or "tensorrt" in device.lower():
        _, _, number = device.partition("+")[0].rpartition(":")
        index = int(number) if number.isdecimal() else 0
        return (lambda: NvmlMeter(index), Ina3221Meter)
    return (Ina3221Meter, PowercapMeter)
