"""What each unit of a verification asks of the proofs, and how it writes down what became of it."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("flint")

from shield.deadline import Certificate, Deadline, Method
from shield.manoeuvre import grip_slip_rad
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle
from shield.verify import units
from shield.verify.cells import Cell, Verdict
from shield.verify.deadlines import reference_radius_m
from shield.verify.units import Outcome, Settings, column_cells, domain, ring_cells, run_unit, states_of, unit_names
from shield.verify.whole import Boxes, Ring

CONFIG1, DEMO, CAR = load_vehicle("config1"), load_vehicle("demo"), load_vehicle("passenger_car")
SMALL = Settings(cells=(3, 4, 2), states=2, cap_s=3.0, whole_cap_s=2.5, halvings=5)
NONE = Deadline(0.0, 0.0, "cap", None, Certificate((), None, 0.0, 0.0, ""), True)


@pytest.mark.parametrize(
    ("verdict", "result"),
    [(Verdict.TRUE, "proved"), (Verdict.FALSE, "refuted"), (Verdict.UNDECIDED, "undecided")],
)
def test_a_claim_says_what_became_of_it_and_where(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, result: str
) -> None:
    box = ((0.0, 1.0), (2.0, 4.0))
    asked: list[Vehicle] = []

    def decide(vehicle: Vehicle, _cell: Cell) -> Verdict:
        asked.append(vehicle)
        return verdict

    monkeypatch.setattr(units, "LEAST_WIDTH", 0.5)
    monkeypatch.setitem(units.CLAIMS, "rounding", (lambda _: box, decide))
    outcome = run_unit(DEMO, SMALL, "rounding")
    assert set(asked) == {DEMO}
    assert (outcome.unit, outcome.result, outcome.cells, outcome.states) == ("rounding", result, len(asked), 0)
    if verdict is Verdict.TRUE:
        assert outcome.counter_example is None
    elif verdict is Verdict.FALSE:
        assert outcome.counter_example == [[0.0, 1.0], [2.0, 4.0]]
    else:
        assert [high - low for low, high in outcome.counter_example] == [0.5, 1.0]


@pytest.mark.parametrize("vehicle", [CONFIG1, CAR], ids=lambda item: item.name)
def test_rings_are_geometric_and_meet(vehicle: Vehicle) -> None:
    (near, far), xi, beta = domain(vehicle, SMALL)
    assert (near, far) == (reference_radius_m(vehicle), 60.0)
    assert (xi, beta) == ((-math.pi, math.pi), (-grip_slip_rad(vehicle), grip_slip_rad(vehicle)))
    rings = [units._ring(vehicle, SMALL, ring) for ring in range(3)]
    assert rings[0][0] == near
    assert rings[-1][1] == far
    for (_, end), (start, _) in pairwise(rings):
        assert end == start
    assert [end / start for start, end in rings] == pytest.approx([(far / near) ** (1.0 / 3.0)] * 3)


def test_the_outermost_ring_ends_where_the_domain_does() -> None:
    wide, settings = replace(CAR, radius_m=1.3), replace(SMALL, farthest_m=26.6)
    assert 3.3 * (26.6 / 3.3) != 26.6  # as it would come out of the steps
    assert units._ring(wide, settings, 2)[1] == 26.6


def test_columns_are_the_rings_by_sectors() -> None:
    cells = [column_cells(CONFIG1, SMALL, column) for column in range(12)]
    assert [len(column) for column in cells] == [2] * 12
    for column, own in enumerate(cells):
        ring, sector = divmod(column, 4)
        assert {cell[0] for cell in own} == {units._ring(CONFIG1, SMALL, ring)}
        low, high = own[0][1]
        assert (low, high) == pytest.approx(
            (-math.pi + 0.5 * math.pi * sector, -0.5 * math.pi + 0.5 * math.pi * sector)
        )
        assert own[0][2][0] == -grip_slip_rad(CONFIG1)
        assert own[0][2][1] == own[1][2][0]
        assert own[1][2][1] == grip_slip_rad(CONFIG1)


def test_states_are_the_centre_and_seeded_ones_of_their_own() -> None:
    cell = ((4.0, 5.0), (1.0, 1.5), (-0.25, 0.0))
    found = states_of(cell, SMALL, 1)
    assert len(found) == 3
    assert found[0] == (4.5, 1.25, -0.125)
    assert all(low < value < high for state in found for value, (low, high) in zip(state, cell, strict=True))
    assert found == states_of(cell, SMALL, 1)
    # a certificate is checked again with the states it was made with, whatever the version of this code
    assert found[1] == pytest.approx((4.153990682251761, 1.4137020848583202, -0.16689574689808445))
    assert units._measured(CAR, SMALL, 1, cell, 1) == pytest.approx(2.1067114912592073)
    others = [
        states_of(cell, SMALL, 2),
        states_of(cell, replace(SMALL, seed=2), 1),
        states_of((*cell[:2], (-0.125, 0.0)), SMALL, 1),
    ]
    assert all(other[1] != found[1] for other in others)


def test_half_a_ring_is_looked_at_from_xi_zero() -> None:
    boxes = ring_cells(CONFIG1, replace(SMALL, cells=(3, 5, 2)), 1)
    assert len(boxes) == 3 * 2
    low, high = units._ring(CONFIG1, SMALL, 1)
    assert boxes.r.tolist() == pytest.approx([0.5 * (low + high)] * 6)
    assert boxes.dr.tolist() == pytest.approx([0.5 * (high - low)] * 6)
    assert sorted(set(boxes.xi.tolist())) == pytest.approx([math.pi / 6.0 * k for k in (1, 3, 5)])
    assert boxes.dxi.tolist() == pytest.approx([math.pi / 6.0] * 6)
    slip = grip_slip_rad(CONFIG1)
    assert sorted(set(boxes.beta.tolist())) == pytest.approx([-0.5 * slip, 0.5 * slip])
    assert boxes.dbeta.tolist() == pytest.approx([0.5 * slip] * 6)
    for start, half, first, last in (
        (boxes.r, boxes.dr, low, high),
        (boxes.xi, boxes.dxi, 0.0, math.pi),
        (boxes.beta, boxes.dbeta, -slip, slip),
    ):
        assert float((start - half).min()) <= first
        assert float((start + half).max()) >= last


def test_every_cell_of_a_ring_is_asked_about_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, Cell]] = []
    answers: dict[int, Verdict] = {}

    def decide(vehicle: Vehicle, cap_m: float, cell: Cell) -> Verdict:
        assert vehicle is DEMO
        asked.append((cap_m, cell))
        return answers.get(len(asked), Verdict.TRUE)

    monkeypatch.setattr(units, "decide", decide)
    assert run_unit(DEMO, SMALL, "everywhere/1") == Outcome("everywhere/1", "proved", 8)
    assert {cap_m for cap_m, _ in asked} == {3.0 * DEMO.v_max_mps}
    own = [cell for column in range(4, 8) for cell in column_cells(DEMO, SMALL, column)]
    assert sorted(cell for _, cell in asked) == sorted(own)
    # the third cell stays undecided, then one of its halves, down to the smallest share of each side
    asked.clear()
    answers.update(dict.fromkeys(range(3, 99), Verdict.UNDECIDED))
    left = run_unit(DEMO, SMALL, "everywhere/1")
    assert (left.unit, left.result, left.cells, left.states) == ("everywhere/1", "undecided", len(asked), 0)
    assert left.cells == 2 + 10  # three halvings of each of three sides
    assert left.counter_example == [list(side) for side in asked[-1][1]]
    monkeypatch.setattr(units, "own_forms", lambda: "line")
    wrong = run_unit(DEMO, SMALL, "everywhere/0")
    assert wrong == Outcome("everywhere/0", "refuted", 0, counter_example={"formula": "line"})


def test_a_ring_of_cells_is_proved_with_the_codes_own_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    found = Ring(7, 5, 1.5, [], None)

    def prove_ring(vehicle: Vehicle, method: Method, cells: Boxes, cap_m: float, floor: float, ask: Any) -> Ring:
        assert ask(State(9.0, 1.0, 0.0, 0.1)) is NONE
        asked.append((vehicle, method, len(cells), float(cells.r[0]), cap_m, floor))
        return found

    def tolerable(method: Method, vehicle: Vehicle, state: State, discs: list[Disc], cap_s: float) -> Deadline:
        assert (vehicle, state, discs) == (CONFIG1, State(9.0, 1.0, 0.0, 0.1), [Disc(0.0, 0.0, 4.0)])
        assert cap_s == 2.5
        asked.append((method,))
        return NONE

    monkeypatch.setattr(units, "prove_ring", prove_ring)
    monkeypatch.setattr(units, "tolerable_deadline", tolerable)
    outermost = ring_cells(CONFIG1, SMALL, 2)
    outcome = run_unit(CONFIG1, SMALL, "cells/backup/1")
    assert asked[0] == (Method.BACKUP,)
    vehicle, method, count, r_m, cap_m, floor = asked[1]
    assert (vehicle, method, count, cap_m) == (CONFIG1, Method.BACKUP, 4, 2.5 * CONFIG1.v_max_mps)
    assert r_m == ring_cells(CONFIG1, SMALL, 1).r[0]
    assert floor == pytest.approx(float(outermost.volume().max()) / 32.0)
    assert outcome == Outcome("cells/backup/1", "proved", 4, 5, None, 1.5, [])
    found = replace(found, open_cells=[1, 3])
    assert run_unit(CONFIG1, SMALL, "cells/barrier/0") == Outcome(
        "cells/barrier/0", "partly proved", 4, 5, None, 1.5, [1, 3]
    )
    assert asked[-1][1] is Method.BARRIER
    found = replace(found, contradiction=(9.0, 1.0, 0.5))
    example = {"method": "barrier", "r_m": 9.0, "xi_rad": 1.0, "beta_rad": 0.5}
    assert run_unit(CONFIG1, SMALL, "cells/barrier/0") == Outcome("cells/barrier/0", "refuted", 4, 5, example)


def test_the_disc_of_a_proof_leaves_out_the_vehicles_own_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = replace(CONFIG1, radius_m=0.5)
    asked: list[tuple[State, list[Disc], float]] = []

    def tolerable(_method: Method, _vehicle: Vehicle, state: State, discs: list[Disc], cap_s: float) -> Deadline:
        asked.append((state, discs, cap_s))
        return NONE

    def prove_ring(*given: Any) -> Ring:
        given[-1](State(9.0, 0.0, 0.0))
        return Ring(1, 1, 1.0, [], None)

    monkeypatch.setattr(units, "tolerable_deadline", tolerable)
    monkeypatch.setattr(units, "prove_ring", prove_ring)
    run_unit(wide, SMALL, "cells/backup/0")
    run_unit(wide, SMALL, "deadlines/0")
    assert len(asked) == 1 + 2 * 3 * 2
    assert [cap_s for _, _, cap_s in asked] == [2.5] + [3.0] * 12
    assert all(discs == [Disc(0.0, 0.0, 3.5)] for _, discs, _ in asked)


@pytest.mark.parametrize("vehicle", [CONFIG1, CAR], ids=lambda item: item.name)
def test_a_column_asks_about_its_states_and_says_where_it_fails(
    monkeypatch: pytest.MonkeyPatch, vehicle: Vehicle
) -> None:
    asked: list[tuple[Method, State]] = []
    wrong = 99

    def sound_at(given: Vehicle, settings: Settings, method: Method, state: State) -> bool:
        assert (given, settings) == (vehicle, SMALL)
        asked.append((method, state))
        return len(asked) != wrong

    monkeypatch.setattr(units, "_sound_at", sound_at)
    methods = units.methods(vehicle)
    outcome = run_unit(vehicle, SMALL, "deadlines/5")
    assert outcome == Outcome("deadlines/5", "proved", 2, 2 * 3 * len(methods))
    want = [state for cell in column_cells(vehicle, SMALL, 5) for state in states_of(cell, SMALL, 5)]
    assert [method for method, _ in asked] == list(methods) * 6
    for (r, xi, beta), (_, state) in zip(want, asked[:: len(methods)], strict=True):
        assert (math.hypot(state.x_m, state.y_m), math.atan2(state.y_m, state.x_m)) == pytest.approx((r, xi))
        assert (state.heading_rad, state.beta_rad) == (0.0, beta)
    speeds = [state.speed_mps for _, state in asked[:: len(methods)]]
    if vehicle.a_max_mps2 is None:
        assert set(speeds) == {None}
    else:
        assert [speed is None for speed in speeds] == [True, False, False] * 2
        drawn = [speed for speed in speeds if speed is not None]
        assert len(set(drawn)) == 4
        assert all(0.0 < speed < vehicle.v_max_mps for speed in drawn)
        again = [units._measured(vehicle, SMALL, 5, column_cells(vehicle, SMALL, 5)[0], index) for index in (1, 2)]
        assert again == drawn[:2]
    asked.clear()
    wrong = len(methods) + 1  # the first seeded state
    failed = run_unit(vehicle, SMALL, "deadlines/5")
    r, xi, beta = want[1]
    example = {"method": str(methods[0]), "r_m": r, "xi_rad": xi, "beta_rad": beta}
    if speeds[1] is not None:
        example["speed_mps"] = speeds[1]
    assert failed == Outcome("deadlines/5", "undecided", 2, wrong, example)


def test_single_states_go_to_the_proof_that_follows_the_vehicle(monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(9.0, 1.0, 0.0, 0.1, 2.0)
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(units, "tolerable_deadline", lambda *_: NONE)

    def prove(*given: Any) -> bool:
        asked.append(given)
        return answer

    monkeypatch.setattr(units, "sound", prove)
    monkeypatch.setattr(units, "sound_under_bounds", prove)
    for answer in (True, False):
        assert units._sound_at(CONFIG1, SMALL, Method.BACKUP, state) is answer
        assert units._sound_at(CAR, SMALL, Method.BACKUP, state) is answer
    assert asked[:2] == [
        (CONFIG1, Method.BACKUP, (9.0, 1.0), 0.1, NONE, 2.0),
        (CAR, (9.0, 1.0), 0.1, NONE, 2.0),
    ]


def test_which_claims_a_vehicle_gets() -> None:
    small = replace(SMALL, cells=(2, 2, 2))
    columns = [f"deadlines/{i}" for i in range(4)]
    everywhere = ["everywhere/0", "everywhere/1"]
    cells = [f"cells/{method}/{ring}" for method in ("barrier", "backup") for ring in range(2)]
    claims = ["admissible", "inclusion", "rounding"]
    assert unit_names(CONFIG1, small) == [*claims, *everywhere, *columns, *cells]
    assert unit_names(DEMO, small) == [*claims, *everywhere, *columns]
    assert unit_names(CAR, small) == ["rounding", *everywhere, *columns]
    blind = replace(CONFIG1, bounds=Bounds(field_of_view_rad=1.0))
    assert unit_names(blind, small) == ["rounding", *everywhere]
    assert units.left_out(blind) == ["deceleration_mps2"]
    assert units.methods(replace(CONFIG1, barrier=None)) == (Method.BACKUP,)
    assert Outcome("cells/backup/1", "proved", 1).claim == "cells"


def test_settings_that_a_certificate_is_made_with() -> None:
    assert Settings() == Settings((24, 36, 20), 2, 60.0, 10.0, 4.0, 1, 14)
    assert (units.LEAST_WIDTH, units.SMALLEST_SHARE) == (2.0**-20, 0.125)
