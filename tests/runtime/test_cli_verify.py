"""`headway verify`: make a certificate, check it, refuse what does not stand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("flint")

from runtime.cli import verify as command
from shield import certificate as certificate_module
from shield.certificate import load_certificate
from shield.errors import CertificateError, VehicleFileError
from shield.vehicle import Vehicle
from shield.verify import check, run, units

APPLICATION = typer.Typer()
APPLICATION.command()(command.verify)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid that takes a second instead of minutes."""
    coarse = units.Settings(cells=(2, 3, 2), states=1, cap_s=4.0)
    monkeypatch.setattr(units, "Settings", lambda seed: replace(coarse, seed=seed))
    monkeypatch.setattr(certificate_module, "CELLS", coarse.cells)
    monkeypatch.setattr(certificate_module, "STATES", coarse.states)
    monkeypatch.setattr(certificate_module, "CAP_S", coarse.cap_s)


_KNOWN: dict[tuple[str, units.Settings, str], units.Outcome] = {}
_HONEST = units.run_unit


def remembered(vehicle: Vehicle, settings: units.Settings, unit: str) -> units.Outcome:
    """Carry out a unit, or say what came of it when a test of this module did."""
    key = (vehicle.fingerprint(), settings, unit)
    if key not in _KNOWN:
        _KNOWN[key] = _HONEST(vehicle, settings, unit)
    return _KNOWN[key]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units are carried out once a module, for tests of what is done around them."""
    monkeypatch.setattr(run, "run_unit", remembered)


def headway(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(APPLICATION, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_make_and_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run_unit", remembered)
    out = tmp_path / "config1.json"
    code, text = headway("--vehicle", "config1", "--out", out, "--workers", "1")
    assert code == 0
    assert [line.split()[:2] for line in text.splitlines()[:5]] == [
        [name, "proved"] for name in ("admissible", "inclusion", "rounding", "everywhere", "deadlines")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config1.json"]
    certificate = load_certificate(out)
    assert certificate.id[:12] in text
    assert check.restored(certificate)[1].cells == (2, 3, 2)
    monkeypatch.setattr(run, "run_unit", _HONEST)
    code, text = headway("--check", out, "--vehicle", "config1", "--workers", "1", "--json")
    monkeypatch.setattr(run, "run_unit", remembered)
    answer = json.loads(text)
    assert code == 0
    assert answer["stands"] is True
    units = 3 + 2 + 2 * 3 + 2 * 2  # claims, rings of every state, columns of (r, xi), rings of both methods
    assert (answer["units"], answer["of"], answer["made_with_other"]) == (units, units, [])
    code, text = headway("--check", out, "--sample", "1", "--seed", "7", "--workers", "1")
    assert code == 0
    # The claims, one column, one ring of every state and one of each method.
    assert "stands: 7 of 15 units carried out again" in text
    assert "everywhere 1 of 2, deadlines 1 of 6, cells 2 of 4" in text


def test_a_claim_that_fails_is_exit_code_1(tmp_path: Path) -> None:
    thin = tmp_path / "thin.toml"
    thin.write_text(
        'name = "thin"\nl_r_m = 1.6\nbeta_max_rad = 0.889\nv_max_mps = 12.0\n[barrier]\nr_bar_m = 4.0\nsigma = 0.1\n'
    )
    out = tmp_path / "thin.json"
    code, text = headway("--vehicle", thin, "--out", out, "--workers", "1", "--json")
    answer: dict[str, Any] = json.loads(text)
    assert code == 1
    assert answer["proved"] is False
    assert answer["claims"]["deadlines"]["result"] == "proved"
    assert answer["claims"]["inclusion"]["result"] in ("refuted", "undecided")
    assert load_certificate(out).claims["inclusion"].counter_example is not None


@pytest.mark.usefixtures("quick")
def test_a_certificate_that_does_not_stand_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "c.json"
    assert headway("--vehicle", "config1", "--out", out, "--workers", "1")[0] == 0
    monkeypatch.setattr(
        run,
        "run_unit",
        lambda vehicle, settings, unit: (
            units.Outcome(unit, "refuted", 1) if unit == "inclusion" else remembered(vehicle, settings, unit)
        ),
    )
    code, text = headway("--check", out, "--workers", "1")
    assert code == 1
    assert "inclusion: the certificate says proved, found refuted" in text
    assert "DOES NOT STAND" in text


@pytest.mark.usefixtures("quick")
def test_a_certificate_for_another_vehicle(tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    assert headway("--vehicle", "config1", "--out", out, "--workers", "1")[0] == 0
    with pytest.raises(CertificateError, match="does not cover 'config2'"):
        headway("--check", out, "--vehicle", "config2")


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "c.json"

    def interrupted(vehicle: Any, settings: Any, unit: str) -> units.Outcome:
        if unit == "deadlines/2":
            raise KeyboardInterrupt
        return remembered(vehicle, settings, unit)

    monkeypatch.setattr(run, "run_unit", interrupted)
    result = CliRunner().invoke(APPLICATION, ["--vehicle", "config1", "--out", str(out), "--workers", "1"])
    assert result.exit_code == 130
    assert "interrupted: the same command goes on from" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.json.progress"]
    monkeypatch.setattr(run, "run_unit", remembered)
    assert headway("--vehicle", "config1", "--out", out, "--workers", "1")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.json"]


def test_wrong_usage(tmp_path: Path) -> None:
    for arguments in (
        (),
        ("--vehicle", "config1", "--sample", "3"),
        ("--check", tmp_path / "c", "--out", tmp_path / "d"),
        ("--vehicle", "config1", "--workers", "0"),
    ):
        assert headway(*arguments)[0] == 2
    with pytest.raises(VehicleFileError):
        headway("--vehicle", "nobody")
    with pytest.raises(CertificateError, match="cannot read the certificate"):
        headway("--check", tmp_path / "absent")
    with pytest.raises(CertificateError, match="cannot keep progress"):
        headway("--vehicle", "config1", "--out", tmp_path / "absent" / "c.json")
