"""A thread that keeps a feed up to date from a guard and a daemon."""

import threading
from pathlib import Path
from typing import Any

import headway
from runtime.observe.feed import TOPICS, Feed
from runtime.observe.follower import Follower

_STATUS_S = 0.5
_PATIENCE_S = 0.3
_LISTEN_S = 0.05
_END_S = 2.0  # for what is under way; its threads hold up no end of the process


class Gatherer:
    """Follows guard and daemon until closed.

    Args:
        guard, daemon: Their unix sockets.
    """

    def __init__(self, guard: Path, daemon: Path) -> None:
        self._guard, self._daemon = guard, daemon
        self._feed = Feed()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._follow, self._ask)]

    def __enter__(self) -> "Gatherer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(_END_S)

    def snapshot(self) -> dict[str, Any]:
        """Return what there is to show."""
        with self._lock:
            return self._feed.snapshot()

    def _follow(self) -> None:
        with Follower(self._guard, self._daemon, TOPICS) as follower:
            while not self._ended.is_set():
                found = follower.listen(_LISTEN_S)
                with self._lock:
                    for heard in found:
                        self._feed.take(heard)

    def _ask(self) -> None:
        with headway.Client(self._daemon, timeout_s=_PATIENCE_S) as client:
            while not self._ended.wait(_STATUS_S):
                try:
                    status: dict[str, Any] | None = client.status()
                except headway.HeadwayError:
                    status = None
                with self._lock:
                    self._feed.status(status)
