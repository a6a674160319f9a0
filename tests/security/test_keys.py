"""Key files and allow-lists: written closed, refused when open or damaged, followed when they change."""

import json
import stat
from pathlib import Path

import pytest

from devices.clock import VirtualClock
from offload.errors import SecurityError
from offload.security.allow_list import AllowList
from offload.security.keys import KeyPair, allow, disallow, new_keys, read_allowed, read_keys, write_keys
from tests.processes import run


def test_a_key_file_keeps_its_pair_and_is_closed(tmp_path: Path) -> None:
    path, keys = tmp_path / "car.key", new_keys()
    write_keys(path, keys)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path) == keys
    assert keys.secret not in repr(keys)
    with pytest.raises(SecurityError, match="exists"):
        write_keys(path, new_keys())
    path.chmod(0o640)
    with pytest.raises(SecurityError, match="mode 0640"):
        read_keys(path)


@pytest.mark.parametrize("broken", ["not toml [", "public = 1", 'public = "short"\nsecret = "short"'])
def test_a_damaged_key_file_is_refused(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "car.key"
    path.write_text(broken)
    path.chmod(0o600)
    with pytest.raises(SecurityError, match=r"car\.key"):
        read_keys(path)


def test_halves_of_two_pairs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "car.key"
    write_keys(path, KeyPair(new_keys().public, new_keys().secret))
    with pytest.raises(SecurityError, match="are no pair"):
        read_keys(path)


def test_a_list_takes_clients_on_and_off(tmp_path: Path) -> None:
    path, one, other = tmp_path / "allowed", new_keys().public, new_keys().public
    assert allow(path, one, "car 1")
    assert not allow(path, one, "car 1")
    assert allow(path, other, "car 2")
    assert read_allowed(path) == {one: "car 1", other: "car 2"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert disallow(path, "car 1") == ["car 1"]
    assert read_allowed(path) == {other: "car 2"}
    with pytest.raises(SecurityError, match="no client 'car 1'"):
        disallow(path, "car 1")
    with pytest.raises(SecurityError, match="printable"):
        allow(path, one, "a\nb")
    with pytest.raises(SecurityError, match="39 characters"):
        allow(path, one[:-1], "car 3")


def test_a_running_list_follows_its_file_and_fails_closed(tmp_path: Path) -> None:
    path, key, clock = tmp_path / "allowed", new_keys().public, VirtualClock()
    allow(path, key, "car")
    allowed = AllowList(path, clock)
    assert allowed.name_of(key) == "car"
    disallow(path, "car")
    clock.advance(1.0)
    assert allowed.name_of(key) is None
    allow(path, key, "car")
    assert allowed.name_of(key, fresh=True) == "car"
    path.write_text("no key at all\n")
    assert allowed.name_of(key, fresh=True) is None
    path.unlink()
    clock.advance(1.0)
    assert allowed.name_of(key) is None
    allow(path, key, "car")
    path.chmod(0o666)
    with pytest.raises(SecurityError, match="mode 0666"):
        AllowList(path, clock)


def test_the_command_makes_shows_and_allows_keys(tmp_path: Path) -> None:
    key, allowed = str(tmp_path / "car.key"), str(tmp_path / "allowed")
    made = run("keys", "new", key, "--json")
    public = json.loads(made.stdout)["public"]
    assert read_keys(Path(key)).public == public
    assert read_keys(Path(key)).secret not in made.stdout + run("keys", "show", key).stdout
    assert run("keys", "allow", allowed, key, "--name", "car").returncode == 0
    assert json.loads(run("keys", "show", allowed, "--json").stdout)["allowed"] == {public: "car"}


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("open", "x"), 2, "must be one of new, show, allow, disallow"),
        (("allow", "x"), 2, "allow and disallow need it"),
        (("new", "/nowhere/x"), 78, "cannot write /nowhere/x"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], code: int, reason: str) -> None:
    ended = run("keys", *arguments)
    assert (ended.returncode, reason in ended.stderr) == (code, True), ended.stderr
