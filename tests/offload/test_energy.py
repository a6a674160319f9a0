"""The energy account of windows."""

import math

import pytest

from offload.energy import WindowEnergy
from offload.link import Airtime
from offload.radio import MEGABIT, load_radio

LOCAL_J = 16.211e-3 * 7.0


def test_local_windows_cost_the_published_energy() -> None:
    account = WindowEnergy(LOCAL_J, load_radio("wifi"))
    for _ in range(10):
        account.window()
        account.local(mac_share=0.25)
    totals = account.totals()
    assert totals.mj_per_window == pytest.approx(113.477)
    assert totals.exit_scaled_mj_per_window == pytest.approx(113.477 / 4)
    assert totals.saved_pct == pytest.approx(0.0)


def test_sending_costs_its_airtime_and_idling_nothing() -> None:
    account = WindowEnergy(LOCAL_J, load_radio("wifi"))
    for _ in range(4):
        account.window()
    account.sent([Airtime(0, 0.0, 0.02, 20 * MEGABIT), Airtime(1, 0.02, 0.005, 10 * MEGABIT)])
    millijoule = (283.17 * 20 + 132.86) * 0.02 + (283.17 * 10 + 132.86) * 0.005
    assert account.totals().mj_per_window == pytest.approx(millijoule / 4)
    assert account.totals().saved_pct == pytest.approx(100.0 * (1.0 - millijoule / 4 / 113.477))


def test_no_more_than_a_window_is_charged_in_a_window() -> None:
    account = WindowEnergy(LOCAL_J, load_radio("wifi"))
    account.window()
    account.sent([Airtime(0, 0.0, 0.0200001, 0.0)])
    assert account.totals().radio_j == pytest.approx(132.86e-3 * 0.02, rel=1e-12)


def test_an_empty_account_has_no_mean() -> None:
    assert math.isnan(WindowEnergy(LOCAL_J, load_radio("wifi")).totals().mj_per_window)


def test_impossible_figures_are_refused() -> None:
    with pytest.raises(ValueError, match="local_energy_j = nan"):
        WindowEnergy(math.nan, load_radio("wifi"))
    with pytest.raises(ValueError, match=r"mac_share = 0\.0"):
        WindowEnergy(LOCAL_J, load_radio("wifi")).local(0.0)
