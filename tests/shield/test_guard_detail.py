"""What the guard counts on in detail: the commands it takes for possible, the order of its choices, its numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shield.backup.along import cover_from
from shield.deadline import Method, tolerable_deadline
from shield.guard import AT_REST, Decision, Guard, GuardSettings, Mode, Observation, Proposal, Reason
from shield.guard.certify import certified_pair, quick_deadline
from shield.guard.flight import grow_for_flight
from shield.guard.search import Ladder, nearest
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Vehicle, load_vehicle

DEMO = load_vehicle("demo")
LIMIT = DEMO.beta_max_rad
COASTING = replace(DEMO, deceleration_mps2=None)
"""Without brakes, so that no backup holds on to the arc it starts from."""


def seen(stamp_s: float, *discs: Disc, applied_id: int = 0, speed_mps: float = 0.0) -> Observation:
    return Observation(stamp_s, State(0.0, 0.0, 0.0, 0.0, speed_mps), discs, applied_id)


class Spy:
    """Notes which slip angles the guard takes for possible, and for how long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slips: set[float] = set()
        self.flight_s = 0.0
        monkeypatch.setattr("shield.guard.machine.grow_for_flight", self._grow)

    def _grow(
        self,
        vehicle: Vehicle,
        state: State,
        obstacles: Sequence[Disc],
        beta_rad: float,
        slips: Iterable[float],
        flight_s: float,
    ) -> tuple[Disc, ...]:
        self.slips, self.flight_s = set(slips), flight_s
        return grow_for_flight(vehicle, state, obstacles, beta_rad, slips, flight_s)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def test_the_held_angle_stays_in_effect_until_the_next_one_can(spy: Spy) -> None:
    guard = Guard(COASTING)
    first = guard.tick(0.0, seen(0.0), Proposal(0.0, 0.3, 5.0))
    assert spy.slips == {0.0}
    assert DEMO.bounds.actuation_delay_s < spy.flight_s < DEMO.bounds.actuation_delay_s + 1e-5
    second = guard.tick(0.02, seen(0.02, applied_id=first.id), Proposal(0.02, -0.2, 5.0))
    assert spy.slips == {0.0, 0.3}
    guard.tick(0.04, seen(0.04, applied_id=first.id), Proposal(0.04, 0.1, 5.0))
    assert spy.slips == {0.0, 0.3, -0.2}, "the second may be taken at this very instant"
    guard.tick(0.06, seen(0.06, applied_id=second.id), Proposal(0.06, 0.1, 5.0))
    assert spy.slips == {0.0, -0.2, 0.1}


def test_a_hold_that_ends_before_the_next_control_can_take_effect_brings_its_backup(spy: Spy) -> None:
    guard = Guard(COASTING)
    first = guard.tick(0.0, seen(0.0), Proposal(0.0, 0.3, 5.0))
    assert first.backup is not None
    guard.tick(0.47, seen(0.47, applied_id=first.id), Proposal(0.47, 0.3, 5.0))
    assert spy.slips == {0.0, 0.3}
    guard = Guard(COASTING)
    first = guard.tick(0.0, seen(0.0), Proposal(0.0, 0.3, 5.0))
    assert first.backup is not None
    guard.tick(0.485, seen(0.485, applied_id=first.id), Proposal(0.485, 0.3, 5.0))
    assert spy.slips == {0.0, 0.3, first.backup.beta_rad}
    assert first.backup.beta_rad != 0.3


def test_after_a_stop_the_stored_backup_is_what_is_in_effect(spy: Spy) -> None:
    guard = Guard(COASTING)
    first = guard.tick(0.0, seen(0.0), Proposal(0.0, 0.3, 5.0))
    assert first.backup is not None
    stop = guard.tick(0.02, replace(seen(0.02), stamp_s=math.nan), None)
    assert stop.mode is Mode.BACKUP
    guard.tick(0.6, seen(0.6, applied_id=stop.id), Proposal(0.6, 0.3, 5.0))
    assert spy.slips == {0.0, first.backup.beta_rad}


def test_rolling_without_any_decision_may_be_on_any_arc(spy: Spy) -> None:
    Guard(DEMO).tick(0.0, seen(0.0, speed_mps=3.0), Proposal(0.0, 0.0, 5.0))
    assert spy.slips == {-LIMIT, LIMIT}
    Guard(DEMO).tick(0.0, seen(0.0, speed_mps=0.1), Proposal(0.0, 0.0, 5.0))
    assert spy.slips == {0.0}


def test_the_decision_at_rest_says_so() -> None:
    assert Guard(DEMO).tick(0.0, seen(0.0), None) == Decision(
        id=1,
        stamp_s=0.0,
        mode=Mode.HOLD,
        reason=Reason.START_AT_REST,
        control=AT_REST,
        apply_by_s=math.inf,
        hold_until_s=math.inf,
        backup=AT_REST,
        backup_manoeuvre=Manoeuvre.BRAKE,
        deadline_s=10.0,
        barrier_deadline_s=None,
        limited_by="rest",
        intervened=False,
        proposed_beta_rad=None,
        shortfall_s=0.0,
        switch_time_s=DEMO.bounds.switch_time_s,
    )


