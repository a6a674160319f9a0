"""A service has no HOME, and CARLA's wheel ends a process that loads it without one."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("carla", reason="needs the client wheel: pip install 'headway[carla]'")


def test_the_wheel_is_loaded_where_there_is_no_home() -> None:
    script = "from carla_bridge.carla.client import load_carla; print(load_carla().Client.__name__)"
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "Client\n"), ended.stderr
