"""The drift monitor: declared false-alarm rate, quick alarm, and the bands it watches."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.observe.drift import Drift, DriftMonitor, ExitBand, Side, _ways_back, monitor_from_record
from runtime.pack.exits.band import share_bands
from runtime.pack.exits.binomial import binomial_cdf
from runtime.pack.exits.certify import certify
from runtime.pack.exits.path import make_path
from tests.runtime.pack_exits.populations import Population, resample

BANDS = (ExitBand("exit1", 0.5, 0.6), ExitBand("exit2", 0.8, 0.9))


def _first_alarm(monitor: DriftMonitor, shares: tuple[float, ...], rng: np.random.Generator, most: int) -> int | None:
    ids = [*(band.exit_id for band in monitor.bands), "final"]
    for sample, exit_index in enumerate(rng.choice(len(ids), size=most, p=shares), start=1):
        if monitor.observe(ids[exit_index]) is not None:
            return sample
    return None


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.6, 0.3, 0.1), (0.55, 0.3, 0.15)])
def test_false_alarms_are_as_rare_as_declared(shares: tuple[float, ...]) -> None:
    """From mean >= N follows P(alarm within n) <= n / N: here within N / 10, at most one run in ten."""
    rng = np.random.default_rng(0)
    runs, length = 60, 100
    alarms = sum(
        _first_alarm(DriftMonitor(BANDS, "final", samples_per_false_alarm=1000.0), shares, rng, length) is not None
        for _ in range(runs)
    )
    assert binomial_cdf(alarms - 1, runs, 0.1) < 1.0 - 1e-4


@given(rate=st.floats(0.0, 1.0), low=st.floats(0.0, 1.0), width=st.floats(0.0, 1.0))
def test_every_ratio_has_mean_at_most_one_within_the_band(rate: float, low: float, width: float) -> None:
    band = ExitBand("exit1", low, min(low + width, 1.0))
    monitor = DriftMonitor([band], "final")
    inside = band.low + rate * (band.high - band.low)
    for watch in monitor._watches:
        assert inside * watch.if_left + (1.0 - inside) * watch.if_not <= 1.0 + 1e-9
    if 0.01 < band.low and band.high < 0.99:
        assert {watch.side for watch in monitor._watches} == {Side.ABOVE, Side.BELOW}


@pytest.mark.parametrize(
    ("shares", "exit_id", "side"),
    [
        ((0.3, 0.55, 0.15), "exit1", Side.BELOW),
        ((0.84, 0.02, 0.14), "exit1", Side.ABOVE),
        ((0.55, 0.05, 0.4), "exit2", Side.BELOW),
        ((0.55, 0.45, 0.0), "exit2", Side.ABOVE),
    ],
)
def test_a_shift_is_noticed_soon_and_named(shares: tuple[float, ...], exit_id: str, side: Side) -> None:
    rng = np.random.default_rng(1)
    monitor = DriftMonitor(BANDS, "final", samples_per_false_alarm=1e6)
    assert _first_alarm(monitor, (0.55, 0.3, 0.15), rng, 2000) is None
    delay = _first_alarm(monitor, shares, rng, 2000)
    assert delay is not None
    assert delay < 400
    drift = monitor.drift
    assert isinstance(drift, Drift)
    assert (drift.exit_id, drift.side, drift.sample) == (exit_id, side, 2000 + delay)
    assert drift.share < drift.band[0] if side is Side.BELOW else drift.share > drift.band[1]


def test_the_flag_stays_until_reset() -> None:
    monitor = DriftMonitor([ExitBand("exit1", 0.4, 0.6)], "final", samples_per_false_alarm=100.0)
    flags = [monitor.observe("final") for _ in range(50)]
    raised = [flag for flag in flags if flag is not None]
    assert len(raised) == 1
    assert monitor.drift == raised[0]
    assert monitor.samples == 50
    assert monitor.shares == {"exit1": 0.0, "final": 1.0}
    monitor.reset()
    assert (monitor.samples, monitor.shares) == (0, {"exit1": 0.0, "final": 0.0})
    assert monitor.observe("exit1") is None


@pytest.mark.parametrize(("out", "side"), [(0.3, Side.BELOW), (0.8, Side.ABOVE)])
def test_the_flag_comes_down_when_the_share_is_back_and_goes_up_again(out: float, side: Side) -> None:
    rng = np.random.default_rng(3)
    monitor = DriftMonitor([ExitBand("exit1", 0.45, 0.65)], "final", samples_per_false_alarm=1e6)
    for _ in range(2):
        assert _first_alarm(monitor, (out, 1.0 - out), rng, 1000) is not None
        assert monitor.drift is not None
        assert monitor.drift.side is side
        assert _first_alarm(monitor, (out, 1.0 - out), rng, 5000) is None
        assert monitor.drift is not None
        assert _first_alarm(monitor, (0.55, 0.45), rng, 2000) is None
        assert monitor.drift is None


@given(rate=st.floats(0.0, 1.0), low=st.floats(0.0, 1.0), width=st.floats(0.0, 1.0), side=st.sampled_from(Side))
def test_no_ratio_against_a_share_that_is_still_out_has_mean_over_one(
    rate: float, low: float, width: float, side: Side
) -> None:
    band = ExitBand("exit1", low, min(low + width, 1.0))
    outside = rate * band.low if side is Side.BELOW else 1.0 - rate * (1.0 - band.high)
    for watch in _ways_back(0, band, side):
        assert outside * watch.if_left + (1.0 - outside) * watch.if_not <= 1.0 + 1e-9


def test_returns_in_error_are_as_rare_as_declared() -> None:
    """As for false alarms, with the share at the band's end: within N / 10, at most one run in ten."""
    rng = np.random.default_rng(4)
    runs, length, returns = 60, 100, 0
    for _ in range(runs):
        monitor = DriftMonitor([ExitBand("exit1", 0.5, 0.6)], "final", samples_per_false_return=1000.0)
        assert _first_alarm(monitor, (0.0, 1.0), rng, 200) is not None
        _first_alarm(monitor, (0.5, 0.5), rng, length)
        returns += monitor.drift is None
    assert binomial_cdf(returns - 1, runs, 0.1) < 1.0 - 1e-4


