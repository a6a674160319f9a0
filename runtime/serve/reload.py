"""SIGHUP: read the configuration again and take over the models it names, or keep everything as it is and say why.

The loader's thread reads and loads, requests go on meanwhile. All new models are loaded and warm before the first old
one goes; if one cannot be, all that was served stays. What a running daemon cannot change (devices, sockets, guard,
offloading) takes effect at its next start, and the log names it.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from devices.errors import DeviceError
from runtime.config import Config, ServeSection
from runtime.errors import RunError
from runtime.repository import ModelRepository
from runtime.serve.devices import configured_packages, placements
from runtime.serve.library import MEGABYTE, Library

_log = logging.getLogger("headway.daemon")
_TAKEN_OVER = ("packages", "repository", "placement", "memory_mb")


class Reloader:
    """Reads the configuration again on demand; used from the daemon's socket thread.

    Args:
        config: The configuration in force.
        reread: Returns the configuration as it now is.
        library: The models.
        loader: The thread that loads.
        on_end: Called by `attend` when a reload has ended, with why it was refused, "" if it was not.
    """

    def __init__(
        self,
        config: Config,
        reread: Callable[[], Config],
        library: Library,
        loader: ThreadPoolExecutor,
        on_end: Callable[[str], None],
    ) -> None:
        self._config = config
        self._reread = reread
        self._library = library
        self._loader = loader
        self._on_end = on_end
        self._under_way: Future[str] | None = None
        self._done = 0
        self._error = ""

    def begin(self) -> bool:
        """Start reading again; return False while that is under way already."""
        if self._under_way is not None:
            return False
        self._under_way = self._loader.submit(self._reload)
        return True

    def attend(self) -> None:
        """Take note of a reload that has ended."""
        if self._under_way is not None and self._under_way.done():
            self._error = self._under_way.result()
            self._under_way = None
            self._done += not self._error
            self._on_end(self._error)

    def status(self) -> dict[str, Any]:
        """Return how often the configuration was taken over, and why it was not the last time."""
        return {"done": self._done, "error": self._error}

    def _reload(self) -> str:
        """Return why nothing was taken over; "" if all was."""
        try:
            config = self._reread()
            repository = None if config.serve.repository is None else ModelRepository(Path(config.serve.repository))
            serve = msgspec.structs.replace(
                self._config.serve, **{name: getattr(config.serve, name) for name in _TAKEN_OVER}
            )
            packages = configured_packages(serve, repository)
            budget_bytes = None if serve.memory_mb is None else MEGABYTE * serve.memory_mb
            self._library.exchange(
                packages, placements=placements(serve, packages), repository=repository, budget_bytes=budget_bytes
            )
        except (RunError, DeviceError, ValueError, OSError) as error:
            _log.error("the reload is refused, what was served still is: %s", error, extra={"code": "reload_refused"})
            return str(error)
        later = _changed_beside(self._config, config)
        self._config = msgspec.structs.replace(self._config, serve=serve)
        if later:
            text = "reloaded; %s changed as well, which takes effect at the next start"
            _log.warning(text, ", ".join(later), extra={"code": "reloaded", "later": later})
        else:
            names = ", ".join(f"{package.name} {package.version}" for package in packages)
            _log.info("reloaded: %s", names, extra={"code": "reloaded"})
        return ""


def _changed_beside(before: Config, now: Config) -> list[str]:
    """Return the dotted keys that differ and are not taken over."""
    changed = []
    for section in Config.__struct_fields__:
        old, new = getattr(before, section), getattr(now, section)
        taken_over = _TAKEN_OVER if isinstance(new, ServeSection) else ()
        keys = (key for key in new.__struct_fields__ if key not in taken_over)
        changed += [f"{section}.{key}" for key in keys if getattr(old, key) != getattr(new, key)]
    return changed
