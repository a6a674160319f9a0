"""The processes of a demonstration: an edge server, a daemon, and the guard that the daemon starts.

Each is a command of its own, as a user would start it. Killing one means SIGKILL; the edge server and the daemon are
then started again, as a service manager would, while guard and vehicle live on.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import headway
from runtime.errors import UnavailableError

KILLABLE = ("edge", "daemon", "guard")
_READY_WAIT_S = 20.0
_STOP_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the processes are told.

    Args:
        folder: Holds their sockets and logs.
        policy: The daemon's offloading policy.
        vehicle: Vehicle file or shipped name.
        package: The model package, for daemon and edge alike.
        rate_mbps: Declared uplink [Mbit/s].
        max_wait_windows: Longest wait for one answer [windows].
        seed: Of the emulated link.
    """

    folder: Path
    policy: str
    vehicle: str
    package: Path
    rate_mbps: float
    max_wait_windows: int
    seed: int

    @property
    def daemon_socket(self) -> Path:
        """The daemon's unix socket."""
        return self.folder / "headway.sock"

    @property
    def guard_socket(self) -> Path:
        """The guard's unix socket."""
        return self.folder / "headway-guard.sock"


@dataclass(slots=True)
class Processes:
    """Starts, kills, restarts and stops the processes of one episode."""

    plan: Plan
    kills: list[str] = field(default_factory=list)
    _edge: subprocess.Popen[str] | None = None
    _daemon: subprocess.Popen[str] | None = None
    _endpoint: str = "tcp://127.0.0.1:0"
    _restarts: list[threading.Thread] = field(default_factory=list)
    _log: IO[str] | None = None

    def __enter__(self) -> "Processes":
        self._log = (self.plan.folder / f"{self.plan.policy}.log").open("w")
        try:
            self._start_edge()
            self._start_daemon()
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def kill(self, name: str) -> None:
        """Kill -9 "edge", "daemon" or "guard"; the first two start again at once, the daemon sees to the third."""
        self.kills.append(name)
        process = {"edge": self._edge, "daemon": self._daemon}.get(name)
        if process is None:
            if (guard := self._guard_pid()) is not None:
                os.kill(guard, signal.SIGKILL)
            return
        process.kill()
        process.wait()
        thread = threading.Thread(target=self._start_edge if name == "edge" else self._start_daemon)
        thread.start()
        self._restarts.append(thread)

    def status(self) -> dict[str, Any]:
        """Return the daemon's own account of itself, the guard and the edge server."""
        return self._status()

    def stop(self) -> None:
        """End every process, the guard too, and wait for them."""
        for thread in self._restarts:
            thread.join()
        guard_pid = self._guard_pid()
        for process in (self._daemon, self._edge):
            if process is not None:
                _end(process)
        if guard_pid is not None:
            _end_other(guard_pid)
        if self._log is not None:
            self._log.close()

    def _start_edge(self) -> None:
        command = ["edge", "--bind", self._endpoint, "--package", str(self.plan.package)]
        self._edge = self._run(command, stdout=subprocess.PIPE)
        line = self._edge.stdout.readline() if self._edge.stdout is not None else ""
        if not line:
            raise UnavailableError(f"the edge server ended at its start: {self._last_words()}")
        self._endpoint = str(json.loads(line)["endpoint"])

    def _start_daemon(self) -> None:
        plan = self.plan
        self._daemon = self._run(
            [
                "serve",
                *("--socket", str(plan.daemon_socket)),
                *("--guard-socket", str(plan.guard_socket)),
                *("--package", str(plan.package)),
                *("--vehicle", plan.vehicle),
                *("--policy", plan.policy),
                *("--edge", self._endpoint),
                *("--rate-mbps", str(plan.rate_mbps)),
                *("--max-wait-windows", str(plan.max_wait_windows)),
                *("--seed", str(plan.seed)),
            ],
            stdout=subprocess.DEVNULL,
        )

    def _run(self, arguments: list[str], stdout: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "runtime.cli.main", *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=self._log, text=True)

    def _await_ready(self) -> None:
        until_s = time.monotonic() + _READY_WAIT_S
        while True:
            if self._daemon is not None and self._daemon.poll() is not None:
                raise UnavailableError(
                    f"the daemon ended at its start with exit code {self._daemon.returncode}: {self._last_words()}"
                )
            try:
                status = self._status()
            except headway.HeadwayError as error:
                if time.monotonic() > until_s:
                    raise UnavailableError(
                        f"the daemon is not ready {_READY_WAIT_S:g} s after its start: {self._last_words()}"
                    ) from error
                continue
            if status["ready"] and (status["edge"] or {}).get("state") == "connected":
                return
            if time.monotonic() > until_s:
                raise UnavailableError(f"the daemon is up but not ready: {status}; {self._last_words()}")
            time.sleep(0.05)

    def _last_words(self) -> str:
        """Return the end of what the processes have logged: the log goes with the demonstration's folder."""
        lines = [] if self._log is None else Path(self._log.name).read_text().splitlines()
        return " | ".join(lines[-3:]) or "it left no log"

    def _status(self) -> dict[str, Any]:
        with headway.Client(self.plan.daemon_socket, timeout_s=1.0) as client:
            return client.status()

    def _guard_pid(self) -> int | None:
        """Ask the guard itself: it may outlive the daemon that started it."""
        lock = Path(f"{self.plan.guard_socket}.lock")
        try:
            return int(lock.read_text())
        except (OSError, ValueError):
            return None


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _end_other(pid: int) -> None:
    """End a process that is no child of ours, and wait until it is gone."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        os.kill(pid, signal.SIGTERM)
        if not _gone(watched, _STOP_WAIT_S):
            os.kill(pid, signal.SIGKILL)
            _gone(watched, _STOP_WAIT_S)
    except ProcessLookupError:
        return
    finally:
        os.close(watched)


def _gone(pidfd: int, patience_s: float) -> bool:
    return bool(select.select([pidfd], [], [], patience_s)[0])
