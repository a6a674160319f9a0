"""An allow-list that follows its file: who is taken off it is out within a second, without a restart.

Fails closed: while the file is missing or damaged nobody is on the list, and the log says why.
"""

import logging
import threading
from pathlib import Path

from devices.clock import Clock
from offload.errors import SecurityError
from offload.security.keys import read_allowed

_LOG = logging.getLogger("headway.edge")
_LOOK_S = 0.5


class AllowList:
    """Public keys that may connect; for any thread.

    Args:
        path: The file.
        clock: How often the file is looked at is measured by it.
    Raises:
        SecurityError: the file cannot be read now.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._names = read_allowed(path)
        self._seen = self._stamp()
        self._looked_s = clock.now_s()
        if not self._names:
            _LOG.warning(
                "%s lets nobody in: add clients with headway keys allow", path, extra={"code": "nobody_let_in"}
            )

    def name_of(self, key: str, *, fresh: bool = False) -> str | None:
        """Return the name of a client, None where it is not allowed; `fresh`: look at the file first."""
        if fresh or self._clock.now_s() - self._looked_s >= _LOOK_S:
            self._look()
        return self._names.get(key)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_ino, found.st_size)

    def _look(self) -> None:
        with self._lock:
            self._looked_s = self._clock.now_s()
            stamp = self._stamp()
            if stamp == self._seen:
                return
            self._seen = stamp
            try:
                self._names = read_allowed(self._path)
                _LOG.info("%s: %d clients are let in", self._path, len(self._names), extra={"code": "allow_list"})
            except SecurityError as error:
                self._names = {}
                _LOG.error("nobody is let in: %s", error, extra={"code": "nobody_let_in"})
