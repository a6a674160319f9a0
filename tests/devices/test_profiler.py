"""What `headway profile` measures, on null devices whose times are known, and what it writes."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from devices.errors import BackendError, ProfileError
from devices.package import Package
from devices.profile import Origin, Profile, Source, load_profile, write_profile
from devices.profiler import ProfilerSettings, measure, summarise
from runtime.cli.main import _application
from tests.models import write_exit_package

QUICK = ProfilerSettings(repeats=10, budget_s=0.01, idle_runs=2, idle_s=0.001, load=False, energy_s=0.001)
HERE = Source("a test", Origin.MEASURED, "CC0")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_exit_package(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def measured(package: Package) -> Profile:
    settings = ProfilerSettings((1, 3), 10, 0.01, 2, 0.001, load=True, energy_s=0.001, declared_w=5.0)
    return measure(package, ["cpu", f"cpu:{min(os.sched_getaffinity(0))}"], settings)


def test_every_segment_device_and_batch_is_measured(measured: Profile, package: Package) -> None:
    wanted = {
        (package.name, segment.id, unit.name, batch)
        for segment in package.segments
        for unit in measured.units
        for batch in (1, 3)
    }
    assert measured.by_segment.keys() == wanted
    assert len(measured.units) == 2
    for entry in measured.segments:
        assert 0.0 < entry.latency.p50_s <= (entry.latency.max_s or 0.0)
        assert (entry.latency.p99_s, entry.latency.p999_s) == (None, None)  # ten samples tell nothing of them
        assert entry.latency.samples == 10
        assert entry.after_idle is not None
        assert entry.beside_load is not None
        assert entry.memory is not None
        assert entry.memory.value >= package.segment(entry.segment).path.stat().st_size
        assert entry.energy is not None
        if entry.energy.source.origin is Origin.DECLARED:
            assert entry.energy.value > 0.5 * 5.0 * min(entry.latency.p50_s, 1e-6)
    ones, threes = (measured.segment(package.name, "trunk1", "cpu", batch).output for batch in (1, 3))
    assert ones is not None
    assert threes is not None
    assert threes.value == 3 * ones.value


def test_a_profile_is_read_back_as_it_was_written(measured: Profile, tmp_path: Path) -> None:
    write_profile(tmp_path / "p.toml", measured)
    back = load_profile(tmp_path / "p.toml")
    assert back.by_segment.keys() == measured.by_segment.keys()
    assert back.units == measured.units
    for key, entry in measured.by_segment.items():
        again = back.by_segment[key]
        assert again.latency.p50_s == pytest.approx(entry.latency.p50_s, rel=1e-5)
        assert again.latency.source == entry.latency.source
        assert again.sha256 == entry.sha256
        assert again.energy is not None
        assert entry.energy is not None
        assert again.energy.value == pytest.approx(entry.energy.value, rel=1e-5)
        assert again.energy_error_j == pytest.approx(entry.energy_error_j, rel=1e-5)


def test_a_null_device_takes_the_times_of_a_profile(measured: Profile, package: Package, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    write_profile(path, measured)
    again = measure(package, [f"null:{path}+unit=cpu"], QUICK)
    for entry in again.segments:
        assert entry.latency.p50_s >= measured.segment(package.name, entry.segment, "cpu").latency.p50_s * 0.999
        assert entry.energy is None
    with pytest.raises(ProfileError, match="say which unit"):
        measure(package, [f"null:{path}"], QUICK)
    with pytest.raises(ProfileError, match="has no segment 'trunk1' of 'toy' on 'tpu' at batch 1: it has"):
        measure(package, [f"null:{path}+unit=tpu"], QUICK)


def test_a_segment_that_changed_since_is_refused(measured: Profile, package: Package, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    write_profile(path, measured)
    path.write_text(path.read_text().replace(package.segment("head2").sha256, "0" * 64))
    with pytest.raises(ProfileError, match=r"'head2' of 'toy' was measured from .* 0000.*measure it again"):
        load_profile(path).times_s(package, "cpu")


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=1500))
def test_percentiles_rise_and_are_samples(times_s: list[float]) -> None:
    latency = summarise(times_s, HERE)
    known = [v for v in (latency.p50_s, latency.p99_s, latency.p999_s, latency.max_s) if v is not None]
    assert known == sorted(known)
    assert set(known) <= set(times_s)
    assert latency.max_s == max(times_s)
    assert (latency.p99_s is not None) == (len(times_s) >= 100)
    assert (latency.p999_s is not None) == (len(times_s) >= 1000)


@pytest.mark.parametrize(
    ("count", "p99", "p999"), [(99, False, False), (100, True, False), (999, True, False), (1000, True, True)]
)
def test_a_percentile_needs_its_samples(count: int, p99: bool, p999: bool) -> None:
    latency = summarise([1e-3 * place for place in range(1, count + 1)], HERE)
    assert (latency.p99_s is not None, latency.p999_s is not None) == (p99, p999)
    assert latency.p50_s == pytest.approx(1e-3 * count / 2, rel=0.03)
    if latency.p99_s is not None:
        assert latency.p99_s == pytest.approx(0.99e-3 * count, rel=0.02)


def test_nonsense_is_refused(package: Package, tmp_path: Path) -> None:
    for wrong in ({"batches": ()}, {"batches": (0,)}, {"repeats": 1}, {"idle_s": 0.0}, {"declared_w": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ProfilerSettings(**wrong)
    with pytest.raises(ProfileError, match="must be different ones"):
        measure(package, ["cpu", "cpu"], QUICK)
    with pytest.raises(BackendError, match="begins with none of"):
        measure(package, ["abacus"], QUICK)
    with pytest.raises(ValueError, match="there is no time"):
        summarise([], HERE)
    with pytest.raises(ValueError, match="only they can be written"):
        write_profile(tmp_path / "p.toml", load_profile("drive_px2"))


def test_the_command_prints_and_writes(package: Package, tmp_path: Path) -> None:
    out = tmp_path / "p.toml"
    words = ["profile", str(package.folder), "--devices", "cpu", "--repeats", "10", "--budget-s", "0.01"]
    words += ["--idle-runs", "0", "--no-load", "--out", str(out)]
    said = CliRunner().invoke(_application(["profile", "models"]), [*words, "--json"])  # type: ignore[arg-type]
    assert said.exit_code == 0, said.output
    table = json.loads(said.stdout)
    assert {entry["segment"] for entry in table["segments"]} == {segment.id for segment in package.segments}
    assert table["segments"][0]["latency"]["p50_ms"] > 0.0
    assert table["segments"][0]["after_idle"] is None
    assert load_profile(out).units_of(package.name) == ("cpu",)
