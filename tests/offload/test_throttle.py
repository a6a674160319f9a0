"""One complaint a second of each kind, and none lost count of."""

import itertools
import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.clock import VirtualClock
from offload.throttle import Throttle

LOG = logging.getLogger("tests.throttle")


def test_a_flood_of_one_kind_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(50.0)
    throttle = Throttle(LOG, clock)
    for _ in range(100):
        throttle.warn("damage", kind="damaged")
    throttle.warn("lost", kind="lost")
    throttle.warn("whatever")
    assert caplog.messages == ["damage", "lost", "whatever"]
    clock.advance(0.999)
    throttle.warn("damage", kind="damaged")
    assert len(caplog.messages) == 3
    clock.advance(0.001)
    throttle.warn("lost", kind="lost")
    throttle.warn("damage", kind="damaged")
    assert caplog.messages[3:] == ["lost", "damage (100 more went unsaid)"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1500)), max_size=60))
def test_what_is_said_and_what_is_told_unsaid_add_up(calls: list[tuple[str, int]]) -> None:
    clock, said = VirtualClock(), list[tuple[float, str, int]]()

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kind, _, unsaid = record.getMessage().partition(" (")
            said.append((clock.now_s(), kind, int(unsaid.split()[0]) if unsaid else 0))

    log = logging.Logger("notes")
    log.addHandler(Notes())
    throttle = Throttle(log, clock)
    made: Counter[str] = Counter()
    for kind, wait_ms in calls:
        clock.advance(1e-3 * wait_ms)
        before = len(said)
        throttle.warn(kind, kind=kind)
        made[kind] += 1
        times = [time_s for time_s, told, _ in said if told == kind]
        assert all(later - earlier >= 1.0 - 1e-9 for earlier, later in itertools.pairwise(times))
        if len(said) > before:
            assert sum(1 + unsaid for _, told, unsaid in said if told == kind) == made[kind]
        else:
            assert clock.now_s() - times[-1] < 1.0
