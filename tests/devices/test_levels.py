# ruff: noqa: N802 - the names are NVML's
"""Clocks of devices on made-up boards: found, set, refused with the reason, set back."""

from pathlib import Path
from typing import Any

import pytest

from devices import host
from devices.errors import ClockError
from devices.levels import find_clock, level_hz, same_clock

LIMITS = {"scaling_min_freq": 600_000, "scaling_max_freq": 1_800_000}


def cpufreq(root: Path, core: int, governor: str = "schedutil", **files: int) -> Path:
    folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
    folder.mkdir(parents=True)
    limits = {"cpuinfo_min_freq": 600_000, "cpuinfo_max_freq": 1_800_000}
    for name, khz in (LIMITS | limits | files).items():
        (folder / name).write_text(f"{khz}\n")
    (folder / "scaling_governor").write_text(f"{governor}\n")
    return folder


def values(folder: Path) -> dict[str, int]:
    return {name: int((folder / name).read_text()) for name in LIMITS}


@pytest.mark.parametrize(
    ("name", "hz"),
    [
        ("1377 MHz", 1377e6),
        ("1.2GHz", 1.2e9),
        ("600000 kHz", 6e8),
        ("5hz", 5.0),
        ("gpu@1.2GHz", 1.2e9),
        ("cpu:0 at 900 MHz", 9e8),
        ("low", None),
        ("MHz", None),
    ],
)
def test_a_level_named_by_its_clock(name: str, hz: float | None) -> None:
    assert level_hz(name) == (None if hz is None else pytest.approx(hz))


def test_both_ends_are_set_in_an_order_that_the_kernel_takes_and_set_back(tmp_path: Path) -> None:
    folder = cpufreq(tmp_path, 1)
    clock = find_clock("cpu:1+int8", tmp_path)
    assert clock.locked is None
    assert clock.present_hz() == 1.8e9
    for hz in (900e6, 1.5e9, 600e6, 1.8e9):
        clock.set(hz)
        assert values(folder) == dict.fromkeys(LIMITS, round(hz / 1e3))
        assert same_clock(clock.present_hz(), hz)
    clock.restore()
    assert values(folder) == LIMITS
    clock.restore()


def test_the_lower_end_never_crosses_the_upper_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cpufreq(tmp_path, 0)
    real = Path.write_text

    def strict(path: Path, text: str, *more: Any) -> int:
        now = {**{name: folder / name for name in LIMITS}}
        low, high = (int(text) if path == file.resolve() else int(file.read_text()) for file in now.values())
        if low > high:
            raise OSError(22, "Invalid argument")
        return real(path, text, *more)

    monkeypatch.setattr(Path, "write_text", strict)
    clock = find_clock("cpu:0", tmp_path)
    clock.set(700e6)
    clock.set(1.7e9)
    clock.restore()
    assert values(folder) == LIMITS


def test_the_governor_userspace_has_a_file_of_its_own(tmp_path: Path) -> None:
    folder = cpufreq(tmp_path, 0, "userspace", scaling_setspeed=1_200_000)
    clock = find_clock("cpu:0", tmp_path)
    assert clock.present_hz() == 1.2e9
    clock.set(900e6)
    assert (folder / "scaling_setspeed").read_text() == "900000"
    assert values(folder) == LIMITS
    clock.restore()
    assert int((folder / "scaling_setspeed").read_text()) == 1_200_000


def test_present_clock_by_governor(tmp_path: Path) -> None:
    cpufreq(tmp_path, 0, "performance")
    cpufreq(tmp_path, 1, "powersave")
    assert [find_clock(f"cpu:{core}", tmp_path).present_hz() for core in (0, 1)] == [1.8e9, 0.6e9]


def test_every_core_of_an_unpinned_device_and_cores_of_one_policy(tmp_path: Path) -> None:
    folder = cpufreq(tmp_path, 0)
    (tmp_path / "sys/devices/system/cpu/cpu1").mkdir()
    (tmp_path / "sys/devices/system/cpu/cpu1/cpufreq").symlink_to(folder)
    clocks = [find_clock(name, tmp_path) for name in ("cpu", "cpu:0", "cpu:1", "openvino:CPU")]
    assert len({clock.domain for clock in clocks}) == 1


def test_a_jetson_gpu_by_devfreq(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/devfreq/17000000.gv11b"
    folder.mkdir(parents=True)
    for name, text in (
        ("min_freq", "114750000"),
        ("max_freq", "1377000000"),
        ("available_frequencies", "114750000 675750000 1377000000"),
        ("governor", "nvhost_podgov"),
    ):
        (folder / name).write_text(text)
    clock = find_clock("cuda:0", tmp_path)
    clock.set(675.75e6)
    assert (folder / "max_freq").read_text() == (folder / "min_freq").read_text() == "675750000"
    with pytest.raises(ClockError, match="1500 MHz is outside of its 115 to 1377 MHz"):
        clock.set(1.5e9)


class Nvml:
    """An NVML of one GPU."""

    NVML_CLOCK_GRAPHICS = 0

    class NVMLError(Exception):
        """As NVML's."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def nvmlInit(self) -> None:
        """Nothing to do."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index:
            raise self.NVMLError("Not Found")
        return index

    def nvmlDeviceGetClockInfo(self, gpu: int, kind: int) -> int:
        return 1410

    def nvmlDeviceSetGpuLockedClocks(self, gpu: int, low: int, high: int) -> None:
        self.calls.append((low, high))

    def nvmlDeviceResetGpuLockedClocks(self, gpu: int) -> None:
        self.calls.append("reset")


def test_a_gpu_by_nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    clock = find_clock("cuda:0", tmp_path, nvml=nvml)
    assert clock.present_hz() == 1.41e9
    clock.restore()
    assert nvml.calls == []
    clock.set(1.2e9)
    clock.restore()
    assert nvml.calls == [(1200, 1200), "reset"]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert clock.locked == "cuda:0: NVML lets root alone set clocks"
    with pytest.raises(ClockError, match="Not Found"):
        find_clock("cuda:1", tmp_path, nvml=nvml)


@pytest.mark.parametrize(
    ("device", "message"),
    [("cpu:0", "no cpufreq"), ("openvino:NPU", "no way is known"), ("what", "begins with none of")],
)
def test_no_clock(tmp_path: Path, device: str, message: str) -> None:
    with pytest.raises(ClockError, match=message):
        find_clock(device, tmp_path)


def test_files_that_may_not_be_written_or_are_overruled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cpufreq(tmp_path, 0)
    clock = find_clock("cpu:0", tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert clock.locked == f"{folder.resolve() / 'scaling_min_freq'} may not be written"
    monkeypatch.setattr(Path, "write_text", lambda *_: 0)
    with pytest.raises(ClockError, match="was set to 900000 and says 600000: the host overrules it"):
        clock.set(900e6)
    (folder / "scaling_max_freq").unlink()
    with pytest.raises(ClockError, match="cannot be read: No such file"):
        clock.present_hz()


def test_throttlings_and_busy_cores(tmp_path: Path) -> None:
    count = tmp_path / "sys/devices/system/cpu/cpu3/thermal_throttle"
    count.mkdir(parents=True)
    (count / "core_throttle_count").write_text("7")
    assert host.throttled_counts(tmp_path) == {3: 7}
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  9 9 9 9 9 9 9 9\ncpu0 10 1 5 80 4 0 2 1 0 0\nintr 5\n")
    assert host.busy_ticks(tmp_path) == {0: (19, 103)}
    assert host.busy_ticks(tmp_path / "nowhere") == {}
