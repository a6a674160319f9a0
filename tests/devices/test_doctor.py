"""The doctor's verdicts, on made-up boards and on this one."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from devices import doctor as room
from devices import host
from devices.doctor import Verdict, check_device, check_host, examine
from devices.profile import Origin, load_profile, shipped_profiles
from runtime.cli.main import _application


def board(root: Path, *, governor: str = "performance", milli_c: int = 50_000, available_kb: int = 4_000_000) -> Path:
    files = {
        "proc/cpuinfo": "processor : 0\nmodel name : Slide Rule 3\n",
        "proc/meminfo": f"MemTotal:  8000000 kB\nMemAvailable:  {available_kb} kB\n",
        "sys/class/thermal/thermal_zone0/type": "CPU-therm\n",
        "sys/class/thermal/thermal_zone0/temp": f"{milli_c}\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "90000\n",
        "sys/class/thermal/thermal_zone1/type": "broken\n",
        "sys/class/thermal/thermal_zone1/temp": "hot\n",
    }
    for core in (0, 1):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        files |= {f"{folder}/scaling_cur_freq": f"{1_000_000 + core}\n", f"{folder}/cpuinfo_min_freq": "400000\n"}
        files |= {f"{folder}/cpuinfo_max_freq": "2000000\n", f"{folder}/scaling_governor": f"{governor}\n"}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def verdicts(root: Path) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in check_host(root)}


def test_a_sound_board_passes(tmp_path: Path) -> None:
    root = board(tmp_path)
    found = {check.name: check for check in check_host(root)}
    assert found["processor"].reason.startswith("Slide Rule 3, ")
    for name in ("clocks", "temperature", "memory"):
        assert found[name].verdict is Verdict.PASS, found[name]
        assert found[name].fix == ""
    assert found["clocks"].reason == "1000 to 1000 of 2000 MHz, governor performance"
    assert found["temperature"].reason == "CPU-therm at 50 degC, limit 90"
    assert host.clocks(root)[1].core == 1


@pytest.mark.parametrize(
    ("changes", "name", "reason", "fix"),
    [
        ({"governor": "powersave"}, "clocks", "governor powersave: times will vary", "cpupower"),
        ({"milli_c": 87_000}, "temperature", "CPU-therm at 87 degC, limit 90", "cool"),
        ({"available_kb": 100_000}, "memory", "98 of 7812 MiB available", "free 512 MiB"),
    ],
)
def test_what_is_wrong_is_told_with_the_fix(
    changes: dict[str, object], name: str, reason: str, fix: str, tmp_path: Path
) -> None:
    check = next(check for check in check_host(board(tmp_path, **changes)) if check.name == name)  # type: ignore[arg-type]
    assert check.verdict is Verdict.FAIL
    assert reason in check.reason
    assert fix in check.fix


def test_a_board_that_tells_nothing_is_no_failure(tmp_path: Path) -> None:
    found = verdicts(tmp_path)
    assert {found[name] for name in ("clocks", "temperature", "memory")} == {Verdict.NONE}


def test_missing_permissions_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "may_run_realtime", lambda: False)
    monkeypatch.setattr(host, "lockable_bytes", lambda: 8 * 2**20)
    found = {check.name: check for check in check_host(tmp_path)}
    assert found["real-time priority"].verdict is Verdict.FAIL
    assert "LimitRTPRIO" in found["real-time priority"].fix
    assert found["locked memory"].verdict is Verdict.FAIL
    assert "8 MiB" in found["locked memory"].reason


def test_devices_pass_or_fail_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_device("cpu").verdict is Verdict.PASS
    missing = check_device("onnxruntime:Quantum")
    assert missing.verdict is Verdict.FAIL
    assert "has no Quantum" in missing.reason
    assert not missing.needed
    true = room._weights()
    turns = iter([true, np.roll(true, 1)])
    monkeypatch.setattr(room, "_weights", lambda: next(turns))
    wrong = check_device("cpu")
    assert wrong.verdict is Verdict.FAIL
    assert "computes wrong numbers" in wrong.reason
    assert wrong.needed


def test_every_provider_of_this_onnxruntime_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    assert room.known_devices() == (*room.DEVICES, "onnxruntime:TensorrtExecutionProvider")


def test_every_check_has_a_verdict_here() -> None:
    checks = list(examine(("cpu", "cpu+int8")))
    assert [check.name for check in checks[:2]] == ["cpu", "cpu+int8"]
    assert {"energy by RAPL", "energy by NVML", "energy by INA3221", "locked memory"} <= {c.name for c in checks}
    assert all(check.reason for check in checks)


def test_the_command_says_what_it_found() -> None:
    application = _application(["doctor", "models"])
    said = CliRunner().invoke(application, ["doctor", "--devices", "cpu"])  # type: ignore[arg-type]
    assert said.exit_code == 0, said.output
    assert "PASS" in said.stdout
    said = CliRunner().invoke(application, ["doctor", "--devices", "cpu,cpu:4096", "--json"])  # type: ignore[arg-type]
    assert said.exit_code == 1
    failed = [check for check in json.loads(said.stdout) if check["verdict"] == "FAIL"]
    assert "core 4096 is not open" in next(c["reason"] for c in failed if c["name"] == "cpu:4096")


def test_shipped_profiles_are_sound_and_sourced() -> None:
    assert set(shipped_profiles()) >= {"drive_px2", "jetson_agx_xavier", "jetson_nano", "jetson_tx2"}
    for name in shipped_profiles():
        profile = load_profile(name)
        for entry in profile.segments:
            assert entry.latency.source.origin is Origin.PUBLISHED
            assert entry.latency.source.cite


def test_the_published_totals_are_those_of_the_parts() -> None:
    tx2 = load_profile("jetson_tx2")
    for model in ("AlexNet", "VGG-16"):
        for unit in ("cpu", "gpu"):
            parts_s = sum(e.latency.p50_s for e in tx2.segments if (e.model, e.unit) == (model, unit))
            assert parts_s == pytest.approx(tx2.figures(model, "224x224", unit).latency.value, rel=3e-3)
    xavier = load_profile("jetson_agx_xavier")
    groups = [entry for entry in xavier.segments if entry.model == "GoogLeNet" and entry.unit == "gpu"]
    assert len(groups) == 10
    crossings_s = sum(t.latency.value for t in xavier.transitions if t.origin == "gpu")
    assert 1e3 * sum(entry.latency.p50_s for entry in groups) == pytest.approx(1.77, abs=0.01)
    assert 1e3 * crossings_s == pytest.approx(0.27, abs=0.01)
    clocks = {clocks.unit: clocks.frequencies_hz for clocks in xavier.clocks}
    assert clocks["gpu"][-1] == 1377e6
    assert (len(clocks["cpu"]), clocks["cpu"][0], clocks["cpu"][-1]) == (29, 115.2e6, 2265.6e6)
    assert xavier.figures("ResNet-50", "224x224", "gpu").latency.value == pytest.approx(19.6e-3, rel=1e-2)
