"""The proof of whole cells, piece by piece: its bounds against their formulas, its walk against one cell at a time."""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("flint")

from shield.answer import Certificate, Deadline
from shield.deadline import Method
from shield.events import Arc
from shield.state import State
from shield.vehicle import Vehicle, load_vehicle
from shield.verify import whole
from shield.verify.event import INFLATE, SLACK_M, Array, Event, Mask
from shield.verify.whole import Boxes, Verdicts, body_point, halved, prove_ring

CAR = load_vehicle("config2")
L_M = CAR.l_r_m
CAP_M = 30.0


def boxes_of(*rows: tuple[float, ...]) -> Boxes:
    return Boxes(*(np.array(column) for column in zip(*rows, strict=True)))


# r, xi, beta and their half widths: straight, nearly so, across zero, bent, close by, wide
ROWS = (
    (20.0, 3.0, 0.0, 0.1, 0.01, 0.0),
    (20.0, -2.0, 0.02, 0.1, 0.01, 0.01),
    (35.0, 0.4, -0.03, 0.5, 0.05, 0.05),
    (12.0, 2.6, 0.4, 0.05, 0.01, 0.004),
    (9.0, 2.9, -0.5, 0.2, 0.03, 0.02),
    (5.0, 1.0, 0.3, 0.3, 0.1, 0.2),
    (50.0, 3.1, 0.6, 0.4, 0.02, 0.3),
    (6.0, -0.2, 0.12, 0.01, 0.002, 0.001),
    (15.0, 3.1, 0.7, 0.01, 0.002, 0.9),
    (40.0, 3.0, 0.02, 0.1, 0.01, 0.001),
)
BOXES = boxes_of(*ROWS)


@dataclass(frozen=True)
class One:
    """The bounds of a single cell, from the formulas at the top of `shield.verify.whole`."""

    row: tuple[float, ...]
    cap_m: float = CAP_M

    @property
    def kappa(self) -> float:
        return math.sin(self.row[2]) / L_M

    @property
    def least(self) -> float:
        """Least |sin beta| in the cell."""
        return math.sin(max(0.0, abs(self.row[2]) - self.row[5]))

    @property
    def high(self) -> float:
        return min(0.5 * math.pi, abs(self.row[2]) + self.row[5])

    @property
    def by_turn(self) -> bool:
        r, _, beta, _, _, dbeta = self.row
        return abs(beta) > dbeta and 1.0 / max(self.least, 1e-9) < 1.5 * r * math.cos(beta) / L_M + 1.0

    @property
    def stretch(self) -> float:
        return INFLATE * (abs(self.kappa) * L_M / self.least if self.by_turn else 1.0)

    @property
    def end(self) -> float:
        """In q: all states at the cap or once round; in s: the cap, or the longest way round."""
        if self.by_turn:
            size = abs(self.kappa)
            way = min(self.cap_m * math.sin(self.high) / L_M / size, 2.0 * math.pi / size)
        else:
            way = min(self.cap_m, 2.0 * math.pi * L_M / self.least if self.least else math.inf)
        return way * INFLATE + SLACK_M

    def seen(self, q: float) -> tuple[float, float, float]:
        r, xi, beta, dr, dxi, dbeta = self.row
        x, y = body_point(*(np.array([v]) for v in (r, xi, beta, self.kappa, q)))
        steep, shallow = math.cos(max(0.0, abs(beta) - dbeta)) / L_M, math.cos(self.high) / L_M
        if self.by_turn:
            place = math.sqrt(dr**2 + r * (r + dr) * dxi**2)
            more = 2.0 * L_M * abs(math.sin(0.5 * self.kappa * q)) * dbeta / self.least**2
        else:
            place = math.sqrt(dr**2 + r * (r + dr) * (dxi + q * dbeta * steep) ** 2)
            more = q * dbeta * (max(abs(1.0 - 0.5 * steep * q), abs(1.0 - 0.5 * shallow * q)) + 0.25 * steep * q)
        return float(x[0]), float(y[0]), (place + more) * INFLATE


