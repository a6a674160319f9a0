"""The `headway` command.

Exit codes: 0 done, 1 what was asked for failed, 2 wrong usage, 69 something needed does not answer, 78 the
configuration cannot be used. Logs and errors go to stderr, results to stdout.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer

from runtime.errors import RunError

COMMANDS = {
    "demo": "carla_bridge.demo.command",
    "serve": "runtime.cli.serve",
    "guard": "runtime.cli.guard",
    "edge": "runtime.cli.edge",
    "models": "runtime.cli.models",
    "status": "runtime.cli.status",
    "deadline": "runtime.cli.deadline",
    "verify": "runtime.cli.verify",
    "falsify": "runtime.cli.falsify",
}
"""Every command, and the module whose function of that name it is; only the one that is asked for is imported."""

_EXIT_UNAVAILABLE = 69
_EXIT_CONFIGURATION = 78


def main() -> None:
    """Run the command line of this process."""
    wanted = [word for word in sys.argv[1:] if word in COMMANDS][:1] or list(COMMANDS)
    try:
        _application(wanted)(prog_name="headway")
    except RunError as error:
        _leave(error, error.exit_code)
    except Exception as error:
        codes = _exit_codes()
        for kind, code in codes.items():
            if isinstance(error, kind):
                _leave(error, code)
        raise


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


def _exit_codes() -> dict[type[Exception], int]:
    from devices.errors import DeviceError
    from offload.errors import OffloadError
    from shield.errors import ShieldError

    return {
        ShieldError: _EXIT_CONFIGURATION,
        DeviceError: _EXIT_CONFIGURATION,
        OffloadError: _EXIT_UNAVAILABLE,
    }


def _leave(error: Exception, code: int) -> None:
    typer.echo(f"headway: {error}", err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
