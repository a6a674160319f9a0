"""Energy meters on made-up sysfs trees, a made-up NVML and a clock that is set by hand."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.clock import VirtualClock
from devices.errors import MeterError
from devices.meters import Ina3221Meter, NvmlMeter, PowercapMeter, Reading, SampledMeter, find_meter
from devices.meters.nvml import gpu_bytes
from devices.profile import Origin

RANGE_UJ = 262_143_328_850


def rapl(root: Path, **energies_uj: int) -> Path:
    """Make a powercap tree with a package for each keyword, and a core zone that must not be counted twice."""
    for place, (name, uj) in enumerate(energies_uj.items()):
        for zone, label in ((root / f"intel-rapl:{place}", name), (root / f"intel-rapl:{place}:0", "core")):
            zone.mkdir(parents=True)
            (zone / "name").write_text(f"{label.replace('_', '-')}\n")
            (zone / "energy_uj").write_text(f"{uj}\n")
            (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return root


def set_uj(root: Path, uj: int | str, place: int = 0) -> None:
    (root / f"intel-rapl:{place}" / "energy_uj").write_text(f"{uj}\n")


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    clock = VirtualClock()
    root = rapl(tmp_path, package_0=5_000_000, package_1=7_000_000)
    meter = PowercapMeter(root, clock=clock)
    assert meter.name == "powercap package-0+package-1"
    assert meter.origin is Origin.MEASURED
    assert meter.read() == Reading(0.0, 0.0)
    set_uj(root, 8_000_000)
    set_uj(root, 8_500_000, place=1)
    clock.advance(0.5)
    reading = meter.read()
    assert reading.energy_j == pytest.approx(4.5)
    assert reading.error_j == pytest.approx(9.0 * 2e-3)  # 9 W, a millisecond at each end
    meter.close()


@given(steps=st.lists(st.integers(0, RANGE_UJ - 1), min_size=1, max_size=8), start=st.integers(0, RANGE_UJ))
def test_a_wrapped_counter_is_put_right(steps: list[int], start: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = rapl(tmp_path_factory.mktemp("rapl"), package_0=start)
    clock = VirtualClock()
    meter = PowercapMeter(root, clock=clock)
    uj = start
    for step in steps:
        uj = (uj + step) % RANGE_UJ
        set_uj(root, uj)
        clock.advance(1.0)
        meter.read()
    assert meter.read().energy_j == pytest.approx(sum(steps) * 1e-6, abs=2e-6 * len(steps))


def test_a_reading_that_comes_too_late_to_trust_is_refused(tmp_path: Path) -> None:
    clock = VirtualClock()
    meter = PowercapMeter(rapl(tmp_path, package_0=0), clock=clock, greatest_w=1000.0)
    clock.advance(262.0)
    meter.read()
    clock.advance(263.0)
    with pytest.raises(MeterError, match=r"last read 263 s ago.*more than once: read it at least every 262 s"):
        meter.read()


@pytest.mark.parametrize("text", [str(RANGE_UJ + 1), "-1", "many", ""])
def test_a_counter_that_says_nonsense_is_refused(text: str, tmp_path: Path) -> None:
    meter = PowercapMeter(rapl(tmp_path, package_0=0))
    set_uj(tmp_path, text)
    with pytest.raises(MeterError, match="energy_uj"):
        meter.read()


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match=r"no processor package in .*has no RAPL counters"):
        PowercapMeter(tmp_path)


def test_a_missing_permission_is_told_with_how_to_grant_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = rapl(tmp_path, package_0=0)
    if os.geteuid() == 0:  # root reads everything
        read_text = Path.read_text

        def denied(path: Path, *args: Any, **kwargs: Any) -> str:
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied")
            return read_text(path, *args, **kwargs)

        monkeypatch.setattr(Path, "read_text", denied)
    else:
        (root / "intel-rapl:0" / "energy_uj").chmod(0)
    with pytest.raises(MeterError, match="may not be read: run as root, or as root `chmod a"):
        PowercapMeter(root)


def hwmon(root: Path, **rails: tuple[int, int]) -> Path:
    """Make an INA3221 as newer kernels show it: millivolts and milliamperes by rail."""
    folder = root / "1-0040" / "hwmon" / "hwmon3"
    folder.mkdir(parents=True)
    for channel, (name, (mv, ma)) in enumerate(rails.items(), start=1):
        (folder / f"in{channel}_label").write_text(f"{name}\n")
        (folder / f"in{channel}_input").write_text(f"{mv}\n")
        (folder / f"curr{channel}_input").write_text(f"{ma}\n")
    (folder / "in7_label").write_text("sum of shunt voltages\n")
    return folder


def test_a_jetson_is_measured_at_the_rail_that_feeds_it(tmp_path: Path) -> None:
    clock = VirtualClock()
    folder = hwmon(tmp_path, VDD_GPU_SOC=(5000, 400), VDD_IN=(5000, 2000), VDD_CPU_CV=(5000, 600))
    meter = Ina3221Meter(root=tmp_path, period_s=None, clock=clock)
    assert meter.name == "ina3221 VDD_IN"
    clock.advance(1.0)
    (folder / "curr2_input").write_text("4000\n")
    reading = meter.read()
    assert reading.energy_j == pytest.approx((10.0 + 20.0) / 2)
    assert reading.error_j == pytest.approx(5.0 + 0.02)  # half the step, and half the sensor's 40 mW
    parts = Ina3221Meter(("VDD_GPU_SOC", "VDD_CPU_CV"), root=tmp_path, period_s=None, clock=clock)
    clock.advance(2.0)
    assert parts.read().energy_j == pytest.approx(2 * (2.0 + 3.0))


def test_an_older_kernels_jetson_is_measured_too(tmp_path: Path) -> None:
    folder = tmp_path / "1-0041" / "iio:device1"
    folder.mkdir(parents=True)
    (folder / "rail_name_0").write_text("GPU\n")
    (folder / "in_power0_input").write_text("1500\n")
    clock = VirtualClock()
    meter = Ina3221Meter(root=tmp_path, period_s=None, clock=clock)
    clock.advance(2.0)
    assert meter.read().energy_j == pytest.approx(3.0)
    (folder / "in_power0_input").write_text("a lot\n")
    with pytest.raises(MeterError, match="says 'a lot': must be a number"):
        meter.read()


def test_missing_monitors_and_rails_are_told(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match=r"no INA3221 in .*: this is no Jetson"):
        Ina3221Meter(root=tmp_path, period_s=None)
    hwmon(tmp_path, VDD_IN=(5000, 2000))
    with pytest.raises(MeterError, match=r"no rail 'VDD_DLA': it has \['VDD_IN'\]"):
        Ina3221Meter(("VDD_DLA",), root=tmp_path, period_s=None)


@given(
    powers=st.lists(st.floats(0.0, 60.0), min_size=2, max_size=20),
    gaps_s=st.lists(st.floats(0.001, 2.0), min_size=20, max_size=20),
    early=st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_the_true_energy_of_steps_lies_within_the_error(
    powers: list[float], gaps_s: list[float], early: list[bool]
) -> None:
    """Power steps from one sample's to the next's right after the one or right before the other."""
    clock = VirtualClock()
    present = iter(powers)
    meter = SampledMeter("steps", lambda: next(present), period_s=None, clock=clock)
    true_j = 0.0
    for before, after, gap_s, at_once in zip(powers, powers[1:], gaps_s, early, strict=False):
        true_j += (after if at_once else before) * gap_s
        clock.advance(gap_s)
        meter.sample()
    reading = Reading(meter._energy_j, meter._error_j)
    assert abs(reading.energy_j - true_j) <= reading.error_j + 1e-6


def test_a_sensor_that_fails_in_the_background_fails_the_next_reading() -> None:
    said = iter([1.0])

    def power_w() -> float:
        for value in said:
            return value
        raise MeterError("the sensor is gone")

    meter = SampledMeter("fragile", power_w, period_s=0.001)
    assert meter._thread is not None
    meter._thread.join()
    with pytest.raises(MeterError, match="fragile failed while sampling: the sensor is gone"):
        meter.read()
    meter.close()


def test_nonsense_power_and_periods_are_refused() -> None:
    said = iter([1.0, float("nan")])
    meter = SampledMeter("odd", lambda: next(said), period_s=None)
    with pytest.raises(MeterError, match="odd says nan W"):
        meter.read()
    with pytest.raises(ValueError, match=r"period_s = 0\.0"):
        SampledMeter("odd", lambda: 1.0, period_s=0.0)


class NVMLError(Exception):
    """As nvidia-ml-py's."""


