"""The daemon's log as JSON lines, end to end: what happens to a daemon and its guard, each event with its code."""

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import headway
from tests.observe.drives import PACKAGE
from tests.processes import COMMAND, end_owner, run, wait_for

pytestmark = pytest.mark.timeout(120)  # a daemon and three guards start for them
_PATIENCE_S = 60.0


def read(log: Path) -> list[dict[str, Any]]:
    """Return the lines that are whole."""
    return [json.loads(line) for line in log.read_text().split("\n")[:-1]]


def codes(log: Path) -> list[str]:
    return [line.get("code", "") for line in read(log)]


def test_each_event_is_one_json_line_with_its_code(tmp_path: Path) -> None:
    socket, log = tmp_path / "d.sock", tmp_path / "log"
    repository = tmp_path / "models"
    (repository / "driving").mkdir(parents=True)
    (repository / "driving" / "1").symlink_to(PACKAGE)
    arguments = ["serve", "--socket", str(socket), "--repository", str(repository), "--log-format", "json"]
    with log.open("w") as stream, subprocess.Popen([*COMMAND, *arguments], stderr=stream) as process:
        try:
            wait_for(lambda: "ready" in codes(log) or process.poll() is not None, _PATIENCE_S)
            assert process.poll() is None, log.read_text()
            with headway.Client(socket, timeout_s=10.0) as client:
                wait_for(lambda: client.status()["guard"] is not None, _PATIENCE_S)
                first = client.status()["guard"]["pid"]
                os.kill(first, signal.SIGKILL)

                def replaced() -> bool:
                    with contextlib.suppress(headway.HeadwayError):
                        guard = client.status()["guard"]
                        return guard is not None and guard["pid"] != first
                    return False

                wait_for(replaced, _PATIENCE_S)
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: "reloaded" in codes(log), _PATIENCE_S)
            process.terminate()
            process.wait(_PATIENCE_S)
        finally:
            process.kill()
            process.wait()
            end_owner(tmp_path / "headway-guard.sock")
    lines = read(log)
    assert {"time", "level", "name", "message"} <= set.intersection(*(set(line) for line in lines))
    told = codes(log)
    wanted = ["model_loaded", "ready", "guard_replaced", "reloaded", "draining", "drained"]
    assert [code for code in told if code in wanted and code != "model_loaded"][:1] == ["ready"]
    assert set(wanted) <= set(told)
    started = [line for line in lines if line.get("code") == "guard_started"]
    assert started[0]["guard_pid"] == first
    assert len(started) >= 2
    assert next(line for line in lines if line.get("code") == "guard_replaced")["level"] == "error"
    assert next(line for line in lines if line.get("code") == "drained")["all"] is True
    assert told.index("draining") < told.index("drained")
    assert process.returncode == 0


def test_the_error_that_ends_a_process_is_a_json_line_too(tmp_path: Path) -> None:
    arguments = ["--socket", str(tmp_path / "d.sock"), "--package", str(tmp_path / "none"), "--log-format", "json"]
    ended = run("serve", *arguments, timeout_s=60.0)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert lines[-1]["code"] == "failed"
    assert lines[-1]["exit_code"] == ended.returncode != 0
    assert lines[-1]["message"].startswith("headway: ")
