"""Profiles of segments, transitions and clocks: read, asked, and refused when they contradict themselves."""

from pathlib import Path

import pytest

from devices.errors import ProfileError
from devices.profile import load_profile

SOUND = """
format = 1
name = "board"
device = "a board"
[sources.here]
cite = "measured on the bench"
origin = "measured"
license = "CC0"
[units."cpu:0"]
description = "a core"
[[segments]]
model = "net"
segment = "a"
unit = "cpu:0"
latency = { value = 2, p99 = 3, p999 = 4, max = 5, samples = 1000, unit = "ms", source = "here" }
after_idle = { value = 3000, unit = "us", source = "here" }
energy = { value = 7, error = 0.5, unit = "mJ", source = "here" }
memory = { value = 3, unit = "MiB", source = "here" }
output = { value = 2, unit = "kB", source = "here" }
[[segments]]
model = "net"
segment = "a"
unit = "gpu"
batch = 4
latency = { value = 1, unit = "ms", source = "here" }
[[transitions]]
model = "net"
after = "a"
from = "gpu"
to = "cpu:0"
latency = { value = 70, unit = "us", source = "here" }
[[clocks]]
of = "gpu"
values = [100, 200.5]
unit = "MHz"
source = "here"
"""


def test_figures_are_in_si_units(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(SOUND)
    profile = load_profile(path)
    entry = profile.segment("net", "a", "cpu:0")
    latency = entry.latency
    assert (latency.p50_s, latency.p99_s, latency.p999_s, latency.max_s) == (0.002, 0.003, 0.004, 0.005)
    assert latency.samples == 1000
    assert entry.after_idle is not None
    assert entry.energy is not None
    assert entry.memory is not None
    assert entry.output is not None
    assert entry.after_idle.p50_s == pytest.approx(0.003)
    assert entry.energy.value == pytest.approx(0.007)
    assert entry.energy_error_j == pytest.approx(0.0005)
    assert entry.memory.value == 3 * 2**20
    assert entry.output.value == 2000.0
    assert entry.beside_load is None
    assert profile.units_of("net") == ("cpu:0", "gpu")
    (crossing,) = profile.transitions
    assert (crossing.after, crossing.origin, crossing.target) == ("a", "gpu", "cpu:0")
    assert crossing.latency.value == pytest.approx(7e-5)
    assert profile.clocks[0].frequencies_hz == (100e6, 200.5e6)
    assert profile.units[0].description == "a core"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p99 = 3", "p99 = 1", r"net a on cpu:0 at batch 1: latency has percentiles .* must not fall"),
        ("batch = 4", "batch = 0", "Expected `int` >= 1"),
        ('unit = "gpu"\nbatch = 4', 'unit = "cpu:0"', r"two figures for the segment \('net', 'a', 'cpu:0', 1\)"),
        ('unit = "MiB"', 'unit = "bushels"', r"memory has unit 'bushels': must be one of B, kB"),
        (
            'unit = "us", source = "here" }\n[[clocks]]',
            'unit = "J", source = "here" }\n[[clocks]]',
            "latency has unit 'J'",
        ),
        ("[100, 200.5]", "[200.5, 100]", "must rise"),
        ('source = "here"\n', 'source = "there"\n', r"has source 'there': must be one of here"),
        ("error = 0.5", "error = -0.5", "Expected `float` >= 0.0"),
    ],
)
def test_contradictions_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    assert old in SOUND
    path.write_text(SOUND.replace(old, new))
    with pytest.raises(ProfileError, match=message):
        load_profile(path)


def test_what_is_missing_is_told_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(SOUND)
    with pytest.raises(
        ProfileError, match=r"no segment 'a' of 'net' on 'gpu' at batch 1: it has \['cpu:0 batch 1', 'gpu batch 4'\]"
    ):
        load_profile(path).segment("net", "a", "gpu")
    path.write_text(SOUND[: SOUND.index("[[segments]]")])
    with pytest.raises(ProfileError, match="has no figures"):
        load_profile(path)
