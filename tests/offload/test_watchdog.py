"""The watchdog stops what is armed for too long, and only that."""

import threading
import time
from types import SimpleNamespace

import pytest

from devices.backend import CancelToken
from offload.server.watchdog import Watchdog


def was_cancelled(token: CancelToken) -> bool:
    event = threading.Event()
    token.bind(event.set)
    return event.wait(10.0)


def test_a_run_that_takes_too_long_is_stopped() -> None:
    watchdog = Watchdog(0.001)
    try:
        for _ in range(3):
            token = CancelToken()
            watchdog.arm(token)
            assert was_cancelled(token)
    finally:
        watchdog.close()


def test_a_run_that_ended_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep, woken, over = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def sleep(_: float) -> None:
        asleep.release()
        assert over.is_set() or woken.acquire(timeout=10.0)

    monkeypatch.setattr("offload.server.watchdog.time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    watchdog = Watchdog(0.0)
    try:
        ended, other = CancelToken(), CancelToken()
        watchdog.arm(ended)
        assert asleep.acquire(timeout=10.0)
        watchdog.disarm()
        woken.release()
        assert asleep.acquire(timeout=10.0)  # it has looked meanwhile
        assert not ended.cancelled
        watchdog.arm(other)
        woken.release()
        assert was_cancelled(other)
        assert not ended.cancelled
    finally:
        over.set()
        woken.release()
        watchdog.close()
