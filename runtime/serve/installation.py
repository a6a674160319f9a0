"""Refuses to run when a package of ours was imported from elsewhere than its own installation.

A user's folder called `devices/` on the import path would otherwise take the place of ours without a word.
"""

from importlib import import_module
from pathlib import Path

from runtime.errors import ConfigurationError

PACKAGES = ("shield", "devices", "offload", "runtime", "carla_bridge")


def require_own_packages() -> None:
    """Check that all five packages stand side by side.

    Raises:
        ConfigurationError: one was imported from another folder.
    """
    home = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        origin = import_module(name).__file__
        found = Path(origin).resolve().parents[1] if origin else None
        if found != home:
            raise ConfigurationError(
                f"the package {name} was imported from {found}, this installation is in {home}: "
                f"rename the folder called {name} there, or start from another directory"
            )
