"""Token buckets against what a bucket may let through in any span of time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.errors import ServerError
from offload.security.limits import ClientLimits, RateLimiter, client_limits


@given(
    gaps=st.lists(st.floats(0.0, 0.5), min_size=1, max_size=200),
    size=st.integers(0, 3000),
    rate=st.floats(1.0, 100.0),
    bytes_per_s=st.floats(1000.0, 1e5),
)
def test_no_span_of_time_lets_more_through_than_burst_and_rate(
    gaps: list[float], size: int, rate: float, bytes_per_s: float
) -> None:
    limiter = RateLimiter(ClientLimits(rate, bytes_per_s, burst_s=1.0))
    now_s, passed = 0.0, []
    for gap in gaps:
        now_s += gap
        if not limiter.why_not(b"a", size, now_s):
            passed.append(now_s)
    for first, begin_s in enumerate(passed):
        for count, end_s in enumerate(passed[first:], 1):
            span_s = end_s - begin_s
            assert count <= max(1.0, rate) + rate * span_s + 1e-6
            assert (count - 1) * size <= bytes_per_s * (1.0 + span_s) + 1e-6


def test_who_waits_may_send_again_and_others_are_not_charged() -> None:
    limiter = RateLimiter(ClientLimits(1.0, math.inf))
    assert limiter.why_not(b"a", 9, 0.0) == ""
    assert limiter.why_not(b"a", 9, 0.1) == "more than 1 messages a second"
    assert limiter.why_not(b"b", 9, 0.1) == ""
    assert limiter.why_not(b"a", 9, 1.1) == ""
    assert limiter.counts == {"messages": 1}


def test_a_message_above_the_depth_passes_once_and_leaves_a_debt() -> None:
    limiter = RateLimiter(ClientLimits(math.inf, 100.0))
    assert limiter.why_not(b"a", 1000, 0.0) == ""
    assert "bytes a second" in limiter.why_not(b"a", 1, 5.0)
    assert limiter.why_not(b"a", 1, 9.5) == ""


def test_a_clock_that_steps_back_grants_nothing() -> None:
    limiter = RateLimiter(ClientLimits(1.0, math.inf))
    assert limiter.why_not(b"a", 1, 100.0) == ""
    assert limiter.why_not(b"a", 1, 0.0) != ""
    assert limiter.why_not(b"a", 1, 100.5) != ""


def test_limits_by_default() -> None:
    assert client_limits(None, None, secured=False) is None
    assert client_limits(None, None, secured=True) == ClientLimits()
    assert client_limits(5.0, None, secured=False) == ClientLimits(5.0, math.inf)
    with pytest.raises(ServerError, match="burst_s = inf"):
        ClientLimits(burst_s=math.inf)
    with pytest.raises(ServerError, match=r"messages_per_s = 0\.0"):
        client_limits(0.0, None, secured=True)
