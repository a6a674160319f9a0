from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.clock import VirtualClock
from devices.errors import ProfileError
from devices.meters import DeclaredMeter
from devices.profile import Origin, load_profile, times_by_macs
from tests.models import write_exit_package

SOUND = """
format = 1
name = "board"
device = "a board"
[sources.here]
cite = "measured on the bench"
origin = "measured"
license = "CC0"
[[models]]
model = "net"
input = "10x10"
latency = { value = 2, unit = "ms", source = "here" }
power = { value = 500, unit = "mW", source = "here" }
"""


def test_the_published_drive_px2_figures() -> None:
    profile = load_profile("drive_px2")
    entry = profile.figures("ResNet-152", "160x80")
    assert entry.latency.value == pytest.approx(16.211e-3)
    assert entry.power is not None
    assert entry.energy is not None
    assert entry.power.value == 7.0
    assert entry.energy.value == pytest.approx(113.48e-3)
    assert entry.energy.given == "113.48 mJ"
    assert entry.energy.source.origin is Origin.PUBLISHED
    assert "2302.06572" in entry.energy.source.cite
    assert entry.latency.value * entry.power.value == pytest.approx(entry.energy.value, rel=1e-4)
    assert profile.figures("ResNet-50", "160x80").energy is None
    assert profile.figures("DenseNet-169", "1080p").latency.value == pytest.approx(0.68422)


def test_energy_is_latency_times_power_where_not_given(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(SOUND)
    energy = load_profile(path).figures("net", "10x10").energy
    assert energy is not None
    assert energy.value == pytest.approx(1e-3)
    assert energy.given == "2 ms x 500 mW"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 7", "format is 7: this version reads format 1"),
        ("format = 1", "format =", "profile .*Invalid value"),
        ('device = "a board"', "", "missing required field `device`"),
        ('device = "a board"', 'device = "a board"\ncolour = 1', "unknown field `colour`"),
        ('unit = "ms"', 'unit = "kg"', r"latency has unit 'kg': must be one of s, ms, us"),
        ('unit = "mW"', 'unit = "dBm"', r"power has unit 'dBm': must be one of W, mW"),
        ('unit = "ms", source = "here"', 'unit = "ms", source = "there"', r"source 'there': must be one of here"),
        ("value = 2,", "value = 0,", "> 0"),
        ('origin = "measured"', 'origin = "guessed"', "Invalid enum value 'guessed'"),
        (
            "power =",
            'energy = { value = 3, unit = "mJ", source = "here" }\npower =',
            "energy 3 mJ is not 2 ms x 500 mW",
        ),
    ],
)
def test_a_damaged_profile_is_refused_with_its_reason(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "board.toml"
    assert old in SOUND
    path.write_text(SOUND.replace(old, new, 1))
    with pytest.raises(ProfileError, match=message):
        load_profile(path)


def test_what_is_not_there_is_answered_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"no profile 'px3': shipped are \['drive_px2', 'jetson_"):
        load_profile("px3")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "none.toml")
    with pytest.raises(ProfileError, match=r"has no ResNet-7 160x80: it has .*ResNet-152 160x80"):
        load_profile("drive_px2").figures("ResNet-7", "160x80")


def test_a_latency_is_shared_out_by_macs(tmp_path: Path) -> None:
    package = write_exit_package(tmp_path / "p")
    times_s = times_by_macs(package, 0.016)
    assert sum(times_s.values()) == pytest.approx(0.016)
    assert times_s["trunk2"] / times_s["trunk1"] == pytest.approx(8 / 3)


stretches = st.lists(st.tuples(st.booleans(), st.floats(0.0, 100.0)), max_size=20)


@given(stretches, st.floats(0.0, 5.0), st.floats(0.0, 20.0))
def test_declared_energy_is_power_times_time(parts: list[tuple[bool, float]], idle_w: float, extra_w: float) -> None:
    clock = VirtualClock()
    meter = DeclaredMeter(idle_w + extra_w, idle_w, clock=clock)
    readings = [meter.read().energy_j]
    for busy, duration_s in parts:
        if busy:
            with meter.busy(), meter.busy():
                clock.advance(duration_s)
        else:
            clock.advance(duration_s)
        readings.append(meter.read().energy_j)
    busy_s = sum(duration_s for busy, duration_s in parts if busy)
    total_s = sum(duration_s for _, duration_s in parts)
    assert readings == sorted(readings)
    assert readings[-1] == pytest.approx(idle_w * total_s + extra_w * busy_s, rel=1e-6, abs=1e-6)
    assert meter.origin is Origin.DECLARED


@pytest.mark.parametrize(
    ("busy_w", "idle_w"), [(-1.0, 0.0), (1.0, 2.0), (1.0, -1.0), (float("nan"), 0.0), (float("inf"), 0)]
)
def test_a_power_must_make_sense(busy_w: float, idle_w: float) -> None:
    with pytest.raises(ValueError, match="must be finite with 0 <= idle_w <= busy_w"):
        DeclaredMeter(busy_w, idle_w)
