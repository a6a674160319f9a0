"""Rows from outcomes, and the published figures beside them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from carla_bridge.experiment import published
from carla_bridge.experiment.episode import BINS, Episode, Outcome
from carla_bridge.experiment.rows import base_energy_j, energy_by_distance, reweighed, summarise
from carla_bridge.experiment.tables import agreement

LOCAL_J = 0.11348


def outcome(windows: int, energy_j: float, **changes: object) -> Outcome:
    plain = Outcome(
        windows=windows,
        finished=True,
        collisions=0,
        kerb_hits=0,
        off_track=False,
        progress=1.0,
        mean_speed_mps=10.0,
        deviation_m=2.0,
        min_distance_m=4.5,
        energy_j=energy_j,
        exit_scaled_j=0.5 * energy_j,
        local=5,
        offloads=20,
        transit=10,
        idle=60,
        failsafes=2,
        deadline_sum_s=0.05 * windows,
        interventions=windows // 10,
        backups=0,
        uncertified=0,
        bin_windows=(windows,) + (0,) * (BINS - 1),
        bin_energy_j=(energy_j,) + (0.0,) * (BINS - 1),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_row_sums_up_its_episodes() -> None:
    episode = Episode(policy="uniform")
    hit = outcome(300, 300 * LOCAL_J, collisions=1, deviation_m=4.0, min_distance_m=3.0)
    row = summarise(episode, [outcome(100, 10 * LOCAL_J), outcome(100, 20 * LOCAL_J), hit])
    assert (row.episodes, row.collisions, row.min_distance_m) == (3, 1, 3.0)
    assert row.tcr_pct == pytest.approx(200 / 3)
    assert row.center_deviation_m == pytest.approx(8 / 3)
    assert row.energy_vs_local == pytest.approx(330 / 500)
    assert row.energy_mj_per_window == pytest.approx(113.48 * 330 / 500)
    assert row.energy_exit_scaled_mj_per_window == pytest.approx(113.48 * 165 / 500)
    assert row.energy_vs_local_median == pytest.approx(0.2)
    assert row.extra_transit_windows_pct == pytest.approx(6.0)
    assert row.fallbacks_pct == pytest.approx(10.0)
    assert row.deadline_mean_s == pytest.approx(0.05)
    assert row.interventions_pct == pytest.approx(10.0)


def test_several_models_are_measured_against_all_their_runs() -> None:
    assert base_energy_j("uniform") == pytest.approx(LOCAL_J)
    assert base_energy_j("seo-gate") == pytest.approx(1.5 * LOCAL_J)


def test_energy_by_distance_weighed_like_other_windows() -> None:
    bins, spent = [0] * BINS, [0.0] * BINS
    bins[5], bins[20] = 10, 30
    spent[5], spent[20] = 10 * LOCAL_J, 15 * LOCAL_J
    windows, ratios = energy_by_distance(
        "uniform", [outcome(40, 25 * LOCAL_J, bin_windows=tuple(bins), bin_energy_j=tuple(spent))]
    )
    assert (windows[5], windows[20]) == (10, 30)
    assert ratios[5] == pytest.approx(1.0)
    assert ratios[20] == pytest.approx(0.5)
    assert math.isnan(ratios[0])
    assert reweighed(ratios, windows) == pytest.approx(25 / 40)
    elsewhere = [0] * BINS
    elsewhere[4], elsewhere[19] = 1, 1
    assert reweighed(ratios, elsewhere) == pytest.approx(0.75)


def test_the_agreement_is_told_for_published_deadlines_alone() -> None:
    rows = [
        summarise(Episode(policy="uniform", deadline=method), [outcome(100, 100 * 51.465e-3)])  # type: ignore[arg-type]
        for method in ("published", "backup")
    ]
    (line,) = agreement(rows)
    assert line == "uniform, obstacles passed at 4.7 m (our way): 51.5 mJ, published 51.5 mJ, +0.0 %"


def test_the_published_figures_are_those_of_the_source(reference_dir: Path) -> None:
    for agent in range(1, 5):
        lines = (reference_dir / "energyshield" / f"table1_agent_{agent}.csv").read_text().split()[1:]
        ours = published.table1(agent)
        assert len(ours) == len(lines) == 12
        for row, line in zip(ours, lines, strict=True):
            cells = line.split(",")
            assert [row.center_deviation_m, row.tcr_pct, row.energy_mj_per_window] == [
                float(cell) for cell in cells[4:]
            ]
            assert (str(row.shield), str(row.noise)) == (cells[2], cells[3])


def test_the_published_data_are_complete() -> None:
    assert len(published.distances()) == 8
    assert all(len(one.windows) == len(one.energy_vs_local) == BINS for one in published.distances())
    assert [one.link for one in published.wireless()][-1] == "10mbps+50ms"
    assert {one.gain_pct for one in published.seo_gains()} == {11.8, 21.1, 6.6, 14.5, 88.6, 42.9}
