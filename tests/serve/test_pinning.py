"""Which core carries messages, and that nobody else is kept there."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import headway
from runtime.serve import realtime
from tests.processes import wait_for
from tests.serve.api.test_local_socket import serving, write_model


@pytest.mark.parametrize(
    ("allowed", "taken", "core"),
    [({0, 1}, set(), 1), ({0, 1}, {1}, 0), ({0, 1, 5}, {5}, 1), ({0, 1}, {0, 1}, None), ({3}, set(), None)],
)
def test_it_is_the_last_core_that_no_device_has(
    monkeypatch: pytest.MonkeyPatch, allowed: set[int], taken: set[int], core: int | None
) -> None:
    monkeypatch.setattr(realtime, "_ALLOWED", allowed)
    assert realtime.messenger_core(taken) == core


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one core")
def test_a_guard_that_a_pinned_daemon_starts_may_run_anywhere(tmp_path: Path) -> None:
    write_model(tmp_path / "models", "times", "1", 3.0)
    with (
        serving(tmp_path, "--repository", str(tmp_path / "models")) as socket,
        headway.Client(socket, timeout_s=10.0) as client,
    ):
        guards: list[dict[str, Any]] = []

        def heard() -> bool:
            """Is the daemon in touch with its guard? A busy machine may have it start another one."""
            guard = client.status()["guard"]
            guards.extend([] if guard is None else [guard])
            return guard is not None

        wait_for(heard)
        assert len(os.sched_getaffinity(client.status()["pid"])) == 1
        former = guards[-1]
        os.kill(former["pid"], signal.SIGKILL)
        wait_for(lambda: heard() and guards[-1]["restarts"] > former["restarts"])
        assert guards[-1]["pid"] != former["pid"]
        assert os.sched_getaffinity(guards[-1]["pid"]) == os.sched_getaffinity(0)
