"""Where a recording goes: into a file, or to a Rerun server of our own that is bound to loopback.

Rerun's servers listen on all interfaces unless they are told otherwise. So the server is started as a process with
`--bind 127.0.0.1`, and ends with this one.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection

import rerun as rr

from runtime.errors import ConfigurationError, UnavailableError

HOST = "127.0.0.1"
_START_S = 30.0
_LAST_PORT = 65_535
_LOOK_S = 0.05
_KINDS = {"window": (), "web": ("--serve-web",), "none": ("--serve-grpc",)}


def saved(path: Path) -> "rr.RecordingStream":
    """Return a recording that is written to a file.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    try:
        path.open("wb").close()
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    recording = rr.RecordingStream("headway")
    recording.save(path)
    return recording


@contextmanager
def shown(port: int, web_port: int, viewer: str) -> "Iterator[tuple[rr.RecordingStream, subprocess.Popen[bytes]]]":
    """Start a Rerun server on loopback, and yield a recording that goes there, and its process.

    Args:
        port: Its port.
        web_port: Port of the web viewer, with `viewer` "web".
        viewer: "window" opens Rerun's own window, "web" serves its web viewer, "none" leaves viewing to others.
    Raises:
        ConfigurationError: there is no such viewer, or the port is taken.
        UnavailableError: the server does not start, or ended before it had taken everything.
    """
    if viewer not in _KINDS:
        raise ConfigurationError(f"viewer = {viewer!r}: must be one of {', '.join(_KINDS)}")
    if viewer == "window" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigurationError("viewer = 'window', but there is no display: use --viewer web, none, or --save FILE")
    for option, number in (("--port", port), ("--web-port", web_port)):
        if not 1 <= number <= _LAST_PORT:
            raise ConfigurationError(f"{option} = {number}: must be from 1 to {_LAST_PORT}")
    if _listens(port):
        raise ConfigurationError(f"port {port} of {HOST} is taken: choose another with --port")
    command = [_program(), "--bind", HOST, "--port", str(port), *_KINDS[viewer]]
    if viewer == "web":
        command += ["--web-viewer-port", str(web_port)]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=nothing, start_new_session=True) as process:
        try:
            until_s = time.monotonic() + _START_S
            while not _listens(port):
                if process.poll() is not None:
                    raise UnavailableError(f"Rerun ended at its start with exit code {process.returncode}")
                if time.monotonic() > until_s:
                    raise UnavailableError(f"Rerun does not listen on port {port} after {_START_S:g} s")
                time.sleep(_LOOK_S)
            recording = rr.RecordingStream("headway")
            recording.connect_grpc(f"rerun+http://{HOST}:{port}/proxy")
            yield recording, process
            try:
                recording.flush()
                recording.disconnect()
            except RuntimeError as error:  # of Rerun's own: it has ended meanwhile
                raise UnavailableError(f"Rerun took nothing more: {error}") from error
        finally:
            with suppress(ProcessLookupError):  # its window was closed
                os.killpg(process.pid, signal.SIGTERM)  # the program starts another, which must end with it


def _listens(port: int) -> bool:
    try:
        create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _program() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "rerun"
    found = str(beside) if beside.exists() else shutil.which("rerun")
    if found is None:
        raise ConfigurationError(f"there is no program rerun beside {sys.executable}: pip install 'headway[rerun]'")
    return found
