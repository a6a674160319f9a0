"""What a verification writes down: every claim from made-up outcomes, what is resumed, and who runs what."""

import json
import os
import platform
import signal
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("flint")

import flint

from shield.backup.question import MARGIN_M, MARGIN_RELATIVE
from shield.certificate import CELLS as GUARD_CELLS
from shield.certificate import Claim, identify
from shield.events import GRAZE
from shield.hold import DISTANCE_MARGIN_M, VALUE_MARGIN
from shield.vehicle import Bounds, Vehicle, load_vehicle
from shield.verify import run
from shield.verify.cells import PRECISION_BITS
from shield.verify.claims import SLOPE_MARGIN
from shield.verify.event import SLACK_M
from shield.verify.units import (
    CELLS,
    DEADLINES,
    EVERYWHERE,
    Outcome,
    Settings,
    domain,
    left_out,
    ring_cells,
    unit_names,
)

CONFIG = load_vehicle("config1")
PLAIN = replace(CONFIG, barrier=None)
SMALL = Settings(cells=(3, 2, 2), states=0, halvings=1)


def proved(unit: str, cells: int = 4, states: int = 2, **more: Any) -> Outcome:
    return Outcome(unit, "proved", cells, states, **more)


# One claim.


def test_a_claim_is_proved_when_all_of_its_units_are() -> None:
    outcomes = [proved("everywhere/0"), proved("everywhere/1", 5, 3), proved("deadlines/0", 100, 100)]
    found = run._claim(CONFIG, EVERYWHERE, outcomes)
    assert asdict(found) == asdict(Claim("proved", 9, 5))


@pytest.mark.parametrize("result", ["refuted", "undecided"])
def test_the_first_failure_is_what_a_claim_comes_to(result: str) -> None:
    outcomes = [
        proved("everywhere/0"),
        Outcome("everywhere/1", result, 5, 3, [[1.0, 2.0]]),
        Outcome("everywhere/2", "undecided", 6, 4, [[3.0, 4.0]]),
        Outcome("deadlines/0", "refuted", 7, 7, [9.0]),
    ]
    assert asdict(run._claim(CONFIG, EVERYWHERE, outcomes)) == asdict(Claim(result, 15, 9, [[1.0, 2.0]]))
    alone = run._claim(CONFIG, EVERYWHERE, outcomes[1:2])
    assert asdict(alone) == asdict(Claim(result, 5, 3, [[1.0, 2.0]]))


def test_a_claim_that_is_not_looked_at_says_why() -> None:
    seen = replace(CONFIG, bounds=Bounds(field_of_view_rad=1.0))
    for vehicle, name, why in (
        (CONFIG, EVERYWHERE, "not looked at"),
        (PLAIN, EVERYWHERE, "not looked at"),
        (PLAIN, "inclusion", "the vehicle has no [barrier]"),
        (CONFIG, "inclusion", "the bounds move or hide the one static disc that a barrier is about; "),
        (seen, DEADLINES, f"the vehicle declares {', '.join(left_out(seen))}"),
    ):
        claim = run._claim(vehicle, name, [])
        assert (claim.result, claim.cells, claim.states) == ("not covered", 0, 0)
        assert claim.note.startswith(why)


# Whole cells.


def test_whole_cells_are_added_up_by_method() -> None:
    volumes = [float(ring_cells(CONFIG, SMALL, ring).volume().sum()) for ring in range(3)]
    outcomes = [
        proved("cells/barrier/0", 4, 1, volume=volumes[0]),
        Outcome("cells/barrier/1", "partly proved", 4, 2, None, 0.5 * volumes[1], [0, 1, 3]),
        proved("cells/backup/2", 4, 3, volume=volumes[2]),
        proved("everywhere/0", 50, 50),
    ]
    claim = run._cells_claim(CONFIG, SMALL, outcomes)
    share = (volumes[0] + 0.5 * volumes[1]) / (volumes[0] + volumes[1])
    assert (claim.result, claim.cells, claim.states, claim.counter_example) == ("partly proved", 12, 6, None)
    assert claim.whole == {
        "barrier": {
            "whole_cells": 5,
            "of": 8,
            "volume_share": round(share - 5e-7, 6),
            "open_cells": {"0": "", "1": "0-1,3"},
        },
        "backup": {"whole_cells": 4, "of": 4, "volume_share": round(1.0 - 5e-7, 6), "open_cells": {"2": ""}},
    }
    assert list(claim.whole) == ["barrier", "backup"]
    assert claim.whole["backup"]["volume_share"] <= 1.0
    assert claim.note == (
        f"barrier: {round(share - 5e-7, 6):.2%} of the volume, 5 of 8 cells whole; "
        f"backup: {round(1.0 - 5e-7, 6):.2%} of the volume, 4 of 4 cells whole"
    )
    assert run._cells_claim(CONFIG, SMALL, [outcomes[0], outcomes[2]]).result == "proved"
    (only,) = run._cells_claim(CONFIG, SMALL, [outcomes[2]]).whole  # no ring of the first method: the second counts
    assert only == "backup"


