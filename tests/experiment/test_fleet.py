"""Fleets on one cell: shared airtime, earliest deadlines first, and the admission rule that keeps it from collapse."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carla_bridge.fleet.cell import Cell
from carla_bridge.fleet.edge import Edge
from carla_bridge.fleet.simulate import Fleet, FleetRow, Simulation
from offload.radio import load_radio

LOCAL_J = 0.11348
SMALL = Fleet(60, True, LOCAL_J, streams=4.0, servers=1, duration_s=2.0)


def run(fleet: Fleet) -> FleetRow:
    return Simulation(fleet, load_radio("wifi")).run()


def ends(cell: Cell, sender: int, time_s: float) -> bool:
    """Return whether `sender` is the next to end, at `time_s` [s]."""
    end_s, ended = cell.next_end()
    return ended == sender and math.isclose(end_s, time_s)


def test_airtime_is_shared_equally() -> None:
    cell = Cell(streams=1.0)
    cell.start(1, 0.1)
    assert ends(cell, 1, 0.1)
    cell.move_to(0.05)
    cell.start(2, 0.1)  # from here on each gets half: the first ends at .05 + .05 * 2
    assert ends(cell, 1, 0.15)
    cell.move_to(0.15)
    assert cell.stop(1) == pytest.approx(0.1)
    assert ends(cell, 2, 0.2)
    cell.move_to(0.2)
    assert cell.stop(2) == pytest.approx(0.1)
    assert cell.busy_s == pytest.approx(0.2)
    assert cell.next_end() == (math.inf, -1)


def test_who_gives_up_frees_the_air() -> None:
    cell = Cell(streams=1.0)
    cell.start(1, 0.1)
    cell.start(2, 1.0)
    cell.move_to(0.1)
    assert cell.stop(1) == pytest.approx(0.05)
    assert ends(cell, 2, 1.05)
    cell.start(1, 0.3)  # again, in its next interval: the first transmission's end is forgotten
    assert ends(cell, 1, 0.7)
    with pytest.raises(ValueError, match="sender 1 sends already"):
        cell.start(1, 0.1)


@given(st.floats(0.5, 5.0), st.lists(st.floats(0.001, 0.2), min_size=1, max_size=12))
def test_senders_end_as_a_stepwise_simulation_says(streams: float, airtimes_s: list[float]) -> None:
    cell = Cell(streams)
    for sender, airtime_s in enumerate(airtimes_s):
        cell.start(sender, airtime_s)
    left = dict(enumerate(airtimes_s))
    now_s = 0.0
    while left:
        share = min(1.0, streams / len(left))
        sender = min(left, key=lambda one: (left[one], one))
        now_s += left[sender] / share
        left = {one: rest - left[sender] for one, rest in left.items() if one != sender}
        end_s, ended = cell.next_end()
        assert ended == sender
        assert end_s == pytest.approx(now_s, abs=1e-9)
        cell.move_to(end_s)
        cell.stop(ended)


def test_the_edge_computes_the_most_urgent_first_and_nothing_late() -> None:
    edge = Edge(servers=1, fixed_s=0.004, each_s=0.001, most=2)
    for request, deadline_s in ((1, 0.1), (2, 0.05), (3, 0.004), (4, 0.2)):
        edge.put(request, deadline_s)
    first = edge.start(0.0)
    assert first is not None
    assert first.requests == (2, 1)
    assert first.end_s == pytest.approx(0.006)
    assert edge.dropped == 1
    assert edge.start(0.0) is None
    edge.finish()
    last = edge.start(0.006)
    assert last is not None
    assert last.requests == (4,)
    assert edge.busy_s == pytest.approx(0.011)


def test_a_batch_is_no_larger_than_its_first_deadline_allows() -> None:
    edge = Edge(servers=1, fixed_s=0.004, each_s=0.001, most=8)
    for request in range(6):
        edge.put(request, 0.0065 if request == 0 else 1.0)
    batch = edge.start(0.0)
    assert batch is not None
    assert len(batch.requests) == 2


def test_a_small_fleet_is_served_whole() -> None:
    for admission in (False, True):
        row = run(replace(SMALL, vehicles=5, admission=admission))
        assert row.offloaded_pct > 97.0
        assert row.fallbacks_pct < 1.0
        assert row.energy_vs_no_edge < 0.8


def test_admission_keeps_a_large_fleet_from_collapse() -> None:
    flood, admitted = run(replace(SMALL, vehicles=400, admission=False)), run(replace(SMALL, vehicles=400))
    assert flood.answers_per_s < 20.0
    assert flood.fallbacks_pct > 90.0
    assert flood.energy_vs_no_edge > 1.0
    assert admitted.answers_per_s > 150.0
    assert admitted.fallbacks_pct < 2.0
    assert admitted.energy_vs_no_edge < 1.0
    assert admitted.wasted_airtime_pct < 2.0


def test_the_same_seed_gives_the_same_fleet() -> None:
    assert run(SMALL) == run(SMALL)
    assert run(SMALL) != run(replace(SMALL, seed=2))


def test_shares_and_prices_add_up() -> None:
    row = run(replace(SMALL, vehicles=100))
    assert row.offloaded_pct + row.refused_pct <= 100.5
    assert 0.0 < row.cell_utilisation_pct <= 100.0 + 1e-9
    assert 0.0 < row.edge_utilisation_pct <= 101.0
    assert row.server_price_per_vehicle_h == pytest.approx(0.01)
    assert row.server_price_per_million_answers == pytest.approx(1e6 / 3600.0 / row.answers_per_s)
    assert row.as_json()["vehicles"] == 100


def test_impossible_fleets_are_refused() -> None:
    for changes in ({"vehicles": 0}, {"interval_windows": 1}, {"streams": 0.0}, {"rate_mbps": math.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(changes))} = "):
            replace(SMALL, **changes)
    with pytest.raises(ValueError, match="servers = 0"):
        Edge(0, 0.0, 0.001, 1)
    with pytest.raises(ValueError, match=r"streams = nan"):
        Cell(math.nan)
