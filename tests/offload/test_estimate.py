"""The estimators against the published formula and against the truth of an emulated link."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.estimate import ChannelEstimator, LinkEstimator, Window
from offload.link import ChannelSample, EmulatedLink, Fixed, Gamma, GeometricQueue, LinkModel, Rayleigh
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


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(-10.0, 10.0)), min_size=1, max_size=60))
def test_a_window_holds_the_last_seconds_and_their_quantiles(steps: list[tuple[float, float]]) -> None:
    window, now_s, seen = Window(5.0, most=40), 0.0, []
    for gap_s, value in steps:
        now_s += gap_s
        window.add(value, now_s)
        seen.append((now_s, value))
    kept = [value for time_s, value in seen[-40:] if time_s >= now_s - 5.0]
    assert len(window) == len(kept)
    assert window.mean == pytest.approx(np.mean(kept), abs=1e-9)
    for share in (0.05, 0.5, 0.95, 1.0):
        assert window.quantile(share) == np.quantile(kept, share, method="inverted_cdf")


def estimated(model: LinkModel, bits: float, compute_s: float, queue_s: float) -> tuple[LinkEstimator, EmulatedLink]:
    """Send 2 000 requests and as many pings over a declared link in virtual time, and return what they tell of it."""
    link, estimator, now_s = EmulatedLink(model, seed=3), LinkEstimator(1e9), 0.0
    for _ in range(2000):
        passage = link.pass_control(512.0, now_s)
        estimator.pinged(passage.arrival_s - now_s + passage.reply_delay_s, now_s)
        sent = link.send(bits, now_s)
        ended_s = sent.reply_s + queue_s + compute_s
        estimator.answered(bits, ended_s - now_s, queue_s, compute_s, ended_s)
        now_s = ended_s + 0.05
    return estimator, link


def test_a_steady_link_is_estimated_as_it_is() -> None:
    model = LinkModel(rate=Fixed(20 * MEGABIT), rtt=Fixed(0.03), loss=0.0)
    estimator, _ = estimated(model, 307_200, 0.004, 0.002)
    for share in (0.05, 0.5, 0.95):
        assert estimator.rate_bps.quantile(share) == pytest.approx(20 * MEGABIT, rel=0.01)
        assert estimator.rtt_s.quantile(share) == pytest.approx(0.03, rel=0.01)
        assert estimator.queue_s.quantile(share) == pytest.approx(0.002)


def test_a_fading_link_is_estimated_within_its_spread() -> None:
    model = LinkModel(rate=Rayleigh(20 * MEGABIT), rtt=Gamma(3.5, 0.0055, 0.010), queue=GeometricQueue())
    estimator, link = estimated(model, 307_200, 0.0, 0.0)
    last = link.window(2000 * 0.1)
    truth = [link.channel.sample(window) for window in range(last)]
    rtt_s = np.array([item.rtt_s + item.queue_s for item in truth])
    for share in (0.1, 0.5, 0.9):
        assert estimator.rtt_s.quantile(share) == pytest.approx(np.quantile(rtt_s, share), rel=0.15)
    rate_bps = np.array([item.goodput_bps for item in truth])
    assert estimator.rate_bps.quantile(0.5) == pytest.approx(np.quantile(rate_bps, 0.5), rel=0.15)


def test_small_payloads_tell_nothing_of_the_rate() -> None:
    estimator = LinkEstimator()
    estimator.answered(1000, 0.01, 0.0, 0.0, 0.0)
    assert len(estimator.rate_bps) == 0
    with pytest.raises(ValueError, match="value = nan"):
        Window().add(math.nan, 0.0)
    with pytest.raises(ValueError, match="share = 0"):
        Window().quantile(0.0)
