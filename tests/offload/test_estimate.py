"""The estimator against the published formula."""

import math

import pytest

from offload.estimate import ChannelEstimator
from offload.link import ChannelSample
from offload.radio import MEGABIT, load_radio


def sample(window: int, mbps: float) -> ChannelSample:
    return ChannelSample(window, mbps * MEGABIT, mbps * MEGABIT, rtt_s=0.004, queue_s=0.001)


def test_nothing_is_estimated_before_five_samples() -> None:
    estimator = ChannelEstimator(load_radio("wifi"))
    for window in range(4):
        estimator.observe(sample(window, 20.0))
        assert estimator.estimate(1.0) is None
    estimator.observe(sample(4, 20.0))
    assert estimator.estimate(1.0) is not None


def test_estimate_is_that_of_the_last_five_means() -> None:
    estimator = ChannelEstimator(load_radio("wifi"))
    for window, mbps in enumerate([900.0, 10.0, 20.0, 30.0, 10.0, 30.0]):
        estimator.observe(sample(window, mbps))
    estimate = estimator.estimate(0.29297 * MEGABIT)
    assert estimate is not None
    assert estimate.latency_s == pytest.approx(0.29297 / 20 + 0.005)
    assert 1e3 * estimate.energy_j == pytest.approx((283.17 * 20 + 132.86) * 0.29297 / 20)


def test_a_dead_channel_costs_infinitely_much() -> None:
    estimator = ChannelEstimator(load_radio("wifi"), count=1)
    estimator.observe(ChannelSample(0, 0.0, 0.0, 0.0, 0.0))
    estimate = estimator.estimate(8.0)
    assert estimate is not None
    assert (estimate.latency_s, estimate.energy_j) == (math.inf, math.inf)


def test_a_buffer_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="count = 0"):
        ChannelEstimator(load_radio("wifi"), count=0)