def test_the_bounds_of_each_cell() -> None:
    chains = whole._Chains(CAR, Method.BACKUP, BOXES, CAP_M)
    assert chains.event.method is Method.BACKUP
    ones = [One(row) for row in ROWS]
    assert {one.by_turn for one in ones} == {True, False}
    assert chains.by_turn.tolist() == [one.by_turn for one in ones]
    for found, expected in (
        (chains.kappa, [one.kappa for one in ones]),
        (chains.least_sine, [one.least for one in ones]),
        (chains.steepest, [math.cos(max(0.0, abs(row[2]) - row[5])) / L_M for row in ROWS]),
        (chains.shallowest, [math.cos(one.high) / L_M for one in ones]),
        (chains.most_kappa, [math.sin(one.high) / L_M for one in ones]),
        (chains.stretch, [one.stretch for one in ones]),
        (chains.end, [one.end for one in ones]),
    ):
        assert found == pytest.approx(np.array(expected), rel=1e-12, abs=1e-15)


def test_a_short_cap_ends_bent_cells_before_they_are_round() -> None:
    for cap_m in (3.0, 8.0, 200.0):
        chains = whole._Chains(CAR, Method.BARRIER, BOXES, cap_m)
        assert chains.event.method is Method.BARRIER
        assert chains.end == pytest.approx(np.array([One(row, cap_m).end for row in ROWS]), rel=1e-12)


@pytest.mark.parametrize("q", [0.0, 0.7, 5.0, 13.0, 29.0])
def test_where_the_disc_is_seen_and_how_far_off_any_state_is(q: float) -> None:
    chains = whole._Chains(CAR, Method.BACKUP, BOXES, CAP_M)
    found = chains.seen(np.arange(len(ROWS)), np.full(len(ROWS), q))
    for part, expected in zip(found, zip(*(One(row).seen(q) for row in ROWS), strict=True), strict=True):
        assert part == pytest.approx(np.array(expected), rel=1e-12, abs=1e-12)


def test_the_disc_as_seen_from_the_arc() -> None:
    for r, xi, beta in ((20.0, 3.0, 0.2), (9.0, -1.0, -0.5), (30.0, 2.0, 0.0)):
        for s in (0.0, 1.0, 6.0):
            arc = Arc(beta, L_M, 50.0)
            x, y = body_point(*(np.array([v]) for v in (r, xi, beta, arc.kappa, s)))
            assert (x[0], y[0]) == pytest.approx(arc.seen_from(s, -r * math.cos(xi), -r * math.sin(xi)), abs=1e-9)


# The walk.


@dataclass(frozen=True)
class Made:
    """An event made up: levels and slopes that come and go with the place."""

    a: float
    b: float
    c: float
    up: float

    def level(self, x: Array, y: Array, eps: Array) -> tuple[Array, Array]:
        ahead = self.up + np.sin(self.a * x + self.b * y) - 0.1 * eps
        return ahead, -ahead - 1.0 - self.c

    def slopes(self, x: Array, y: Array, eps: Array, beta: Array, dbeta: Array) -> tuple[Mask, Mask]:
        falls = np.sin(3.0 * self.b * x + y) > self.c - 0.2 + 0.01 * eps + dbeta
        rises = np.cos(2.0 * self.a * x - self.b * y) + beta > self.c
        return falls, rises


def walk_one(one: One, event: Made) -> tuple[bool, float, bool, bool]:
    """Walk one chain by itself: whether it holds, where it ends, whether that is at the cap, and clear all along."""
    q, rising, free = 0.0, True, True
    curved = math.sin(one.high) / L_M
    for _ in range(whole.STEPS):
        x, y, eps = one.seen(q)
        (ahead,), (behind,) = event.level(np.array([x]), np.array([y]), np.array([eps]))
        if behind > 0.0:
            return True, q, False, False
        reach = max(ahead, 0.0) + eps + 1e-3
        pace = (1.0 + curved * (math.hypot(x, y) + eps + reach)) * one.stretch * INFLATE
        grain = 0.7 * (eps + 1e-3) / pace
        step = ahead / pace if ahead > 0.0 else 0.0
        if step < grain:
            xm, ym, em = one.seen(q + 0.5 * grain)
            given = (np.array([v]) for v in (xm, ym, em + 0.5 * grain * pace, one.row[2], one.row[5]))
            (falls,), (rises,) = event.slopes(*given)
            if falls or (rises and rising):
                step, free = grain, False
                rising = bool(rises and rising and not falls)
            else:
                rising = False
        else:
            rising = False
        q += step
        if q >= one.end:
            return True, q, True, free
        if step < 0.02 * grain:
            return False, q, False, False
    return False, q, False, False


