"""The `headway` command.

Exit codes: 0 done, 1 what was asked for failed, 2 wrong usage, 69 something needed does not answer, 78 the
configuration cannot be used; the base error of each room says which one its errors end with (`exit_code`).
Logs and errors go to stderr, results to stdout.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from runtime.errors import ConfigurationError, RunError

_UNUSABLE = ConfigurationError.exit_code

COMMANDS = {
    "demo": "carla_bridge.demo.command",
    "drive": "carla_bridge.experiment.command",
    "scenarios": "carla_bridge.scene.command",
    "calibrate": "carla_bridge.calibrate.command",
    "serve": "runtime.cli.serve",
    "guard": "runtime.cli.guard",
    "edge": "runtime.cli.edge",
    "keys": "runtime.cli.keys",
    "pack": "runtime.cli.pack",
    "plan": "runtime.cli.plan",
    "sweep": "runtime.cli.sweep",
    "infer": "runtime.cli.infer",
    "models": "runtime.cli.models",
    "status": "runtime.cli.status",
    "record": "runtime.cli.record",
    "replay": "runtime.cli.replay",
    "metrics": "runtime.cli.metrics",
    "page": "runtime.cli.page",
    "top": "runtime.cli.top",
    "view": "runtime.cli.view",
    "deadline": "runtime.cli.deadline",
    "doctor": "runtime.cli.doctor",
    "profile": "runtime.cli.profile",
    "verify": "runtime.cli.verify",
    "falsify": "runtime.cli.falsify",
}
"""Every command, and the module whose function of that name it is; only the one that is asked for is imported."""


def main() -> None:
    """Run the command line of this process."""
    wanted = [word for word in sys.argv[1:] if word in COMMANDS][:1] or list(COMMANDS)
    try:
        _application(wanted)(prog_name="headway")
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None and isinstance(error, OSError) and error.filename is not None:
            error, code = RunError(f"{os.fsdecode(error.filename)}: {error.strerror}"), _UNUSABLE
        if code is None:
            raise
        from runtime.cli.logs import tell_end

        tell_end(error, code)
        raise SystemExit(code) from None


def _application(wanted: list[str]) -> Callable[..., Any]:
    """Build the command line with the modules of `wanted` alone: a guard starts without loading what it never uses."""
    application = typer.Typer(
        help="An inference runtime for edge devices that knows how long it may wait.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    application.callback()(_root)
    for name in wanted:
        module = import_module(COMMANDS[name])
        application.command(name)(getattr(module, name))
    return application


def _root() -> None:
    """An inference runtime for edge devices that knows how long it may wait."""


if __name__ == "__main__":
    main()
