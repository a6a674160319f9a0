"""A `headway serve` of its own for a benchmark; where it does not come up, what it logged is the error."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import headway

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_S = 60.0
_LAST_LINES = 15


@dataclass(frozen=True)
class Served:
    """A daemon that is ready.

    Args:
        path: Its socket.
        pid, guard: Process ids of the daemon and its guard.
    """

    path: Path
    pid: int
    guard: int


@contextmanager
def serving(folder: Path, arguments: Sequence[str], settings: dict[str, str] | None = None) -> Iterator[Served]:
    """Start a daemon on `folder`/d.sock and yield it once it is ready; it and its guard are ended behind.

    Args:
        folder: Where its sockets and its log lie.
        arguments: Further arguments of `headway serve`.
        settings: Variables added to the environment, as HEADWAY_SERVE_KEEP_WARM_MS.
    Raises:
        RuntimeError: It ended, or was not ready within a minute; with the last lines of its log.
    """
    folder.mkdir(exist_ok=True)
    path, log = folder / "d.sock", folder / "daemon.log"
    command = [sys.executable, "-P", "-m", "runtime.cli.main", "serve", "--socket", str(path), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(settings or {})}
    with log.open("wb") as written, subprocess.Popen(command, env=environment, stderr=written) as process:
        try:
            guard = _guard_of(path, process, log)
            try:
                yield Served(path, process.pid, guard)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(guard, signal.SIGTERM)
        finally:
            process.terminate()


def _guard_of(path: Path, process: "subprocess.Popen[bytes]", log: Path) -> int:
    """Wait until the daemon is ready; return the process id of its guard."""
    until_s = time.monotonic() + _PATIENCE_S
    with headway.Client(path, timeout_s=1.0) as client:
        while process.poll() is None and time.monotonic() < until_s:
            with suppress(headway.UnavailableError, headway.NoAnswerError):
                status = client.status()
                if status["ready"]:
                    return int(status["guard"]["pid"])
            time.sleep(0.02)
    what = "is not ready" if process.returncode is None else f"ended with {process.returncode}"
    told = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    raise RuntimeError("\n".join((f"the daemon {what}; it logged:", *told)))
