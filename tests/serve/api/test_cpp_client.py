"""The C++ client of the examples, compiled and run against a real daemon."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import carla_bridge
import headway
from tests.processes import PATIENCE_S
from tests.serve.api.test_local_socket import serving

SOURCE = Path(headway.__file__).parent / "examples" / "cpp_client" / "client.cpp"
PACKAGE = Path(carla_bridge.__file__).parent / "models" / "driving" / "1"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    made = tmp_path_factory.mktemp("cpp") / "client"
    warnings = ("-Wall", "-Wextra", "-Werror")
    command = [compiler, "-std=c++17", *warnings, str(SOURCE), "-lzmq", "-lmsgpackc", "-o", str(made)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if "zmq.h: No such file" in built.stderr or "msgpack.h: No such file" in built.stderr:
        pytest.skip("libzmq3-dev and libmsgpack-dev are not installed")
    assert built.returncode == 0, built.stderr
    return made


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with serving(tmp_path_factory.mktemp("d"), "--package", str(PACKAGE)) as path:
        yield path


def ask(program: Path, socket: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [str(program), str(socket), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.mark.timeout(60)
def test_it_prints_the_answer_and_where_it_was_made(program: Path, socket: Path) -> None:
    ended = ask(program, socket, "driving", "frame", "uint8", "1,80,160,3", "10000")
    assert ended.returncode == 0, ended.stderr
    printed = dict(line.split(": ", 1) for line in ended.stdout.splitlines() if ": " in line)
    assert printed["exit"].startswith("exit")
    assert printed["segment"].endswith(" on cpu")
    assert printed["time left"].endswith(" ms")
    answer = next(line for line in ended.stdout.splitlines() if line.startswith("answer"))
    assert len(answer.split()) == 1 + 6


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("flying", "frame", "uint8", "1,80,160,3"), 1, "INVALID: model 'flying' is not loaded"),
        (("driving", "frame", "uint8", "1,40,160,3"), 1, "must be ('N', 80, 160, 3)"),
        (("driving", "frame", "uint8", "1,80,160,3", "0.001"), 1, "ms"),
        (("driving", "frame", "uint9", "1"), 2, "uint9 is not known"),
        (("driving", "frame", "uint8", "-1"), 2, "size -1"),
        (("driving", "frame"), 2, "usage"),
    ],
)
def test_a_refusal_is_printed_with_its_reason(
    program: Path, socket: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    ended = ask(program, socket, *words)
    assert ended.returncode == code
    assert message in ended.stderr