def test_many_chains_are_walked_as_each_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    ends: set[tuple[bool, bool, bool]] = set()
    methods: list[Method] = []
    event = Made(0.0, 0.0, 0.0, 0.0)

    def made(vehicle: Vehicle, method: Method) -> Made:
        methods.append(method)
        return event

    monkeypatch.setattr(whole, "Event", made)
    for _ in range(12):
        a, b = rng.uniform(0.1, 0.6, 2).tolist()
        event = Made(a, b, float(rng.uniform(-0.6, 0.7)), float(rng.choice([-0.3, 0.4, 0.9, 1.2])))
        found = whole.prove_cells(CAR, Method.BACKUP, BOXES, CAP_M)
        for index, row in enumerate(ROWS):
            proved, last_m, until_cap, free = walk_one(One(row), event)
            ends.add((proved, until_cap, free))
            assert bool(found.proved[index]) is proved, (event, row)
            assert bool(found.until_cap[index]) is until_cap
            assert bool(found.free[index]) is free
            assert found.last_m[index] == pytest.approx(last_m, rel=1e-9, abs=1e-9)
    assert ends == {(False, False, False), (True, False, False), (True, True, False), (True, True, True)}
    assert set(methods) == {Method.BACKUP}


@dataclass
class Script:
    """Levels and slopes by the distance driven towards a disc straight ahead, 20 m off."""

    clear_until: float
    blocked_from: float
    falls_from: float
    rises: tuple[tuple[float, float], ...]

    def level(self, x: Array, y: Array, eps: Array) -> tuple[Array, Array]:
        s = 20.0 - x
        return np.where(s < self.clear_until, 0.02, -1.0), np.where(s >= self.blocked_from, 1.0, -1.0)

    def slopes(self, x: Array, y: Array, eps: Array, beta: Array, dbeta: Array) -> tuple[Mask, Mask]:
        s = 20.0 - x
        return s >= self.falls_from, np.any([(s >= a) & (s < b) for a, b in self.rises], axis=0)


@pytest.mark.parametrize(
    ("script", "proved"),
    [
        (Script(3.0, 3.2, 2.9, ((0.0, 0.0),)), True),  # clear, falling, blocked
        (Script(3.0, 3.2, 3.1, ((0.0, 0.0),)), False),  # uncertain between
        (Script(3.0, 3.2, 3.1, ((2.5, 3.15),)), False),  # rising counts at the start alone, not after a clear piece
        (Script(0.0, 0.2, 0.1, ((0.0, 0.15),)), True),  # rising, then falling, then blocked
        (Script(0.0, 0.2, 0.1, ((0.0, 0.05),)), False),
    ],
)
def test_a_chain_of_pieces(monkeypatch: pytest.MonkeyPatch, script: Script, proved: bool) -> None:
    monkeypatch.setattr(whole, "Event", lambda vehicle, method: script)
    cell = boxes_of((20.0, math.pi, 0.0, 0.02, 0.0, 0.0))
    found = whole.prove_cells(CAR, Method.BACKUP, cell, CAP_M)
    assert bool(found.proved[0]) is proved
    assert not found.until_cap[0]
    assert not found.free[0]
    if proved:
        assert script.blocked_from <= found.last_m[0] < script.blocked_from + 0.3


