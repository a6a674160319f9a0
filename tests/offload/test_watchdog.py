"""The watchdog stops what is armed for too long, and only that."""

from devices.backend import CancelToken
from offload.watchdog import Watchdog


def test_a_run_that_takes_too_long_is_stopped() -> None:
    watchdog = Watchdog(0.001)
    try:
        for _ in range(3):
            token = CancelToken()
            watchdog.arm(token)
            assert token.wait(10.0)
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
        assert other.wait(10.0)
        assert ended.cancelled == was_stopped
    finally:
        watchdog.close()
