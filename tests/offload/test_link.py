"""The emulated link against the published rules of a window."""

import gc
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.errors import LinkError
from offload.link import (
    WINDOW_S,
    Channel,
    EmulatedLink,
    Fixed,
    Gamma,
    GeometricQueue,
    LinkModel,
    Outage,
    Rayleigh,
)
from offload.radio import MEGABIT

PAYLOAD_BITS = 160 * 80 * 3 * 8


def samples(model: LinkModel, count: int = 20_000, seed: int = 1) -> list[tuple[float, float, float, float]]:
    channel = Channel(model, seed)
    drawn = [channel.sample(window) for window in range(count)]
    return [(item.rate_bps, item.goodput_bps, item.rtt_s, item.queue_s) for item in drawn]


def test_published_payload_takes_its_published_time_at_a_fixed_rate() -> None:
    link = EmulatedLink(LinkModel(rate=Fixed(20 * MEGABIT)))
    sent = link.send(PAYLOAD_BITS, 0.0)
    assert sent.sent_s == pytest.approx(0.29297 / 20, rel=1e-4)
    assert [item.window for item in sent.airtimes] == [0]


def test_bits_round_trip_and_queue_roll_over_in_the_published_order() -> None:
    model = LinkModel(rate=Fixed(10 * MEGABIT), rtt=Fixed(0.010), queue=Fixed(0.007))
    sent = EmulatedLink(model).send(PAYLOAD_BITS, 0.0)
    send_s = PAYLOAD_BITS / (10 * MEGABIT)
    assert [item.window for item in sent.airtimes] == [0, 1]
    assert [item.duration_s for item in sent.airtimes] == pytest.approx([WINDOW_S, send_s - WINDOW_S])
    assert sent.arrival_s == pytest.approx(send_s + 0.005)
    assert sent.reply_s == pytest.approx(send_s + 0.010 + 0.007)


def test_each_window_sends_at_its_own_rate() -> None:
    link = EmulatedLink(LinkModel(rate=Rayleigh(2.0 * MEGABIT)), seed=5)
    sent = link.send(PAYLOAD_BITS, 0.0)
    assert len(sent.airtimes) > 2
    for item in sent.airtimes:
        assert item.rate_bps == link.channel.sample(item.window).rate_bps
    assert sum(item.rate_bps * item.duration_s for item in sent.airtimes) == pytest.approx(PAYLOAD_BITS)


def test_rayleigh_gamma_and_queue_have_their_means() -> None:
    model = LinkModel(rtt=Gamma(3.5, 0.0055, 0.010), queue=GeometricQueue())
    rate, _, rtt, queue = np.mean(samples(model), axis=0)
    steps = np.arange(4000)
    assert rate == pytest.approx(20 * MEGABIT * math.sqrt(math.pi / 2), rel=0.02)
    assert rtt == pytest.approx(3.5 * 0.0055 + 0.010, rel=0.02)
    assert queue == pytest.approx(1e-6 * np.average(steps, weights=0.97**steps), rel=0.03)


def test_loss_is_sent_again() -> None:
    rate, goodput, _, _ = np.mean(samples(LinkModel(rate=Fixed(20 * MEGABIT), loss=0.3)), axis=0)
    assert goodput / rate == pytest.approx(0.7, abs=0.01)
    lossless = EmulatedLink(LinkModel(rate=Fixed(20 * MEGABIT))).send(PAYLOAD_BITS, 0.0)
    lossy = EmulatedLink(LinkModel(rate=Fixed(20 * MEGABIT), loss=0.3)).send(PAYLOAD_BITS, 0.0)
    assert lossy.sent_s > lossless.sent_s


def test_an_outage_carries_nothing_and_ends() -> None:
    model = LinkModel(rate=Fixed(20 * MEGABIT), outages=(Outage(0.10, 5.0),))
    sent = EmulatedLink(model).send(PAYLOAD_BITS, 0.095)
    assert 5.10 < sent.sent_s < 5.12
    rates = [rate for rate, *_ in samples(model, 300)]
    assert [window for window, rate in enumerate(rates) if rate == 0.0] == list(range(5, 255))


def test_a_payload_beyond_the_horizon_is_lost_and_frees_the_link() -> None:
    model = LinkModel(rate=Fixed(20 * MEGABIT), outages=(Outage(0.0, 2.0),))
    link = EmulatedLink(model, horizon_s=1.0)
    lost = link.send(PAYLOAD_BITS, 0.0)
    assert lost.sent_s == lost.reply_s == math.inf
    assert link.send(PAYLOAD_BITS, 2.0).start_s == 2.0


def test_one_payload_at_a_time() -> None:
    link = EmulatedLink(LinkModel(rate=Fixed(20 * MEGABIT)))
    first = link.send(PAYLOAD_BITS, 0.0)
    second = link.send(PAYLOAD_BITS, 0.001)
    assert second.start_s == first.sent_s