def nvml(**changes: Callable[..., Any]) -> Any:
    """Make an NVML with one GPU."""
    calls: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda gpu: "Tensor Toaster",
        "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: 1000,
        "nvmlDeviceGetPowerUsage": lambda gpu: 25_000,
    }
    return SimpleNamespace(NVMLError=NVMLError, **{**calls, **changes})


def fails(*_: Any) -> Any:
    raise NVMLError("Not Supported")


def test_a_gpus_counter_is_read_from_where_it_stood() -> None:
    counter = iter([5_000_000, 5_040_000, 4_000_000])
    clock = VirtualClock()
    meter = NvmlMeter(library=nvml(nvmlDeviceGetTotalEnergyConsumption=lambda gpu: next(counter)), clock=clock)
    assert meter.name == "nvml 0 Tensor Toaster"
    clock.advance(2.0)
    reading = meter.read()
    assert (reading.energy_j, reading.error_j) == pytest.approx((40.0, 4.0))
    with pytest.raises(MeterError, match="went back by 1000000 mJ"):
        meter.read()
    meter.close()


def test_a_gpu_without_a_counter_is_sampled() -> None:
    clock = VirtualClock()
    library = nvml(nvmlDeviceGetTotalEnergyConsumption=fails)
    meter = NvmlMeter(library=library, period_s=None, clock=clock)
    clock.advance(2.0)
    reading = meter.read()
    assert reading.energy_j == pytest.approx(50.0)
    assert reading.error_j == pytest.approx(1.0)
    meter.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nvmlInit": fails}, "NVML finds no GPU: Not Supported: is the NVIDIA driver loaded"),
        ({"nvmlDeviceGetCount": lambda: 0}, "NVML has no GPU 0: it sees 0"),
        ({"nvmlDeviceGetTotalEnergyConsumption": fails, "nvmlDeviceGetPowerUsage": fails}, "tells no power"),
    ],
)
def test_a_gpu_that_is_not_there_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeterError, match=message):
        NvmlMeter(library=nvml(**changes), period_s=None)


def test_a_gpus_memory_is_told_or_refused() -> None:
    library = nvml(nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=7 * 2**20))
    assert gpu_bytes(0, library) == 7 * 2**20
    with pytest.raises(MeterError, match="NVML tells no memory of GPU 3: Not Supported"):
        gpu_bytes(3, nvml(nvmlDeviceGetMemoryInfo=fails))


def test_a_device_without_a_meter_says_what_was_tried() -> None:
    meter, why = find_meter("null:drive_px2")
    assert (meter, why) == (None, "a null device uses no energy")
    meter, why = find_meter("cpu:0")
    if meter is None:
        assert "INA3221" in why
        assert "RAPL" in why or "may not be read" in why
    else:
        assert why == meter.name
        meter.close()
