"""The watchdog stops what is armed for too long, and only that."""

import threading

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


def test_a_run_that_ended_is_left_alone() -> None:
    watchdog = Watchdog(0.001)
    try:
        ended, other = CancelToken(), CancelToken()
        watchdog.arm(ended)
        watchdog.disarm()
        was_stopped = ended.cancelled
        watchdog.arm(other)
        assert was_cancelled(other)
        assert ended.cancelled == was_stopped
    finally:
        watchdog.close()
