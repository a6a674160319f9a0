"""The guard's state machine: what it admits, refuses, holds and remembers."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headway
from shield.deadline import Method, tolerable_deadline
from shield.guard import AT_REST, Control, Decision, Guard, GuardSettings, Mode, Observation, Proposal, Reason
from shield.guard.certify import certified_pair, quick_deadline
from shield.guard.machine import backup_control
from shield.guard.search import Ladder, nearest
from shield.manoeuvre import Manoeuvre
from shield.state import Disc, State
from shield.vehicle import Bounds, Vehicle, load_vehicle

DEMO = load_vehicle("demo")
AHEAD = Disc(12.0, 0.0, 4.0)


def seen(
    stamp_s: float, *discs: Disc, applied_id: int = 0, speed_mps: float | None = 0.0, beta: float = 0.0
) -> Observation:
    return Observation(stamp_s, State(0.0, 0.0, 0.0, beta, speed_mps), discs, applied_id)


def started(*discs: Disc, beta: float = 0.0, settings: GuardSettings | None = None) -> tuple[Guard, Decision]:
    """Return a guard whose vehicle has just taken an admitted decision, made at time 0."""
    guard = Guard(DEMO, settings)
    decision = guard.tick(0.0, seen(0.0, *discs), Proposal(0.0, beta, 5.0))
    assert decision.mode is Mode.ADMIT
    return guard, decision


def test_it_stays_at_rest_until_something_is_asked_for() -> None:
    guard = Guard(DEMO)
    first = guard.tick(0.0, seen(0.0), None)
    assert (first.mode, first.reason, first.control) == (Mode.HOLD, Reason.START_AT_REST, AT_REST)
    again = guard.tick(0.02, seen(0.02, applied_id=first.id), None)
    assert (again.id, again.reason) == (first.id, Reason.START_AT_REST)
    assert guard.tick(0.04, seen(0.04, applied_id=first.id), Proposal(0.04, 0.1, 3.0)).mode is Mode.ADMIT


def test_a_vehicle_that_rolls_has_not_started_at_rest() -> None:
    decision = Guard(DEMO).tick(0.0, seen(0.0, speed_mps=3.0), None)
    assert (decision.mode, decision.reason) == (Mode.BACKUP, Reason.PROPOSAL_MISSING)
    assert decision.deadline_s == 0.0


def test_a_free_road_admits_the_proposal_as_it_is() -> None:
    guard, decision = started(beta=0.2)
    assert decision.control == Control(0.2, 5.0)
    assert decision.reason is Reason.PROPOSAL_CERTIFIED
    assert not decision.intervened
    assert decision.shortfall_s == 0.0
    assert decision.apply_by_s == pytest.approx(0.02)
    assert decision.hold_until_s == pytest.approx(guard.settings.state_max_age_s)
    assert decision.deadline_s == guard.settings.cap_s
    assert decision.limited_by == "cap"
    assert decision.barrier_deadline_s is not None


def test_the_barrier_is_left_out_where_nobody_asks_for_it() -> None:
    _, decision = started(settings=GuardSettings(report_barrier=False))
    assert decision.barrier_deadline_s is None
    bare = Guard(replace(DEMO, barrier=None)).tick(0.0, seen(0.0), Proposal(0.0, 0.0, 5.0))
    assert bare.barrier_deadline_s is None


def test_a_repeated_proposal_is_held_and_certified_anew() -> None:
    guard, first = started()
    again = guard.tick(0.02, seen(0.02, applied_id=first.id), Proposal(0.0, 0.0, 5.0))
    assert (again.mode, again.reason) == (Mode.HOLD, Reason.PROPOSAL_CERTIFIED)
    assert again.hold_until_s == pytest.approx(first.hold_until_s + 0.02)
    assert again.id > first.id


def test_speed_and_slip_are_kept_within_the_vehicle() -> None:
    decision = Guard(DEMO).tick(0.0, seen(0.0), Proposal(0.0, 3.0, 99.0))
    assert decision.control.beta_rad <= DEMO.beta_max_rad
    assert decision.control.speed_mps == DEMO.v_max_mps
    assert decision.intervened
    backwards = Guard(DEMO).tick(0.0, seen(0.0), Proposal(0.0, -3.0, -5.0))
    assert backwards.control == Control(-DEMO.beta_max_rad, 0.0)


def test_a_proposal_into_an_obstacle_is_steered_past_it() -> None:
    close = Disc(6.2, 0.0, 4.0)
    decision = Guard(DEMO).tick(0.0, seen(0.0, close, speed_mps=8.0), Proposal(0.0, 0.0, 8.0))
    assert (decision.mode, decision.reason) == (Mode.ADMIT, Reason.PROPOSAL_FILTERED)
    assert decision.intervened
    assert decision.proposed_beta_rad == 0.0
    assert abs(decision.control.beta_rad) > 0.05
    assert decision.shortfall_s > 0.0
    assert decision.backup is not None


def test_the_filtered_angle_is_itself_certified_for_a_tick() -> None:
    guard = Guard(DEMO)
    close = Disc(6.2, 0.0, 4.0)
    decision = guard.tick(0.0, seen(0.0, close, speed_mps=8.0), Proposal(0.0, 0.0, 8.0))
    state = State(0.0, 0.0, 0.0, decision.control.beta_rad, 8.0)
    pair = certified_pair(DEMO, state, (close,), (decision.hold_until_s,))
    assert pair is not None
    assert decision.hold_until_s >= guard.need_s


def test_nothing_to_certify_runs_the_stored_backup_and_says_how_much_was_missing() -> None:
    guard, first = started(Disc(30.0, 0.0, 4.0))
    inside = seen(0.02, Disc(4.02, 0.0, 4.0), applied_id=first.id, speed_mps=10.0)
    decision = guard.tick(0.02, inside, Proposal(0.02, 0.0, 8.0))
    assert (decision.mode, decision.reason) == (Mode.BACKUP, Reason.NOTHING_CERTIFIED)
    assert decision.shortfall_s == pytest.approx(guard.need_s)
    assert decision.control == first.backup
    assert decision.backup_manoeuvre == first.backup_manoeuvre
    assert decision.proposed_beta_rad == 0.0
    assert decision.intervened


def test_a_backup_is_repeated_under_one_id_until_a_fresh_pair_replaces_it() -> None:
    guard, first = started()
    blind = seen(0.02, applied_id=first.id)
    stop = guard.tick(0.02, replace(blind, state=State(math.nan, 0.0, 0.0)), Proposal(0.02, 0.0, 5.0))
    assert (stop.mode, stop.reason) == (Mode.BACKUP, Reason.OBSERVATION_INVALID)
    later = guard.tick(0.6, seen(0.6, applied_id=stop.id, speed_mps=4.0), None)
    assert (later.id, later.mode, later.reason) == (stop.id, Mode.BACKUP, Reason.PROPOSAL_STALE)
    assert later.control == first.backup
    fresh = guard.tick(0.62, seen(0.62, applied_id=stop.id, speed_mps=4.0), Proposal(0.62, 0.0, 5.0))
    assert (fresh.mode, fresh.id) == (Mode.ADMIT, stop.id + 1)


def test_an_old_proposal_is_followed_no_more_the_vehicle_slows_down_on_its_way() -> None:
    guard, first = started()
    just = guard.tick(0.2, seen(0.2, applied_id=first.id, speed_mps=2.0), None)
    assert (just.mode, just.control.speed_mps) == (Mode.HOLD, first.control.speed_mps)
    gone = guard.tick(0.22, seen(0.22, applied_id=just.id, speed_mps=2.0), None)
    assert (gone.mode, gone.reason) == (Mode.HOLD, Reason.PROPOSAL_STALE)
    assert (gone.control.beta_rad, gone.control.speed_mps) == (just.control.beta_rad, 0.0)


def test_an_old_proposal_and_nothing_certified_runs_the_stored_backup() -> None:
    guard, first = started(Disc(30.0, 0.0, 4.0))
    inside = seen(0.5, Disc(4.02, 0.0, 4.0), applied_id=first.id, speed_mps=10.0)
    decision = guard.tick(0.5, inside, None)
    assert (decision.mode, decision.control) == (Mode.BACKUP, first.backup)


def test_of_two_backups_the_one_that_stops_on_the_way_is_stored() -> None:
    guard, _ = started()
    decision = guard.tick(0.02, seen(0.02, Disc(60.0, 0.0, 4.0), speed_mps=8.0), Proposal(0.02, 0.0, 8.0))
    assert decision.backup_manoeuvre in (Manoeuvre.BRAKE, Manoeuvre.BRAKE_STRAIGHT)
    assert decision.backup is not None
    assert decision.backup.brake


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["stamp_s", "beta_rad", "speed_mps"])
def test_a_proposal_that_is_no_number_is_not_followed(field: str, bad: float) -> None:
    proposal = replace(Proposal(0.0, 0.1, 5.0), **{field: bad})
    guard = Guard(DEMO)
    first = guard.tick(0.0, seen(0.0), proposal)
    assert first.reason is Reason.START_AT_REST
    guard, first = started()
    assert guard.tick(0.02, seen(0.02, applied_id=first.id), proposal).control == first.control
    rolling = Guard(DEMO).tick(0.0, seen(0.0, speed_mps=4.0), proposal)
    assert (rolling.mode, rolling.reason) == (Mode.BACKUP, Reason.PROPOSAL_INVALID)


def test_a_proposal_from_the_future_is_not_followed() -> None:
    assert Guard(DEMO).tick(0.0, seen(0.0, speed_mps=4.0), Proposal(0.1, 0.0, 5.0)).reason is Reason.PROPOSAL_INVALID


def test_an_older_proposal_does_not_replace_a_newer_one() -> None:
    guard, first = started(beta=0.2)
    again = guard.tick(0.02, seen(0.02, applied_id=first.id), Proposal(-0.1, -0.2, 5.0))
    assert again.control.beta_rad == 0.2


BAD_STATES = [
    State(math.nan, 0.0, 0.0),
    State(0.0, math.inf, 0.0),
    State(0.0, 0.0, math.nan),
    State(0.0, 0.0, 0.0, math.nan),
    State(0.0, 0.0, 0.0, 1.4),
    State(0.0, 0.0, 0.0, 0.0, math.nan),
    State(0.0, 0.0, 0.0, 0.0, -1.0),
    State(0.0, 0.0, 0.0, 0.0, 13.0),
    State(0.0, 0.0, 0.0, 0.0, math.inf),
]


@pytest.mark.parametrize("state", BAD_STATES)
def test_an_impossible_state_gives_the_backup(state: State) -> None:
    guard, first = started()
    decision = guard.tick(0.02, Observation(0.02, state, (), first.id), Proposal(0.02, 0.0, 5.0))
    assert (decision.mode, decision.reason) == (Mode.BACKUP, Reason.OBSERVATION_INVALID)
    assert decision.control == first.backup


BAD_DISCS = [
    Disc(math.nan, 0.0, 1.0),
    Disc(0.0, math.inf, 1.0),
    Disc(9.0, 0.0, -1.0),
    Disc(9.0, 0.0, math.nan),
    Disc(9.0, 0.0, 1.0, -1.0),
    Disc(9.0, 0.0, 1.0, math.nan),
]


@pytest.mark.parametrize("disc", BAD_DISCS)
def test_an_impossible_obstacle_gives_the_backup(disc: Disc) -> None:
    guard, first = started()
    decision = guard.tick(0.02, seen(0.02, disc, applied_id=first.id), Proposal(0.02, 0.0, 5.0))
    assert decision.reason is Reason.OBSERVATION_INVALID


def test_a_speed_off_by_its_declared_error_is_possible() -> None:
    guard, first = started()
    assert guard.tick(0.02, seen(0.02, applied_id=first.id, speed_mps=-0.05), None).mode is Mode.HOLD
    assert guard.tick(0.04, seen(0.04, applied_id=first.id, speed_mps=12.05), None).mode is Mode.HOLD


def test_late_news_keep_the_stored_pair_until_its_hold_ends() -> None:
    guard, first = started()
    for now_s in (0.02, 0.3, 0.49):
        decision = guard.tick(now_s, None, None)
        assert (decision.id, decision.mode, decision.reason) == (first.id, Mode.HOLD, Reason.OBSERVATION_MISSING)
        assert decision.hold_until_s == first.hold_until_s
    ended = guard.tick(0.5, None, None)
    assert (ended.mode, ended.reason) == (Mode.BACKUP, Reason.OBSERVATION_MISSING)


def test_the_same_observation_again_is_no_news() -> None:
    guard, first = started()
    assert guard.tick(0.02, seen(0.0), Proposal(0.02, 0.3, 5.0)).id == first.id


def test_a_stale_observation_certifies_nothing() -> None:
    guard, first = started()
    decision = guard.tick(0.1, seen(0.05, applied_id=first.id), Proposal(0.1, 0.3, 5.0))
    assert (decision.id, decision.reason) == (first.id, Reason.OBSERVATION_STALE)
    assert decision.control == first.control


def test_observations_out_of_order_give_the_backup() -> None:
    guard, _ = started()
    decision = guard.tick(0.02, seen(-0.001), Proposal(0.02, 0.0, 5.0))
    assert (decision.mode, decision.reason) == (Mode.BACKUP, Reason.OBSERVATION_OUT_OF_ORDER)


def test_an_observation_from_the_future_gives_the_backup() -> None:
    guard, _ = started()
    assert guard.tick(0.02, seen(0.1), Proposal(0.02, 0.0, 5.0)).reason is Reason.OBSERVATION_INVALID


@pytest.mark.parametrize("now_s", [math.nan, math.inf, -0.001])
def test_a_clock_that_fails_gives_the_backup(now_s: float) -> None:
    guard, first = started()
    decision = guard.tick(now_s, seen(0.02, applied_id=first.id), Proposal(0.02, 0.0, 5.0))
    assert (decision.mode, decision.reason) == (Mode.BACKUP, Reason.CLOCK_INVALID)
    assert guard.tick(0.04, seen(0.04, applied_id=decision.id), Proposal(0.04, 0.0, 5.0)).mode is Mode.ADMIT


def test_a_certifier_that_fails_gives_the_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, first = started()

    def fails(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("shield.guard.machine.certified_pair", fails)
    decision = guard.tick(0.02, seen(0.02, applied_id=first.id), Proposal(0.02, 0.0, 5.0))
    assert (decision.mode, decision.reason) == (Mode.BACKUP, Reason.CERTIFIER_FAILED)
    assert decision.control == first.backup


def test_a_restarted_guard_takes_every_slip_angle_for_possible() -> None:
    wall = Disc(7.5, 0.0, 4.0)
    known, first = started(wall)
    here = seen(0.02, wall, applied_id=first.id, speed_mps=8.0)
    assert known.tick(0.02, here, Proposal(0.02, 0.0, 8.0)).mode is Mode.ADMIT
    fresh = Guard(DEMO).tick(0.02, here, Proposal(0.02, 0.0, 8.0))
    assert fresh.mode is Mode.BACKUP or fresh.hold_until_s < 0.5
    far = Guard(DEMO).tick(
        0.02, replace(here, obstacles=(Disc(60.0, 0.0, 4.0),), applied_id=77), Proposal(0.0, 0.0, 8.0)
    )
    assert (far.mode, far.id) == (Mode.ADMIT, 78)


def test_a_vehicle_side_that_starts_anew_is_served() -> None:
    guard, first = started()
    assert guard.tick(0.02, seen(0.02, applied_id=first.id), None).mode is Mode.HOLD
    assert guard.tick(0.04, seen(0.04, applied_id=0), Proposal(0.04, 0.0, 5.0)).mode is Mode.ADMIT


def test_a_stopped_vehicle_leaves_again_when_a_proposal_steers_clear() -> None:
    wall = Disc(6.0, 0.0, 4.0)
    guard, first = started(Disc(30.0, 0.0, 4.0))
    stop = guard.tick(0.02, seen(0.02, Disc(4.01, 0.0, 4.0), applied_id=first.id, speed_mps=9.0), None)
    assert stop.mode is Mode.BACKUP
    leaving = guard.tick(3.0, seen(3.0, wall, applied_id=stop.id, speed_mps=0.0), Proposal(3.0, 0.8, 4.0))
    assert leaving.mode is Mode.ADMIT
    assert leaving.control.beta_rad == pytest.approx(0.8)


@given(
    beta=st.floats(-0.88, 0.88),
    speed=st.floats(0.0, 12.0),
    x=st.floats(-20.0, 20.0),
    y=st.floats(-20.0, 20.0),
    name=st.sampled_from(["position_m", "heading_rad", "speed_mps", "actuation_delay_s", "jitter_s", "fail_safe_s"]),
    more=st.floats(0.0, 0.1),
)
def test_enlarging_a_bound_certifies_nothing_new(
    beta: float, speed: float, x: float, y: float, name: str, more: float
) -> None:
    bounds = DEMO.bounds
    wider = replace(DEMO, bounds=replace(bounds, **{name: getattr(bounds, name) + more}))
    state = State(0.0, 0.0, 0.0, beta, speed)
    discs = (Disc(x, y, 4.0),)
    holds_s = (0.5, 0.1)
    before, after = certified_pair(DEMO, state, discs, holds_s), certified_pair(wider, state, discs, holds_s)
    if after is not None:
        assert before is not None
        assert after.hold_s <= before.hold_s


@given(
    beta=st.floats(-0.88, 0.88),
    speed=st.floats(0.0, 12.0),
    places=st.lists(st.tuples(st.floats(-20.0, 20.0), st.floats(-20.0, 20.0)), min_size=1, max_size=3),
    brakes=st.booleans(),
    guess_s=st.floats(1e-6, 5.0) | st.just(math.inf),
)
def test_the_quick_deadline_is_never_longer_than_the_exact_one(
    beta: float, speed: float, places: list[tuple[float, float]], brakes: bool, guess_s: float
) -> None:
    vehicle = DEMO if brakes else replace(DEMO, deceleration_mps2=None)
    state = State(0.0, 0.0, 0.0, beta, speed)
    discs = tuple(Disc(x, y, 3.0) for x, y in places)
    pair = certified_pair(vehicle, state, discs, (0.5, 0.06))
    if pair is None:
        return
    quick_s, limited_by = quick_deadline(vehicle, state, discs, pair.hold_s, 3.0, guess_s)
    exact = tolerable_deadline(Method.BACKUP, vehicle, state, discs, 3.0)
    assert pair.hold_s <= quick_s <= exact.deadline_s + 1e-9
    assert limited_by.split(":")[0] in ("cap", "obstacle", "bound")
    assert (limited_by == "cap") == (quick_s == pytest.approx(3.0, abs=1e-9))
    if not brakes:
        assert quick_s == exact.deadline_s


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-20.0, 20.0) | st.sampled_from([0.0, 0.02, 1e300])


@given(
    st.lists(
        st.tuples(
            NUMBERS, st.none() | st.lists(NUMBERS, min_size=10, max_size=10), st.lists(NUMBERS, min_size=3, max_size=3)
        ),
        max_size=6,
    )
)
def test_no_input_makes_it_raise_or_name_an_impossible_control(
    script: list[tuple[float, list[float] | None, list[float]]],
) -> None:
    guard, applier = Guard(DEMO), headway.Applier()
    for now_s, numbers, asked in script:
        observation = None
        if numbers is not None:
            stamp, x, y, heading, beta, speed, disc_x, disc_y, radius, top = numbers
            state = State(x, y, heading, beta, speed)
            observation = Observation(stamp, state, (Disc(disc_x, disc_y, radius, top),), applier.applied_id)
        decision = guard.tick(now_s, observation, Proposal(*asked))
        assert decision.control.possible_for(DEMO)
        assert decision.mode is Mode.BACKUP or decision.backup is not None
        assert not math.isnan(decision.deadline_s)
        if math.isfinite(now_s):
            applier.accept(decision, now_s)


@pytest.mark.parametrize(
    ("manoeuvre", "control"),
    [
        (Manoeuvre.LEFT, Control(DEMO.beta_max_rad, 0.0, True)),
        (Manoeuvre.RIGHT, Control(-DEMO.beta_max_rad, 0.0, True)),
        (Manoeuvre.STRAIGHT, Control(0.0, 0.0, True)),
        (Manoeuvre.BRAKE, Control(0.3, 0.0, True)),
        (Manoeuvre.BRAKE_RIGHT, Control(-DEMO.beta_max_rad, 0.0, True)),
    ],
)
def test_backups_brake_where_brakes_are_declared(manoeuvre: Manoeuvre, control: Control) -> None:
    assert backup_control(DEMO, manoeuvre, Control(0.3, 7.0)) == control


def test_backups_go_on_at_speed_without_brakes_and_in_turns_at_the_limit_of_grip() -> None:
    unbraked = replace(DEMO, deceleration_mps2=None)
    assert backup_control(unbraked, Manoeuvre.STRAIGHT, Control(0.3, 7.0)) == Control(0.0, 7.0, False)
    slippery = replace(DEMO, bounds=replace(DEMO.bounds, lateral_accel_mps2=8.0))
    left = backup_control(slippery, Manoeuvre.LEFT, Control(0.3, 7.0))
    assert (left.speed_mps, left.brake) == (7.0, False)
    assert backup_control(slippery, Manoeuvre.BRAKE, Control(0.01, 7.0)).brake


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_settings_are_checked(value: float) -> None:
    with pytest.raises(ValueError, match="tick_s"):
        GuardSettings(tick_s=value)
    with pytest.raises(ValueError, match="proposal_max_age_s"):
        GuardSettings(proposal_max_age_s=value)
    with pytest.raises(ValueError, match="state_max_age_s"):
        GuardSettings(state_max_age_s=value)
    with pytest.raises(ValueError, match="cap_s"):
        GuardSettings(cap_s=value)
    with pytest.raises(ValueError, match="comfort_s"):
        GuardSettings(comfort_s=value)


@given(asked=st.floats(-0.8, 0.8), low=st.floats(-0.8, 0.8), width=st.floats(0.05, 0.8))
def test_the_search_finds_the_nearest_rung_of_an_interval(asked: float, low: float, width: float) -> None:
    high = low + width
    ladder = Ladder()
    rungs = ladder.rungs(asked, 0.8, ())
    found = nearest(asked, rungs, ladder.halvings, lambda beta: beta if low <= beta <= high else None)
    inside = [beta for beta in (asked, *rungs) if low <= beta <= high]
    if not inside:
        assert found is None
        return
    assert found is not None
    assert low <= found <= high
    assert abs(found - asked) <= min(abs(beta - asked) for beta in inside) + 1e-12


def test_a_vehicle_without_any_bound_is_certified_from_the_very_instant() -> None:
    guard = Guard(Vehicle(1.6, 0.88, 12.0, bounds=Bounds()))
    decision = guard.tick(5.0, seen(5.0, Disc(30.0, 0.0, 4.0)), Proposal(5.0, 0.0, 5.0))
    assert (decision.mode, decision.apply_by_s) == (Mode.ADMIT, 5.0)
    assert decision.backup is not None
    assert not decision.backup.brake
