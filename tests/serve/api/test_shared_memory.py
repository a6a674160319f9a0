"""Shared memory with a real daemon: both ways, against hostile descriptors, and freed when a client dies."""

import fcntl
import os
import signal
import socket as sockets
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

import headway
from tests.processes import wait_for
from tests.serve.api.test_local_socket import ONES, SIZE, serving, write_model

ROOT = Path(headway.__file__).parent


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("d")
    write_model(folder / "models", "times", "1", 3.0)
    with serving(folder, "--repository", str(folder / "models")) as path:
        yield path


def mapped(pid: int) -> int:
    """Return how many memory files of clients a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text().count("memfd:headway")


def owner(socket: Path) -> int:
    return int(Path(f"{socket}.lock").read_text())


@pytest.fixture(autouse=True)
def nothing_shared(socket: Path) -> None:
    """Begin when the daemon has let go of what the test before shared: it sees a client's end a little later."""
    wait_for(lambda: mapped(owner(socket)) == 0)


def memory_file(size: int = 1 << 16, seals: int = fcntl.F_SEAL_SHRINK) -> int:
    file = os.memfd_create("headway", os.MFD_ALLOW_SEALING)
    os.ftruncate(file, size)
    if seals:
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file


def share(path: Path, files: list[int], hello: bytes) -> tuple[Any, Any]:
    """Return the answer to a hello, and the connection."""
    connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    connection.settimeout(10.0)
    connection.connect(f"{path}.shm")
    sockets.send_fds(connection, [hello], files)
    answer = connection.recv(65_536)
    for file in files:
        os.close(file)
    return (msgpack.unpackb(answer) if answer else None), connection


def test_the_socket_of_shared_memory_is_the_owner_s_alone(socket: Path) -> None:
    assert stat.S_IMODE(Path(f"{socket}.shm").stat().st_mode) == 0o600


def test_tensors_and_answers_lie_in_shared_memory(socket: Path) -> None:
    with headway.Client(socket, timeout_s=10.0) as client:
        answers = [client.infer("times", {"x": k * ONES}) for k in range(5)]
        assert mapped(owner(socket)) == 1
        assert [float(answer.outputs["y"][0, -1]) for answer in answers] == [0.0, 3.0, 6.0, 9.0, 12.0]
        own = client.empty((1, SIZE), np.float32)
        own[:] = 2.0
        assert client.infer("times", {"x": own}).outputs["y"][0, 7] == 6.0
        with pytest.raises(headway.RequestError, match="every value must be finite"):
            client.infer("times", {"x": np.full_like(ONES, np.nan)})
        with pytest.raises(headway.RequestError, match=r"DEADLINE|RESOURCE"):
            client.infer("times", {"x": ONES}, deadline_s=1e-6)
    wait_for(lambda: mapped(owner(socket)) == 0)
    assert answers[2].outputs["y"][0, 0] == 6.0, "an answer outlives its client"


def test_memory_is_given_back_when_answers_are_gone(socket: Path) -> None:
    with headway.Client(socket, timeout_s=10.0) as client:
        for _ in range(300):  # 300 times 80 kB both ways are more than the segment's 8 MiB
            client.infer("times", {"x": ONES})
        assert mapped(owner(socket)) == 1


def test_without_shared_memory_the_answers_are_the_same(socket: Path) -> None:
    with headway.Client(socket, timeout_s=10.0, shared_memory=False) as client:
        assert client.infer("times", {"x": ONES}).outputs["y"].sum() == 3.0 * SIZE
        assert mapped(owner(socket)) == 0


