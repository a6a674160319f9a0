"""The unit files: systemd can read them, what they start exists, and the guard does not hang on the daemon."""

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from runtime.serve.realtime import _FIFO_PRIORITY
from tests.processes import PATIENCE_S, run

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
PROGRAM = "/opt/headway/bin/headway"


class Repeated(OrderedDict[str, Any]):
    """Keeps every value of a key that is given again, as systemd does."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def unit(name: str) -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(dict_type=Repeated, strict=False, delimiters=("=",), comment_prefixes=("#",))
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(PACKAGING / "systemd" / f"{name}.service")
    return parsed


def options_of(name: str) -> list[str]:
    """Return the command line of a unit without its program, with the variables of its environment put in."""
    section = unit(name)["Service"]
    words = shlex.split(section["ExecStart"])
    assert words[0] == PROGRAM
    variables = dict(shlex.split(line)[0].split("=", 1) for line in section.get("Environment", "").splitlines() if line)
    return [part for word in words[1:] for part in _filled(word, variables)]


def _filled(word: str, variables: dict[str, str]) -> list[str]:
    return variables[word[1:]].split() if word.startswith("$") else [word]


def test_there_are_three() -> None:
    assert sorted(each.stem for each in UNITS) == ["headway", "headway-edge", "headway-guard"]


@pytest.mark.parametrize("name", [each.stem for each in UNITS])
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    for each in UNITS:  # all, since they name each other; of the program only the place is another
        (tmp_path / each.name).write_text(each.read_text().replace(PROGRAM, sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / f"{name}.service")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    ours = [line for line in told.stderr.splitlines() if name in line]
    assert told.returncode == 0, told.stderr
    assert ours == []


@pytest.mark.parametrize("name", [each.stem for each in UNITS])
def test_what_a_unit_starts_takes_its_options(name: str) -> None:
    told = run(*options_of(name), "--help")
    assert told.returncode == 0, told.stderr
    assert run(*options_of(name), "--no-such-option", "--help").returncode == 2


def test_the_guard_neither_waits_for_the_daemon_nor_goes_with_it() -> None:
    daemon, guard = unit("headway"), unit("headway-guard")
    bonds = ("Requires", "BindsTo", "PartOf", "Requisite", "Upholds", "Conflicts", "JoinsNamespaceOf")
    assert not [key for parsed in (daemon, guard) for key in bonds if key in parsed["Unit"]]
    assert "After" not in guard["Unit"]
    assert daemon["Unit"]["Wants"] == "headway-guard.service"
    assert "headway-guard.service" in daemon["Unit"]["After"].split()
    assert daemon["Service"]["Environment"] == "HEADWAY_GUARD_START=false"
    assert guard["Service"]["Restart"] == "always"
    assert guard["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_guard_may_have_what_it_asks_for_and_all_are_watched() -> None:
    guard = unit("headway-guard")["Service"]
    assert int(guard["LimitRTPRIO"]) >= _FIFO_PRIORITY
    assert guard["LimitMEMLOCK"] == "infinity"
    assert int(guard["CPUWeight"]) > int(unit("headway")["Service"]["CPUWeight"])
    for name in (each.stem for each in UNITS):
        section = unit(name)["Service"]
        assert section["Type"] == "notify"
        assert section["NotifyAccess"] == "main"
        assert section["CapabilityBoundingSet"] == ""
        assert section["NoNewPrivileges"] == "yes"
    assert guard["WatchdogSec"] == "1s"
    assert unit("headway")["Service"]["WatchdogSec"] == "5s"


def test_user_and_folders_are_made(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("systemd-sysusers") is None:
        pytest.skip("needs root and systemd-sysusers")
    root = tmp_path / "root"
    for folder in ("etc", "run", "var/lib"):
        (root / folder).mkdir(parents=True)
    users, folders = PACKAGING / "sysusers.d" / "headway.conf", PACKAGING / "tmpfiles.d" / "headway.conf"
    subprocess.run(["systemd-sysusers", f"--root={root}", str(users)], check=True, capture_output=True)
    assert "headway" in (root / "etc" / "passwd").read_text()
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={root}", str(folders)], check=True, capture_output=True)
    made = {str(path.relative_to(root)): oct(path.stat().st_mode & 0o777) for path in root.rglob("headway*")}
    assert made["run/headway"] == "0o755"
    assert made["var/lib/headway"] == "0o750"
    assert made["etc/headway"] == "0o750"