def test_cancelling_charges_what_was_sent_and_frees_the_link() -> None:
    link = EmulatedLink(LinkModel(rate=Fixed(1 * MEGABIT)))
    sent = link.send(PAYLOAD_BITS, 0.0)
    kept = link.cancel(sent, 0.05)
    assert [item.duration_s for item in kept.airtimes] == pytest.approx([0.02, 0.02, 0.01])
    assert kept.sent_s == math.inf
    assert link.send(1.0, 0.06).start_s == 0.06


def test_cancelling_a_queued_payload_leaves_the_one_before_it_alone() -> None:
    link = EmulatedLink(LinkModel(rate=Fixed(20 * MEGABIT)))
    first = link.send(PAYLOAD_BITS, 0.0)
    second = link.send(PAYLOAD_BITS, 0.0)
    assert link.cancel(second, 0.001).airtimes == ()
    assert link.send(PAYLOAD_BITS, 0.002).start_s == first.sent_s


@given(
    bits=st.floats(0.0, 5e6),
    start_s=st.floats(0.0, 100.0),
    seed=st.integers(0, 2**32),
    sigma_mbps=st.floats(0.5, 100.0),
    loss=st.floats(0.0, 0.5),
)
def test_airtimes_are_whole_windows_in_order(
    bits: float, start_s: float, seed: int, sigma_mbps: float, loss: float
) -> None:
    model = LinkModel(rate=Rayleigh(sigma_mbps * MEGABIT), rtt=Gamma(1.25, 0.002, 0.002), loss=loss)
    link = EmulatedLink(model, seed)
    sent = link.send(bits, start_s)
    again = EmulatedLink(model, seed).send(bits, start_s)
    assert sent == again
    windows = [item.window for item in sent.airtimes]
    assert windows == list(range(windows[0], windows[0] + len(windows)))
    assert all(0.0 <= item.duration_s <= WINDOW_S * (1 + 1e-6) for item in sent.airtimes)
    carried = sum(link.channel.sample(item.window).goodput_bps * item.duration_s for item in sent.airtimes)
    assert carried == pytest.approx(bits, rel=1e-6, abs=1e-3)
    assert start_s == sent.start_s <= sent.sent_s <= sent.arrival_s <= sent.reply_s


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=20))
def test_the_channel_does_not_depend_on_the_order_of_asking(windows: list[int]) -> None:
    one, other = Channel(LinkModel(), 3), Channel(LinkModel(), 3)
    asked = {window: one.sample(window) for window in windows}
    assert asked == {window: other.sample(window) for window in sorted(windows)}


def test_a_channel_keeps_no_more_after_an_hour_than_after_a_minute() -> None:
    channel = Channel(LinkModel(rate=Rayleigh(20 * MEGABIT)), 1)

    def kept_bytes_after(windows: range) -> int:
        for window in windows:
            channel.sample(window)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        minute = kept_bytes_after(range(3_000))
        hour = kept_bytes_after(range(3_000, 3600 * 50, 256))
    finally:
        tracemalloc.stop()
    assert hour - minute < 100_000


def test_other_seeds_give_other_channels() -> None:
    assert Channel(LinkModel(), 1).sample(0) != Channel(LinkModel(), 2).sample(0)


def test_the_origin_moves_the_windows() -> None:
    here = EmulatedLink(LinkModel(), seed=2).send(PAYLOAD_BITS, 0.0)
    there = EmulatedLink(LinkModel(), seed=2, origin_s=1000.0).send(PAYLOAD_BITS, 1000.0)
    assert there.sent_s - 1000.0 == pytest.approx(here.sent_s)
    assert replace(there.airtimes[0], start_s=0.0, duration_s=0.0) == replace(here.airtimes[0], duration_s=0.0)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: Rayleigh(0.0), "sigma_bps = 0.0"),
        (lambda: Rayleigh(math.nan), "sigma_bps = nan"),
        (lambda: Fixed(-1.0), "value = -1.0"),
        (lambda: Gamma(0.0, 1.0), "shape = 0.0"),
        (lambda: GeometricQueue(ratio=1.0), "ratio = 1.0"),
        (lambda: LinkModel(loss=1.0), "loss = 1.0"),
        (lambda: Outage(-1.0, 1.0), "start_s = -1.0"),
        (lambda: EmulatedLink(LinkModel(), horizon_s=0.0), "horizon_s = 0.0"),
    ],
)
def test_impossible_links_are_refused(build: object, reason: str) -> None:
    assert callable(build)
    with pytest.raises(LinkError, match=reason):
        build()


def test_wrong_arguments_are_refused() -> None:
    link = EmulatedLink(LinkModel(), origin_s=5.0)
    with pytest.raises(ValueError, match="bits = nan"):
        link.send(math.nan, 6.0)
    with pytest.raises(ValueError, match=r"starts at 5\.0"):
        link.send(1.0, 4.0)
    with pytest.raises(ValueError, match="counted from 0"):
        link.channel.sample(-1)
