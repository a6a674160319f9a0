"""Processes beside the daemon that show how it fares: the flight recorder and the live page.

They follow daemon and guard by their sockets, as anybody might, so that nothing they do takes the daemon's time, and
their end is no harm. They end with a daemon that ends; the recorder outlives one that is killed, and goes on with
the next.
"""

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.config import ObserveSection
from runtime.serve.oip.access import require_loopback

_log = logging.getLogger("headway.daemon")
_ALONE_S = 30.0
_END_WAIT_S = 3.0


@contextmanager
def companions(section: ObserveSection, daemon: Path, guard: Path) -> Iterator[None]:
    """Run what is configured until the context ends.

    Raises:
        ConfigurationError: the page's address is not of this machine's loopback.
    """
    sockets = ("--socket", str(daemon), "--guard-socket", str(guard))
    commands: list[tuple[str, ...]] = []
    if section.page is not None:
        require_loopback("observe.page", section.page)
        commands.append(("page", section.page, *sockets, "--alone-s", str(_ALONE_S)))
    if section.record is not None:
        size = ("--file-mb", str(section.record_mb), "--files", str(section.record_files))
        commands.append(("record", section.record, *sockets, *size, "--alone-s", str(_ALONE_S)))
    running = [_start(command) for command in commands]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(_END_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(command: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    arguments = [sys.executable, "-P", "-m", "runtime.cli.main", *command]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    told = {"code": f"{command[0]}_started", "pid": process.pid}
    _log.info("started headway %s, process %d", command[0], process.pid, extra=told)
    return process