def test_rising_after_falling_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Both(Script):
        def slopes(self, x: Array, y: Array, eps: Array, beta: Array, dbeta: Array) -> tuple[Mask, Mask]:
            s = 20.0 - x
            return (s >= 0.05) & (s < 0.1), np.ones_like(x, dtype=bool)

    monkeypatch.setattr(whole, "Event", lambda vehicle, method: Both(0.0, 0.2, 0.0, ()))
    cell = boxes_of((20.0, math.pi, 0.0, 0.02, 0.0, 0.0))
    found = whole.prove_cells(CAR, Method.BACKUP, cell, CAP_M)
    assert not found.proved[0]
    assert 0.05 < found.last_m[0] < 0.15


# Rings.


def deadline(hold_m: float) -> Deadline:
    return Deadline(hold_m / CAR.v_max_mps, hold_m, "cap", None, Certificate((), None, 0.0, 0.0, ""), True)


def ask_for(hold_m: float) -> Any:
    return lambda state: deadline(hold_m)


def test_the_code_may_not_hold_beyond_the_end_nor_where_the_event_has_ended() -> None:
    class Ended:
        def value(self, x: Array, y: Array) -> Array:
            return np.hypot(x, y) - 10.0  # ended within 10 m of the disc

    event: Any = Ended()
    cell = boxes_of((20.0, math.pi, 0.0, 0.0, 0.0, 0.0), (20.0, math.pi, 0.0, 0.1, 0.0, 0.0))
    one = np.array([False, False])
    for hold_m, last_m, until_cap, wrong in (
        (5.0, 6.0, False, False),
        (6.5, 6.0, False, True),  # past the end of the chain
        (6.5, 6.0, True, False),  # which is the cap's
        (10.5, 12.0, False, True),  # where the event says that it has ended
        (10.5, 12.0, True, True),
        (0.5, 0.2, False, True),
        (0.0, -1.0, False, False),  # no deadline can't be too long
    ):
        found = whole._contradicted(CAR, event, cell, np.full(2, last_m), one | until_cap, ask_for(hold_m))
        assert (found is not None) is wrong, (hold_m, last_m, until_cap)
        if found is not None:
            assert found == pytest.approx((20.0, math.pi, 0.0))


class Proving:
    """Stands in for the proof of cells: proves those whose volume is small enough, and keeps what it was asked."""

    def __init__(self, most: float, ends: bool, never: float = -1.0) -> None:
        self.most, self.ends, self.never = most, ends, never
        self.asked: list[tuple[Method, int, float]] = []

    def __call__(self, vehicle: Vehicle, method: Method, boxes: Boxes, cap_m: float) -> Verdicts:
        self.asked.append((method, len(boxes), cap_m))
        done = (boxes.volume() <= self.most) & (np.abs(boxes.r - self.never) > boxes.dr)
        cap = np.full(len(boxes), not self.ends)
        return Verdicts(done, np.full(len(boxes), 100.0), done & cap, done & cap)


def test_a_ring_halves_what_is_not_proved_down_to_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = boxes_of((20.0, 1.0, 0.2, 1.0, 0.1, 0.05), (30.0, 1.0, 0.2, 1.0, 0.1, 0.05))
    volume = 8.0 * 1.0 * 0.1 * 0.05
    assert cells.volume() == pytest.approx(np.full(2, volume))
    for never, open_cells in ((-1.0, []), (30.0, [1])):
        proving = Proving(0.26 * volume, ends=False, never=never)
        monkeypatch.setattr(whole, "prove_cells", proving)
        ring = prove_ring(CAR, Method.BARRIER, cells, CAP_M, 0.03 * volume, ask_for(1.0))
        assert {(method, cap_m) for method, _, cap_m in proving.asked} == {(Method.BARRIER, CAP_M)}
        assert ring.leaves == sum(count for _, count, _ in proving.asked)
        assert ring.open_cells == open_cells
        assert ring.contradiction is None
        assert ring.states == 0
        if never < 0.0:
            assert [count for _, count, _ in proving.asked] == [2, 4, 8]
            assert ring.volume == pytest.approx(2.0 * volume, rel=1e-9)
        else:
            assert 0.5 * 2.0 * volume < ring.volume < 2.0 * volume
    # a leaf of less than twice the floor is not halved any more
    for floor, counts in ((0.24, [2, 4, 8, 16]), (0.26, [2, 4, 8]), (0.51, [2, 4]), (0.49, [2, 4, 8])):
        proving = Proving(0.0, ends=False)
        monkeypatch.setattr(whole, "prove_cells", proving)
        ring = prove_ring(CAR, Method.BARRIER, cells, CAP_M, floor * volume * 0.5, ask_for(1.0))
        assert [count for _, count, _ in proving.asked] == counts
        assert (ring.open_cells, ring.volume) == ([0, 1], 0.0)
        assert all(isinstance(index, int) for index in ring.open_cells)