def test_a_share_of_the_volume_is_rounded_down() -> None:
    volume = float(ring_cells(CONFIG, SMALL, 0).volume().sum())
    claim = run._cells_claim(CONFIG, SMALL, [proved("cells/backup/0", volume=0.9999999 * volume)])
    assert claim.whole["backup"]["volume_share"] == 0.999999
    claim = run._cells_claim(CONFIG, SMALL, [proved("cells/backup/0", volume=0.1234567 * volume)])
    assert claim.whole["backup"]["volume_share"] == 0.123456


def test_a_refuted_ring_refutes_the_whole_claim() -> None:
    outcomes = [
        proved("cells/barrier/0"),
        Outcome("cells/barrier/1", "refuted", 5, 3, [7.0, 0.1, 0.2]),
        Outcome("cells/backup/1", "refuted", 6, 4, [8.0, 0.1, 0.2]),
    ]
    found = run._cells_claim(CONFIG, SMALL, outcomes)
    assert asdict(found) == asdict(Claim("refuted", 15, 9, [7.0, 0.1, 0.2]))


def test_whole_cells_that_are_not_looked_at_say_why() -> None:
    for vehicle, why in ((CONFIG, "rings not looked at; see "), (PLAIN, "the vehicle declares brakes, errors, delays")):
        claim = run._cells_claim(vehicle, SMALL, [proved("everywhere/0")])
        assert (claim.result, claim.cells, claim.states) == ("not covered", 0, 0)
        assert claim.note.startswith(why)


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([], ""),
        ([0], "0"),
        ([0, 1, 2, 3, 7], "0-3,7"),
        ([1, 3, 5, 6], "1,3,5-6"),
        ([4, 5, 9, 10, 11, 20], "4-5,9-11,20"),
        ([2, 4], "2,4"),
    ],
)
def test_open_cells_are_listed_by_ranges(indices: list[int], text: str) -> None:
    assert run._ranges(indices) == text


# The certificate.


def test_what_a_certificate_holds() -> None:
    outcomes = [proved(unit, 1, 0, volume=1.0) for unit in unit_names(CONFIG, SMALL)]
    found = run.assemble(CONFIG, SMALL, outcomes)
    r, xi, beta = (list(side) for side in domain(CONFIG, SMALL))
    told = "one disc, its radius and the vehicle's together the smallest r_m of the domain; it stands still unless "
    assert found.domain == {
        "r_m": r,
        "xi_rad": xi,
        "beta_rad": beta,
        "obstacles": f"{told}obstacle_speed_mps is declared",
        **asdict(SMALL),
        "cells": [3, 2, 2],
    }
    assert found.margins == {
        "grazing": GRAZE,
        "barrier_value_1pm": VALUE_MARGIN,
        "barrier_distance_m": DISTANCE_MARGIN_M,
        "backup_radius_m": MARGIN_M,
        "backup_radius_relative": MARGIN_RELATIVE,
        "admissible_slope_1pm2": SLOPE_MARGIN,
        "whole_cells_m": SLACK_M,
    }
    assert found.versions == run.versions()
    assert found.sources == run.sources()
    assert set(found.claims) == {"admissible", "inclusion", "rounding", EVERYWHERE, DEADLINES, CELLS}
    assert {claim.result for claim in found.claims.values()} == {"proved"}
    assert found.id == identify(found.content())
    assert found.id != identify(replace(found, margins={}).content())
    assert len(GUARD_CELLS) == 3


def test_versions_that_a_result_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "python-flint": flint.__version__,
        "flint": flint.__FLINT_VERSION__,
        "precision_bits": str(PRECISION_BITS),
    }
    monkeypatch.setattr(run, "version", {"headway": "1.2.3"}.__getitem__)
    assert run.versions() == {"headway": "1.2.3", **others}

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(run, "version", absent)
    assert run.versions() == {"headway": "not installed", **others}


# What is resumed.


def kept_by(path: Path, vehicle: Vehicle, settings: Settings, *outcomes: Outcome) -> None:
    run._picked_up(path, vehicle, settings)
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes)


def test_only_the_same_question_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress"
    first, second = proved("rounding"), Outcome("everywhere/0", "undecided", 3, 1, [[1.0, 2.0]])
    kept_by(path, CONFIG, SMALL, first, second)
    header = json.loads(path.read_text().splitlines()[0])
    assert header == {
        "vehicle": CONFIG.fingerprint(),
        "settings": {**asdict(SMALL), "cells": [3, 2, 2]},
        "versions": run.versions(),
        "sources": run.sources(),
    }
    with path.open("a") as stream:
        stream.write('{"unit": "deadli')
    assert run._picked_up(path, CONFIG, SMALL) == {"rounding": first, "everywhere/0": second}
    # what is left can be appended to, and says the same again
    assert path.read_text().count("\n") == 3
    assert run._picked_up(path, CONFIG, SMALL) == {"rounding": first, "everywhere/0": second}
    others: list[tuple[Vehicle, Settings]] = [
        (replace(CONFIG, v_max_mps=CONFIG.v_max_mps + 1.0), SMALL),
        (CONFIG, replace(SMALL, seed=5)),
    ]
    for vehicle, settings in others:
        kept_by(path, CONFIG, SMALL, first)
        assert run._picked_up(path, vehicle, settings) == {}
        assert len(path.read_text().splitlines()) == 1
    for name in ("versions", "sources"):
        kept_by(path, CONFIG, SMALL, first)
        with monkeypatch.context() as patch:
            patch.setattr(run, name, lambda: {"other": "1"})
            assert run._picked_up(path, CONFIG, SMALL) == {}


