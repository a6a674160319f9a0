"""The deadline that the guard gives, and that clients may only shorten."""

import pytest

from runtime.serve.bound import GuardBound
from runtime.serve.guard_messages import Report

MS = 1_000_000


def report(deadline_s: float, mode: str = "hold", stamp_ns: int = 0) -> Report:
    return Report(1, stamp_ns, mode, "proposal_certified", deadline_s, None, "obstacle:0", 0.0, False)


def test_it_falls_a_deadline_after_the_stamp() -> None:
    bound = GuardBound()
    assert bound.falls_ns(0) is None
    bound.hear(report(0.2, stamp_ns=5 * MS), 6 * MS)
    assert bound.falls_ns(10 * MS) == 205 * MS


@pytest.mark.parametrize(
    ("heard", "now_ms"),
    [(report(0.2), 200), (report(5.0), 1001), (report(0.2, "backup"), 1), (report(float("inf")), 1)],
    ids=["spent", "the guard is silent", "the backup runs", "no limit"],
)
def test_there_is_none(heard: Report, now_ms: int) -> None:
    bound = GuardBound()
    bound.hear(report(0.3), 0)
    bound.hear(heard, 0)
    assert bound.falls_ns(now_ms * MS) is None