def test_a_ring_asks_the_code_where_a_chain_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = boxes_of((20.0, math.pi, 0.0, 1.0, 0.1, 0.05), (30.0, math.pi, 0.0, 1.0, 0.1, 0.05))
    asked: list[State] = []

    def ask(state: State) -> Deadline:
        asked.append(state)
        return deadline(hold_m)

    events: list[Method] = []
    real = Event

    def event(vehicle: Vehicle, method: Method) -> Any:
        events.append(method)
        return real(vehicle, method)

    monkeypatch.setattr(whole, "Event", event)
    monkeypatch.setattr(whole, "prove_cells", Proving(1.0, ends=True))
    hold_m = 1.0
    ring = prove_ring(CAR, Method.BARRIER, cells, CAP_M, 1e-9, ask)
    assert events == [Method.BARRIER]
    assert (ring.leaves, ring.states, ring.contradiction) == (2, 2, None)
    assert [state.x_m for state in asked] == pytest.approx([-20.0, -30.0])
    hold_m = 101.0
    wrong = prove_ring(CAR, Method.BACKUP, cells, CAP_M, 1e-9, ask)
    assert wrong.contradiction == pytest.approx((20.0, math.pi, 0.0))
    assert (wrong.leaves, wrong.states, wrong.open_cells) == (2, 2, [])
    assert wrong.volume == pytest.approx(float(cells.volume().sum()))
    hold_m = 1.0
    # one is proved at first, the other in halves
    uneven = boxes_of((20.0, math.pi, 0.0, 1.0, 0.1, 0.05), (30.0, math.pi, 0.0, 0.5, 0.05, 0.025))
    monkeypatch.setattr(whole, "prove_cells", Proving(0.021, ends=True))
    assert prove_ring(CAR, Method.BARRIER, uneven, CAP_M, 1e-3, ask).states == 3


def test_a_cell_is_cut_across_the_side_that_moves_the_disc_most() -> None:
    rng = np.random.default_rng(3)
    rows = [
        (rng.uniform(4.0, 60.0), 1.0, rng.uniform(-0.6, 0.6), *(10.0 ** rng.uniform(-3.0, 0.0, 3))) for _ in range(300)
    ] + [(20.0, 1.0, 0.0, 0.1, 0.001, d) for d in (1e-4, 2e-4, 4e-4)]
    boxes = boxes_of(*cast(Any, rows))
    parts = halved(boxes, L_M)
    count = len(rows)
    seen = set()
    for index, (r, xi, beta, dr, dxi, dbeta) in enumerate(rows):
        moves = [dr, r * dxi, dbeta * min(1.5 * r * r / L_M, r / max(abs(math.sin(beta)), 1e-3))]
        side = moves.index(max(moves))
        seen.add(side)
        centre, half = [r, xi, beta], [dr, dxi, dbeta]
        half[side] *= 0.5
        for place, sign in ((index, -1.0), (index + count, 1.0)):
            expected = list(centre)
            expected[side] += sign * half[side]
            found = [getattr(parts, name)[place] for name in ("r", "xi", "beta", "dr", "dxi", "dbeta")]
            assert found == pytest.approx([*expected, *half], rel=1e-12, abs=1e-15)
            assert all(width >= least for width, least in zip(found[3:], half, strict=True))
    assert seen == {0, 1, 2}
