"""Starting, asking and ending the real processes that tests talk to."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "runtime.cli.main")
PATIENCE_S = 30.0
_PAUSE_S = 1e-3
_NEVER = threading.Event()


def wait_for(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait until `holds`, leaving the processor to what is waited for; fail after `patience_s` [s]."""
    until_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < until_s, "it did not come about in time"
        _NEVER.wait(_PAUSE_S)


def run(*arguments: str, timeout_s: float = PATIENCE_S) -> "subprocess.CompletedProcess[str]":
    """Run a command of ours to its end and return what it printed."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start a command of ours."""
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a process of ours, also a frozen one, and wait for it."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def end_owner(socket: Path) -> None:
    """Kill whichever process owns a socket of ours, and wait until it is gone."""
    try:
        pid = int(Path(f"{socket}.lock").read_text())
        watched = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        wait_for(lambda: not _alive(pid))
    except ProcessLookupError:
        return
    finally:
        os.close(watched)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
