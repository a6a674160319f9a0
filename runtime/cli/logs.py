"""Logs of the long-running commands: one line to stderr an event, plain or JSON.

A JSON line holds time, level, name and message, and beside them what the record was given as `extra`: a stable `code`
and the values that the message puts into words.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import typer

_VARIABLE = "HEADWAY_LOG_FORMAT"
_OWN = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime"))


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "name": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stderr(*, as_json: bool) -> None:
    """Send every log record of this process to stderr, as text or as one JSON object a line.

    Guard, recorder and page that this process starts share its stderr, and write as it does.
    """
    if as_json:
        os.environ[_VARIABLE] = "json"
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines() if os.environ.get(_VARIABLE) == "json" else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def tell_end(error: Exception, exit_code: int) -> None:
    """Say on stderr, as the log does, which error ends this process."""
    text = f"headway: {error}"
    if os.environ.get(_VARIABLE) == "json":
        told = {"code": "failed", "exit_code": exit_code}
        record = logging.makeLogRecord({"name": "headway", "levelname": "ERROR", "msg": "%s", "args": (text,), **told})
        text = JsonLines().format(record)
    typer.echo(text, err=True)


def wants_json(log_format: str) -> bool:
    """Return whether a `--log-format` is "json".

    Raises:
        typer.BadParameter: it is neither "plain" nor "json".
    """
    if log_format not in ("plain", "json"):
        raise typer.BadParameter(f"--log-format = {log_format!r}: must be plain or json")
    return log_format == "json"
