"""Emulators of CARLA's protocol, each a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Server:
    """An emulator that runs: its process, and the ports that clients and streams connect to."""

    process: "subprocess.Popen[bytes]"
    port: int
    stream_port: int


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start emulators and end them after the test."""
    with ExitStack() as stack:

        def start(*flags: str) -> Server:
            command = [sys.executable, "-m", "tests.carla_emulator", *flags]
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            return Server(process, **json.loads(process.stdout.readline()))

        yield start


@pytest.fixture
def emulator(serve: Serve) -> Callable[..., int]:
    """Start emulators and return their ports."""
    return lambda *flags: serve(*flags).port
