"""A socket path belongs to one living process; what a dead one left is swept away."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from runtime.errors import ConfigurationError, UnavailableError
from runtime.serve.sockets import owned_router, owner_of, runtime_folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "h.sock"


def test_the_socket_is_for_its_owner_alone(path: Path) -> None:
    with zmq.Context() as context, owned_router(context, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_a_second_owner_is_refused_and_told_who_the_first_is(path: Path) -> None:
    program = (
        "import sys, zmq; from pathlib import Path; from runtime.serve.sockets import owned_router\n"
        "with zmq.Context() as c, owned_router(c, Path(sys.argv[1])): print('up', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "up\n"
        with (
            zmq.Context() as context,
            pytest.raises(UnavailableError, match=f"running process {first.pid}"),
            owned_router(context, path),
        ):
            pass
        first.kill()
    assert path.exists(), "a killed process leaves its socket file behind"
    with zmq.Context() as context, owned_router(context, path):
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_never_deleted(path: Path) -> None:
    path.write_text("precious")
    with zmq.Context() as context, pytest.raises(ConfigurationError, match="is no socket"), owned_router(context, path):
        pass
    assert path.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "h.sock"
    with zmq.Context() as context, pytest.raises(ConfigurationError, match="nowhere"), owned_router(context, path):
        pass


def test_a_path_too_long_for_the_kernel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with zmq.Context() as context, pytest.raises(ConfigurationError, match="at most 100"), owned_router(context, path):
        pass


def test_the_runtime_folder_is_the_session_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write /run")
def test_without_a_session_root_uses_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert runtime_folder() == Path("/run/headway")


def test_a_process_that_ended_owns_nothing_even_while_nobody_has_waited_for_it(path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    lock = Path(f"{path}.lock")
    lock.write_text(str(ended.pid))
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert owner_of(path) is None
    ended.wait()
    assert owner_of(path) is None
    lock.write_text(str(os.getpid()))
    assert owner_of(path) == os.getpid()
