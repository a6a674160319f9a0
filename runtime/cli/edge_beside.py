"""An edge server of one's own for the length of a command, as a process on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import UnavailableError


@contextmanager
def edge_beside(package: Path) -> Iterator[str]:
    """Start an edge server with a package, yield its address, and end it.

    Raises:
        UnavailableError: it does not start; its own words stand on stderr.
    """
    command = [sys.executable, "-P", "-m", "runtime.cli.main", "edge", "--package", str(package)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                raise UnavailableError("the edge server did not start; the lines above say why")
            yield str(json.loads(line)["endpoint"])
        finally:
            process.terminate()
