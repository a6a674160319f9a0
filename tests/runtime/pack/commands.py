"""The command line in this process: what it prints, and the code it ends with."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.cli.main import main


class Commands:
    """Runs `headway ...` and keeps what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.out = ""
        self.error = ""

    def __call__(self, *arguments: str | Path) -> int:
        """Return the exit code."""
        self._monkeypatch.setattr(sys, "argv", ["headway", *map(str, arguments)])
        self._monkeypatch.setenv("COLUMNS", "400")
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.error = self._capsys.readouterr()
        return code

    def json(self, *arguments: str | Path) -> Any:
        """Return what it printed as JSON."""
        assert self(*arguments, "--json") == 0, self.error
        return json.loads(self.out)
