"""The commands and the program on the page do what the page says."""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.serve.oip.errors import Cause
from tests.processes import PATIENCE_S
from tests.runtime.oip.clients import Served

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "open-inference.md").read_text()


def curls() -> list[tuple[str, str]]:
    """Return each curl command of the page with the line that it prints."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [
        pair for block in blocks for pair in re.findall(r"^\$ (curl .*?)\n(\{.*?)\n", block, re.DOTALL | re.MULTILINE)
    ]


def patient(text: str) -> str:
    """Return what stands on the page with a longer deadline: half a second may not do on a busy machine."""
    return text.replace('"timeout": 500000', '"timeout": 30000000').replace("timeout=500_000", "timeout=30_000_000")


@pytest.mark.parametrize(("command", "printed"), curls())
def test_the_commands_print_what_the_page_shows(served: Served, command: str, printed: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    arguments = shlex.split(patient(command).replace("127.0.0.1:8000", served.http))
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    told, shown = json.loads(ended.stdout), json.loads(printed)
    for answer in (told, shown):
        for measured in ("parts", "time_left_us"):
            assert answer.get("parameters", {measured: 1}).pop(measured)
    assert told == shown


def test_two_commands_are_on_the_page() -> None:
    assert len(curls()) == 2


def test_the_program_runs(served: Served) -> None:
    program = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(patient(program).replace("127.0.0.1:8000", served.http), {})
    assert printed.getvalue() == "[1. 2. 3.] final\n"


def test_every_cause_stands_in_the_table() -> None:
    rows = re.findall(r"^\| (\d{3}) \| ([A-Z_]*)", PAGE, re.MULTILINE)
    internal = {Cause.INTERNAL, Cause.CANCELLED}  # nobody is left to read the latter
    assert {int(status) for status, _ in rows} == {cause.http for cause in Cause} - {cause.http for cause in internal}
    for status, code in rows:
        assert not code or code == next(cause.grpc for cause in Cause if cause.http == int(status))
