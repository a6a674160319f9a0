"""The command line as a fixture."""

import pytest

from tests.runtime.pack.commands import Commands


@pytest.fixture
def headway(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs `headway ...`."""
    return Commands(monkeypatch, capsys)
