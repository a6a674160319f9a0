"""Flags beat the environment, which beats the file; whatever is unknown is an error that says what is known."""

from pathlib import Path

import pytest

from runtime.config import load_config
from runtime.errors import ConfigurationError


def write(folder: Path, text: str) -> Path:
    path = folder / "headway.toml"
    path.write_text(text)
    return path


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[offload]\npolicy = "local"\nmax_wait_windows = 3\nseed = 4\n')
    environment = {"HEADWAY_OFFLOAD_POLICY": "eager", "HEADWAY_OFFLOAD_MAX_WAIT_WINDOWS": "5"}
    config = load_config(path, {"offload.policy": "uniform", "offload.edge": None}, environment)
    assert (config.offload.policy, config.offload.max_wait_windows, config.offload.seed) == ("uniform", 5, 4)


def test_defaults_need_no_file() -> None:
    config = load_config(None, {}, {})
    assert config.offload.max_wait_windows == 10
    assert config.guard.vehicle == "demo"


def test_packages_come_as_a_path_list_from_the_environment() -> None:
    assert load_config(None, {}, {"HEADWAY_SERVE_PACKAGES": "/a:/b"}).serve.packages == ("/a", "/b")


def test_devices_and_placements(tmp_path: Path) -> None:
    text = '[serve]\ndevices = ["cpu:0", "cpu:1"]\n[serve.placement]\na = "cpu:1"\nb = { trunk = "cpu:1" }\n'
    serve = load_config(write(tmp_path, text), {}, {}).serve
    assert (serve.devices, serve.placement) == (("cpu:0", "cpu:1"), {"a": "cpu:1", "b": {"trunk": "cpu:1"}})
    assert load_config(None, {}, {"HEADWAY_SERVE_DEVICES": "cpu:0,cuda:0"}).serve.devices == ("cpu:0", "cuda:0")
    assert load_config(None, {}, {}).serve.devices == ("cpu",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serve]\ndevices = []\n", "length >= 1"),
        ("[serve.placement]\na = 3\n", "placement"),
        ("[serve]\nsoket = 'x'\n", "serve.soket is not one of socket, packages"),
        ("[server]\nsocket = 'x'\n", "unknown section server: there are serve, front, guard, offload"),
        ("[offload]\npolicy = 'fast'\n", "fast"),
        ("[offload]\nmax_wait_windows = 'many'\n", "max_wait_windows"),
        ("serve = 3\n", "Expected `object`"),
        ("[serve\n", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_config(write(tmp_path, text), {}, {})
    assert "headway.toml" in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml", {}, {})
