"""The work of walks, and heads that are not worth theirs."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from devices.package import Package
from runtime.pack.exits.choose import Choice
from runtime.pack.exits.evidence import Evidence
from runtime.pack.exits.work import close_idle_heads, walk_costs
from tests.models import write_exit_package


def _with_work(package: Package, work: dict[str, int]) -> Package:
    return replace(package, segments=tuple(replace(s, macs=work.get(s.id, 0)) for s in package.segments))


def test_costs_are_those_of_the_walk_with_the_kept_heads(tmp_path: Path) -> None:
    work = {"trunk1": 10, "trunk2": 20, "trunk3": 40, "head1": 1, "head2": 2, "head3": 4}
    package = _with_work(write_exit_package(tmp_path / "p"), work)
    np.testing.assert_array_equal(walk_costs(package, [0, 1]), [11, 33, 77])
    np.testing.assert_array_equal(walk_costs(package, [1]), [32, 76])
    np.testing.assert_array_equal(walk_costs(package, []), [74])


def test_uncountable_work_counts_segments(tmp_path: Path) -> None:
    package = _with_work(write_exit_package(tmp_path / "p"), {"head1": 500})
    np.testing.assert_array_equal(walk_costs(package, [0, 1]), [1, 2, 4])


def test_a_head_that_saves_less_than_it_costs_is_closed(tmp_path: Path) -> None:
    package = _with_work(write_exit_package(tmp_path / "p"), {"trunk1": 10, "trunk2": 10, "trunk3": 10, "head2": 9})
    rng = np.random.default_rng(0)
    scores = np.stack([rng.random(200), rng.random(200)])
    evidence = Evidence(scores, (0, 1), np.zeros((2, 200), bool), walk_costs(package, [0, 1]))
    for at_exit_2, kept in ((0.5, (0,)), (0.02, (0, 1))):  # head 2 pays only where most of those who reach it leave
        choice = Choice(np.array([0.5, at_exit_2]), ("", ""), {})
        closed = close_idle_heads(choice, evidence, package)
        assert closed.open_exits == kept
        assert np.isposinf(closed.thresholds[1]) == (kept == (0,))
    assert "saves" in close_idle_heads(Choice(np.array([0.5, 0.5]), ("", ""), {}), evidence, package).closed[1]