def test_at_rest_the_wheels_stand_straight(spy: Spy) -> None:
    guard = Guard(DEMO)
    rest = guard.tick(0.0, seen(0.0), None)
    guard.tick(0.02, seen(0.02, applied_id=rest.id), Proposal(0.02, 0.3, 5.0))
    assert spy.slips == {0.0}


@pytest.mark.parametrize(("speed_mps", "mode"), [(0.149, Mode.HOLD), (0.151, Mode.BACKUP)])
def test_standing_is_what_the_speed_error_allows(speed_mps: float, mode: Mode) -> None:
    assert Guard(DEMO).tick(0.0, seen(0.0, speed_mps=speed_mps), None).mode is mode


def test_the_measured_speed_is_used() -> None:
    wall = Disc(5.6, 0.0, 4.0)
    slow = Guard(DEMO).tick(0.0, seen(0.0, wall, speed_mps=0.0), Proposal(0.0, 0.0, 5.0))
    fast = Guard(DEMO).tick(0.0, seen(0.0, wall, speed_mps=9.0), Proposal(0.0, 0.0, 5.0))
    assert slow.deadline_s > fast.deadline_s


def test_a_speed_that_is_not_measured_may_be_any() -> None:
    wall = Disc(20.0, 0.0, 4.0)
    unknown = replace(seen(0.0, wall), state=State(0.0, 0.0, 0.0, 0.0, None))
    decision = Guard(DEMO).tick(0.0, unknown, Proposal(0.0, 0.0, 5.0))
    standing = Guard(DEMO).tick(0.0, seen(0.0, wall), Proposal(0.0, 0.0, 5.0))
    assert decision.mode is Mode.ADMIT
    assert decision.deadline_s < 0.9 * standing.deadline_s


def test_a_refusal_says_how_much_of_a_tick_is_missing() -> None:
    need_s = Guard(DEMO).need_s
    shortfalls = []
    for gap_m in (0.8, 1.95, 2.05, 2.2, 2.35, 2.6, 2.9):
        wall = Disc(4.05 + gap_m, 0.0, 4.0)
        shortfalls.append(Guard(DEMO).tick(0.0, seen(0.0, wall, speed_mps=9.0), Proposal(0.0, 0.0, 9.0)).shortfall_s)
        steps_s = [need_s * part / 16 for part in range(16, 0, -1)]
        pair = certified_pair(DEMO, State(0.0, 0.0, 0.0, 0.0, 9.0), (wall,), steps_s)
        # Rolling before the first decision, so the obstacles are grown on top for every command in flight.
        assert shortfalls[-1] >= need_s - (0.0 if pair is None else pair.hold_s) - 1e-9
    assert shortfalls[0] == pytest.approx(need_s)
    assert shortfalls[-2:] == pytest.approx([0.0, 0.0]), "steered in good time: nothing was missing yet"
    assert shortfalls == sorted(shortfalls, reverse=True)
    assert len(set(shortfalls)) > 4


@pytest.mark.parametrize("y_m", [0.6, -0.6])
def test_it_steers_to_the_nearer_side(y_m: float) -> None:
    decision = Guard(DEMO).tick(0.0, seen(0.0, Disc(6.2, y_m, 4.0), speed_mps=8.0), Proposal(0.0, 0.0, 8.0))
    assert decision.intervened
    assert decision.control.beta_rad * y_m < 0.0


def test_the_ladder_goes_both_ways_from_near_to_far() -> None:
    rungs = Ladder(offsets_rad=(0.1, 0.35)).rungs(0.2, 0.6, (-0.55,))
    assert [round(beta, 9) for beta in rungs[2:]] == [0.0, -0.15, 0.55, 0.6, -0.55, -0.6]
    assert {round(beta, 9) for beta in rungs[:2]} == {0.1, 0.3}
    assert 0.2 not in rungs


@given(edge=st.floats(0.011, 0.7), side=st.sampled_from([1.0, -1.0]))
def test_the_gap_towards_what_was_asked_for_is_halved(edge: float, side: float) -> None:
    ladder = Ladder()
    rungs = ladder.rungs(0.0, 0.8, ())
    found = nearest(0.0, rungs, ladder.halvings, lambda beta: beta if side * beta >= edge else None)
    assert found is not None
    outside = max([0.0, *(side * beta for beta in rungs if side * beta < edge)])
    first = min(side * beta for beta in rungs if side * beta >= edge)
    assert edge <= side * found <= edge + (first - outside) / 2**ladder.halvings + 1e-12