def test_a_verification_goes_on_with_what_is_kept_and_keeps_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "progress"
    units = unit_names(CONFIG, SMALL)
    kept_by(path, CONFIG, SMALL, *(proved(unit) for unit in units[:4]))
    asked: list[list[str]] = []
    lines: list[int] = []

    def ran(vehicle: Vehicle, settings: Settings, todo: Any, workers: int | None = None) -> Any:
        assert (vehicle, settings, workers) == (CONFIG, SMALL, 3)
        asked.append(list(todo))
        for unit in reversed(todo):
            yield proved(unit, volume=1.0)

    monkeypatch.setattr(run, "run_units", ran)
    counted: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        counted.append((done, of))
        lines.append(len(path.read_text().splitlines()))

    found = run.verify(CONFIG, SMALL, progress_file=path, workers=3, progress=progress)
    assert asked == [units[4:]]
    assert counted == [(done, len(units)) for done in range(5, len(units) + 1)]
    assert lines == [done + 1 for done in range(5, len(units) + 1)]
    assert not path.exists()
    assert found.claims["rounding"].result == "proved"

    def taken_away(done: int, of: int) -> None:
        path.unlink(missing_ok=True)

    assert run.verify(CONFIG, SMALL, progress_file=path, workers=3, progress=taken_away).id == found.id
    asked.clear()
    assert run.verify(CONFIG, SMALL, workers=3).id == found.id
    assert asked == [units]


# Who runs what.


class Pool:
    """Processes that run at once what they are given, and note it."""

    made: ClassVar["list[Pool]"] = []

    def __init__(self, count: int, mp_context: Any = None, initializer: Callable[[], None] | None = None) -> None:
        self.count, self.context, self.initializer = count, mp_context, initializer
        self.given: list[tuple[Any, ...]] = []
        self.waiting = self.most = 0
        self.closed: list[tuple[bool, bool]] = []
        Pool.made.append(self)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Outcome], *given: Any) -> "Future[Outcome]":
        self.given.append((work, *given))
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        future: Future[Outcome] = Future()
        future.set_result(proved(given[-1]))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed.append((wait, cancel_futures))


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Pool]:
    Pool.made = []
    monkeypatch.setattr(run, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(run, "run_unit", lambda vehicle, settings, unit: proved(unit))

    def waited(futures: Any, timeout: float | None = None, return_when: str = "ALL_COMPLETED") -> Any:
        assert return_when == "FIRST_COMPLETED"
        one = next(iter(futures))
        Pool.made[-1].waiting -= 1
        return {one}, set(futures) - {one}

    monkeypatch.setattr(run, "wait", waited)
    return Pool.made


@pytest.mark.parametrize(
    ("workers", "cores", "units", "count"),
    [(1, 8, 9, 1), (None, 1, 9, 1), (None, None, 9, 1), (3, 1, 9, 3), (None, 2, 9, 2), (5, 8, 2, 2), (4, 8, 0, 1)],
)
def test_as_many_processes_as_asked_for_or_cores_or_units(
    pools: list[Pool],
    monkeypatch: pytest.MonkeyPatch,
    workers: int | None,
    cores: int | None,
    units: int,
    count: int,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    names = [f"everywhere/{index}" for index in range(units)]
    found = list(run.run_units(CONFIG, SMALL, names, workers))
    assert sorted(outcome.unit for outcome in found) == names
    assert [pool.count for pool in pools] == ([] if count == 1 else [count])


def test_units_are_handed_out_a_few_at_a_time_and_the_rest_is_cancelled(pools: list[Pool]) -> None:
    names = [f"everywhere/{index}" for index in range(30)]
    found = list(run.run_units(CONFIG, SMALL, names, 2))
    (pool,) = pools
    assert sorted(outcome.unit for outcome in found) == sorted(names)
    assert pool.given == [(vars(run)["run_unit"], CONFIG, SMALL, name) for name in names]
    assert pool.most == 8
    assert pool.closed == [(True, True)]
    assert pool.context.get_start_method() == "spawn"
    assert pool.initializer is run._leave_interrupts_to_the_parent
    stopped = run.run_units(CONFIG, SMALL, names, 2)
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]
    assert pools[-1].closed == [(True, True)]
    assert len(pools[-1].given) == 8


def test_workers_leave_interrupts_to_the_parent() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        run._leave_interrupts_to_the_parent()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