def test_only_every_kth_sample_counts() -> None:
    monitor = DriftMonitor([ExitBand("exit1", 0.4, 0.6)], "final", every=10)
    for _ in range(95):
        monitor.observe("exit1")
    assert monitor.samples == 9


def test_a_band_over_everything_never_alarms() -> None:
    monitor = DriftMonitor([ExitBand("exit1", 0.0, 1.0)], "final", samples_per_false_alarm=1.0)
    assert all(monitor.observe("final") is None for _ in range(1000))


@pytest.mark.parametrize("nested", [True, False])
def test_bands_hold_the_true_shares(nested: bool) -> None:
    rng = np.random.default_rng(2)
    population, path = Population().draw(20_000, rng), make_path(Population().draw(300, rng))
    runs, misses = 200, 0
    for _ in range(runs):
        drawn = resample(population, 300, rng)
        thresholds = certify(path, drawn, 0.05, 0.1).thresholds
        bands = share_bands(drawn, thresholds, 0.1, nested=nested)
        leaves = population.leaves_at(thresholds)
        true = [float(np.mean(leaves <= e)) for e in range(2)]
        misses += any(not low <= share <= high for share, (low, high) in zip(true, bands, strict=True))
    assert binomial_cdf(misses - 1, runs, 0.1) < 1.0 - 1e-4


def test_a_monitor_comes_from_a_calibration_record() -> None:
    table = {"id": "exit1", "left_by_low": 0.4, "left_by_high": 0.6}
    monitor = monitor_from_record({"exits": [table]}, ["exit1", "final"], samples_per_false_alarm=50.0)
    assert monitor is not None
    assert monitor.bands == (ExitBand("exit1", 0.4, 0.6),)
    assert monitor_from_record({}, ["final"]) is None
    with pytest.raises(ValueError, match="about exits"):
        monitor_from_record({"exits": [table]}, ["exit2", "final"])
    with pytest.raises(ValueError, match="lacks a band"):
        monitor_from_record({"exits": [{"id": "exit1"}]}, ["exit1", "final"])


def test_misuse_is_told() -> None:
    with pytest.raises(ValueError, match=r"band 0\.7\.\.0\.6"):
        ExitBand("exit1", 0.7, 0.6)
    with pytest.raises(ValueError, match="named once"):
        DriftMonitor(BANDS, "exit1")
    with pytest.raises(ValueError, match="at least one band"):
        DriftMonitor([], "final")
    with pytest.raises(ValueError, match="every = 0: must be finite"):
        DriftMonitor(BANDS, "final", every=0)
    with pytest.raises(ValueError, match="'exit9' is not one of"):
        DriftMonitor(BANDS, "final").observe("exit9")


def test_bands_reach_as_far_as_the_inequalities_say() -> None:
    drawn = Population().draw(1000, np.random.default_rng(5))
    thresholds = np.median(drawn.scores, axis=1)
    leaves = drawn.leaves_at(thresholds)
    for nested, factors in ((True, (8.0, 8.0)), (False, (1001.0, 2002.0))):
        bands = share_bands(drawn, thresholds, 0.05, nested=nested)
        for exit_index, (band, factor) in enumerate(zip(bands, factors, strict=True)):
            share = float(np.mean(leaves <= exit_index))
            reach = (log(2 * factor / 0.05) / 2000) ** 0.5  # two exits share delta
            assert band == pytest.approx((share - reach, share + reach))