def test_a_killed_client_s_memory_is_freed(socket: Path) -> None:
    program = (
        "import headway, numpy, sys\n"
        f"client = headway.Client({str(socket)!r}, timeout_s=10.0)\n"
        f"x = numpy.ones((1, {SIZE}), numpy.float32)\n"
        "for _ in range(3): client.infer('times', {'x': x})\n"
        "print('shared', flush=True)\n"
        "while True: client.infer('times', {'x': x})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "shared\n"
        assert mapped(owner(socket)) == 1
        child.send_signal(signal.SIGKILL)
    wait_for(lambda: mapped(owner(socket)) == 0)
    with headway.Client(socket, timeout_s=10.0) as client:
        assert client.infer("times", {"x": ONES}).status == "OK"


SHARE = {"kind": "share/1", "bytes": 1 << 16}


@pytest.mark.parametrize(
    ("files", "hello", "message"),
    [
        (lambda: [memory_file(seals=0)], SHARE, "seal it"),
        (lambda: [os.open("/dev/zero", os.O_RDWR)], SHARE, "no memory file"),
        (lambda: [os.open(__file__, os.O_RDONLY)], SHARE, "seal it"),
        (lambda: [memory_file(4096)], SHARE, "the file has 4096"),
        (lambda: [memory_file()], {**SHARE, "bytes": 0}, "of 0 bytes"),
        (lambda: [memory_file()], {**SHARE, "bytes": 2**40}, "at most"),
        (lambda: [memory_file(), memory_file()], SHARE, "2 descriptors"),
        (lambda: [memory_file()], {"kind": "share/2", "bytes": 1}, "share/1"),
        (lambda: [memory_file()], {**SHARE, "path": "/etc/passwd"}, "path"),
    ],
    ids=["unsealed", "a device", "a file", "short", "nothing", "huge", "two", "other version", "a path"],
)
def test_what_is_no_sealed_memory_of_its_size_is_refused(
    socket: Path, files: Any, hello: dict[str, Any], message: str
) -> None:
    answer, connection = share(socket, files(), msgpack.packb(hello))
    connection.close()
    assert answer["kind"] == "error/1"
    assert message in answer["error"]
    assert mapped(owner(socket)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": 1 << 16}, "must lie within"),
        ({"offset": 2**40}, "must lie within"),
        ({"offset": 63}, "multiple of 64"),
        ({"offset": -64}, "at.offset"),
        ({"segment": 1}, "shares no such memory"),
        ({"segment": 0}, "at.segment"),
    ],
)
def test_a_place_outside_the_memory_is_refused(socket: Path, change: dict[str, int], message: str) -> None:
    answer, connection = share(socket, [memory_file()], msgpack.packb(SHARE))
    place = {"segment": answer["segment"], "offset": 0, **change}
    tensor = {"name": "x", "dtype": "float32", "shape": [1, 1024], "at": place}
    request = msgpack.packb({"kind": "infer/1", "id": 3, "model": "times", "tensors": [tensor]})
    with connection, zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"ipc://{socket}")
        dealer.send(request)
        assert dealer.poll(10_000)
        by_zmq = msgpack.unpackb(dealer.recv())
        connection.send(request)
        by_memory = msgpack.unpackb(connection.recv(65_536))
    for reply in (by_zmq, by_memory):
        assert (reply["kind"], reply["code"]) == ("error/1", "INVALID")
        assert message in reply["error"]


def test_answers_beyond_their_room_are_told_or_sent_as_frames(socket: Path) -> None:
    answer, connection = share(socket, [memory_file(1 << 17)], msgpack.packb({**SHARE, "bytes": 1 << 17}))
    place = {"segment": answer["segment"], "offset": 0}
    tensor = {"name": "x", "dtype": "float32", "shape": [1, SIZE], "at": place}
    room = {"segment": answer["segment"], "offset": 80_000, "bytes": 1 << 16}
    request = {"kind": "infer/1", "id": 3, "model": "times", "tensors": [tensor], "answer_at": room}
    with connection:
        connection.send(msgpack.packb(request))
        assert msgpack.unpackb(connection.recv(65_536))["code"] == "ANSWER_TOO_LARGE"
        connection.send(msgpack.packb({"kind": "status/1", "id": 1}))
        assert "infer/1 and cancel/1 alone" in msgpack.unpackb(connection.recv(65_536))["error"]
