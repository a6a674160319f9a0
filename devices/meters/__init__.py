"""Energy meters: one interface over what a board has (RAPL, NVML, INA3221) and over a declared power."""

from devices.errors import MeterError
from devices.meters.declared import DeclaredMeter
from devices.meters.find import find_meter
from devices.meters.ina3221 import Ina3221Meter
from devices.meters.meter import EnergyMeter, Reading
from devices.meters.nvml import NvmlMeter
from devices.meters.powercap import PowercapMeter
from devices.meters.sampled import SampledMeter

__all__ = [
    "DeclaredMeter",
    "EnergyMeter",
    "Ina3221Meter",
    "MeterError",
    "NvmlMeter",
    "PowercapMeter",
    "Reading",
    "SampledMeter",
    "find_meter",
]
