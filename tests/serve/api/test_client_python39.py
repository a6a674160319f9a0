"""The client on Python 3.9: its syntax, and where that interpreter has what the client needs, a conversation."""

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import headway
from tests.processes import PATIENCE_S
from tests.serve.api.test_local_socket import SIZE, serving, write_model

FILE = Path(headway.__file__)
PROGRAM = """
import asyncio, sys, numpy, headway
assert sys.version_info[:2] == (3, 9), sys.version
x = numpy.ones((1, %d), numpy.float32)
with headway.Client(sys.argv[1], timeout_s=10.0) as client:
    for _ in range(3):
        assert client.infer("times", {"x": x}).outputs["y"].sum() == 3.0 * x.size
    assert client.filter(headway.Pose(0.0, 0.0, 0.0), []).status == "nominal"
async def ask():
    async with headway.AsyncClient(sys.argv[1], timeout_s=10.0) as client:
        return await client.infer("times", {"x": x})
print(asyncio.run(ask()).outputs["y"][0, 0])
"""


def test_it_parses_as_python_3_9() -> None:
    ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 9))


def python39() -> str:
    """Return a Python 3.9 that can import what the client needs, or skip."""
    found = os.environ.get("HEADWAY_PYTHON39") or shutil.which("python3.9")
    if found is None:
        pytest.skip("there is no python3.9")
    told = subprocess.run([found, "-c", "import msgpack, numpy, zmq"], capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip(f"{found} lacks numpy, pyzmq or msgpack (name another by HEADWAY_PYTHON39)")
    return found


def test_a_python_3_9_talks_to_the_daemon(tmp_path: Path) -> None:
    interpreter = python39()
    write_model(tmp_path / "models", "times", "1", 3.0)
    (tmp_path / "alone").mkdir()
    shutil.copy(FILE, tmp_path / "alone" / "headway.py")
    with serving(tmp_path, "--repository", str(tmp_path / "models")) as socket:
        ended = subprocess.run(
            [interpreter, "-c", PROGRAM % SIZE, str(socket)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
            env={"PYTHONPATH": str(tmp_path / "alone"), "PATH": os.defpath},
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "3.0"
