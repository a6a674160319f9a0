"""What one manoeuvre's clear stretches are made of: obstacles, range and view together, on every turn of the arc."""

import math
from dataclasses import replace

import pytest

from shield.arc import Reach
from shield.backup import query, still
from shield.backup.family import Family, FamilyOf, Kind, Sweep
from shield.backup.question import Cover, Question
from shield.events import Arc
from shield.manoeuvre import Manoeuvre
from shield.vehicle import Bounds, Vehicle

L_M = 1.6
CAR = Vehicle(L_M, 0.8, 10.0, radius_m=0.5, deceleration_mps2=6.0)
BETA = 0.8
PERIOD_M = 2.0 * math.pi * L_M / math.sin(BETA)
STRAIGHT = Sweep(Manoeuvre.BRAKE_STRAIGHT, Kind.SEGMENT, 0.3, length_m=2.0)
HELD = Sweep(Manoeuvre.BRAKE, Kind.HELD, 0.3, length_m=2.0)


def asked(car: Vehicle, bodies: list[tuple[float, float, float]], speeds: list[float]) -> tuple[Question, Family]:
    family_of = FamilyOf(car, BETA, Reach.of(car, None))
    return Question(car, BETA, bodies, family_of, 0.0, 100.0, speeds), replace(family_of.after(1.0), delay_m=0.0)


def ends(clear: list[tuple[float, float, int]]) -> list[float]:
    return [end for first, last, _ in clear for end in (first, last)]


@pytest.mark.parametrize("sweep", [STRAIGHT, HELD])
@pytest.mark.parametrize("speeds", [[], [1.0]])
@pytest.mark.parametrize("turns", [0.5, 2.5])
def test_what_stands_still_blocks_on_every_turn(sweep: Sweep, speeds: list[float], turns: float) -> None:
    question, family = asked(CAR, [(5.0, 0.0, 1.0)], speeds)
    length = turns * PERIOD_M
    clear = still.clear_of(question, family, Arc(BETA, L_M, length), sweep, [(1.0, 1.5, 0)], 0.0, length)
    # the stretches of the held arc and of moving obstacles come with every turn in them already
    rounds = 1 if speeds or sweep is HELD else math.ceil(turns)
    want = [0.0, *(at + k * PERIOD_M for k in range(rounds) for at in (1.0, 1.5)), length]
    assert ends(clear) == pytest.approx(want)


def test_obstacles_range_and_view_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[float] = []

    def beyond_range(_arc: Arc, _l_r: float, _sweep: Sweep, room: float) -> list[tuple[float, float]]:
        rooms.append(room)
        return [(3.0, 4.0)]

    monkeypatch.setattr(still, "beyond_range", beyond_range)
    monkeypatch.setattr(still, "beyond_view", lambda *_: [(5.0, 6.0)])
    bounds = Bounds(sensing_range_m=30.0, field_of_view_rad=3.0, position_m=0.2)
    question, family = asked(replace(CAR, bounds=bounds), [(5.0, 0.0, 1.0)], [])
    clear = still.clear_of(question, family, Arc(0.0, L_M, 9.0), STRAIGHT, [(1.0, 2.0, 0)], 0.0, 9.0)
    assert ends(clear) == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0])
    assert rooms == pytest.approx([30.0 - 0.5 - 0.2 - 0.3])


@pytest.mark.parametrize("count", [1, 9])
def test_a_held_arc_that_meets_nothing_is_clear_as_far_as_asked(count: int) -> None:
    question, family = asked(CAR, [(500.0 + k, 0.0, 1.0) for k in range(count)], [])
    arc = Arc(BETA, L_M, 9.0)
    taken = still.blocked_by_obstacles(question, family, arc, HELD, 9.0)
    assert ends(still.clear_of(question, family, arc, HELD, taken, 0.0, 9.0)) == [0.0, 9.0]


def test_only_what_was_clear_from_the_start_serves_all_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manoeuvre that a later stretch finds clear was not among those that may start anywhere before it."""
    left, right, brake = Manoeuvre.LEFT, Manoeuvre.RIGHT, Manoeuvre.BRAKE
    answers = [
        Cover(0.5, [(left, 0.0, 0.5)], {left: 0.5, brake: 0.2}, "obstacle:0"),
        Cover(0.9, [(right, 0.5, 0.9)], {left: 0.8, right: 0.9, brake: 0.9}, "obstacle:0"),
        Cover(0.9, [], {}, "obstacle:0"),
    ]
    monkeypatch.setattr(query, "cover_from", lambda *_: Cover(0.1, [], {}, "obstacle:0"))
    monkeypatch.setattr(query, "_largest_own", lambda *_: answers.pop(0))
    car = replace(CAR, bounds=Bounds(steering_rad=0.01))
    question, _ = asked(car, [(5.0, 0.0, 1.0)], [])
    assert question.family_of.grows
    cover = query._cover_static(question)
    assert cover.until_m == {left: 0.8, brake: 0.2}
    assert cover.end_m == 0.9


def test_obstacles_grow_until_the_switch_takes_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[tuple[float, float]] = []

    def cover_from(_question: Question, _start: float, way: float, elapsed_s: float) -> Cover:
        asked_for.append((way, elapsed_s))
        return Cover(way, [], {}, "")

    monkeypatch.setattr(query, "cover_from", cover_from)
    bounds = Bounds(tick_s=0.2, actuation_delay_s=0.1, sensing_age_s=0.05)
    question, _ = asked(replace(CAR, bounds=bounds), [(5.0, 0.0, 1.0)], [1.0])
    query._cover_moving(question, Reach.of(CAR, None), 3.0)
    assert len(asked_for) == 1
    assert asked_for[0] == pytest.approx((3.05 * 10.0, 3.05 + 0.3))
