"""Courses of an offload: the payload replayed over the windows that were seen."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.estimate import ChannelEstimator
from offload.link import ChannelSample
from offload.policy import OutlookEstimator
from offload.policy.outlook import replay
from offload.radio import MEGABIT, load_radio

RADIO = load_radio("wifi")
BITS = 0.25 * MEGABIT


def sample(rate_mbps: float, rtt_s: float = 0.0, queue_s: float = 0.0) -> ChannelSample:
    return ChannelSample(0, rate_mbps * MEGABIT, rate_mbps * MEGABIT, rtt_s, queue_s)


def test_a_payload_rolls_over_windows_at_each_ones_rate() -> None:
    # 5 Mbps carry .1 Mbit in 20 ms; the .15 Mbit that are left take 7.5 ms of the next window at 20 Mbps.
    course = replay((sample(5.0), sample(20.0, rtt_s=0.004, queue_s=0.001)), 0, BITS, RADIO, 0.02)
    assert course.send_s == pytest.approx(0.0275)
    assert course.latency_s == pytest.approx(0.0325)
    expected_j = RADIO.up_w(5.0 * MEGABIT) * 0.02 + RADIO.up_w(20.0 * MEGABIT) * 0.0075
    assert course.energy_j == pytest.approx(expected_j)


def test_courses_start_at_every_window_and_go_round() -> None:
    estimator = OutlookEstimator(RADIO, history=5)
    for rate in (50.0, 50.0, 50.0, 50.0, 5.0):
        estimator.observe(sample(rate))
    outlook = estimator.estimate(BITS)
    assert outlook is not None
    assert [course.send_s for course in outlook.courses[:4]] == pytest.approx([0.005] * 4)
    assert outlook.courses[4].send_s == pytest.approx(0.02 + 0.15 / 50.0)


def test_a_dead_link_has_no_course_that_ends() -> None:
    estimator = OutlookEstimator(RADIO)
    for _ in range(5):
        estimator.observe(sample(0.0))
    outlook = estimator.estimate(BITS)
    assert outlook is not None
    assert all(math.isinf(course.latency_s) for course in outlook.courses)


def test_nothing_is_said_before_five_windows() -> None:
    estimator = OutlookEstimator(RADIO)
    for _ in range(4):
        estimator.observe(sample(20.0))
        assert estimator.estimate(BITS) is None
    with pytest.raises(ValueError, match="history = 0"):
        OutlookEstimator(RADIO, history=0)


@given(st.lists(st.floats(0.5, 100.0), min_size=5, max_size=40))
def test_means_are_the_published_ones_and_courses_send_every_bit(rates: list[float]) -> None:
    plain, ours = ChannelEstimator(RADIO), OutlookEstimator(RADIO)
    for rate in rates:
        plain.observe(sample(rate))
        ours.observe(sample(rate))
    published, outlook = plain.estimate(BITS), ours.estimate(BITS)
    assert published is not None
    assert outlook is not None
    assert (outlook.latency_s, outlook.energy_j) == (published.latency_s, published.energy_j)
    assert len(outlook.courses) == min(25, len(rates))
    slowest, fastest = min(rates[-25:]), max(rates[-25:])
    for course in outlook.courses:
        assert BITS / (fastest * MEGABIT) <= course.send_s * (1 + 1e-9)
        assert course.send_s <= BITS / (slowest * MEGABIT) * (1 + 1e-9)