def test_a_good_guess_saves_looks_and_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    state, wall = State(0.0, 0.0, 0.0, 0.0, 8.0), (Disc(20.0, 1.0, 4.0), Disc(5.0, 14.0, 4.0))
    looks = 0

    def counted(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        return cover_from(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("shield.guard.certify.cover_from", counted)
    blind_s, _ = quick_deadline(DEMO, state, wall, 0.06, 10.0)
    blind_looks, looks = looks, 0
    guessed_s, _ = quick_deadline(DEMO, state, wall, 0.06, 10.0, blind_s)
    assert looks < blind_looks
    assert guessed_s == pytest.approx(blind_s, rel=0.03)


def test_the_cap_reaches_both_deadlines() -> None:
    decision = Guard(DEMO, GuardSettings(cap_s=0.7)).tick(0.0, seen(0.0), Proposal(0.0, 0.0, 5.0))
    assert decision.deadline_s == 0.7
    assert decision.barrier_deadline_s is not None
    assert decision.barrier_deadline_s <= 0.7


@pytest.mark.parametrize("place", [(math.nan, 0.0), (0.0, math.inf)])
def test_an_impossible_pose_is_noticed_among_obstacles_too(place: tuple[float, float]) -> None:
    lost = replace(seen(0.0, Disc(30.0, 0.0, 1.0)), state=State(*place, 0.0, 0.0, 0.0))
    assert Guard(DEMO).tick(0.0, lost, Proposal(0.0, 0.0, 5.0)).reason is Reason.OBSERVATION_INVALID


def test_a_point_may_stand_in_the_way() -> None:
    point = seen(0.0, Disc(30.0, 0.0, 0.0))
    assert Guard(DEMO).tick(0.0, point, Proposal(0.0, 0.0, 5.0)).mode is Mode.ADMIT


def test_a_slip_angle_off_by_the_declared_steering_error_is_possible() -> None:
    loose = replace(DEMO, bounds=replace(DEMO.bounds, steering_rad=0.01, steering_bias_rad=0.02))
    for off, reason in ((0.0299, Reason.START_AT_REST), (0.0301, Reason.OBSERVATION_INVALID)):
        state = State(0.0, 0.0, 0.0, LIMIT + off, 0.0)
        assert Guard(loose).tick(0.0, Observation(0.0, state, (), 0), None).reason is reason


def held_s(vehicle: Vehicle, disc: Disc, speed_mps: float) -> float:
    """Return the longest hold of 10, 20, ... 500 ms straight at an obstacle that can be certified [s]."""
    pair = certified_pair(vehicle, State(0.0, 0.0, 0.0, 0.0, speed_mps), (disc,), [0.01 * k for k in range(50, 0, -1)])
    return 0.0 if pair is None else pair.hold_s


def test_obstacles_that_move_shorten_a_hold_and_later_switching_does_too() -> None:
    still, slow, fast = (held_s(DEMO, Disc(7.0, 0.0, 4.0, top), 3.0) for top in (0.0, 0.5, 2.0))
    assert still > slow > fast
    lazy = replace(DEMO, bounds=replace(DEMO.bounds, fail_safe_s=0.1))
    assert held_s(lazy, Disc(7.0, 0.0, 4.0, 2.0), 3.0) < fast
    assert held_s(COASTING, Disc(30.0, 0.0, 1.0, 0.5), 3.0) == 0.0, "without brakes nothing can be promised"


@given(x=st.floats(4.5, 12.0), y=st.floats(-6.0, 6.0), top=st.floats(0.5, 6.0), speed=st.floats(0.0, 6.0))
@settings(max_examples=25)
def test_a_hold_beside_moving_obstacles_is_never_longer_than_the_exact_deadline(
    x: float, y: float, top: float, speed: float
) -> None:
    lazy = replace(DEMO, bounds=replace(DEMO.bounds, fail_safe_s=0.3))
    disc = Disc(x, y, 2.0, top)
    exact = tolerable_deadline(Method.BACKUP, lazy, State(0.0, 0.0, 0.0, 0.0, speed), (disc,), 1.0)
    held = held_s(lazy, disc, speed)
    assert held <= exact.deadline_s + 1e-9
    assert held >= min(0.49, exact.certificate.single_until_s - 0.015)


def test_what_the_vehicle_cannot_grip_is_refused() -> None:
    slippery = replace(DEMO, bounds=replace(DEMO.bounds, lateral_accel_mps2=5.0))
    free = (Disc(90.0, 0.0, 1.0),)
    assert certified_pair(slippery, State(0.0, 0.0, 0.0, 0.5, 3.0), free, (0.1,)) is None
    assert certified_pair(slippery, State(0.0, 0.0, 0.0, 0.0, 3.0), free, (0.1,)) is not None
    decision = Guard(slippery).tick(0.0, seen(0.0, *free), Proposal(0.0, 0.5, 5.0))
    assert decision.intervened
    assert abs(decision.control.beta_rad) < 0.1
