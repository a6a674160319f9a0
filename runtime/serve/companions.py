"""Processes beside the daemon that show how it fares: the flight recorder and the live page.

They follow daemon and guard by their sockets, as anybody might, so that nothing they do takes the daemon's time, and
their end is no harm: one that ended is started again. Both end with a daemon that ends. The page also ends with one
that is killed, since its port must be free for the next; the recorder outlives that, goes on with the next daemon, and
is relieved by that one's own once it has ended.
"""

import errno
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.config import ObserveSection
from runtime.errors import ConfigurationError, UnavailableError
from runtime.serve.oip.access import require_loopback
from runtime.serve.realtime import at_large

_log = logging.getLogger("headway.daemon")
_ALONE_S = 30.0
_END_WAIT_S = 5.0
_LOOK_S = 1.0
_LONGEST_PAUSE_S = 30.0
_FREE_WAIT_S = 3.0
_FREE_PAUSE_S = 0.05


def check_companions(section: ObserveSection) -> None:
    """Refuse what the companions could not use, before models are loaded for nothing.

    Raises:
        ConfigurationError: The page's address is not of loopback; the recorder's folder cannot be written.
        UnavailableError: The page's address is taken, also 3 s later: by then a killed daemon's page has let it go.
    """
    if section.page is not None:
        host, port = require_loopback("observe.page", section.page)
        _await_free(section.page, host, port)
    if section.record is not None:
        folder = Path(section.record)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"observe.record = {folder}: {error.strerror}; give a folder") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(f"observe.record = {folder}: this user may not write into it")


@contextmanager
def companions(section: ObserveSection, daemon: Path, guard: Path) -> Iterator["Companions"]:
    """Run what is configured until the context ends; `attend` must be called meanwhile.

    Raises:
        ConfigurationError: The page's address is not of this machine's loopback.
    """
    sockets = ("--socket", str(daemon), "--guard-socket", str(guard))
    commands: list[tuple[str, ...]] = []
    if section.page is not None:
        require_loopback("observe.page", section.page)
        commands.append(("page", section.page, *sockets, "--with-pid", str(os.getpid())))
    if section.record is not None:
        size = ("--file-mb", str(section.record_mb), "--files", str(section.record_files))
        commands.append(("record", section.record, *sockets, *size, "--alone-s", str(_ALONE_S)))
    running = Companions(commands)
    try:
        yield running
    finally:
        running.end()


class Companions:
    """The processes of `commands`, started at once and again whenever one has ended; use it from one thread.

    Args:
        commands: Arguments of `headway`, the first of which names the companion.
    """

    def __init__(self, commands: list[tuple[str, ...]]) -> None:
        self._look_s = 0.0
        self._running = [_Companion(command) for command in commands]

    def attend(self, now_s: float) -> None:
        """Start again what has ended: after a second, then after twice as long each time, up to 30 s."""
        if self._running and now_s >= self._look_s:
            self._look_s = now_s + _LOOK_S
            for companion in self._running:
                companion.attend(now_s)

    def status(self) -> dict[str, Any]:
        """Return of each its process (None: it has ended), how often it was started again, its last exit code."""
        return {companion.name: companion.status() for companion in self._running}

    def end(self) -> None:
        """End them."""
        for companion in self._running:
            companion.process.terminate()
        for companion in self._running:
            try:
                companion.process.wait(_END_WAIT_S)
            except subprocess.TimeoutExpired:
                companion.process.kill()
                companion.process.wait()


class _Companion:
    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._again_s: float | None = None
        self._pause_s = _LOOK_S
        self._started_s = 0.0
        self._restarts = 0
        self._ended: int | None = None
        self.process = self._start()

    @property
    def name(self) -> str:
        return self._command[0]

    def attend(self, now_s: float) -> None:
        code = self.process.poll()
        if code is None:
            return
        if self._again_s is None:
            if now_s - self._started_s > 2.0 * _LONGEST_PAUSE_S:
                self._pause_s = _LOOK_S
            self._again_s, self._ended = now_s + self._pause_s, code
            told = {"code": f"{self.name}_ended", "exit_code": code}
            _log.error(
                "headway %s ended with exit code %d; the next in %g s", self.name, code, self._pause_s, extra=told
            )
            self._pause_s = min(2.0 * self._pause_s, _LONGEST_PAUSE_S)
        elif now_s >= self._again_s:
            self._again_s = None
            self._restarts += 1
            self.process = self._start()

    def status(self) -> dict[str, Any]:
        pid = self.process.pid if self.process.returncode is None else None
        return {"pid": pid, "restarts": self._restarts, "last_exit_code": self._ended}

    def _start(self) -> "subprocess.Popen[bytes]":
        arguments = [sys.executable, "-P", "-m", "runtime.cli.main", *self._command]
        quiet = subprocess.DEVNULL
        with at_large():
            process = subprocess.Popen(arguments, stdin=quiet, stdout=quiet, start_new_session=True)
        self._started_s = time.monotonic()
        told = {"code": f"{self.name}_started", "pid": process.pid}
        _log.info("started headway %s, process %d", self.name, process.pid, extra=told)
        return process


def _await_free(address: str, host: str, port: int) -> None:
    until_s = time.monotonic() + _FREE_WAIT_S
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= until_s:
                    why = error.strerror or str(error)
                    raise UnavailableError(f"cannot bind observe.page = {address}: {why}") from error
            else:
                return
        time.sleep(_FREE_PAUSE_S)
